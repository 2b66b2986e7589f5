"""Exact conversion constants; nothing measured or fitted belongs here."""

SECONDS_PER_MINUTE = 60.0
SECONDS_PER_HOUR = 3600.0
MILLISECONDS_PER_SECOND = 1e3
