"""A plan beside what was measured of it: how far off, and which term of the costs would explain it."""
