"""The distributions under ``examples/plugins``, installed and certified as their users would."""
