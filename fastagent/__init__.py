"""FastAgent answers phone lines with a voice model and does the work with finite state agents."""

__version__ = "0.1.0"
