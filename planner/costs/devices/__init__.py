"""How a device turns work into seconds; one file per kind of device, named in a hardware specification."""
