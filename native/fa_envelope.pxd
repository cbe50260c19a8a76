from libc.stddef cimport ptrdiff_t, size_t
from libc.stdint cimport uint8_t

cdef extern from "fa_envelope.h" nogil:
    enum:
        FA_ENVELOPE_DEPTH_MAX
        FA_ENVELOPE_PATH_MAX
        FA_ENVELOPE_VALUES_MAX
        FA_ENVELOPE_FIELDS_MAX

    enum:
        FA_ENVELOPE_MEDIA
        FA_ENVELOPE_OTHER
        FA_ENVELOPE_MALFORMED
        FA_ENVELOPE_TOO_DEEP
        FA_ENVELOPE_DUPLICATE
        FA_ENVELOPE_NO_AUDIO

    enum:
        FA_JSON_ABSENT
        FA_JSON_STRING
        FA_JSON_NUMBER
        FA_JSON_TRUE
        FA_JSON_FALSE
        FA_JSON_NULL
        FA_JSON_OBJECT
        FA_JSON_ARRAY

    ctypedef struct fa_span:
        const char *start
        size_t size
        uint8_t kind
        uint8_t escaped

    # The array sizes are the header's; the C compiler takes them from there.
    ctypedef struct fa_path:
        const char *key[4]
        size_t size[4]
        int depth

    ctypedef struct fa_envelope_spec:
        fa_path discriminator
        const char *value[4]
        size_t value_size[4]
        int values
        fa_path audio
        fa_path field[8]
        int fields

    ctypedef struct fa_envelope_match:
        int value
        fa_span audio
        fa_span field[8]

    int fa_envelope_scan(const fa_envelope_spec *spec, const char *text, size_t n, fa_envelope_match *match)
    ptrdiff_t fa_envelope_unescape(const fa_span *span, char *out)
