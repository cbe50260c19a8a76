"""Text messages: the channel they go out by, and two that need no network, for development and tests."""

import asyncio
import logging
import os
import time
from pathlib import Path
from typing import Protocol

import orjson

__all__ = ["SMS_CHARS_MAX", "FileSms", "LogSms", "SmsChannel", "sms_channel"]

logger = logging.getLogger("fastagent.telephony")

SMS_CHARS_MAX = 480
"""Three parts of a message: longer ones cost as many calls would."""


def sms_channel(sender: str) -> "SmsChannel | None":
    """The channel of a setting: ``log``, the path of a file, or empty for none."""
    if not sender:
        return None
    return LogSms() if sender == "log" else FileSms(sender)


class SmsChannel(Protocol):
    """Sends text messages."""

    async def send(self, to: str, text: str) -> None:
        """Send one, at most `SMS_CHARS_MAX` characters.

        Args:
            to: a telephone number, E.164 where the caller's carrier gives that.

        Raises:
            TelephonyError: it could not be handed over; ``retryable`` says whether another try makes sense.
        """


class LogSms:
    """Logs that a message would have gone out; neither number nor text."""

    async def send(self, to: str, text: str) -> None:
        """Log it."""
        logger.info("a text message of %d characters would be sent", len(text))


class FileSms:
    """Appends each message to a file of JSON lines: ``{"at_unix_s", "to", "text"}``, for the owner alone."""

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)

    async def send(self, to: str, text: str) -> None:
        """Append it."""
        line = orjson.dumps({"at_unix_s": time.time(), "to": to, "text": text}) + b"\n"
        await asyncio.to_thread(self._append, line)

    def _append(self, line: bytes) -> None:
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, line)
        finally:
            os.close(file)
