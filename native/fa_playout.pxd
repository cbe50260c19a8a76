from libc.stdint cimport int64_t, uint8_t

cdef extern from "fa_playout.h" nogil:
    ctypedef struct fa_fifo:
        uint8_t *bytes
        size_t capacity
        size_t head
        size_t size
    int fa_fifo_push(fa_fifo *f, const uint8_t *data, size_t n)
    size_t fa_fifo_pop(fa_fifo *f, uint8_t *out, size_t n)
    void fa_fifo_drop(fa_fifo *f, size_t n)
    int fa_fifo_prepend(fa_fifo *f, fa_fifo *front)
    void fa_fifo_clear(fa_fifo *f)

    ctypedef struct fa_playout_clock:
        double sample_rate
        int64_t sent
        int64_t base_position
        double base_time_s
    int64_t fa_playout_played(const fa_playout_clock *c, double now_s)
    void fa_playout_sent(fa_playout_clock *c, int64_t n, double now_s)
    void fa_playout_settle(fa_playout_clock *c, double now_s)
