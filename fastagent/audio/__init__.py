"""Samples: what they are, how many there are, how long they last. No messages, no sockets."""
