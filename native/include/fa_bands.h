/* Band analysis of telephone audio: one 20 ms frame in, its power in ten bands and its spectrum out.
 *
 * The analysis window is 256 samples: the frame's 160 behind the last 96 before it. It rises over 96
 * samples, is flat for 64 and falls over 96 (a sine's quarter each), so overlapping windows add up to one
 * in power: over a stream every sample is counted exactly once. The window's centre lies 128 samples
 * (16 ms) before the frame's end; the newest 96 samples count in full only with the next frame.
 *
 * Units are mean squares of int16 samples: a full-scale sine in one band gives about 32768^2 / 2.
 */
#ifndef FA_BANDS_H
#define FA_BANDS_H

#include <stdint.h>

#define FA_FRAME_SAMPLES 160 /* 20 ms at 8 kHz */
#define FA_BANDS 10          /* from 203 to 3797 Hz, even in mel */
#define FA_BANDS_WINDOW 256  /* samples under one analysis window */
#define FA_BANDS_OVERLAP (FA_BANDS_WINDOW - FA_FRAME_SAMPLES)
#define FA_BANDS_DELAY_SAMPLES 128 /* from the window's centre to the frame's end */
#define FA_SPECTRUM_BINS 128       /* 31.25 Hz apart, the first at 0 Hz */

/* Bin k belongs to band i if FA_BAND_EDGES[i] <= k < FA_BAND_EDGES[i + 1]. */
#define FA_BAND_EDGES_INIT {6, 12, 17, 24, 33, 42, 53, 67, 82, 100, 122}

typedef struct {
    float band[FA_BANDS];          /* mean square per band */
    float power;                   /* mean square of the frame's own 160 samples, DC included */
    float spectrum[FA_SPECTRUM_BINS]; /* mean square per bin under the window; their sum is the total */
} fa_band_frame;

typedef struct {
    int16_t history[FA_BANDS_OVERLAP]; /* the samples before the next frame, oldest first */
} fa_bands;

/* Starts on silence. */
void fa_bands_init(fa_bands *b);

/* Analyses the next FA_FRAME_SAMPLES samples of the stream. Every output is finite and not negative. */
void fa_bands_process(fa_bands *b, const int16_t *pcm, fa_band_frame *out);

#endif
