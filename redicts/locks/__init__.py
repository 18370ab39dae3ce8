"""What this process knows of its own locks."""
