/* What the caller hears, by the clock: bot audio is taken in when it is sent and comes out when it is played.
 *
 * Time since the start is cut into slots of 20 ms. A slot is given once it is over; what was not heard when the
 * far end was told to drop it is never given.
 */
#ifndef FA_REFERENCE_H
#define FA_REFERENCE_H

#include <stdint.h>

#include "fa_playout.h"

#define FA_REFERENCE_HZ 8000
#define FA_SLOT_SAMPLES 160 /* 20 ms */

typedef struct {
    fa_fifo in_flight;      /* int16 samples, sent and not heard */
    fa_playout_clock clock; /* counts samples at 8 kHz */
    int64_t taken;          /* samples that came out */
    double begun_s;         /* slot 0 begins */
    int64_t slots;          /* given so far */
    uint8_t is_dry;         /* nothing was playing when the last slot ended */
} fa_reference;

/* Starts slot 0 at `now_s`. Memory is taken as audio is in flight; fa_reference_clear gives it back. */
void fa_reference_init(fa_reference *r, double now_s);
void fa_reference_clear(fa_reference *r);

/* Audio leaves for the far end now. Take the slots that are over first. Returns 0, or -1 when memory is out. */
int fa_reference_sent(fa_reference *r, const int16_t *pcm, size_t n, double now_s);

/* The far end dropped what it had not played. Take the slots that are over first. */
void fa_reference_cut(fa_reference *r, double now_s);

/* The next slot that is over by `now_s`: writes FA_SLOT_SAMPLES samples and the count of those that are bot
 * audio (0: all are silence). Returns 1, or 0 when none is over. */
int fa_reference_next(fa_reference *r, double now_s, int16_t *pcm, int *audible);

/* When the samples of a peer's stream were captured, from when they arrive.
 *
 * Arrivals are late by a wait that varies; the least wait of the last two to four seconds is taken for the
 * network's own, so that a stall followed by a burst moves nothing. A stream that goes on in real time later than
 * it was by more than FA_STREAM_LATE_MS has lost audio: its new wait is taken after FA_STREAM_PROOF_MS. Until it
 * is known which of the two it is, the clock is in doubt.
 */
#define FA_STREAM_LATE_MS 120
#define FA_STREAM_PROOF_MS 200

typedef struct {
    int64_t samples;
    double wait_s;      /* arrival minus capture, of the promptest arrival lately */
    double window_s[2]; /* least wait of the last whole window and of the one that runs */
    double late_since_s, late_wait_s;
    int late_samples;   /* since the stream is late, its first chunk left out */
    int window_fill;    /* samples in the running window */
    uint8_t is_running, is_in_doubt;
} fa_stream_clock;

void fa_stream_clock_init(fa_stream_clock *c);
/* n more samples arrived at `now_s`; returns when the last of them was captured (plus the network's least
 * wait), in `now_s`'s terms: never later than now. */
double fa_stream_clock_take(fa_stream_clock *c, int n, double now_s);

#endif
