"""Tasks that go on by text message."""
