"""TwiML: the small XML documents by which Twilio is told what to do with a call or a message.

::

    document(Connect(Stream("wss://bridge.example.com/twilio/stream", {"ticket": ticket})))

Verbs: https://www.twilio.com/docs/voice/twiml and https://www.twilio.com/docs/messaging/twiml. Each is a
value; `document` writes them in order. What XML cannot hold (control characters) is left out of texts.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, assert_never
from xml.etree import ElementTree

__all__ = [
    "MEDIA_TYPE",
    "PARAMETER_CHARS_MAX",
    "Connect",
    "Dial",
    "Hangup",
    "Message",
    "Redirect",
    "Reject",
    "Say",
    "Stream",
    "Verb",
    "document",
]

MEDIA_TYPE = "text/xml"
PARAMETER_CHARS_MAX = 500
"""Name and value of one parameter together stay below this, by the vendor's documentation."""
MESSAGE_CHARS_MAX = 1600

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Stream:
    """A bidirectional media stream.

    Raises:
        ValueError: an address that Twilio refuses, or a parameter that is too long.
    """

    url: str
    """``wss://``, without a query."""
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    name: str = ""
    status_callback: str = ""
    """Told when the stream begins, ends or fails, if set."""

    def __post_init__(self) -> None:
        if not self.url.startswith(("wss://", "ws://")) or "?" in self.url or "#" in self.url:
            raise ValueError("expected a wss:// address without query and fragment")
        for name, value in self.parameters.items():
            if not name or len(name) + len(value) >= PARAMETER_CHARS_MAX:
                raise ValueError(f"expected parameters of less than {PARAMETER_CHARS_MAX} characters")


@dataclass(frozen=True, slots=True)
class Connect:
    """Join the call to a stream; what follows is done once we have closed it."""

    stream: Stream
    action: str = ""
    """Asked for TwiML when the stream has ended, if set."""


@dataclass(frozen=True, slots=True)
class Say:
    """Speak a text, with Twilio's voice."""

    text: str = field(repr=False)
    language: str = ""


@dataclass(frozen=True, slots=True)
class Redirect:
    """Go on with the TwiML of another address."""

    url: str


@dataclass(frozen=True, slots=True)
class Dial:
    """Hand the caller on to ``target``: ``sip:…``, or a number with or without ``tel:``."""

    target: str = field(repr=False)
    timeout_s: int | None = None
    caller_id: str = field(default="", repr=False)
    action: str = ""
    """Asked for TwiML once the dialled leg is over, however it went, if set."""
    whisper_url: str = ""
    """Asked for what whoever answers hears before the caller, if set."""
    status_callback: str = ""
    """Told when the dialled leg is answered, and when it ends, if set."""


@dataclass(frozen=True, slots=True)
class Hangup:
    """End the call."""


@dataclass(frozen=True, slots=True)
class Reject:
    """Do not take the call, which then costs nothing."""

    reason: Literal["rejected", "busy"] = "rejected"


@dataclass(frozen=True, slots=True)
class Message:
    """Answer a message with a text."""

    text: str = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.text) > MESSAGE_CHARS_MAX:
            raise ValueError(f"expected at most {MESSAGE_CHARS_MAX} characters, got {len(self.text)}")


Verb = Connect | Say | Redirect | Dial | Hangup | Reject | Message


def document(*verbs: Verb) -> bytes:
    """A whole document, in UTF-8; without verbs it says that nothing is to be done."""
    response = ElementTree.Element("Response")
    for verb in verbs:
        _write(response, verb)
    return bytes(ElementTree.tostring(response, encoding="UTF-8", xml_declaration=True))


def _write(response: ElementTree.Element, verb: Verb) -> None:
    match verb:
        case Connect(stream, action):
            connect = _add(response, "Connect", action=action)
            inner = _add(
                connect, "Stream", url=stream.url, name=stream.name, statusCallback=stream.status_callback
            )
            for name, value in stream.parameters.items():
                # An empty value is a value: it must stand there.
                ElementTree.SubElement(inner, "Parameter", {"name": _text(name), "value": _text(value)})
        case Say(text, language):
            _add(response, "Say", text, language=language)
        case Redirect(url):
            _add(response, "Redirect", url)
        case Dial(target, timeout_s, caller_id, action, whisper_url, status_callback):
            timeout = "" if timeout_s is None else str(timeout_s)
            dial = _add(response, "Dial", timeout=timeout, callerId=caller_id, action=action)
            is_sip = target.startswith(("sip:", "sips:"))
            _add(
                dial,
                "Sip" if is_sip else "Number",
                target.removeprefix("tel:"),
                url=whisper_url,
                statusCallback=status_callback,
                statusCallbackEvent="answered completed" if status_callback else "",
            )
        case Hangup():
            _add(response, "Hangup")
        case Reject(reason):
            _add(response, "Reject", reason=reason)
        case Message(text):
            _add(response, "Message", text)
        case _:
            assert_never(verb)


def _add(parent: ElementTree.Element, tag: str, text: str = "", **attributes: str) -> ElementTree.Element:
    given = {name: _text(value) for name, value in attributes.items() if value}
    element = ElementTree.SubElement(parent, tag, given)
    element.text = _text(text) or None
    return element


def _text(text: str) -> str:
    return _NOT_XML.sub("", text)
