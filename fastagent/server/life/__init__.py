"""The life of the process among others: its listening sockets, its siblings, its end."""
