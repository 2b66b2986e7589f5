"""Frozen pydantic models of everything a user writes: scenarios and specifications."""
