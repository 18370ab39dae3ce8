"""Nested dicts under dotted paths, shared between threads, processes and hosts."""
