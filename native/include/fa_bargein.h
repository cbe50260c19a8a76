/* Echo-aware barge-in gate: is it the caller who speaks over the bot, or the bot's own echo?
 *
 * Each 20 ms the gate is given the caller's frame and what the far end was playing at that time by our own
 * clock, both as band powers. Echo comes back after an unknown lag of up to FA_BARGEIN_LAGS frames. The gate
 *   - predicts each band's echo: the loudest recent output around the lag, times a leak learnt per band;
 *   - takes bands well above both that and the line's noise as somebody else's sound;
 *   - believes in somebody else only where the last frames do not have the shape, in time and over the
 *     bands, of what was played at any lag. That holds before lag and leak are learnt, and after they change;
 *   - asks the voice detector whether the sound is speech.
 * While nothing is played and no echo can be under way it is the voice detector with a confirmation time.
 *
 * Powers are in dB over a mean square of one int16 unit: full scale is about 90 dB.
 */
#ifndef FA_BARGEIN_H
#define FA_BARGEIN_H

#include <stdint.h>

#include "fa_bands.h"

#define FA_BARGEIN_LAGS 32       /* lags told apart: 0 to 620 ms */
#define FA_BARGEIN_HISTORY 40    /* frames of output remembered: the longest lag and an echo's tail */
#define FA_BARGEIN_FRAME_MS 20
#define FA_BARGEIN_CONFIRM_MS 60     /* evidence asked for unless set otherwise */
#define FA_BARGEIN_CONFIRM_MAX_MS 1000
#define FA_BARGEIN_BRIDGE_MS 200     /* pauses up to this long do not end a caller's utterance */

typedef enum {
    FA_BARGEIN_QUIET = 0,    /* nothing but the line */
    FA_BARGEIN_ECHO = 1,     /* explained by what we play */
    FA_BARGEIN_SPEECH = 2,   /* the caller speaks, not yet confirmed */
    FA_BARGEIN_CONFIRMED = 3 /* the caller speaks: stop the bot; lasts until the utterance ends */
} fa_bargein_verdict;

typedef struct {
    /* What was played, by age in frames: quarters of a dB over 30 dB, and for the likeness dB beside the
     * band's mean with each frame's sum and sum of squares. */
    uint8_t played[FA_BANDS][FA_BARGEIN_HISTORY];
    float shape[FA_BANDS][FA_BARGEIN_LAGS];
    float shape_sum[FA_BARGEIN_LAGS];
    float shape_square[FA_BARGEIN_LAGS];
    float played_mean[FA_BANDS];
    float heard_mean[FA_BANDS];
    /* Weighted sums over the last 0.1 s, by lag, from which the likeness follows. */
    float near_product[FA_BARGEIN_LAGS];
    float near_shape[FA_BARGEIN_LAGS];
    float near_shape_square[FA_BARGEIN_LAGS];
    float near_heard;
    float near_heard_square;
    float near_weight;
    /* The likeness of each lag over seconds, and the weight of that mean: the lag follows from it. */
    float far_likeness[FA_BARGEIN_LAGS];
    float far_weight;
    /* The line's noise: minima of two stretches, in dB. */
    float smooth[FA_BANDS];
    float floor_now[FA_BANDS];
    float floor_before[FA_BANDS];
    /* The echo path: dB by which each band comes back, and the largest ratios of this stretch and the last. */
    float leak[FA_BANDS];
    float peak[FA_BANDS];
    float runner_up[FA_BANDS];
    float peak_before[FA_BANDS];
    uint8_t informed[FA_BANDS];
    uint8_t stretches[FA_BANDS];
    uint32_t onset;         /* frames since the utterance's first sound, 0 outside one */
    uint32_t last_active;   /* frames from the first sound to the last, both counted */
    uint16_t played_frames; /* audible frames so far, saturating, as the next */
    uint16_t heard_frames;
    uint16_t audible_run;   /* frames for which something has been played, short pauses included */
    uint16_t since_audible; /* frames since something was last played */
    uint16_t confirm_ms;
    uint16_t evidence_ms;
    uint8_t floor_age;
    uint8_t learn_hold;     /* frames for which nothing is learnt from what is heard */
    uint8_t alike_run;      /* frames in a row that looked like the output at one lag */
    uint8_t rising;         /* frames in a row with some sound above the prediction */
    uint8_t pause;          /* frames since the caller's last speech, in an utterance */
    uint8_t sure;           /* the voice detector has been sure in this utterance */
    uint8_t confirmed;
    int8_t lag;             /* frames, -1 before it is learnt */
    int8_t alike_lag;
} fa_bargein;

/* Starts anew, with nothing learnt; the confirmation time is the default. */
void fa_bargein_init(fa_bargein *g);

/* Evidence asked for before CONFIRMED, in ms, rounded up to frames. Returns 0, or -1 (nothing changed) outside
 * FA_BARGEIN_FRAME_MS..FA_BARGEIN_CONFIRM_MAX_MS. */
int fa_bargein_set_confirm_ms(fa_bargein *g, int confirm_ms);

/* Takes the next 20 ms; returns a fa_bargein_verdict. `bot` is NULL, or silent, while nothing is played;
 * `speech_probability` is the voice detector's word on the caller's frame, 0..1. */
int fa_bargein_process(fa_bargein *g, const fa_band_frame *caller, const fa_band_frame *bot,
                       float speech_probability);

/* Forgets the utterance under way and its confirmation; what was learnt of line and echo stays. */
void fa_bargein_rearm(fa_bargein *g);

/* Learnt lag in ms, or -1 before it is known (or where there is no echo to learn it from). */
int fa_bargein_lag_ms(const fa_bargein *g);

/* By how many dB each band of what we play comes back, as an upper bound; -2 before anything is learnt. */
void fa_bargein_leak_db(const fa_bargein *g, float leak_db[FA_BANDS]);

/* Whether echo can be under way: something is played, or was within the lag and its tail. */
int fa_bargein_bot_audible(const fa_bargein *g);

/* Frames from the first sound of the caller's utterance to now, the present one included; 0 outside one. */
uint32_t fa_bargein_onset_frames(const fa_bargein *g);

/* How long the caller's utterance has lasted up to its last sound, pauses up to FA_BARGEIN_BRIDGE_MS bridged. */
uint32_t fa_bargein_speech_ms(const fa_bargein *g);

/* How long the caller has paused within the utterance; 0 while speaking and outside one. */
uint32_t fa_bargein_pause_ms(const fa_bargein *g);

#endif
