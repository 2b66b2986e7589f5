"""Pictures as PNG and SVG; matplotlib is imported here and nowhere else, and only when a picture is drawn."""
