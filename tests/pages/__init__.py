"""Tests of the README and the documentation: statements, examples, commands, links and words."""
