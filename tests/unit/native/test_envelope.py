"""Unit: the envelope scanner against tables and against its slow oracle."""

import gc
import itertools
import json
import pickle
from typing import Any

import pytest

from fastagent._native import envelope as native
from fastagent._native.envelope import EnvelopeSpec, Match, ScanError, Scanner
from tests.reference.envelope_reference import Envelope, could_be_other, judge

AUDIOCODES = Envelope(("type",), ("userStream.chunk",), ("audioChunk",), (("participant",),))
REALTIME = Envelope(
    ("type",),
    ("response.output_audio.delta", "response.audio.delta"),
    ("delta",),
    (("item_id",), ("content_index",)),
)
TWILIO = Envelope(("event",), ("media",), ("media", "payload"), (("streamSid",), ("media", "timestamp")))
SMALL = Envelope(("t",), ("m",), ("a",), (("f",),))

AUDIOCODES_CHUNK = (
    b'{"type":"userStream.chunk","conversationId":"7d0c2a34-51f7-4b1e-9a43-0c9d6e7f2b11",'
    b'"audioChunk":"AAABAAIAAwA="}'
)
REALTIME_DELTA = (
    b'{"type":"response.output_audio.delta","event_id":"event_12","response_id":"resp_1","item_id":"item_B2",'
    b'"output_index":0,"content_index":3,"delta":"AAAAAA=="}'
)
TWILIO_MEDIA = (
    b'{"event":"media","sequenceNumber":"2","streamSid":"MZ00000000000000000000000000000001",'
    b'"media":{"track":"inbound","chunk":"1","timestamp":"20","payload":"////"}}'
)
WIRES = [
    pytest.param(AUDIOCODES, AUDIOCODES_CHUNK, id="audiocodes"),
    pytest.param(REALTIME, REALTIME_DELTA, id="realtime"),
    pytest.param(TWILIO, TWILIO_MEDIA, id="twilio"),
]

CODES = {
    native.MALFORMED: "malformed",
    native.TOO_DEEP: "too deep",
    native.DUPLICATE: "duplicate",
    native.NO_AUDIO: "no audio",
}


def scanner(envelope: Envelope) -> Scanner:
    return Scanner(envelope.discriminator, envelope.values, envelope.audio, envelope.fields)


def outcome(envelope: Envelope, message: bytes) -> str:
    """What the scanner makes of a message, in the oracle's words."""
    try:
        return "other" if scanner(envelope).scan(message) is None else "media"
    except ScanError as error:
        return CODES[error.code]


def found(envelope: Envelope, message: bytes) -> Match:
    match = scanner(envelope).scan(message)
    assert match is not None
    return match


def small(value: str) -> bytes:
    """A media message of SMALL with ``value`` where nobody wants it."""
    return b'{"t":"m","x":' + value.encode() + b',"a":"AA"}'


# ---- what is found ----


def test_audiocodes_chunk_gives_audio() -> None:
    match = found(AUDIOCODES, AUDIOCODES_CHUNK)
    assert (match.value, match.audio, match.fields) == ("userStream.chunk", b"AAABAAIAAwA=", (None,))


def test_realtime_delta_gives_audio_and_fields() -> None:
    match = found(REALTIME, REALTIME_DELTA)
    assert match.value == "response.output_audio.delta"
    assert match.audio == b"AAAAAA=="
    assert match.fields == ("item_B2", 3)


def test_match_tells_which_value_was_met() -> None:
    message = REALTIME_DELTA.replace(b"output_audio", b"audio")
    assert found(REALTIME, message).value == "response.audio.delta"


def test_nested_twilio_media_gives_audio_and_nested_field() -> None:
    match = found(TWILIO, TWILIO_MEDIA)
    assert match.audio == b"////"
    assert match.fields == ("MZ00000000000000000000000000000001", "20")


