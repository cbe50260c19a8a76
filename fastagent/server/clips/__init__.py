"""Audio files that are played into calls."""
