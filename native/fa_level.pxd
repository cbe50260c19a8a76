from libc.stdint cimport int16_t, int32_t, uint32_t, uint64_t


cdef extern from "fa_level.h" nogil:
    enum:
        FA_LEVEL_CLIP_RUN
        FA_LEVEL_BLOCKS_PER_S

    double FA_LEVEL_FLOOR_DB
    double FA_LEVEL_SILENCE_DBFS

    ctypedef enum fa_level_encoding:
        FA_LEVEL_PCM16
        FA_LEVEL_MULAW
        FA_LEVEL_ALAW

    ctypedef struct fa_level:
        int32_t sample_rate

    ctypedef struct fa_level_figures:
        uint64_t samples
        uint64_t clipped_samples
        uint32_t clip_runs
        int32_t peak
        double peak_dbfs
        double rms_dbfs
        double rms_dbm0
        double recent_rms_dbfs
        double recent_rms_dbm0
        double dc_offset
        double silence_share
        double silence_s
        double silence_max_s
        double age_s
        double gap_max_s

    int fa_level_init(fa_level *m, int sample_rate, fa_level_encoding encoding)
    void fa_level_reset(fa_level *m)
    void fa_level_process(fa_level *m, const int16_t *pcm, size_t n, double now_s)
    void fa_level_snapshot(const fa_level *m, double now_s, fa_level_figures *figures)