@pytest.mark.parametrize(
    ("order", "media_order"),
    [
        *itertools.product(
            itertools.permutations(("event", "streamSid", "media", "sequenceNumber")),
            itertools.permutations(("payload", "timestamp", "track")),
        )
    ],
)
def test_any_key_order_gives_the_same(order: tuple[str, ...], media_order: tuple[str, ...]) -> None:
    inner = {"payload": "AAEC", "timestamp": "20", "track": "inbound"}
    outer: dict[str, Any] = {"event": "media", "streamSid": "MZ1", "sequenceNumber": "2"}
    outer["media"] = {key: inner[key] for key in media_order}
    message = json.dumps({key: outer[key] for key in order}).encode()
    match = found(TWILIO, message)
    assert (match.audio, match.fields) == (b"AAEC", ("MZ1", "20"))


def test_white_space_is_allowed_everywhere() -> None:
    space = b" \t\r\n"
    tokens = [
        b"{",
        b'"t"',
        b":",
        b'"m"',
        b",",
        b'"x"',
        b":",
        b"[",
        b"1",
        b",",
        b"{",
        b"}",
        b"]",
        b",",
        b'"a"',
        b":",
    ]
    tokens += [b'"AA"', b"}"]
    message = space + space.join(tokens) + space
    assert found(SMALL, message).audio == b"AA"


@pytest.mark.parametrize("space", ["\v", "\f", "\x00", "\xa0", "\u2003", "\ufeff"])
def test_other_white_space_is_refused(space: str) -> None:
    assert outcome(SMALL, b'{"t":"m",' + space.encode() + b'"a":"AA"}') == "malformed"


@pytest.mark.parametrize(
    "message",
    [
        rb'{"\u0074":"m","a":"AA"}',
        rb'{"t":"\u006d","a":"AA"}',
        rb'{"t":"\u006D","\u0061":"AA"}',
        rb'{"\u0074":"\u006d","\u0061":"\u0041A"}',
    ],
)
def test_escaped_keys_and_values_match_by_their_meaning(message: bytes) -> None:
    assert found(SMALL, message).audio == b"AA"


def test_names_outside_ascii_match_raw_and_escaped() -> None:
    envelope = Envelope(("d\u00e9",), ("\U0001f4de\u20ac",), ('a"/\\\n',))
    for key, value in itertools.product(
        ("d\u00e9", r"d\u00e9", r"d\u00E9"), ("\U0001f4de\u20ac", r"\ud83d\udcde\u20AC")
    ):
        message = f'{{"{key}":"{value}","a\\"\\/\\\\\\n":"AA"}}'.encode()
        assert found(envelope, message).audio == b"AA"


@pytest.mark.parametrize(
    "key", ["tt", "", "T", r"\u0074t", r"\u0054", r"\ud83d", r"t\u0000", r"\u00f4", "\u0442"]
)
def test_similar_keys_do_not_match(key: str) -> None:
    assert outcome(SMALL, f'{{"{key}":"m","a":"AA"}}'.encode()) == "other"


def test_empty_keys_and_values_can_be_wanted() -> None:
    assert found(Envelope(("t",), ("",), ("",)), b'{"t":"","":"AA"}').audio == b"AA"


@pytest.mark.parametrize(
    ("written", "audio"),
    [
        (rb"\/\/8=", b"//8="),
        (rb"AAAA\/", b"AAAA/"),
        (rb"\u0041\u0041\u002b\u002F", b"AA+/"),
        (rb"\"\\\/\b\f\n\r\t", b'"\\/\b\f\n\r\t'),
        (rb"\u0000\u007f\u0080\u07ff\u0800\uffff", "\0\x7f\x80\u07ff\u0800\uffff".encode()),
        (rb"\ud800\udc00\uDBFF\uDFFD", "\U00010000\U0010fffd".encode()),
        (rb"\ud83d\udcde" * 3, "\U0001f4de".encode() * 3),
        (b"", b""),
        (b"\xff\xfe", b"\xff\xfe"),
        (b"\x7f", b"\x7f"),
    ],
)
def test_audio_is_unescaped(written: bytes, audio: bytes) -> None:
    assert found(SMALL, b'{"t":"m","a":"' + written + b'"}').audio == audio


