"""What only one codec has: what pickle refuses to run, what models come back as."""
