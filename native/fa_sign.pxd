from libc.stdint cimport uint32_t


cdef extern from "fa_sign.h" nogil:
    enum:
        FA_SIGN_NUMBERS
        FA_SIGN_SYMBOLS
        FA_SIGN_LEVEL

    void fa_sign_intervals(uint32_t number, int *intervals_ms)