@pytest.mark.parametrize("lead", range(17))
def test_audio_of_any_length_and_alignment_is_found_whole(lead: int) -> None:
    for size in (*range(80), 127, 128, 129, 160, 1280, 6400):
        audio = bytes(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef!#[]^~ "[i % 39] for i in range(size))
        assert found(SMALL, b" " * lead + b'{"t":"m","a":"' + audio + b'"}').audio == audio


@pytest.mark.parametrize("position", range(150))
def test_special_bytes_are_met_at_every_position_of_a_long_string(position: int) -> None:
    plain = b"A" * 150
    for special, expected in [
        (b"\\/", "media"),
        (b"\\x", "malformed"),
        (b"\x1f", "malformed"),
        (b'"', "malformed"),
    ]:
        audio = plain[:position] + special + plain[position:]
        assert outcome(SMALL, b'{"t":"m","a":"' + audio + b'"}') == expected
    audio = plain[:position] + b"\x20\x21\x23\x5b\x5d\x7f\x80\xa2\xdc\xff" + plain[position:]
    assert found(SMALL, b'{"t":"m","a":"' + audio + b'"}').audio == audio


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ('"abc"', "abc"),
        ('""', ""),
        (r'"\u20ac\n"', "\u20ac\n"),
        ('"\u20ac"', "\u20ac"),
        ("0", 0),
        ("-0", 0),
        ("20", 20),
        ("-17", -17),
        ("123456789012345678901234567890", 123456789012345678901234567890),
        ("1.5", 1.5),
        ("-0.0", -0.0),
        ("1e3", 1000.0),
        ("1E-2", 0.01),
        ("true", True),
        ("false", False),
        ("null", None),
        ("[1, [2]]", b"[1, [2]]"),
        ('{"a": {}}', b'{"a": {}}'),
        ("[]", b"[]"),
        ("{}", b"{}"),
    ],
)
def test_fields_have_their_python_values(written: str, value: object) -> None:
    (field,) = found(SMALL, f'{{"f":{written} ,"t":"m","a":"AA"}}'.encode()).fields
    assert field == value
    assert type(field) is type(value)


def test_a_field_can_stand_on_another_ones_path() -> None:
    envelope = Envelope(
        ("t",), ("m",), ("b", "a"), (("b",), ("b", "n"), ("t",), ("t",), ("b", "n", "deeper"))
    )
    match = found(envelope, b'{"b":{"n":7,"a":"AA"},"t":"m"}')
    assert match.fields == (b'{"n":7,"a":"AA"}', 7, "m", "m", None)


def test_paths_and_fields_work_up_to_their_limits() -> None:
    path = ("p", "q", "r")
    fields = tuple((*path, f"f{i}") for i in range(native.FIELDS_MAX))
    values = tuple(f"v{i}" for i in range(native.VALUES_MAX))
    envelope = Envelope((*path, "t"), values, (*path, "a"), fields)
    inner = {"a": "AA", "t": "v3"} | {f"f{i}": i for i in range(native.FIELDS_MAX)}
    match = found(envelope, json.dumps({"p": {"q": {"r": inner}}}).encode())
    assert (match.value, match.audio, match.fields) == ("v3", b"AA", tuple(range(native.FIELDS_MAX)))


@pytest.mark.parametrize(
    "message",
    [
        b'{"t":"m","a":"AA","f":{"f":{"t":"x","a":1}}}',
        b'{"t":"m","a":"AA","f":[{"t":"x"},{"a":1,"a":2}]}',
        b'{"t":"m","a":"AA","x":{"t":"x","t":"y"}}',
    ],
)
def test_wanted_keys_elsewhere_do_not_count(message: bytes) -> None:
    assert found(SMALL, message).audio == b"AA"


# ---- what is not ours ----


