"""The built-in codecs, one module each, imported when first chosen."""
