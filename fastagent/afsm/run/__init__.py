"""One run of a graph: the machine that walks it, and what it walks with."""
