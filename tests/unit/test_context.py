"""ConversationContext keeps what it is told, within its bounds."""

import pytest

from fastagent.context import MAX_FACTS, MAX_MEMORY_BYTES, MAX_UTTERANCE_CHARS, ConversationContext
from fastagent.errors import ConfigurationError


def said(context):
    return [(utterance.speaker, utterance.text) for utterance in context.history]


def test_history_keeps_both_sides_in_order_and_leaves_out_an_empty_one():
    context = ConversationContext(10)
    context.update_context(user_utterance="hello", agent_response="good day", state="greeting")
    context.update_context(agent_response="are you there")
    context.update_context()
    assert said(context) == [("caller", "hello"), ("agent", "good day"), ("agent", "are you there")]
    assert context.history[0].state == "greeting"


def test_history_drops_the_oldest_beyond_its_bound():
    context = ConversationContext(max_history=3)
    for number in range(5):
        context.update_context(user_utterance=str(number))
    assert said(context) == [("caller", "2"), ("caller", "3"), ("caller", "4")]


def test_long_utterance_is_cut():
    context = ConversationContext()
    context.update_context(user_utterance="x" * (MAX_UTTERANCE_CHARS + 1))
    assert len(context.history[0].text) == MAX_UTTERANCE_CHARS


@pytest.mark.parametrize("max_history", [0, -1])
def test_bound_below_one_is_refused(max_history):
    with pytest.raises(ValueError, match="max_history"):
        ConversationContext(max_history)


def test_newer_fact_replaces_the_older_and_counts_as_newest():
    context = ConversationContext()
    context.add_salient_fact("account", "savings")
    context.add_salient_fact("language", "en")
    context.add_salient_fact("account", "checking")
    assert list(context.facts.items()) == [("language", "en"), ("account", "checking")]


def test_facts_and_profile_are_bounded():
    context = ConversationContext()
    for number in range(MAX_FACTS + 2):
        context.add_salient_fact(f"fact {number}", number)
        context.update_user_profile({f"entry {number}": number})
    assert len(context.facts) == len(context.profile) == MAX_FACTS
    assert min(context.facts.values()) == min(context.profile.values()) == 2


def test_profile_entries_are_added_and_replaced():
    context = ConversationContext()
    context.update_user_profile({"status": "pending", "tier": 1})
    context.update_user_profile({"status": "verified"})
    assert context.profile == {"status": "verified", "tier": 1}


def test_what_is_handed_out_is_a_copy():
    context = ConversationContext()
    context.facts["a"] = 1
    context.profile["a"] = 1
    assert context.facts == context.profile == {}


def test_task_view_shares_the_call_and_has_its_own_slots_and_facts():
    context = ConversationContext()
    context.add_salient_fact("earlier", 1)
    first, second = context.task_view(), context.task_view()
    first.slots["day"] = "monday"
    first.add_salient_fact("found", 2)
    first.update_user_profile({"tier": 1})
    first.update_context(user_utterance="hello")
    assert second.slots == context.slots == {}
    assert second.facts == context.facts == {"earlier": 1, "found": 2}
    assert (first.task_facts, second.task_facts) == ({"found": 2}, {})
    assert second.profile == {"tier": 1}
    assert said(second) == [("caller", "hello")]


def test_repr_tells_sizes_and_no_words():
    context = ConversationContext()
    context.update_context(user_utterance="secret")
    context.add_salient_fact("pin", "secret")
    context.slots["pin"] = "secret"
    assert repr(context) == "<ConversationContext utterances=1 facts=1 profile=0 slots=1>"
    assert "secret" not in repr(context.history)


def test_memory_carries_facts_and_profile_to_the_next_call_and_no_words():
    earlier, later = ConversationContext(), ConversationContext()
    earlier.add_salient_fact("visits", 3)
    earlier.add_salient_fact("tier", "gold")
    earlier.add_salient_fact("handle", object())
    earlier.update_user_profile({"name": "known"})
    earlier.update_context(user_utterance="said in confidence")
    earlier.slots["pin"] = "4711"
    later.add_salient_fact("tier", "platinum")
    memory = earlier.export_memory()
    assert b"confidence" not in memory
    assert b"4711" not in memory
    later.import_memory(memory)
    assert list(later.facts.items()) == [("visits", 3), ("tier", "platinum")]
    assert later.profile == {"name": "known"}
    assert later.slots == {}
    assert later.task_facts == {"tier": "platinum"}


def test_memory_is_bounded_and_keeps_the_newest():
    context = ConversationContext()
    for number in range(MAX_FACTS):
        context.add_salient_fact(f"fact {number}", "x" * 10_000)
    memory = context.export_memory()
    assert len(memory) <= MAX_MEMORY_BYTES
    other = ConversationContext()
    other.import_memory(memory)
    assert f"fact {MAX_FACTS - 1}" in other.facts


@pytest.mark.parametrize(
    ("memory", "complaint"),
    [
        (b"no", "not JSON"),
        (b"[]", "version"),
        (b'{"version": 2, "facts": {}, "profile": {}}', "version"),
        (b'{"version": 1, "facts": []}', "lacks"),
        (b" " * (MAX_MEMORY_BYTES + 1), "bytes"),
    ],
)
def test_what_is_no_memory_is_refused(memory, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        ConversationContext().import_memory(memory)
