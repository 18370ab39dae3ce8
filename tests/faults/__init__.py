"""Locks on a real Redis server, held by real processes that die, stand still, lose replies and signals, and fork."""
