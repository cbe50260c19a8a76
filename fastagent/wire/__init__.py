"""Messages: sans-I/O codecs, one file per peer, and the neutral words they share. No sockets, no asyncio."""
