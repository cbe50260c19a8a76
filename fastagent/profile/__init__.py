"""Where the time of the audio path goes: what a server tells of itself, and what tools of the system add."""
