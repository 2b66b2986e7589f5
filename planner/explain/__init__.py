"""Reads tables and plans: why this, why not, what is missing."""
