from libc.stdint cimport int16_t, uint8_t


cdef extern from "fa_g711.h" nogil:
    void fa_ulaw_encode(const int16_t *pcm, size_t n, uint8_t *out)
    void fa_ulaw_decode(const uint8_t *codes, size_t n, int16_t *out)
    void fa_alaw_encode(const int16_t *pcm, size_t n, uint8_t *out)
    void fa_alaw_decode(const uint8_t *codes, size_t n, int16_t *out)
    const char *fa_g711_variant()
