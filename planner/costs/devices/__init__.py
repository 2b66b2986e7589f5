"""How a device turns work into seconds."""
