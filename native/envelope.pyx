"""Finds the audio of media messages in JSON text, and checks UTF-8, with no Python object on the way."""

from cython cimport auto_pickle, final

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint32_t
from libc.string cimport memset

from fa_envelope cimport (
    FA_ENVELOPE_DEPTH_MAX, FA_ENVELOPE_DUPLICATE, FA_ENVELOPE_FIELDS_MAX, FA_ENVELOPE_MALFORMED,
    FA_ENVELOPE_MEDIA, FA_ENVELOPE_NO_AUDIO, FA_ENVELOPE_OTHER, FA_ENVELOPE_PATH_MAX,
    FA_ENVELOPE_TOO_DEEP, FA_ENVELOPE_VALUES_MAX, FA_JSON_ABSENT, FA_JSON_FALSE, FA_JSON_NULL,
    FA_JSON_NUMBER, FA_JSON_STRING, FA_JSON_TRUE, fa_envelope_match, fa_envelope_scan, fa_envelope_unescape,
    fa_path, fa_span,
)
from fa_utf8 cimport FA_UTF8_ACCEPT, FA_UTF8_REJECT, fa_utf8_advance

__all__ = [
    "DEPTH_MAX",
    "DUPLICATE",
    "FIELDS_MAX",
    "MALFORMED",
    "NO_AUDIO",
    "PATH_MAX",
    "TOO_DEEP",
    "UTF8_ACCEPT",
    "UTF8_REJECT",
    "VALUES_MAX",
    "EnvelopeSpec",
    "Match",
    "ScanError",
    "Scanner",
    "is_utf8",
    "utf8_advance",
]

DEPTH_MAX = FA_ENVELOPE_DEPTH_MAX
PATH_MAX = FA_ENVELOPE_PATH_MAX
VALUES_MAX = FA_ENVELOPE_VALUES_MAX
FIELDS_MAX = FA_ENVELOPE_FIELDS_MAX

MALFORMED = FA_ENVELOPE_MALFORMED
TOO_DEEP = FA_ENVELOPE_TOO_DEEP
DUPLICATE = FA_ENVELOPE_DUPLICATE
NO_AUDIO = FA_ENVELOPE_NO_AUDIO

UTF8_ACCEPT = FA_UTF8_ACCEPT
UTF8_REJECT = FA_UTF8_REJECT

cdef dict REASONS = {
    FA_ENVELOPE_MALFORMED: "not one well-formed JSON object",
    FA_ENVELOPE_TOO_DEEP: f"nested deeper than {FA_ENVELOPE_DEPTH_MAX}",
    FA_ENVELOPE_DUPLICATE: "a wanted key appears twice",
    FA_ENVELOPE_NO_AUDIO: "a media message whose audio is missing or not a string",
}


class ScanError(ValueError):
    """A message that the scanner refuses; ``code`` says why and the text never quotes the message."""

    def __init__(self, reason: str, code: int = MALFORMED) -> None:
        super().__init__(reason)
        self.code = code


@final
cdef class EnvelopeSpec:
    """What a media message looks like, in the form the native scanner reads.

    Args:
        discriminator: object keys from the top to the message's name, 1 to 4.
        values: the names that mean media, 1 to 4.
        audio: object keys from the top to the audio string, 1 to 4.
        fields: paths of small fields wanted beside it, up to 8.

    Raises:
        ValueError: a path or list is empty or over its limit, or a key cannot be written as UTF-8.
        TypeError: a path is not a tuple of strings.
    """

    def __cinit__(self, tuple discriminator not None, tuple values not None, tuple audio not None,
                  tuple fields not None=()):
        cdef Py_ssize_t i
        cdef bytes encoded
        cdef list kept = []
        memset(&self.spec, 0, sizeof(self.spec))
        if not 1 <= len(values) <= FA_ENVELOPE_VALUES_MAX:
            raise ValueError(f"expected 1 to {FA_ENVELOPE_VALUES_MAX} values, got {len(values)}")
        if len(fields) > FA_ENVELOPE_FIELDS_MAX:
            raise ValueError(f"expected at most {FA_ENVELOPE_FIELDS_MAX} fields, got {len(fields)}")
        fill_path(&self.spec.discriminator, discriminator, kept)
        fill_path(&self.spec.audio, audio, kept)
        for i in range(len(fields)):
            fill_path(&self.spec.field[i], fields[i], kept)
        for i in range(len(values)):
            encoded = encoded_text(values[i])
            kept.append(encoded)
            self.spec.value[i] = PyBytes_AS_STRING(encoded)
            self.spec.value_size[i] = <size_t>PyBytes_GET_SIZE(encoded)
        self.spec.values = <int>len(values)
        self.spec.fields = <int>len(fields)
        self.keepalive = tuple(kept)


cdef bytes encoded_text(object text):
    if not isinstance(text, str):
        raise TypeError(f"expected str, got {type(text).__name__}")
    return (<str>text).encode("utf-8")


