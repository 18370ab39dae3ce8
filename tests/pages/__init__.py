"""Tests of the README and the documentation: what they claim, what they run, and where their links lead."""
