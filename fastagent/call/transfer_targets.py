"""TransferTargets: whom callers may be handed on to.

A model is talked into things, and what it fills in is a caller's words: a number that comes that way would
have the house pay for whatever call the caller likes. So a target is believed that the agent declares, and
for any other the operator's list decides.
"""

import re
from collections.abc import Collection, Sequence

__all__ = ["TransferTargets"]

_NUMBER = re.compile(r"tel:(\+[1-9]\d{4,14})")
_ADDRESS = re.compile(r"(sips?):([\w.!~*'()&=+$,%-]{1,100})@([\w.-]{1,200})(?::\d{1,5})?", re.ASCII)


class TransferTargets:
    """Tells which targets callers may be handed on to.

    Args:
        allow: numbers in E.164 or what they begin with (``+1555``), SIP addresses
            (``sip:desk@example.com``), hosts of such (``@example.com``); see `Settings.transfer_allow`.
    """

    def __init__(self, allow: Sequence[str]) -> None:
        self._numbers = tuple(one for one in allow if one.startswith("+"))
        self._addresses = frozenset(filter(None, (_address(one) for one in allow)))
        self._hosts = frozenset(one[1:].lower() for one in allow if one.startswith("@"))

    def allows(self, target: str, declared: Collection[str]) -> bool:
        """The target is declared as it stands, or on the list.

        On the list are plain targets alone: parameters and headers behind an address could lead elsewhere.
        """
        if target in declared:
            return True
        if number := _NUMBER.fullmatch(target):
            return number[1].startswith(self._numbers)
        address = _address(target)
        return address is not None and (address in self._addresses or address[1] in self._hosts)


def _address(text: str) -> tuple[str, str] | None:
    """User and host of a SIP address; whether it is ``sips:`` and which port it names are the network's."""
    found = _ADDRESS.fullmatch(text)
    return None if found is None else (found[2], found[3].lower())