@pytest.mark.parametrize(
    "message",
    [
        b"{}",
        b' { "x" : 1 } ',
        b'{"a":"AA"}',
        b'{"t":"mm","a":"AA"}',
        b'{"t":"","a":"AA"}',
        b'{"t":"M"}',
        b'{"t":null}',
        b'{"t":1}',
        b'{"t":true}',
        b'{"t":["m"]}',
        b'{"t":{"t":"m"}}',
        rb'{"t":"\ud800"}',
        b'{"x":{"t":"m","a":"AA"}}',
        b'{"x":["t","m"]}',
        b'{"a":"AA","a":"BB","t":"x"}',
        b'{"a":"AA","a":"BB"}',
    ],
)
def test_other_objects_are_left_alone(message: bytes) -> None:
    assert outcome(SMALL, message) == "other"


@pytest.mark.parametrize("rest", [b"", b",", b'"', b"}}", b"\x00", b',"t":"m"', b',"a":{' * 40])
def test_another_discriminator_ends_the_scan_at_once(rest: bytes) -> None:
    assert outcome(SMALL, b'{"t":"x"' + rest) == "other"


def test_a_nested_discriminator_under_a_scalar_is_absent() -> None:
    assert outcome(Envelope(("d", "t"), ("m",), ("a",)), b'{"d":"m","a":"AA"}') == "other"


# ---- what is refused ----


@pytest.mark.parametrize(("envelope", "message"), WIRES)
def test_truncation_at_every_byte_is_refused(envelope: Envelope, message: bytes) -> None:
    for size in range(len(message)):
        assert outcome(envelope, message[:size]) == "malformed", size


@pytest.mark.parametrize(("envelope", "message"), WIRES)
def test_bytes_behind_the_object_are_refused(envelope: Envelope, message: bytes) -> None:
    for rest in (b"x", b"}", b",", b"{}", b"\x00", b"\xef\xbb\xbf", message):
        assert outcome(envelope, message + rest) == "malformed"
        assert outcome(envelope, message + b" \n" + rest) == "malformed"


@pytest.mark.parametrize("byte", range(0x20))
def test_control_characters_in_strings_are_refused(byte: int) -> None:
    for message in (
        b'{"t":"m","a":"A@"}',
        b'{"t":"m","a":"AA","x@":1}',
        b'{"t":"m","a":"AA","x":"@' + b"." * 40 + b'"}',
    ):
        assert outcome(SMALL, message.replace(b"@", bytes([byte]))) == "malformed"


@pytest.mark.parametrize("letter", range(256))
def test_only_the_nine_escapes_are_known(letter: int) -> None:
    known = letter in b'"\\/bfnrt'
    message = b'{"t":"m","a":"AA","x":"\\' + bytes([letter]) + b'"}'
    assert outcome(SMALL, message) == ("media" if known else "malformed")


@pytest.mark.parametrize(
    "value",
    [
        # numbers
        "01", "-01", "00", "1.", ".5", "-.5", "+1", "1e", "1e+", "1E-", "1.e1", "1.5.5", "1e1e1", "1e1.5",
        "-", "--1",
        "- 1", "0x10", "1_000", "1a", "Infinity", "-Infinity", "NaN", "nan", "١", "1,", "1 2",
        # literals
        "True", "TRUE", "tru", "truee", "nul", "nulll", "fals", "None", "undefined", "t", "n", "f",
        # strings
        "'single'", '"open', 'open"', '"\\u"', '"\\u12"', '"\\u123"', '"\\u12g4"', '"\\u 123"', '"\\u-123"',
        '"\\u+123"',
        '"\\U0041"', '"\\x41"', '"\\\'"', '"\\0"', '"\\', '"\\u00e', '"a""b"', '"a" "b"', "“quoted”", "`x`",
        # arrays and objects
        "[1,]", "[,1]", "[,]", "[1,,2]", "[1 2]", "[1", "1]", "[1}", "[1:2]", "[", "]", '{"a":1,}',
        '{,"a":1}', "{,}",
        '{"a"}', '{"a":}', '{"a" 1}', '{"a":1 "b":2}', '{"a":1]', "{a:1}", "{1:1}", "{'a':1}", '{"a":1:2}',
        "{null:1}",
        '{"a"::1}', "{[]:1}", "{", '{"a', '{"a"', '{"a":',
        # comments, and nothing at all
        "/* x */ 1", "1 // x", "# 1", "",
    ],
)  # fmt: skip
def test_malformed_values_are_refused_anywhere(value: str) -> None:
    assert outcome(SMALL, small(value)) == "malformed"
    assert outcome(SMALL, small(f"[{value}]")) == ("media" if value == "" else "malformed")
    assert outcome(SMALL, small(f'{{"k":{value}}}')) == "malformed"
    assert outcome(SMALL, f'{{"t":"m","a":"AA","x":{value}'.encode()) == "malformed"


