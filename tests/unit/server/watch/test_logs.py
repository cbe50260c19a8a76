"""Logs: one shape for every line, whoever logs it."""

import io
import json
import logging

import pytest
import structlog

from fastagent.server.watch.logs import LogHandler, start_logging
from fastagent.server.watch.redaction import Redactor
from fastagent.settings import Settings

SECRET = "correct-token-0123"


class Output:
    """A logger and what comes out of its handler."""

    def __init__(self, name, is_json=True):
        self.stream = io.StringIO()
        self.logger = logging.Logger(name)
        self.logger.addHandler(LogHandler(self.stream, is_json=is_json, redactor=Redactor([SECRET])))

    @property
    def line(self):
        lines = self.stream.getvalue().splitlines()
        assert len(lines) == 1
        return lines[0]

    @property
    def entry(self):
        return json.loads(self.line)


@pytest.fixture
def output():
    return Output("fastagent.call")


def test_plain_call_has_the_shape(output):
    output.logger.warning("call %s: carrier socket lost with %d", "call-7", 1006)
    entry = output.entry
    assert list(entry) == ["timestamp", "level", "event", "logger", "call_id"]
    assert entry["level"] == "WARNING"
    assert entry["event"] == "carrier socket lost with 1006"
    assert entry["logger"] == "fastagent.call"
    assert entry["call_id"] == "call-7"
    assert entry["timestamp"].endswith("Z")
    assert len(entry["timestamp"]) == len("2026-11-21T09:30:00.123Z")


@pytest.mark.parametrize(
    ("message", "arguments", "event"),
    [
        ("call %s begins, %s", ("call-7", "raw/mulaw"), "begins, raw/mulaw"),
        ("call %s failed", ("call-7",), "failed"),
        ("call %s: 100 %% done", ("call-7",), "100 % done"),
    ],
)
def test_message_that_begins_with_a_call_gives_its_id(output, message, arguments, event):
    output.logger.info(message, *arguments)
    assert (output.entry["call_id"], output.entry["event"]) == ("call-7", event)


def test_message_of_no_call_has_no_id(output):
    output.logger.info("100% done")
    assert "call_id" not in output.entry
    assert output.entry["event"] == "100% done"


def test_extras_follow_redacted(output):
    output.logger.info(
        "ends", extra={"call_id": "call-8", "counters": {"frames": 200_000}, "who": "+49 170 1234567"}
    )
    entry = output.entry
    assert entry["call_id"] == "call-8"
    assert entry["counters"] == {"frames": 200_000}
    assert entry["who"] == "[digits]"


def test_exception_keeps_its_text_to_itself(output):
    try:
        raise ValueError(f"Ada said {SECRET}")
    except ValueError:
        output.logger.exception("call %s failed", "call-7")
    entry = output.entry
    assert entry["exception"]["error"] == "ValueError"
    assert "test_logs.py" in entry["exception"]["frames"][-1]
    assert "Ada" not in output.line


def test_error_as_an_argument_keeps_its_text_to_itself(output):
    output.logger.error("refused: %s", ValueError("Ada"))
    assert output.entry["event"] == "refused: ValueError"


def test_a_message_stays_one_line(output):
    output.logger.error("Task exception was never retrieved\nfuture: <Task exception=ValueError('Ada')>")
    assert output.entry["event"] == "Task exception was never retrieved"


@pytest.mark.parametrize("is_json", [True, False])
def test_line_that_cannot_be_made_shows_nothing_of_itself(is_json, capsys):
    output = Output("fastagent.call", is_json)
    output.logger.error("%d", SECRET)
    assert output.entry["event"] == "a log line could not be written"
    assert SECRET not in output.line
    assert capsys.readouterr() == ("", "")


def test_text_is_for_people_and_on_one_line():
    output = Output("fastagent.call", is_json=False)
    output.logger.info(
        "call %s: %s", "call-7", "a\x1b[31mb", extra={"counters": {"frames": 3}, "size_bytes": 7}
    )
    assert output.line.endswith("INFO    fastagent.call: call call-7: a�[31mb counters=frames=3 size_bytes=7")


def test_text_shows_where_an_exception_came_from():
    output = Output("fastagent.call", is_json=False)
    try:
        raise ValueError("Ada")
    except ValueError:
        output.logger.exception("broken")
    text = output.stream.getvalue()
    assert "    ValueError\n" in text
    assert "test_logs.py:" in text
    assert "Ada" not in text


@pytest.fixture
def root():
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_structlog_comes_out_of_the_same_handler(root):
    stream = io.StringIO()
    start_logging(Settings(audiocodes_tokens=(SECRET,)), stream)
    structlog.get_logger("shop").bind(call_id="call-9").warning("sold out", article="42", token=SECRET)
    entry = json.loads(stream.getvalue())
    assert list(entry) == ["timestamp", "level", "event", "logger", "call_id", "article", "token"]
    assert entry["event"] == "sold out"
    assert (entry["logger"], entry["level"], entry["token"]) == ("shop", "WARNING", "[redacted]")


def test_starting_again_replaces_the_handler(root):
    first, second = io.StringIO(), io.StringIO()
    start_logging(Settings(log_level="ERROR"), first)
    start_logging(Settings(log_format="text"), second)
    logging.getLogger("shop").info("open")
    assert first.getvalue() == ""
    assert second.getvalue().endswith("INFO    shop: open\n")


def test_auto_is_text_on_a_terminal(root):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    start_logging(Settings(), terminal)
    logging.getLogger("shop").info("open")
    assert terminal.getvalue().endswith("shop: open\n")
