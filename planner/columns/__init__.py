"""Enumerates legal configurations, evaluates them on an open mesh, and drops dominated ones."""
