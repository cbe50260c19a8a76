# cython: autotestdict=False
"""Strict base64; the contract is fastagent/_native/base64.pyi."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_Check
from libc.stdint cimport uint8_t

from fa_base64 cimport (
    FA_BASE64_BAD_LENGTH,
    FA_BASE64_BAD_SYMBOL,
    fa_base64_decode,
    fa_base64_decoded_room,
    fa_base64_encode,
    fa_base64_encoded_size,
    fa_base64_validate,
    fa_base64_variant,
)

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL

# Below this a call is over before the GIL could be taken back.
cdef enum:
    BLOCK_BYTES = 1 << 17


cdef bytes encode_span(const void *data, Py_ssize_t size):
    if size > (<size_t> -1 >> 1) // 4 * 3 - 3:
        raise OverflowError("too long to encode")
    cdef bytes text = PyBytes_FromStringAndSize(NULL, <Py_ssize_t> fa_base64_encoded_size(<size_t> size))
    cdef char *out = PyBytes_AS_STRING(text)
    if size < BLOCK_BYTES:
        fa_base64_encode(<const uint8_t *> data, <size_t> size, out)
    else:
        with nogil:
            fa_base64_encode(<const uint8_t *> data, <size_t> size, out)
    return text


cdef int refuse(Py_ssize_t code, Py_ssize_t size) except -1:
    if code == FA_BASE64_BAD_LENGTH:
        raise ValueError(f"base64 length: a multiple of four characters expected, got {size}")
    if code == FA_BASE64_BAD_SYMBOL:
        raise ValueError("base64 symbol: a character outside the standard alphabet")
    raise ValueError("base64 padding: '=' out of place, or bits set below the last byte")


cdef bytes decode_span(const char *text, Py_ssize_t size):
    cdef Py_ssize_t room = <Py_ssize_t> fa_base64_decoded_room(<size_t> size)
    cdef Py_ssize_t count
    # What padding takes away is known before, and the body writes no more than it returns: nothing to resize.
    cdef Py_ssize_t pads = 0
    if size % 4 == 0 and size > 0 and text[size - 1] == b"=":
        pads = 2 if text[size - 2] == b"=" else 1
    cdef bytes data = PyBytes_FromStringAndSize(NULL, room - pads)
    cdef uint8_t *out = <uint8_t *> PyBytes_AS_STRING(data)
    if size < BLOCK_BYTES:
        count = fa_base64_decode(text, <size_t> size, out)
    else:
        with nogil:
            count = fa_base64_decode(text, <size_t> size, out)
    if count < 0:
        refuse(count, size)
    return data


cdef Py_ssize_t validate_span(const char *text, Py_ssize_t size) except -1:
    cdef Py_ssize_t count = fa_base64_validate(text, <size_t> size)
    if count < 0:
        refuse(count, size)
    return count


def encode(data, /):
    """Encode bytes as base64 with padding."""
    if PyBytes_CheckExact(data):
        return encode_span(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        return encode_span(view.buf, view.len)
    finally:
        PyBuffer_Release(&view)


def decode(text, /):
    """Decode base64 text, refusing whatever is not canonical."""
    cdef const char *characters
    cdef Py_ssize_t size
    if PyBytes_CheckExact(text):
        return decode_span(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
    if PyUnicode_Check(text):
        characters = PyUnicode_AsUTF8AndSize(text, &size)
        return decode_span(characters, size)
    cdef Py_buffer view
    PyObject_GetBuffer(text, &view, PyBUF_SIMPLE)
    try:
        return decode_span(<const char *> view.buf, view.len)
    finally:
        PyBuffer_Release(&view)


def validate(text, /):
    """The number of bytes that base64 text stands for, without decoding it."""
    cdef const char *characters
    cdef Py_ssize_t size
    if PyBytes_CheckExact(text):
        return validate_span(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
    if PyUnicode_Check(text):
        characters = PyUnicode_AsUTF8AndSize(text, &size)
        return validate_span(characters, size)
    cdef Py_buffer view
    PyObject_GetBuffer(text, &view, PyBUF_SIMPLE)
    try:
        return validate_span(<const char *> view.buf, view.len)
    finally:
        PyBuffer_Release(&view)


def variant():
    """The body in use on this processor."""
    return fa_base64_variant().decode("ascii")
