"""Whether a secret stands in what was written to a disk."""

import re

__all__ = ["is_written"]


def is_written(digits: str, data: bytes) -> bool:
    """Do these digits stand there by themselves? In the midst of a hash or of a time they are chance."""
    return re.search(rb"(?<![0-9A-Za-z.])" + digits.encode() + rb"(?![0-9A-Za-z])", data) is not None
