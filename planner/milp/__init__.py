"""A solver-neutral mixed-integer problem, its results, and the checks every answer passes."""
