"""The distributions under ``examples/plugins``, installed and certified in a fresh environment."""
