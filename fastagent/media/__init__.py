"""The frame pipeline's plans and its ledger: synchronous, `now` is an argument, no sockets."""
