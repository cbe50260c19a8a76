from libc.stdint cimport uint8_t


cdef extern from "fa_base64.h" nogil:
    enum:
        FA_BASE64_BAD_LENGTH
        FA_BASE64_BAD_SYMBOL
        FA_BASE64_BAD_PADDING

    size_t fa_base64_encoded_size(size_t n)
    size_t fa_base64_decoded_room(size_t n)
    size_t fa_base64_encode(const uint8_t *bytes, size_t n, char *out)
    Py_ssize_t fa_base64_decode(const char *text, size_t n, uint8_t *out)
    Py_ssize_t fa_base64_validate(const char *text, size_t n)
    const char *fa_base64_variant()
