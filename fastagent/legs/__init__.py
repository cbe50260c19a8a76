"""Sockets: one leg is one WebSocket of a call. What all legs share is here too: the tick and the watch."""
