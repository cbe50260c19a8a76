"""What the caller says, in words."""

from fastagent.bridge.commands import (
    CallerSaid,
)
from fastagent.bridge.transcripts import HYPOTHESIS_CHARACTERS_MAX
from fastagent.wire import events as carrier
from fastagent.wire import realtime_events as model
from tests.unit.bridge.stage import (
    Stage,
)


def test_pieces_of_a_transcript_are_put_together() -> None:
    stage = Stage()
    commands = stage.model(
        model.CallerTranscript("u1", "I want", is_final=False),
        model.CallerTranscript("u1", " to book", is_final=False),
        model.CallerTranscript("u1", "I want to book."),
        model.CallerTranscript("u2", "Hm", is_final=False),
    )
    assert commands == [
        carrier.ReportTranscript("I want", is_final=False),
        carrier.ReportTranscript("I want to book", is_final=False),
        carrier.ReportTranscript("I want to book.", is_final=True),
        CallerSaid("I want to book."),
        carrier.ReportTranscript("Hm", is_final=False),
    ]


def test_transcripts_without_an_item_do_not_run_into_one_another() -> None:
    stage = Stage()
    stage.model(model.CallerTranscript("", "One", is_final=False), model.CallerTranscript("", "One."))
    commands = stage.model(model.CallerTranscript("", "Two", is_final=False))
    assert commands == [carrier.ReportTranscript("Two", is_final=False)]


def test_an_utterance_without_words_is_not_reported() -> None:
    assert Stage().model(model.CallerTranscript("u1", "  ")) == []


def test_hypotheses_stop_growing() -> None:
    stage = Stage()
    told = []
    for _ in range(HYPOTHESIS_CHARACTERS_MAX):
        told += stage.model(model.CallerTranscript("u1", "ab", is_final=False))
    assert len(told) == HYPOTHESIS_CHARACTERS_MAX // 2
    final = stage.model(model.CallerTranscript("u1", "ab" * 500))
    assert final[0] == carrier.ReportTranscript("ab" * 500, is_final=True)
    [again] = stage.model(model.CallerTranscript("u2", "ab", is_final=False))
    assert again == carrier.ReportTranscript("ab", is_final=False)
