from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "fa_jitter.h" nogil:
    enum:
        FA_JITTER_ACCEPTED
        FA_JITTER_LATE
        FA_JITTER_DUPLICATE
        FA_JITTER_OVERFLOW
        FA_JITTER_RESET
        FA_JITTER_HELD
        FA_JITTER_FRAME
        FA_JITTER_LOST
        FA_JITTER_EMPTY
        FA_JITTER_EXPAND
        FA_JITTER_SILENCE
        FA_JITTER_PREFETCH
        FA_JITTER_BAD_ARGUMENT
        FA_JITTER_NO_ROOM

    ctypedef struct fa_jitter_config:
        uint32_t clock_hz
        uint32_t frame
        uint32_t slots
        uint32_t slot_bytes
        uint32_t initial_ms
        uint32_t min_ms
        uint32_t max_ms
        uint32_t path_ms

    ctypedef struct fa_jitter_frame:
        uint16_t seq
        uint32_t timestamp
        uint32_t duration
        size_t bytes

    ctypedef struct fa_jitter_counters:
        uint64_t received
        uint64_t played
        uint64_t late
        uint64_t lost
        uint64_t empty
        uint64_t duplicates
        uint64_t reordered
        uint64_t discarded
        uint64_t expanded
        uint64_t accelerated
        uint64_t silences
        uint64_t resets

    ctypedef struct fa_jitter:
        fa_jitter_config config
        fa_jitter_counters counters
        double jitter_ms

    size_t fa_jitter_arena_bytes(const fa_jitter_config *config)
    int fa_jitter_init(fa_jitter *j, const fa_jitter_config *config, void *arena, size_t arena_bytes)
    void fa_jitter_reset(fa_jitter *j)
    int fa_jitter_put(fa_jitter *j, uint16_t seq, uint32_t timestamp, const uint8_t *payload, size_t n,
                      uint32_t duration, double now)
    int fa_jitter_get(fa_jitter *j, double now, int quiet, uint8_t *out, size_t room, fa_jitter_frame *frame)
    uint32_t fa_jitter_waiting(const fa_jitter *j)
    double fa_jitter_delay_ms(const fa_jitter *j)
    double fa_jitter_target_ms(const fa_jitter *j)
