"""What redicts means, on no store or on the memory backend."""
