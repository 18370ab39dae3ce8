"""The rules of single codecs; those of every codec are conformance checks."""
