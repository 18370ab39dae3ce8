"""The stores that come with redicts, one module or package each, imported when first chosen."""
