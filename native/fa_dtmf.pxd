from libc.stdint cimport int16_t, int64_t, uint8_t


cdef extern from "fa_dtmf.h" nogil:
    enum:
        FA_DTMF_HOP

    ctypedef struct fa_dtmf_event:
        int64_t position
        int64_t duration
        char digit
        uint8_t is_end

    ctypedef struct fa_dtmf:
        pass

    ctypedef struct fa_dtmf_sound:
        int sample_rate
        size_t tone
        size_t pause
        size_t ramp
        double low_peak
        double high_peak

    void fa_dtmf_init(fa_dtmf *d)
    void fa_dtmf_reset(fa_dtmf *d)
    int fa_dtmf_process(fa_dtmf *d, const int16_t *pcm, size_t n, fa_dtmf_event *out, size_t room)
    int fa_dtmf_flush(fa_dtmf *d, fa_dtmf_event *out)
    char fa_dtmf_digit(const fa_dtmf *d)
    int64_t fa_dtmf_generate(const fa_dtmf_sound *sound, const char *digits, size_t count, int16_t *out)
