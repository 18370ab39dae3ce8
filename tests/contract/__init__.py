"""The certification suite on our own backends, and on broken ones that it must refuse."""
