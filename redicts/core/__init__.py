"""What redicts means: paths, leaves, operations on the tree. Names no backend and no codec, and does no I/O."""
