from libc.stdint cimport int8_t, int16_t, int64_t, uint32_t

from fa_bands cimport FA_BANDS, fa_band_frame


cdef extern from "fa_vad.h" nogil:
    enum:
        FA_VAD_MEASURES
        FA_VAD_UNITS
        FA_VAD_PITCH_HISTORY
        FA_VAD_PAST
        FA_VAD_LINES
        FA_SPEECH_MS_MAX

    ctypedef struct fa_vad:
        float unit[FA_VAD_UNITS]
        float floor[FA_BANDS]
        float total_floor
        float past[FA_VAD_PAST][FA_BANDS]
        int8_t lines[FA_VAD_PAST][FA_VAD_LINES]
        float lag
        int peak
        uint32_t frames
        int16_t tail[4]
        int16_t pitch[FA_VAD_PITCH_HISTORY]

    void fa_vad_init(fa_vad *v)
    void fa_vad_reset(fa_vad *v)
    float fa_vad_process(fa_vad *v, const int16_t *pcm, const fa_band_frame *f)
    void fa_vad_measure(fa_vad *v, const int16_t *pcm, const fa_band_frame *f, float *measures)

    ctypedef enum fa_speech_event:
        FA_SPEECH_NONE
        FA_SPEECH_STARTED
        FA_SPEECH_STOPPED

    ctypedef struct fa_speech_options:
        float start_probability
        float stop_probability
        int min_speech_ms
        int hangover_ms
        int prefix_ms

    ctypedef struct fa_speech:
        fa_speech_options options
        int64_t samples
        int64_t begin
        int64_t last_stop
        int run_ms
        int is_speaking

    int fa_speech_preset(const char *name, fa_speech_options *options)
    int fa_speech_init(fa_speech *s, const fa_speech_options *options)
    void fa_speech_reset(fa_speech *s)
    fa_speech_event fa_speech_process(fa_speech *s, float probability, int64_t *position)