@pytest.mark.parametrize(
    "value",
    [
        "0", "-0", "0.0", "-0.10", "10", "1.25", "0e0", "0E+00", "1e-05", "-12.5E+7", "9" * 400,
        "0." + "0" * 400,
        "true", "false", "null", '""', '"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"', '"/"', '"\x7f"',
        "[]", "{}", "[[],{},[[]]]", '{"":{"":[]}}', '[1,"a",null,true,false,{"a":[]}]', '{"a":1,"a":1}',
    ],
)  # fmt: skip
def test_well_formed_values_are_passed_over(value: str) -> None:
    for message in (small(value), small(f" [ {value} , {value} ] "), small(f'{{"k":{value}}}')):
        assert outcome(SMALL, message) == "media"


@pytest.mark.parametrize(
    "message",
    [
        b"", b" ", b"\n\t", b"[]", b'["t","m"]', b'[{"t":"m","a":"AA"}]', b'"t"', b"1", b"null", b"true",
        b"{", b"}",
        b'\xef\xbb\xbf{"t":"m","a":"AA"}', b'\xff\xfe{\x00}\x00', b'({"t":"m","a":"AA"})',
        b'{"t":"m","a":"AA"',
        b'{"t":"m";"a":"AA"}', b'{"t"="m","a":"AA"}', b'{"t":"m","a":"AA",}', b'{,"t":"m","a":"AA"}',
        b'{"t":"m",,"a":"AA"}', b'{"t":"m" "a":"AA"}', b'{"t":"m","a":"AA"}{"t":"m","a":"AA"}',
        b"{'t':'m','a':'AA'}",
        b'{t:"m",a:"AA"}', b'{"t":m,"a":"AA"}', b'{"t":"m","a":"AA"]', b'{"t":"m","a":"AA"}\x00', b"\x00",
        b'{"t":nul', b'{"t":tru}', b'{"t":01x', b'{"t":-}', b'{"t":"x', b'{"t":"\\q"}', b'{"x":,"t":"x"}',
    ],
)  # fmt: skip
def test_what_is_not_one_object_is_refused(message: bytes) -> None:
    expected = "other" if message == b'{"t":01x' else "malformed"
    assert outcome(SMALL, message) == expected


@pytest.mark.parametrize("openings", ["[", "{", "[{", "{{["])
def test_thirty_two_levels_are_allowed_and_thirty_three_refused(openings: str) -> None:
    for levels, expected in [(native.DEPTH_MAX, "media"), (native.DEPTH_MAX + 1, "too deep")]:
        value = "1"
        # The message itself is one level.
        for opening in itertools.islice(itertools.cycle(openings), levels - 1):
            value = f"[{value}]" if opening == "[" else f'{{"k":{value}}}'
        assert outcome(SMALL, small(value)) == expected


def test_endless_nesting_is_refused_without_recursion() -> None:
    assert outcome(SMALL, b'{"t":"m","x":' + b"[" * 1_000_000) == "too deep"
    assert outcome(SMALL, b'{"x":' * 1_000_000) == "too deep"


