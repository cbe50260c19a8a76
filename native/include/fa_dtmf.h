/* DTMF: a detector of keypad digits in telephone audio (int16, mono, 8 kHz) and a generator of them.
 *
 * The limits are those of ITU-T Q.24, "AT&T" column. The answer depends on the samples only, never on how
 * they were cut into chunks. Positions count samples since init or reset; a tone's start and end are right to
 * about 2 ms.
 */
#ifndef FA_DTMF_H
#define FA_DTMF_H

#include <stddef.h>
#include <stdint.h>

#define FA_DTMF_HOP 40      /* samples between two looks, 5 ms */
#define FA_DTMF_HISTORY 320 /* samples looked back on, 40 ms */
#define FA_DTMF_LINE 640    /* samples kept: the history moves once per 320 */
#define FA_DTMF_LOOKS 3     /* looks that must agree on a digit */

typedef struct {
    int64_t position; /* of the tone's first sample */
    int64_t duration; /* samples: heard so far (start), whole (end) */
    char digit;       /* one of 0-9 * # A-D */
    uint8_t is_end;
} fa_dtmf_event;

/* What one look sees. */
typedef struct {
    float re[8], im[8]; /* at the 4 low and the 4 high frequencies */
    float share[8];     /* squared magnitudes */
    float energy;       /* under the window, without dial tone where that is strong */
    float dial[4];      /* its amplitudes: cosines of 350 and 440 Hz about the middle, then sines */
    uint8_t is_dialled; /* `dial` is filled in */
    int8_t low, high;   /* the strongest of each group, 0-3; -1: not looked at or none */
} fa_dtmf_look;

typedef struct {
    fa_dtmf_look looks[FA_DTMF_LOOKS];
    uint32_t latest;    /* of `looks` */
    uint32_t filled;    /* samples in `line` */
    uint32_t fresh;     /* of them newer than the last look */
    uint32_t alike;     /* looks in a row that saw the same digit */
    uint32_t powers[4]; /* of the last hops, coarse */
    int64_t position;   /* samples taken in */
    int64_t start;      /* of the digit that sounds */
    float held[2];      /* its low and high energy under the window */
    float last_level;   /* the weaker tone of the last look against `held` */
    int64_t faded;      /* where its level fell below half */
    uint32_t away;      /* looks in a row without it */
    char digit;         /* that sounds; 0: none */
    int16_t line[FA_DTMF_LINE];
} fa_dtmf;

void fa_dtmf_init(fa_dtmf *d);

/* Forgets everything, as after init. */
void fa_dtmf_reset(fa_dtmf *d);

/* Room for all events that n further samples can give. */
#define FA_DTMF_ROOM(n) ((n) / FA_DTMF_HOP + 1)

/* Feeds n samples and writes the events they complete, oldest first: each digit gives a start, 31 to 37 ms
 * into the tone, and an end, 30 to 35 ms after the tone. Returns the count, or -1 (and has taken nothing)
 * when `room` is less than FA_DTMF_ROOM(n). */
int fa_dtmf_process(fa_dtmf *d, const int16_t *pcm, size_t n, fa_dtmf_event *out, size_t room);

/* The stream is over: writes the end of a digit that still sounds (at most 1 event) and resets. */
int fa_dtmf_flush(fa_dtmf *d, fa_dtmf_event *out);

/* The digit that sounds, or 0. */
char fa_dtmf_digit(const fa_dtmf *d);

/* How digits are to sound: sample counts, and peaks of the tones in sample values. */
typedef struct {
    int sample_rate;
    size_t tone, pause, ramp; /* ramp: at the tone's start and end, within it */
    double low_peak, high_peak;
} fa_dtmf_sound;

/* Writes each digit as a tone and a pause, count * (tone + pause) samples in all, saturated. Returns that
 * number, or -1 (and has written nothing) for a digit not of 0-9 * # A-D. */
int64_t fa_dtmf_generate(const fa_dtmf_sound *sound, const char *digits, size_t count, int16_t *out);

#endif
