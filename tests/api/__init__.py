"""What the user of redicts sees."""