@pytest.mark.parametrize(
    "message",
    [
        b'{"t":"m","a":"AA","a":"AA"}',
        b'{"t":"m","a":"AA","\\u0061":"BB"}',
        b'{"t":"m","a":null,"a":"BB"}',
        b'{"t":"m","t":"m","a":"AA"}',
        b'{"t":"m","a":"AA","t":"x"}',
        b'{"t":"m","f":1,"f":1,"a":"AA"}',
        b'{"f":1,"a":"AA","f":[],"t":"m"}',
        b'{"a":"AA","a":"AA","t":"m"}',
        b'{"t":"m","f":1,"f":1}',
    ],
)
def test_wanted_keys_twice_are_refused(message: bytes) -> None:
    assert outcome(SMALL, message) == "duplicate"


@pytest.mark.parametrize(
    "message",
    [
        b'{"event":"media","media":{"payload":"AA"},"media":{"payload":"BB"}}',
        b'{"event":"media","media":{"payload":"AA"},"media":null}',
        b'{"event":"media","media":{},"media":{"payload":"BB"}}',
        b'{"event":"media","media":{"payload":"AA","payload":"BB"}}',
        b'{"event":"media","media":{"timestamp":1,"payload":"AA","timestamp":1}}',
    ],
)
def test_wanted_keys_twice_are_refused_on_the_way_to_the_audio(message: bytes) -> None:
    assert outcome(TWILIO, message) == "duplicate"


def test_a_repeated_way_to_the_discriminator_is_refused() -> None:
    envelope = Envelope(("d", "t"), ("m",), ("a",))
    for message in (
        b'{"d":{"t":"m"},"d":{"t":"m"},"a":"AA"}',
        b'{"d":{},"d":{"t":"m"},"a":"AA"}',
        b'{"d":{"t":"m"},"d":{"t":"x"},"a":"AA"}',
    ):
        assert outcome(envelope, message) == "duplicate"


def test_unwanted_keys_may_repeat() -> None:
    assert outcome(SMALL, b'{"x":1,"t":"m","x":2,"a":"AA","x":3}') == "media"


@pytest.mark.parametrize("audio", ["null", "1", "true", "false", "[]", '["AA"]', "{}", '{"a":"AA"}'])
def test_audio_that_is_no_string_is_refused(audio: str) -> None:
    assert outcome(SMALL, f'{{"t":"m","a":{audio}}}'.encode()) == "no audio"
    assert outcome(TWILIO, f'{{"event":"media","media":{{"payload":{audio}}}}}'.encode()) == "no audio"


@pytest.mark.parametrize(
    "media", ["", ',"media":null', ',"media":"AA"', ',"media":{}', ',"media":[{"payload":"AA"}]']
)
def test_missing_audio_is_refused(media: str) -> None:
    assert outcome(TWILIO, f'{{"event":"media"{media}}}'.encode()) == "no audio"


@pytest.mark.parametrize(
    "text",
    [
        r"\ud800", r"\udbff", r"\udc00", r"\udfff", r"\ud800\ud800", r"\ud800\u0041", r"\udc00\ud800",
        r"\ud800A",
        r"\ud800\n", r"\ud83d\\udcde", r"AA\ud83d",
    ],
)  # fmt: skip
@pytest.mark.parametrize("key", ["a", "f"])
def test_lone_surrogates_in_wanted_strings_are_refused(key: str, text: str) -> None:
    other = "f" if key == "a" else "a"
    message = f'{{"t":"m","{other}":"AA","{key}":"{text}"}}'.encode()
    with pytest.raises(ScanError, match="lone surrogate") as caught:
        scanner(SMALL).scan(message)
    assert caught.value.code == native.MALFORMED


@pytest.mark.parametrize("text", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\\n\xff"])
def test_fields_that_are_not_utf8_are_refused(text: bytes) -> None:
    with pytest.raises(ScanError, match="not UTF-8"):
        scanner(SMALL).scan(b'{"t":"m","a":"AA","f":"' + text + b'"}')


def test_integers_beyond_the_interpreters_limit_are_refused() -> None:
    with pytest.raises(ScanError, match="5000 digits"):
        scanner(SMALL).scan(b'{"t":"m","a":"AA","f":' + b"7" * 5000 + b"}")


def test_errors_never_quote_the_message() -> None:
    with pytest.raises(ScanError) as caught:
        scanner(SMALL).scan(b'{"t":"m","a":"+3021055501')
    assert "3021" not in str(caught.value)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.code) == (str(caught.value), native.MALFORMED)


