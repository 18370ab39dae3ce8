"""Backends included in redicts, one module or package each, imported when first chosen."""
