from libc.stddef cimport size_t
from libc.stdint cimport uint32_t

cdef extern from "fa_utf8.h" nogil:
    enum:
        FA_UTF8_ACCEPT
        FA_UTF8_REJECT

    uint32_t fa_utf8_advance(uint32_t state, const char *text, size_t n)
