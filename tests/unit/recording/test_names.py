"""Conversation ids come from outside: whatever they say, a file stays in its directory and ids stay apart."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastagent.recording.names import STEM_CHARACTERS_MAX, safe_stem, stems


@pytest.mark.parametrize(
    "id", ["7d0c2a34-51f7-4b1e-9a43-0c9d6e7f2b11", "CA0123456789abcdef", "a", "_", "x" * 80]
)
def test_harmless_ids_are_used_as_they_are(id):
    assert safe_stem(id) == id


@pytest.mark.parametrize(
    "id",
    [
        "", ".", "..", "../../etc/passwd", "/etc/passwd", "a/b", "a\\b", "a\0b", "-rf", "a-", ".hidden",
        "a.wav", "a.b", "x" * 81, "é", "\ud800", "a b", "a\nb",
        "CON:", "~root", "$(reboot)", "a" * 10_000, "%2e%2e%2f",
    ],
)  # fmt: skip
def test_other_ids_are_tamed_and_told_apart_by_a_digest(id):
    stem = safe_stem(id)
    assert stem != id
    assert stem.rpartition(".")[2].isalnum()
    assert len(stem.rpartition(".")[2]) == 16
    check(stem)


def check(stem):
    assert 0 < len(stem) <= STEM_CHARACTERS_MAX
    assert stem.isascii()
    assert stem.replace("-", "").replace("_", "").replace(".", "").isalnum() or set(stem) <= {"_", "-", "."}
    assert not stem.startswith((".", "-"))
    assert (Path("/calls") / stem).resolve().parent == Path("/calls")


@given(st.text(max_size=200))
def test_every_name_is_safe(id):
    check(safe_stem(id))


@given(st.text(max_size=40), st.text(max_size=40))
def test_two_ids_never_share_a_name(one, other):
    assert (safe_stem(one) == safe_stem(other)) == (one == other)


def test_numbers_keep_names_apart():
    tried = stems(Path("d"), "call")
    assert [next(tried) for _ in range(3)] == [Path("d/call"), Path("d/call.2"), Path("d/call.3")]
