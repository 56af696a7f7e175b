"""See `workspace`."""
