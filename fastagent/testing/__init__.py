"""Doubles that users need too: scripted peers that speak the real wire, and know when it is broken."""
