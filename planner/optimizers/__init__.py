"""Algorithms that call solvers repeatedly."""
