"""The lock protocol: its modules, and the lock table as a whole."""
