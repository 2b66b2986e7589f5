"""One file per kind of layer: its operators for a batch, its parameters per device, and what it caches."""
