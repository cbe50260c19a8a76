from libc.stdint cimport int16_t, uint32_t


cdef extern from "fa_resample.h" nogil:
    enum:
        FA_RESAMPLE_HISTORY
        FA_RESAMPLE_FLUSH_ROOM

    ctypedef struct fa_resample_plan:
        pass

    ctypedef struct fa_resampler:
        const fa_resample_plan *plan
        uint32_t phase
        int16_t history[FA_RESAMPLE_HISTORY]

    int fa_resampler_init(fa_resampler *r, int in_rate, int out_rate)
    void fa_resampler_reset(fa_resampler *r)
    size_t fa_resampler_room(const fa_resampler *r, size_t n)
    size_t fa_resampler_process(fa_resampler *r, const int16_t *pcm, size_t n, int16_t *out)
    size_t fa_resampler_flush(fa_resampler *r, int16_t *out)
    int fa_resampler_delay_samples(const fa_resampler *r)
    const char *fa_resample_variant()
