"""Outages of several servers under load, and what they cost: ``python -m tests.outages`` prints the table."""
