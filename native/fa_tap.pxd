from libc.stdint cimport int16_t, int64_t, uint8_t, uint32_t

from fa_level cimport fa_level


cdef extern from "fa_vad.h" nogil:
    ctypedef struct fa_speech_options:
        int hangover_ms
    int fa_speech_preset(const char *name, fa_speech_options *options)

cdef extern from "fa_bargein.h" nogil:
    ctypedef struct fa_bargein:
        pass
    int fa_bargein_set_confirm_ms(fa_bargein *g, int confirm_ms)
    int fa_bargein_lag_ms(const fa_bargein *g)

# No `nogil` here: what the ears find may be given to Python from within.
cdef extern from "fa_tap.h":
    enum:
        FA_TAP_BLOCK_BYTES
        FA_TAP_SPEECH
        FA_TAP_OVERLAP
        FA_TAP_DTMF
        FA_TAP_PLAYED
        FA_TAP_CALLER
        FA_TAP_SPEECH_STARTED
        FA_TAP_SPEECH_STOPPED
        FA_TAP_OVERLAP_CONFIRMED
        FA_TAP_DIGIT
        FA_FRAME_SAMPLES

    ctypedef struct fa_tap_event:
        int64_t position
        uint8_t kind
        char digit

    ctypedef float (*fa_tap_detector)(void *context, const int16_t *frame) noexcept
    ctypedef void (*fa_tap_caller_sink)(void *context, const int16_t *pcm, size_t n, double now_s) noexcept
    ctypedef void (*fa_tap_played_sink)(void *context, const int16_t *pcm, int64_t slot) noexcept

    ctypedef struct fa_ears:
        fa_bargein gate
        fa_tap_detector detector
        fa_tap_caller_sink caller_sink
        fa_tap_played_sink played_sink
        void *detector_context
        void *sink_context
        int64_t position
        uint8_t wants

    ctypedef struct fa_tap:
        fa_level caller_level
        fa_level bot_level
        uint8_t events_waiting
        uint32_t events_dropped
        fa_tap_event *events
        fa_ears *ears

    int fa_tap_init(fa_tap *t, int encoding, int sample_rate, int riff)
    int fa_tap_open_ears(fa_tap *t, fa_ears *ears, int wants, const fa_speech_options *speech, double now_s)
    void fa_tap_close_ears(fa_tap *t)
    int fa_tap_wants_caller(fa_tap *t, double now_s)
    int fa_tap_wants_bot(fa_tap *t, double now_s)
    void fa_tap_caller(fa_tap *t, const uint8_t *data, size_t n, int begins, double now_s)
    void fa_tap_caller_reset(fa_tap *t)
    int fa_tap_bot(fa_tap *t, const uint8_t *data, size_t n, double now_s)
    void fa_tap_cut(fa_tap *t, double now_s)
    uint32_t fa_tap_spoken_ms(const fa_tap *t)
    uint32_t fa_tap_quiet_ms(const fa_tap *t)
    void fa_tap_rearm(fa_tap *t)
    void fa_tap_settle(fa_tap *t, double now_s)
