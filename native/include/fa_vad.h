/* Voice activity detector for the telephone band: how likely is it that a 20 ms frame holds speech?
 *
 * 36 measures of a frame (band levels over a tracked floor, shape of the spectrum, periodicity, narrow
 * lines, whether they stay where they are, change) feed a recurrent layer of 32 gated units and one output.
 * Causal, without look-ahead; all state is in the struct, every output is a number from 0 to 1. Weights:
 * fa_vad_weights.h, made by native/train_vad.py.
 *
 * fa_speech turns the probabilities into the beginnings and ends of utterances.
 */
#ifndef FA_VAD_H
#define FA_VAD_H

#include <stddef.h>
#include <stdint.h>

#include "fa_bands.h"

#define FA_VAD_MEASURES 36
#define FA_VAD_UNITS 32
#define FA_VAD_PITCH_HISTORY 84 /* samples at 4 kHz before the frame's own 80 */
#define FA_VAD_PAST 4           /* frames back that change is measured against */
#define FA_VAD_LINES 116        /* spectrum bins that are compared with earlier ones */

typedef struct {
    float unit[FA_VAD_UNITS];
    float floor[FA_BANDS];          /* log2 of the background's mean square per band */
    float total_floor;
    float past[FA_VAD_PAST][FA_BANDS]; /* log2 band levels of the last frames, a ring */
    int8_t lines[FA_VAD_PAST][FA_VAD_LINES]; /* their spectra, each bin over its surroundings, a ring */
    float lag;                      /* last pitch period in samples at 4 kHz, 0 for none */
    int peak;                       /* bin of the last frame's strongest line */
    uint32_t frames;                /* since the start, saturating */
    int16_t tail[4];                /* newest samples, for the filter down to 4 kHz */
    int16_t pitch[FA_VAD_PITCH_HISTORY];
} fa_vad;

/* Starts on an unknown background. */
void fa_vad_init(fa_vad *v);

/* Forgets all input, as after init. */
void fa_vad_reset(fa_vad *v);

/* Judges the next frame: its FA_FRAME_SAMPLES samples at 8 kHz and what fa_bands_process made of them. */
float fa_vad_process(fa_vad *v, const int16_t *pcm, const fa_band_frame *f);

/* Only measures the frame (and learns the floor), for training: writes FA_VAD_MEASURES numbers. */
void fa_vad_measure(fa_vad *v, const int16_t *pcm, const fa_band_frame *f, float *measures);

/* ---- utterances ---- */

typedef enum { FA_SPEECH_NONE, FA_SPEECH_STARTED, FA_SPEECH_STOPPED } fa_speech_event;

typedef struct {
    float start_probability; /* frames at or above it begin speech */
    float stop_probability;  /* frames below it end it; not above start_probability */
    int min_speech_ms;       /* speech this long makes a beginning; at least one frame */
    int hangover_ms;         /* silence this long makes an end; at least one frame */
    int prefix_ms;           /* a beginning is dated this much before its first frame */
} fa_speech_options;

typedef struct {
    fa_speech_options options;
    int64_t samples;   /* seen so far: the position of the next frame */
    int64_t begin;     /* where the run towards a change of state began */
    int64_t last_stop; /* no beginning is dated before it */
    int run_ms;        /* length of that run */
    int is_speaking;
} fa_speech;

/* Settings by name: "sensitive", "balanced" or "strict" (a noisy line). Returns 0, or -1 for another name. */
int fa_speech_preset(const char *name, fa_speech_options *options);

/* Starts in silence at position 0. Returns 0, or -1 for options out of range: probabilities from 0 to 1 with
 * stop <= start and start > 0, times from 0 to FA_SPEECH_MS_MAX. */
#define FA_SPEECH_MS_MAX 60000
int fa_speech_init(fa_speech *s, const fa_speech_options *options);

/* Forgets all input, keeps the options. */
void fa_speech_reset(fa_speech *s);

/* Takes the next frame's probability. With an event, *position is where speech began (its prefix included)
 * or ended (after its last speech frame), in samples since the start; else it is left alone. */
fa_speech_event fa_speech_process(fa_speech *s, float probability, int64_t *position);

#endif
