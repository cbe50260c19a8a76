/* Level meter of one direction of a call: how loud, how clean, how steadily the samples came.
 *
 * Sums are exact integers. A square is at most 2^30, so the 64-bit sum of squares holds 2^34 samples: 24 days
 * at 8 kHz, 4 at 48 kHz. Time is cut into blocks of 20 ms counted from the first sample, not by the caller's
 * chunks, so every figure but the arrivals is the same for any chunking.
 *
 * Decibels are relative to the square wave at full scale (dBov of ITU-T G.100.1; "dBFS" here): a sine at full
 * scale has -3.01 dBFS. They include DC, and never fall below FA_LEVEL_FLOOR_DB.
 */
#ifndef FA_LEVEL_H
#define FA_LEVEL_H

#include <stddef.h>
#include <stdint.h>

#define FA_LEVEL_FLOOR_DB (-127.0)    /* digital silence, as in RFC 6464 */
#define FA_LEVEL_SILENCE_DBFS (-60.0) /* a block below this RMS is silent: under the noise of a quiet line */
#define FA_LEVEL_CLIP_RUN 3           /* samples in a row at one rail; shorter runs are honest peaks */
#define FA_LEVEL_BLOCKS_PER_S 50      /* of 20 ms */
#define FA_LEVEL_SLOTS 10             /* of 100 ms: the recent second */

/* What the samples were stored as. G.711 never decodes to the rails of int16, so a code at its own end counts
 * as clipped: 32124 in mu-law, 32256 in A-law, 32767 otherwise, and beyond, of either sign. */
typedef enum { FA_LEVEL_PCM16, FA_LEVEL_MULAW, FA_LEVEL_ALAW } fa_level_encoding;

typedef struct {
    uint64_t samples;
    uint64_t squares;               /* of whole blocks */
    uint64_t block_squares;         /* of the unfinished block */
    uint64_t slots[FA_LEVEL_SLOTS]; /* squares of the newest blocks, a ring */
    uint64_t clipped_samples;
    int64_t sum;
    double last_arrival_s; /* negative before the first */
    double gap_max_s;
    uint32_t block_samples;   /* length of a block */
    uint32_t block_fill;      /* samples in the unfinished one */
    uint32_t blocks;          /* whole ones; 2^32 last 2.7 years */
    uint32_t silent_blocks;
    uint32_t silence_run;     /* silent blocks up to now */
    uint32_t silence_run_max;
    uint32_t clip_runs;
    uint32_t rail_run;        /* samples at the rail up to now, at most FA_LEVEL_CLIP_RUN */
    int32_t rail_sign;
    int32_t max, min;
    int32_t sample_rate;
    fa_level_encoding encoding;
} fa_level;

_Static_assert(sizeof(fa_level) <= 256, "kept twice per call");

typedef struct {
    uint64_t samples;
    uint64_t clipped_samples; /* all samples of runs of FA_LEVEL_CLIP_RUN and more at a rail */
    uint32_t clip_runs;
    int32_t peak;             /* greatest magnitude, 0..32768 */
    double peak_dbfs;
    double rms_dbfs;
    double rms_dbm0;          /* ITU-T G.711: 0 dBm0 is the digital milliwatt */
    double recent_rms_dbfs;   /* of the newest 0.9 to 1.0 s */
    double recent_rms_dbm0;
    double dc_offset;         /* mean sample */
    double silence_share;     /* silent blocks of all whole blocks, 0..1 */
    double silence_s;         /* silent up to now */
    double silence_max_s;
    double age_s;             /* since the last audio; since never: negative */
    double gap_max_s;         /* longest time between two arrivals */
} fa_level_figures;

/* Starts anew. Returns 0, or -1 when the rate is not a multiple of 50 Hz in 8000..48000 or the encoding is
 * not one of the three. */
int fa_level_init(fa_level *m, int sample_rate, fa_level_encoding encoding);

/* Forgets all samples and arrivals, as after init. */
void fa_level_reset(fa_level *m);

/* Takes n samples that arrived at `now_s` (monotonic seconds >= 0; a clock that stands or runs back gives no
 * gap). With n = 0 nothing arrived. */
void fa_level_process(fa_level *m, const int16_t *pcm, size_t n, double now_s);

/* Notes that samples arrived at `now_s` which nobody looks at. */
void fa_level_arrived(fa_level *m, double now_s);

/* All figures as of `now_s`. */
void fa_level_snapshot(const fa_level *m, double now_s, fa_level_figures *figures);

#endif
