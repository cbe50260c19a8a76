"""A server under calls for a long time: what calls leave behind, what faults do to them."""
