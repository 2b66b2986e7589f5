"""One file per kind of operator; each returns the work of one device."""
