"""Questions that solve a case again: why not another plan, which others there are, what would change it."""
