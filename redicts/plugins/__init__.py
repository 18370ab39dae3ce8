"""Plugins: which distribution offers a backend or a codec, how it is loaded, and a list of all."""
