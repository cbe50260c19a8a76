from libc.stdint cimport uint32_t

from fa_bands cimport FA_BANDS, fa_band_frame


cdef extern from "fa_bargein.h" nogil:
    enum:
        FA_BARGEIN_FRAME_MS
        FA_BARGEIN_CONFIRM_MS
        FA_BARGEIN_CONFIRM_MAX_MS
        FA_BARGEIN_BRIDGE_MS

    ctypedef enum fa_bargein_verdict:
        FA_BARGEIN_QUIET
        FA_BARGEIN_ECHO
        FA_BARGEIN_SPEECH
        FA_BARGEIN_CONFIRMED

    ctypedef struct fa_bargein:
        pass

    void fa_bargein_init(fa_bargein *g)
    int fa_bargein_set_confirm_ms(fa_bargein *g, int confirm_ms)
    int fa_bargein_process(
        fa_bargein *g, const fa_band_frame *caller, const fa_band_frame *bot, float speech_probability
    )
    void fa_bargein_rearm(fa_bargein *g)
    int fa_bargein_lag_ms(const fa_bargein *g)
    void fa_bargein_leak_db(const fa_bargein *g, float *leak_db)
    int fa_bargein_bot_audible(const fa_bargein *g)
    uint32_t fa_bargein_onset_frames(const fa_bargein *g)
    uint32_t fa_bargein_speech_ms(const fa_bargein *g)
    uint32_t fa_bargein_pause_ms(const fa_bargein *g)