cdef int fill_path(fa_path *path, object keys, list kept) except -1:
    cdef Py_ssize_t i
    cdef bytes encoded
    if not isinstance(keys, tuple):
        raise TypeError(f"a path is a tuple of keys, got {type(keys).__name__}")
    if not 1 <= len(keys) <= FA_ENVELOPE_PATH_MAX:
        raise ValueError(f"expected a path of 1 to {FA_ENVELOPE_PATH_MAX} keys, got {len(keys)}")
    for i in range(len(keys)):
        encoded = encoded_text(keys[i])
        kept.append(encoded)
        path.key[i] = PyBytes_AS_STRING(encoded)
        path.size[i] = <size_t>PyBytes_GET_SIZE(encoded)
    path.depth = <int>len(keys)
    return 0


cdef bytes span_text(const fa_span *span):
    """A string's meaning, as it stands in UTF-8; a copy."""
    if not span.escaped:
        return PyBytes_FromStringAndSize(span.start, <Py_ssize_t>span.size)
    cdef bytes text = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>span.size)
    cdef Py_ssize_t size = fa_envelope_unescape(span, PyBytes_AS_STRING(text))
    if size < 0:
        raise ScanError("an escaped lone surrogate in a wanted string", FA_ENVELOPE_MALFORMED)
    return text[:size]


cdef object span_value(const fa_span *span):
    cdef bytes raw
    if span.kind == FA_JSON_STRING:
        try:
            if span.escaped:
                return span_text(span).decode("utf-8")
            return PyUnicode_DecodeUTF8(span.start, <Py_ssize_t>span.size, NULL)
        except UnicodeDecodeError:
            raise ScanError("a wanted string is not UTF-8", FA_ENVELOPE_MALFORMED) from None
    if span.kind == FA_JSON_NUMBER:
        raw = PyBytes_FromStringAndSize(span.start, <Py_ssize_t>span.size)
        if b"." in raw or b"e" in raw or b"E" in raw:
            return float(raw)
        try:
            return int(raw)
        except ValueError:
            raise ScanError(f"a wanted integer has {len(raw)} digits", FA_ENVELOPE_MALFORMED) from None
    if span.kind == FA_JSON_TRUE:
        return True
    if span.kind == FA_JSON_FALSE:
        return False
    if span.kind == FA_JSON_ABSENT or span.kind == FA_JSON_NULL:
        return None
    return PyBytes_FromStringAndSize(span.start, <Py_ssize_t>span.size)


@final
@auto_pickle(False)
cdef class Match:
    """What a media message holds; all of it copied, so it outlives the message."""

    cdef readonly str value
    cdef readonly bytes audio
    cdef readonly tuple fields

    def __init__(self, *args, **kwargs):
        raise TypeError("a Match comes from Scanner.scan")


@final
cdef class Scanner:
    """Recognises the media messages of one wire and takes out their audio text and small fields.

    Takes what :class:`EnvelopeSpec` takes.
    """

    cdef EnvelopeSpec envelope
    cdef tuple values

    def __cinit__(self, tuple discriminator not None, tuple values not None, tuple audio not None,
                  tuple fields not None=()):
        self.envelope = EnvelopeSpec(discriminator, values, audio, fields)
        self.values = values

    def scan(self, message, /):
        """Scan one whole message.

        Args:
            message: JSON text, UTF-8; its validity as UTF-8 is checked in wanted strings only.

        Returns:
            A Match, or None for an object that is not the declared message; that one is read only as far as
            its discriminator.

        Raises:
            ScanError: the message is not one well-formed JSON object, is nested too deep, holds a wanted key
                twice, or is the declared message without an audio string; also when a wanted value has no
                Python form (a lone surrogate, invalid UTF-8, more digits than the interpreter takes).

        Cost: O(n), one pass, no allocation before the match. Source: RFC 8259.
        """
        cdef Py_buffer view
        cdef fa_envelope_match found
        cdef Match match
        cdef int code, i
        PyObject_GetBuffer(message, &view, PyBUF_SIMPLE)
        try:
            code = fa_envelope_scan(&self.envelope.spec, <const char *>view.buf, <size_t>view.len, &found)
            if code == FA_ENVELOPE_OTHER:
                return None
            if code != FA_ENVELOPE_MEDIA:
                raise ScanError(REASONS[code], code)
            match = Match.__new__(Match)
            match.value = <str>self.values[found.value]
            match.audio = span_text(&found.audio)
            if self.envelope.spec.fields == 0:
                match.fields = ()
            else:
                match.fields = tuple([span_value(&found.field[i]) for i in range(self.envelope.spec.fields)])
            return match
        finally:
            PyBuffer_Release(&view)


def utf8_advance(uint32_t state, data, /):
    """Feed bytes to a UTF-8 validator and get its new state.

    Args:
        state: UTF8_ACCEPT at the start, later what the last call returned.
        data: the next bytes, cut anywhere.

    Returns:
        UTF8_ACCEPT between two characters, UTF8_REJECT once the text is invalid, else a state inside a
        character.

    Source: RFC 3629.
    """
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        return fa_utf8_advance(state, <const char *>view.buf, <size_t>view.len)
    finally:
        PyBuffer_Release(&view)


def is_utf8(data, /):
    """Whether the bytes are whole, valid UTF-8."""
    return utf8_advance(FA_UTF8_ACCEPT, data) == FA_UTF8_ACCEPT
