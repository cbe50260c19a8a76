from libc.stdint cimport int16_t


cdef extern from "fa_conceal.h" nogil:
    ctypedef struct fa_conceal:
        pass

    size_t FA_CONCEAL_BYTES(int sample_rate)
    int fa_conceal_init(fa_conceal *c, int sample_rate)
    void fa_conceal_reset(fa_conceal *c)
    void fa_conceal_good(fa_conceal *c, int16_t *pcm, size_t n)
    void fa_conceal_lost(fa_conceal *c, int16_t *out, size_t n)
