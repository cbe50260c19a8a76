from libc.stdint cimport uint8_t, uint64_t

cdef extern from "fa_convert.h" nogil:
    enum: FA_PCM16, FA_ULAW, FA_ALAW
    enum: FA_RESAMPLE_FLUSH_ROOM
    ctypedef struct fa_converter:
        uint8_t in_encoding
        uint8_t out_encoding
        uint8_t resamples
        uint8_t riff
        uint8_t carry_size
        uint64_t samples_in
    int fa_converter_init(fa_converter *c, int in_encoding, int in_rate, int out_encoding, int out_rate, int riff)
    void fa_converter_reset(fa_converter *c)
    size_t fa_converter_room(const fa_converter *c, size_t n)
    void fa_converter_begin_chunk(fa_converter *c)
    size_t fa_converter_process(fa_converter *c, const uint8_t *data, size_t n, uint8_t *out)
    size_t fa_converter_flush(fa_converter *c, uint8_t *out)
