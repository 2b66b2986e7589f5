"""One file per kind of layer: its operators for a batch, and its parameters per device."""
