"""The page of results: every bench once, every goal beside its figure."""
