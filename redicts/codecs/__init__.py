"""The codecs that come with redicts, one module each, imported when first chosen."""
