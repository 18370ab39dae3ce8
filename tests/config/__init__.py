"""Configuration, plugins and codecs, tested through the pool as users configure it."""
