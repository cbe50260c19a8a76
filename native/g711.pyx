# cython: autotestdict=False
"""G.711 mu-law and A-law, bit-exact to the ITU reference; the contract is fastagent/_native/g711.pyi."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int16_t, uint8_t

from fa_g711 cimport fa_alaw_decode, fa_alaw_encode, fa_g711_variant, fa_ulaw_decode, fa_ulaw_encode

ctypedef void (*Encode)(const int16_t *pcm, size_t n, uint8_t *out) noexcept nogil
ctypedef void (*Decode)(const uint8_t *codes, size_t n, int16_t *out) noexcept nogil

# A frame is done in less time than the GIL takes to come back; a block of seconds is not.
cdef enum:
    BLOCK_SAMPLES = 1 << 16


cdef inline void run_encode(Encode encode, const void *pcm, Py_ssize_t n, void *out) noexcept:
    if n < BLOCK_SAMPLES:
        encode(<const int16_t *> pcm, <size_t> n, <uint8_t *> out)
    else:
        with nogil:
            encode(<const int16_t *> pcm, <size_t> n, <uint8_t *> out)


cdef inline void run_decode(Decode decode, const void *codes, Py_ssize_t n, void *out) noexcept:
    if n < BLOCK_SAMPLES:
        decode(<const uint8_t *> codes, <size_t> n, <int16_t *> out)
    else:
        with nogil:
            decode(<const uint8_t *> codes, <size_t> n, <int16_t *> out)


cdef inline int check_even(Py_ssize_t size) except -1:
    if size & 1:
        raise ValueError(f"samples of two bytes expected, got {size} bytes")
    return 0


cdef inline int check_room(const Py_buffer *source, const Py_buffer *out, Py_ssize_t needed) except -1:
    if out.len < needed:
        raise ValueError(f"room for {needed} bytes expected, got {out.len}")
    cdef const char *a = <const char *> source.buf
    cdef const char *b = <const char *> out.buf
    if a < b + needed and b < a + source.len:
        raise ValueError("out overlaps the input")
    return 0


cdef bytes encode_bytes(Encode encode, object pcm):
    cdef Py_buffer view
    cdef Py_ssize_t size
    cdef bytes codes
    if PyBytes_CheckExact(pcm):
        size = PyBytes_GET_SIZE(pcm)
        check_even(size)
        codes = PyBytes_FromStringAndSize(NULL, size // 2)
        run_encode(encode, PyBytes_AS_STRING(pcm), size // 2, PyBytes_AS_STRING(codes))
        return codes
    PyObject_GetBuffer(pcm, &view, PyBUF_SIMPLE)
    try:
        check_even(view.len)
        codes = PyBytes_FromStringAndSize(NULL, view.len // 2)
        run_encode(encode, view.buf, view.len // 2, PyBytes_AS_STRING(codes))
    finally:
        PyBuffer_Release(&view)
    return codes


cdef bytes decode_bytes(Decode decode, object codes):
    cdef Py_buffer view
    cdef bytes pcm
    if PyBytes_CheckExact(codes):
        pcm = PyBytes_FromStringAndSize(NULL, 2 * PyBytes_GET_SIZE(codes))
        run_decode(decode, PyBytes_AS_STRING(codes), PyBytes_GET_SIZE(codes), PyBytes_AS_STRING(pcm))
        return pcm
    PyObject_GetBuffer(codes, &view, PyBUF_SIMPLE)
    try:
        pcm = PyBytes_FromStringAndSize(NULL, 2 * view.len)
        run_decode(decode, view.buf, view.len, PyBytes_AS_STRING(pcm))
    finally:
        PyBuffer_Release(&view)
    return pcm


cdef Py_ssize_t encode_into(Encode encode, object pcm, object out) except -1:
    cdef Py_buffer source, room
    PyObject_GetBuffer(pcm, &source, PyBUF_SIMPLE)
    try:
        PyObject_GetBuffer(out, &room, PyBUF_WRITABLE)
        try:
            check_even(source.len)
            check_room(&source, &room, source.len // 2)
            run_encode(encode, source.buf, source.len // 2, room.buf)
            return source.len // 2
        finally:
            PyBuffer_Release(&room)
    finally:
        PyBuffer_Release(&source)


cdef Py_ssize_t decode_into(Decode decode, object codes, object out) except -1:
    cdef Py_buffer source, room
    PyObject_GetBuffer(codes, &source, PyBUF_SIMPLE)
    try:
        PyObject_GetBuffer(out, &room, PyBUF_WRITABLE)
        try:
            check_room(&source, &room, 2 * source.len)
            run_decode(decode, source.buf, source.len, room.buf)
            return 2 * source.len
        finally:
            PyBuffer_Release(&room)
    finally:
        PyBuffer_Release(&source)


def ulaw_encode(pcm, /):
    """Compress linear samples to G.711 mu-law."""
    return encode_bytes(fa_ulaw_encode, pcm)


def ulaw_decode(codes, /):
    """Expand G.711 mu-law to linear samples."""
    return decode_bytes(fa_ulaw_decode, codes)


def alaw_encode(pcm, /):
    """Compress linear samples to G.711 A-law."""
    return encode_bytes(fa_alaw_encode, pcm)


def alaw_decode(codes, /):
    """Expand G.711 A-law to linear samples."""
    return decode_bytes(fa_alaw_decode, codes)


def ulaw_encode_into(pcm, out, /):
    """Compress linear samples to G.711 mu-law in a buffer of the caller's; gives the bytes written."""
    return encode_into(fa_ulaw_encode, pcm, out)


def ulaw_decode_into(codes, out, /):
    """Expand G.711 mu-law to linear samples in a buffer of the caller's; gives the bytes written."""
    return decode_into(fa_ulaw_decode, codes, out)


def alaw_encode_into(pcm, out, /):
    """Compress linear samples to G.711 A-law in a buffer of the caller's; gives the bytes written."""
    return encode_into(fa_alaw_encode, pcm, out)


def alaw_decode_into(codes, out, /):
    """Expand G.711 A-law to linear samples in a buffer of the caller's; gives the bytes written."""
    return decode_into(fa_alaw_decode, codes, out)


def variant():
    """The body in use on this processor."""
    return fa_g711_variant().decode("ascii")
