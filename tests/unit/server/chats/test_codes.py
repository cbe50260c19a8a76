"""Which messages are taken for a code, and what is kept of a conversation by text."""

import pytest

from fastagent.server.chats.chats import code_in
from fastagent.server.chats.stand import ChatStand


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("4711", "4711"),
        ("  BOOK 4711!", "4711"),
        ("the code is: 47 11", "4711"),
        ("4711, yes please", "4711"),
        ("4-7-1-1", "4711"),
        ("at 10:30", ""),
        ("1030am", ""),
        ("47111", ""),
        ("4711 1", ""),
        ("+1 555 010 0001", ""),
        ("I would rather like to have 4711", ""),
        ("\u0664\u0667\u0661\u0661", ""),
        ("yes", ""),
    ],
)
def test_four_digits_near_the_beginning_are_a_code(text: str, digits: str) -> None:
    assert code_in(text) == digits


def test_a_stand_is_read_from_a_snapshot_as_it_was_put_there() -> None:
    stand = ChatStand(is_proved=True, replies=3, codes_asked=1, wrong_codes=2, last_at_unix_s=5.0)
    snapshot = {"session": {}}
    assert ChatStand.of(stand.kept_in(snapshot)) == stand
    assert ChatStand.of(snapshot) == ChatStand.of({"chat": 1}) == ChatStand()
    assert ChatStand.of({"chat": {"replies": 1, "later": 2}}) == ChatStand(replies=1)
