"""Marked values are never kept; equal ones can be seen to be equal."""

import pytest

from fastagent.journal import MemoryJournal, Redaction
from fastagent.journal.redaction import redaction_key_ids

KEY = bytes(range(32))
PAN = "4111111111111111"


@pytest.mark.parametrize(
    "data",
    [
        {"slots": {"card": PAN, "day": "friday"}},
        {"arguments": [{"card": {"number": PAN}}], "day": "friday"},
        {"name": "card", "value": PAN, "day": "friday"},
        {"slot": "card", "text": PAN, "day": "friday"},
        {"is_redacted": True, "text": PAN, "day": "friday"},
        {"turn": {"is_redacted": True, "slots": {"x": PAN}, "day": "friday"}},
        {"card": {"redacted": PAN}, "day": "friday"},
    ],
)
def test_marked_values_are_replaced_and_the_rest_is_kept(data):
    journal = MemoryJournal(redaction=Redaction(KEY, ["card"]))
    entry = journal.append("slot", data)
    line = journal._lines[0].decode()
    assert PAN not in line
    assert PAN not in str(entry.data)
    assert '"friday"' in line
    assert redaction_key_ids(entry.data) == {journal.redaction_key_id}
    assert next(journal.entries()) == entry


def test_names_can_be_marked_for_one_entry_and_from_now_on():
    journal = MemoryJournal(redaction=Redaction(KEY))
    assert journal.append("slot", {"pin": "1234"}, redacted=["pin"]).data != {"pin": "1234"}
    assert journal.append("slot", {"pin": "1234"}).data == {"pin": "1234"}
    journal.redaction.add(["pin"])
    assert journal.append("slot", {"pin": "1234"}).data != {"pin": "1234"}


def test_digests_tell_equal_from_unequal_with_one_key_only():
    one, other = Redaction(KEY), Redaction(bytes(32))
    assert one.digest("1234") == one.digest("1234")
    assert one.digest("1234") != one.digest("1235")
    assert one.digest("1234") != other.digest("1234")
    assert one.key_id != other.key_id
    assert KEY.hex()[:8] not in one.key_id


def test_a_dataclass_is_looked_into():
    from dataclasses import dataclass

    @dataclass
    class Card:
        card: str

    journal = MemoryJournal(redaction=Redaction(KEY, ["card"]))
    journal.append("slot", {"value": Card(PAN)})
    assert PAN.encode() not in journal._lines[0]


def test_what_is_given_is_not_changed_and_repr_shows_nothing():
    redaction = Redaction(KEY, ["card"])
    data = {"slots": {"card": PAN}}
    redaction.redacted(data)
    assert data == {"slots": {"card": PAN}}
    assert repr(redaction) == "<Redaction names=1>"


def test_a_short_key_is_refused():
    with pytest.raises(ValueError, match="32 bytes, got 5"):
        Redaction(b"short")


def test_nothing_redacted_names_no_key():
    assert redaction_key_ids({"a": [1, {"b": "c"}]}) == set()
