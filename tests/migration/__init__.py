"""Tests of the migration from redicts 1.0."""
