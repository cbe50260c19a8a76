from libc.stdint cimport int16_t, int64_t, uint8_t


cdef extern from "fa_record.h" nogil:
    enum:
        FA_RECORD_RATE
        FA_RECORD_FRAME
        FA_RECORD_RING
        FA_RECORD_BLOCK
        FA_RECORD_BOT_SLACK
        FA_RECORD_PCM16
        FA_RECORD_MULAW

    size_t FA_RECORD_RING_BYTES(int encoding)

    ctypedef struct fa_recorder:
        int64_t wall
        int64_t padded
        int64_t dropped
        int64_t misplaced
        uint8_t width
        uint8_t is_paused

    int fa_record_init(fa_recorder *r, int encoding, uint8_t *ring, double now)
    int64_t fa_record_position(const fa_recorder *r, double now)
    void fa_record_advance(fa_recorder *r, double now)
    size_t fa_record_caller(fa_recorder *r, const int16_t *pcm, size_t n, double now)
    void fa_record_bot(fa_recorder *r, const int16_t *pcm, size_t n, int64_t position)
    size_t fa_record_due(fa_recorder *r)
    size_t fa_record_take(fa_recorder *r, uint8_t *out, size_t room)
    int64_t fa_record_pause(fa_recorder *r, double now)
    int64_t fa_record_resume(fa_recorder *r, double now)
    void fa_record_flush(fa_recorder *r, double now)
