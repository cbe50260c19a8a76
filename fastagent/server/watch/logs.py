"""Logs: one shape for all lines, ours and others', redacted where they leave the process.

::

    {"timestamp": "2026-11-21T09:30:00.123Z", "level": "INFO", "event": "bot interrupted after 840 ms",
     "logger": "fastagent.call", "call_id": "4a1f...", ...}

Code logs with `logging` or with structlog, as it likes; both come out of the same handler. Messages that
begin with ``call %s`` give ``call_id``; what stands in ``extra=`` or is bound to a structlog logger follows
it.
"""

import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson
import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, WrappedLogger

from fastagent.server.watch.redaction import Redactor
from fastagent.settings import Settings

__all__ = ["LogHandler", "start_logging"]

UNWRITABLE = "a log line could not be written"
CALL_PREFIXES = ("call %s: ", "call %s ")
HEAD = ("timestamp", "level", "event", "logger", "call_id")
_OF_RECORDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_OF_OTHERS = frozenset({"color_message"})
"""What other libraries put beside a message and is nothing but the message again."""
_KNOWN_KEYS = _OF_RECORDS | _OF_OTHERS
_ABOUT_EXCEPTIONS = ("exc_info", "exception", "stack", "stack_info")


class LogHandler(logging.StreamHandler[TextIO]):
    """Writes redacted lines.

    Args:
        stream: where to; default standard error.
        is_json: one object a line, else text for people.
        redactor: takes out what nobody may read.
    """

    def __init__(
        self, stream: TextIO | None = None, *, is_json: bool, redactor: Redactor | None = None
    ) -> None:
        super().__init__(stream)
        self.setFormatter(
            ProcessorFormatter(
                processors=[_Shape(redactor or Redactor()), _as_json if is_json else _as_text],
                foreign_pre_chain=[structlog.contextvars.merge_contextvars, _take_extra],
                use_get_message=False,
                pass_foreign_args=True,
            )
        )

    def handleError(self, record: logging.LogRecord) -> None:
        """Say that a line is missing; logging's own way shows the message and its arguments as they are."""
        try:
            self.stream.write(f'{{"level":"ERROR","event":"{UNWRITABLE}","logger":"fastagent.logs"}}\n')
        except (OSError, ValueError):  # nobody is left to tell
            pass


def start_logging(settings: Settings, stream: TextIO | None = None) -> LogHandler:
    """Have everything logged in this process come out in one shape; gives the handler that does it."""
    stream = sys.stderr if stream is None else stream
    is_json = settings.log_format == "json" or (settings.log_format == "auto" and not stream.isatty())
    handler = LogHandler(stream, is_json=is_json, redactor=Redactor(settings.secrets))
    root = logging.getLogger()
    for other in [one for one in root.handlers if isinstance(one, LogHandler)]:
        root.removeHandler(other)
    root.addHandler(handler)
    root.setLevel(settings.log_level.upper())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    return handler


def _take_extra(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """What a plain `logging` call says beside its message."""
    record: logging.LogRecord = event["_record"]
    for key, value in record.__dict__.items():
        if key not in _KNOWN_KEYS and key not in event and not key.startswith("_"):
            event[key] = value
    return event


class _Shape:
    """Gives every line its keys, in order, and takes out what nobody may read."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        record: logging.LogRecord = event.pop("_record")
        event.pop("_from_structlog", None)
        call_id = event.pop("call_id", None)
        arguments = event.pop("positional_args", ())
        text, found_id = _message(str(event.pop("event", "")), arguments, self._redactor)
        call_id = found_id if call_id is None else call_id
        created = datetime.fromtimestamp(record.created, UTC)
        shaped: dict[str, Any] = {
            "timestamp": created.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            # asyncio tells an unheard exception whole in its further lines.
            "event": self._redactor.text(text.partition("\n")[0]),
            "logger": record.name,
        }
        if call_id is not None:
            shaped["call_id"] = self._redactor.call_id(call_id)
        exception = self._exception(event)
        for key, value in event.items():
            if key not in shaped and key not in _ABOUT_EXCEPTIONS:
                shaped[self._redactor.text(str(key))] = self._redactor.entry(str(key), value)
        if exception is not None:
            shaped["exception"] = exception
        return shaped

    def _exception(self, event: EventDict) -> Mapping[str, Any] | None:
        told = event.get("exc_info")
        if told is True:
            told = sys.exc_info()
        if isinstance(told, BaseException):
            return self._redactor.exception(told)
        if isinstance(told, tuple) and len(told) == 3:
            return self._redactor.exception(told[1], told[2])
        return None


def _message(text: str, arguments: Any, redactor: Redactor) -> tuple[str, object]:
    """The message, and the id of the call it begins with, if it does."""
    call_id: object = None
    if isinstance(arguments, tuple) and arguments:
        for prefix in CALL_PREFIXES:
            if text.startswith(prefix):
                text, call_id, arguments = text[len(prefix) :], arguments[0], arguments[1:]
                break
    if arguments:
        if isinstance(arguments, tuple):
            # The text of an error that is only passed along is as little to be trusted as a raised one's.
            arguments = tuple(
                redactor.error(one) if isinstance(one, BaseException) else one for one in arguments
            )
        text = text % arguments
    elif call_id is not None:
        text = text % ()
    return text, call_id


def _as_json(logger: WrappedLogger, method: str, event: EventDict) -> str:
    return orjson.dumps(
        event, option=orjson.OPT_NON_STR_KEYS, default=lambda one: f"<{type(one).__name__}>"
    ).decode()


def _as_text(logger: WrappedLogger, method: str, event: EventDict) -> str:
    rest = {key: value for key, value in event.items() if key not in (*HEAD, "exception")}
    call = f" call {event['call_id']}:" if "call_id" in event else ""
    # A line stays a line, whatever a message holds.
    line = f"{event['timestamp']} {event['level']:<7} {event['logger']}:{call} {event['event']}"
    for key, value in rest.items():
        shown = " ".join(f"{name}={one}" for name, one in value.items()) if isinstance(value, dict) else value
        line += f" {key}={shown}"
    line = "".join(one if one.isprintable() else "�" for one in line)
    exception = event.get("exception")
    if exception is not None:
        line += f"\n    {exception['error']}"
        line += "".join(f"\n      {frame}" for frame in exception["frames"])
    return line
