from libc.stdint cimport int16_t


cdef extern from "fa_bands.h" nogil:
    enum:
        FA_FRAME_SAMPLES
        FA_BANDS
        FA_BANDS_WINDOW
        FA_BANDS_OVERLAP
        FA_BANDS_DELAY_SAMPLES
        FA_SPECTRUM_BINS

    ctypedef struct fa_band_frame:
        float band[FA_BANDS]
        float power
        float spectrum[FA_SPECTRUM_BINS]

    ctypedef struct fa_bands:
        int16_t history[FA_BANDS_OVERLAP]

    void fa_bands_init(fa_bands *b)
    void fa_bands_process(fa_bands *b, const int16_t *pcm, fa_band_frame *out)
