"""The telephone network's management side: what is not a call."""