# ---- agreement ----


@pytest.mark.parametrize(("envelope", "message"), WIRES)
def test_every_changed_byte_is_judged_like_the_oracle(envelope: Envelope, message: bytes) -> None:
    for position in range(len(message)):
        for byte in b'"\\{}[],: 0a\x00\x1f\x7f':
            changed = message[:position] + bytes([byte]) + message[position + 1 :]
            got, expected = outcome(envelope, changed), judge(changed, envelope).code
            # A discriminator with another value ends the scan before a fault behind it is met.
            if got == "other" and expected == "malformed":
                assert could_be_other(changed, envelope), (position, byte)
            else:
                assert got == expected, (position, byte)


# ---- the binding ----


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_contiguous_buffer_is_scanned(kind: Any) -> None:
    match = scanner(AUDIOCODES).scan(kind(AUDIOCODES_CHUNK))
    assert match is not None
    assert match.audio == b"AAABAAIAAwA="


def test_a_slice_is_not_read_past_its_end() -> None:
    whole = memoryview(AUDIOCODES_CHUNK)
    for size in range(len(whole)):
        with pytest.raises(ScanError):
            scanner(AUDIOCODES).scan(whole[:size])


def test_what_is_no_contiguous_buffer_is_refused() -> None:
    with pytest.raises(TypeError):
        scanner(SMALL).scan("{}")  # type: ignore[arg-type]
    with pytest.raises(BufferError):
        scanner(SMALL).scan(memoryview(b"{}{}")[::2])


def test_a_match_outlives_its_message() -> None:
    message = bytearray(TWILIO_MEDIA)
    match = scanner(TWILIO).scan(message)
    assert match is not None
    message[:] = b"\x00" * len(message)
    assert (match.audio, match.fields[1]) == (b"////", "20")


def test_a_scanner_outlives_the_names_it_was_given() -> None:
    discriminator, value, audio = ("".join(["long ", name]) for name in "tma")
    made = Scanner((discriminator,), (value,), (audio,))
    del discriminator, value, audio
    gc.collect()
    match = made.scan(b'{"long t":"long m","long a":"AA"}')
    assert match is not None
    assert match.fields == ()


def test_a_match_cannot_be_made_or_changed() -> None:
    with pytest.raises(TypeError):
        Match()
    match = found(SMALL, b'{"t":"m","a":"AA"}')
    with pytest.raises(AttributeError):
        match.audio = b""  # type: ignore[misc]


FIVE = tuple("abcde")


@pytest.mark.parametrize("kind", [EnvelopeSpec, Scanner])
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (((), ("m",), ("a",)), ValueError),
        ((FIVE, ("m",), ("a",)), ValueError),
        ((("t",), (), ("a",)), ValueError),
        ((("t",), FIVE, ("a",)), ValueError),
        ((("t",), ("m",), ()), ValueError),
        ((("t",), ("m",), FIVE), ValueError),
        ((("t",), ("m",), ("a",), ((),)), ValueError),
        ((("t",), ("m",), ("a",), (FIVE,)), ValueError),
        ((("t",), ("m",), ("a",), (("f",),) * 9), ValueError),
        ((("\ud800",), ("m",), ("a",)), ValueError),
        (("t", ("m",), ("a",)), TypeError),
        ((("t",), "m", ("a",)), TypeError),
        ((("t",), ("m",), "a"), TypeError),
        ((("t",), ("m",), ("a",), ("f",)), TypeError),
        ((("t",), ("m",), ("a",), None), TypeError),
        (((b"t",), ("m",), ("a",)), TypeError),
        ((("t",), (1,), ("a",)), TypeError),
        ((None, ("m",), ("a",)), TypeError),
    ],
)
def test_specs_outside_the_limits_are_refused(
    kind: Any, arguments: tuple[Any, ...], error: type[Exception]
) -> None:
    with pytest.raises(error):
        kind(*arguments)
