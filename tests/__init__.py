"""The tests of redicts."""
