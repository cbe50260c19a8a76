"""The record a new socket's conversation is rebuilt from."""

import math

import pytest

from fastagent.bridge.history import ConversationHistory
from fastagent.wire.realtime_events import (
    BotTranscript,
    CallerTranscript,
    FunctionCall,
    Item,
    ItemAdded,
    ItemDeleted,
    ItemDone,
    SpeechStarted,
)


def replayed(history: ConversationHistory) -> list[tuple[str, str]]:
    return [(one.item.role or one.item.kind, one.item.text) for one in history.replay()]


def talk(turns: int, **limits: int) -> ConversationHistory:
    history = ConversationHistory(**limits)  # type: ignore[arg-type]
    for turn in range(turns):
        history.receive(CallerTranscript(f"u{turn}", f"question {turn}"))
        history.receive(BotTranscript("r", f"b{turn}", f"answer {turn}", is_final=True))
    return history


def test_a_conversation_is_replayed_in_order_with_roles_and_ids() -> None:
    history = talk(2)
    assert replayed(history) == [
        ("user", "question 0"),
        ("assistant", "answer 0"),
        ("user", "question 1"),
        ("assistant", "answer 1"),
    ]
    assert [one.item.item_id for one in history.replay()] == ["u0", "b0", "u1", "b1"]


def test_a_caller_transcript_that_comes_late_stands_where_it_was_said() -> None:
    history = ConversationHistory()
    history.receive(ItemAdded("u1", "message", "user"))
    history.receive(ItemAdded("b1", "message", "assistant"))
    history.receive(BotTranscript("r", "b1", "At nine.", is_final=True))
    history.receive(CallerTranscript("u1", "When?"))
    assert replayed(history) == [("user", "When?"), ("assistant", "At nine.")]


def test_pieces_add_up_until_the_whole_replaces_them() -> None:
    history = ConversationHistory()
    history.receive(BotTranscript("r", "b1", "Good "))
    history.receive(BotTranscript("r", "b1", "mor"))
    assert replayed(history) == [("assistant", "Good mor")]
    history.receive(BotTranscript("r", "b1", "Good morning", is_final=True))
    history.receive(BotTranscript("r", "b1", " late piece"))
    history.receive(ItemDone("b1", "message", "assistant", "Good morning"))
    assert replayed(history) == [("assistant", "Good morning")]


def test_an_item_that_is_done_without_text_keeps_its_transcript() -> None:
    history = ConversationHistory()
    history.receive(CallerTranscript("u1", "Hello"))
    history.receive(ItemDone("u1", "message", "user", ""))
    assert replayed(history) == [("user", "Hello")]


def test_the_whole_without_an_item_id_is_kept_and_pieces_without_one_are_not() -> None:
    history = ConversationHistory()
    history.receive(CallerTranscript("", "Hel", is_final=False))
    history.receive(CallerTranscript("", "Hello"))
    history.receive(CallerTranscript("", "Again"))
    assert replayed(history) == [("user", "Hello"), ("user", "Again")]


def test_events_that_say_nothing_are_passed_over() -> None:
    history = ConversationHistory()
    history.receive(SpeechStarted("u1"))
    history.receive(ItemAdded("f1", "function_call"))
    history.receive(ItemAdded("s1", "message", "system"))
    assert len(history) == 0


@pytest.mark.parametrize(
    ("heard", "expected"),
    [
        (0.0, None),
        (-1.0, None),
        (0.2, None),
        (0.36, "Good"),
        (0.5, "Good"),
        (0.99, "Good morning"),
        (1.0, "Good morning sir"),
        (7.0, "Good morning sir"),
        (math.inf, "Good morning sir"),
        ("Good mor", "Good mor"),
        ("", None),
    ],
)
def test_a_cut_item_keeps_what_was_heard_in_whole_words(heard: float | str, expected: str | None) -> None:
    history = ConversationHistory()
    history.receive(BotTranscript("r", "b1", "Good morning sir", is_final=True))
    history.truncate_item("b1", heard)
    assert replayed(history) == ([("assistant", expected)] if expected else [])


def test_a_cut_holds_for_the_transcript_that_comes_after_it() -> None:
    history = ConversationHistory()
    history.receive(BotTranscript("r", "b1", "One two "))
    history.truncate_item("b1", 0.5)
    history.receive(BotTranscript("r", "b1", "One two three four", is_final=True))
    assert replayed(history) == [("assistant", "One two")]


def test_a_cut_of_an_unknown_item_is_passed_over_and_of_no_number_refused() -> None:
    history = ConversationHistory()
    history.truncate_item("nobody", 0.5)
    with pytest.raises(ValueError, match="NaN"):
        history.truncate_item("nobody", math.nan)


@pytest.mark.parametrize("by_event", [True, False])
def test_a_deleted_item_does_not_come_back_with_a_late_transcript(by_event: bool) -> None:
    history = ConversationHistory()
    history.receive(ItemAdded("b1", "message", "assistant"))
    if by_event:
        history.receive(ItemDeleted("b1"))
    else:
        history.delete_item("b1")
    history.receive(BotTranscript("r", "b1", "Never heard", is_final=True))
    history.receive(ItemDone("b1", "message", "assistant", "Never heard"))
    history.delete_item("")
    assert replayed(history) == []


