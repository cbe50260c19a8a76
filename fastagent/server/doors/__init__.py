"""Who may come in, and how many: credentials, addresses, limits, admission."""
