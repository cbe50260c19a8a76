"""TwiML documents: exact where they are ours to choose, well-formed whatever the texts hold."""

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.twiml.voice_response import VoiceResponse

from fastagent.telephony.twiml import (
    Connect,
    Dial,
    Hangup,
    Message,
    Redirect,
    Reject,
    Say,
    Stream,
    Verb,
    document,
)

HEAD = "<?xml version='1.0' encoding='UTF-8'?>\n"
URL = "wss://bridge.example.com/twilio/stream"


@pytest.mark.parametrize(
    ("verbs", "inner"),
    [
        ([Hangup()], "<Hangup />"),
        ([Reject()], '<Reject reason="rejected" />'),
        ([Reject("busy")], '<Reject reason="busy" />'),
        ([Say("Good day & bye.")], "<Say>Good day &amp; bye.</Say>"),
        ([Say("Guten Tag", language="de-DE")], '<Say language="de-DE">Guten Tag</Say>'),
        ([Redirect("https://h/a?b=1&c=2")], "<Redirect>https://h/a?b=1&amp;c=2</Redirect>"),
        ([Dial("tel:+15550100099")], "<Dial><Number>+15550100099</Number></Dial>"),
        (
            [Dial("+15550100099", timeout_s=20, caller_id="+15550100001", action="https://h/after")],
            '<Dial timeout="20" callerId="+15550100001" action="https://h/after">'
            "<Number>+15550100099</Number></Dial>",
        ),
        (
            [Dial("sip:desk@example.com", whisper_url="https://h/w", status_callback="https://h/l")],
            '<Dial><Sip url="https://h/w" statusCallback="https://h/l" '
            'statusCallbackEvent="answered completed">sip:desk@example.com</Sip></Dial>',
        ),
        ([Dial("sip:desk@example.com")], "<Dial><Sip>sip:desk@example.com</Sip></Dial>"),
        ([Message("Thanks.")], "<Message>Thanks.</Message>"),
        (
            [Connect(Stream(URL, {"a": "1", "b": ""}), action="https://h/x"), Hangup()],
            f'<Connect action="https://h/x"><Stream url="{URL}"><Parameter name="a" value="1" />'
            '<Parameter name="b" value="" /></Stream></Connect><Hangup />',
        ),
        (
            [Connect(Stream(URL, name="main", status_callback="https://h/s"))],
            f'<Connect><Stream url="{URL}" name="main" statusCallback="https://h/s" /></Connect>',
        ),
    ],
)
def test_documents(verbs: list[Verb], inner: str) -> None:
    assert document(*verbs).decode() == f"{HEAD}<Response>{inner}</Response>"


def test_no_verb_is_a_document_too() -> None:
    assert document().decode() == f"{HEAD}<Response />"


@pytest.mark.parametrize("url", ["https://h/a", "wss://h/a?b=c", "wss://h/a#b", ""])
def test_addresses_that_twilio_refuses_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="wss"):
        Stream(url)


@pytest.mark.parametrize("parameters", [{"": "x"}, {"a": "x" * 499}, {"a" * 500: ""}])
def test_parameters_that_twilio_refuses_are_refused(parameters: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="500"):
        Stream(URL, parameters)
    Stream(URL, {"a": "x" * 498})


def test_messages_are_bounded() -> None:
    with pytest.raises(ValueError, match="1600"):
        Message("x" * 1601)


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_gives_a_well_formed_document(text: str, value: str) -> None:
    made = document(Connect(Stream(URL, {"a": value})), Say(text), Dial(text), Message(text))
    root = ElementTree.fromstring(made)
    assert [child.tag for child in root] == ["Connect", "Say", "Dial", "Message"]


def test_the_vendors_own_builder_says_the_same() -> None:
    theirs = VoiceResponse()
    stream = theirs.connect().stream(url=URL)
    stream.parameter(name="ticket", value="a<b")
    theirs.redirect("https://h/next")
    ours = document(Connect(Stream(URL, {"ticket": "a<b"})), Redirect("https://h/next"))
    assert ElementTree.canonicalize(ours.decode()) == ElementTree.canonicalize(str(theirs))
