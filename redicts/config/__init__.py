"""Configuration: where it is read, how it is parsed and validated, and what it opens."""
