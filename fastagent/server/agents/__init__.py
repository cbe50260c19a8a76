"""Who answers: agents in code and posted ones, by version."""
