"""The version of redicts, from which a build takes that of the distribution."""

__version__ = "2.0.0.dev0"
