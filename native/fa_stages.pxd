from libc.stdint cimport uint32_t, uint64_t

cdef extern from "fa_stages.h" nogil:
    enum:
        FA_STAGE_GUARD
        FA_STAGE_SCAN
        FA_STAGE_CHECK
        FA_STAGE_EARS
        FA_STAGE_COPY
        FA_STAGE_UNBASE64
        FA_STAGE_DECODE
        FA_STAGE_RESAMPLE
        FA_STAGE_ENCODE
        FA_STAGE_BASE64
        FA_STAGE_QUEUE
        FA_STAGE_SEND
        FA_STAGE_EVENTS
        FA_STAGES
        FA_WAY_UPLINK
        FA_WAY_DOWNLINK
        FA_WAY_TICK
        FA_WAY_OTHER
        FA_WAYS
        FA_STAGE_CLASSES
    ctypedef struct fa_stage_times:
        uint64_t frames
        uint64_t ticks
        uint64_t *classes
    ctypedef struct fa_way_times:
        uint64_t frames
        uint64_t timed
        uint64_t allocations
        fa_stage_times whole
        fa_stage_times *stages
    ctypedef struct fa_stages:
        uint32_t every
        uint64_t allocations
        fa_way_times *ways
    void fa_stages_share(fa_stages *shared)
    void fa_stages_set_every(fa_stages *s, uint32_t every)
    uint64_t fa_stages_clock()
    int fa_stages_uses_tsc()
    int fa_stages_begin()
    int fa_stages_begin_inner()
    void fa_stages_lap(int stage)
    void fa_stages_end(int is_timed, int way)
