"""Effects done once: intent, key, outcome, undo; and claims of what was not done."""
