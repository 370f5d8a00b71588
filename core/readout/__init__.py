"""Read-out: the only place where maps become instances."""
