"""Other servers for the same calls, each written as its own documentation shows."""