def test_a_call_is_replayed_only_with_its_output_and_where_that_came() -> None:
    history = ConversationHistory()
    history.receive(FunctionCall("c1", "book", '{"day":1}', "r1", "f1"))
    history.receive(FunctionCall("c2", "look_up", "{}", "r1", "f2"))
    history.receive(CallerTranscript("u1", "Hurry"))
    history.add(Item("function_call_output", "done", call_id="c1"))
    assert replayed(history) == [
        ("user", "Hurry"),
        ("function_call", '{"day":1}'),
        ("function_call_output", "done"),
    ]
    _, call, output = (one.item for one in history.replay())
    assert (call.call_id, call.name, output.call_id) == ("c1", "book", "c1")


def test_a_call_told_twice_is_one() -> None:
    history = ConversationHistory()
    for _ in range(2):
        history.receive(FunctionCall("c1", "book", "{}", "r1", "f1"))
    history.add(Item("function_call_output", "", call_id="c1"))
    assert replayed(history) == [("function_call", "{}"), ("function_call_output", "")]


def test_an_output_without_its_call_is_sent_but_not_replayed() -> None:
    history = ConversationHistory()
    command = history.add(Item("function_call_output", "done", call_id="c9"))
    assert command.item.text == "done"
    assert history.replay() == []


def test_a_call_without_a_name_cannot_be_replayed() -> None:
    history = ConversationHistory()
    history.receive(FunctionCall("c1", "", "{}"))
    history.add(Item("function_call_output", "no such function", call_id="c1"))
    assert history.replay() == []


def test_what_we_add_gets_an_id_by_which_the_servers_echo_is_known() -> None:
    history = ConversationHistory()
    command = history.add(Item("message", "The caller pressed a key.", role="user"))
    assert command.item.item_id
    assert len(command.item.item_id) <= 32
    history.receive(ItemAdded(command.item.item_id, "message", "user"))
    history.receive(ItemDone(command.item.item_id, "message", "user", "The caller pressed a key."))
    assert len(history) == 1
    assert history.add(Item("message", "x", role="system", item_id="mine")).item.item_id == "mine"


def test_a_replay_recorded_again_changes_nothing() -> None:
    history = talk(3)
    history.receive(FunctionCall("c1", "book", "{}", "r1", "f1"))
    history.add(Item("function_call_output", "done", call_id="c1"))
    history.add(Item("message", "note", role="system"))
    before = history.replay()
    for command in before:
        kind, item = command.item.kind, command.item
        assert item.item_id
        history.receive(ItemAdded(item.item_id, kind, item.role))
        history.receive(ItemDone(item.item_id, kind, item.role, item.text))
    assert history.replay() == before


def test_the_oldest_items_make_room() -> None:
    history = talk(30)
    assert len(history) == 40
    assert history.evicted == 20
    assert replayed(history)[0] == ("user", "question 10")


def test_a_call_and_its_output_leave_together() -> None:
    history = ConversationHistory(max_items=4)
    history.receive(FunctionCall("c1", "book", "{}", "r1", "f1"))
    history.add(Item("function_call_output", "done", call_id="c1"))
    for number in range(3):
        history.receive(CallerTranscript(f"u{number}", str(number)))
    assert replayed(history) == [("user", "0"), ("user", "1"), ("user", "2")]
    assert history.evicted == 2


def test_a_call_under_way_outlives_the_talk_around_it() -> None:
    history = ConversationHistory(max_items=4)
    history.receive(FunctionCall("c1", "book", "{}", "r1", "f1"))
    for number in range(20):
        history.receive(CallerTranscript(f"u{number}", str(number)))
    history.add(Item("function_call_output", "done", call_id="c1"))
    assert replayed(history) == [
        ("user", "18"),
        ("user", "19"),
        ("function_call", "{}"),
        ("function_call_output", "done"),
    ]


def test_calls_that_never_end_are_bounded_too() -> None:
    history = ConversationHistory(max_items=4)
    for number in range(20):
        history.receive(FunctionCall(f"c{number}", "book", "{}", "r1", f"f{number}"))
    assert len(history) == 4


def test_long_texts_are_cut_at_whole_characters() -> None:
    history = ConversationHistory(max_text_bytes=10)
    history.receive(CallerTranscript("u1", "é" * 100))
    history.receive(BotTranscript("r", "b1", "a"))
    for _ in range(100):
        history.receive(BotTranscript("r", "b1", "bc"))
    history.add(Item("message", "\ud800" * 20, role="system"))
    assert replayed(history) == [("user", "é" * 5), ("assistant", "abcbcbcbcb"), ("system", "?" * 10)]


def test_arguments_that_do_not_fit_are_left_out_rather_than_cut() -> None:
    history = ConversationHistory(max_text_bytes=16)
    history.receive(FunctionCall("c1", "book", '{"note":"a long one"}', "r1", "f1"))
    history.add(Item("function_call_output", "done", call_id="c1"))
    assert replayed(history)[0] == ("function_call", "{}")


def test_messages_without_words_are_not_replayed() -> None:
    history = ConversationHistory()
    history.receive(ItemAdded("u1", "message", "user"))
    history.receive(CallerTranscript("u2", " \n"))
    assert history.replay() == []


def test_repr_shows_no_words() -> None:
    history = talk(1)
    assert "question" not in repr(history)
    assert all("question" not in repr(entry) for entry in history._entries.values())


@pytest.mark.parametrize("limits", [{"max_items": 1}, {"max_text_bytes": 3}])
def test_limits_that_hold_nothing_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least"):
        ConversationHistory(**limits)  # type: ignore[arg-type]
