"""The asynchronous front: the same names, awaited."""
