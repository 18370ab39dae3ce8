"""Tests of transfers between databases."""
