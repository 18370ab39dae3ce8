"""Locks on a real Redis server, in processes that die, stop, fork, and lose replies and notifications."""
