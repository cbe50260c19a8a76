/* The sign of a caller: a number in murmurs too faint to be speech, so that a session of the model can be told
 * whose audio it has, whatever became of the audio on the way.
 *
 * A murmur is a few ms of samples of at least FA_SIGN_LEVEL after FA_SIGN_BREAK_MS without any. The intervals
 * from one to the next are the symbols, two bits each; a longer interval begins the number. The number comes with
 * eight bits of check, and the whole is sent over and over until somebody has read it. */
#ifndef FA_SIGN_H
#define FA_SIGN_H

#include <stdbool.h>
#include <stdint.h>

enum {
    FA_SIGN_NUMBERS = 1024,
    FA_SIGN_SYMBOLS = 9,     /* ten bits of number, eight of check */
    FA_SIGN_SHORTEST_MS = 20, FA_SIGN_STEP_MS = 10, FA_SIGN_BEGIN_MS = 70,
    FA_SIGN_SLACK_MS = 4,    /* how far a resampler may move one murmur from the next */
    FA_SIGN_BREAK_MS = 8,
    FA_SIGN_LEVEL = 250,     /* of int16; a line's noise stays below 60, and speech begins at some 1000 */
};

/* All zero before the first sample. */
typedef struct {
    uint64_t last, onset; /* samples */
    uint32_t bits;
    int count;            /* symbols read; 0 to FA_SIGN_SYMBOLS */
    bool is_begun, has_onset;
} fa_sign_reader;

/* The intervals of a number below FA_SIGN_NUMBERS, in ms; the one that begins it comes first. */
void fa_sign_intervals(uint32_t number, int intervals_ms[FA_SIGN_SYMBOLS + 1]);

/* Takes one sample of a murmur, by its place in the stream. Returns a number when it is whole, else -1. */
int fa_sign_read(fa_sign_reader *r, uint64_t sample, int sample_rate);

#endif
