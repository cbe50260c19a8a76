"""A live view of a server: what is read of it, and how that looks on a terminal."""
