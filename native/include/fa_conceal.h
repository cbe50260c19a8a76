/* Packet loss concealment for a stream of int16 samples: fills in what did not arrive, without added delay.
 *
 * The voice is taken apart into a linear predictor and its residual; the newest pitch cycles of the residual
 * are played on through the predictor, under a fade. The predictor starts from the last true samples, so the
 * first join has no step; at the second one the fill runs on under the first 5 ms of what arrived.
 *
 * After 300 ms of loss the output is silence. A fill never sounds louder than the 20 ms before it. Frames may
 * have any length, and the samples do not depend on how a loss is cut into calls.
 */
#ifndef FA_CONCEAL_H
#define FA_CONCEAL_H

#include <stddef.h>
#include <stdint.h>

#define FA_CONCEAL_ORDER 16       /* of the linear predictor */
#define FA_CONCEAL_HISTORY_MS 42  /* what pitch is sought in, and two cycles of the longest */
#define FA_CONCEAL_BLOCK_MS 5     /* the fill is made in blocks, and faded out over one */

typedef struct {
    int32_t sample_rate;
    uint32_t history_size;   /* samples */
    uint32_t block_size;
    uint32_t fresh;          /* samples of the fill at the end of `samples`' second part, at most history_size */
    uint32_t block_used;     /* samples of `block` that went out; block_size: none left */
    uint32_t blocks;         /* made since the loss began */
    uint32_t pitch;          /* samples per cycle */
    uint32_t position;       /* of the next residual sample, in the history */
    uint32_t random;
    uint8_t is_lost;         /* the last call was fa_conceal_lost */
    uint8_t is_joining;      /* `block` is being faded out under good samples */
    uint8_t is_silent;
    float fade;              /* gain at the end of the last block */
    float limiter;           /* further gain that keeps the fill's energy down */
    float block_energy_max;
    float voicing;           /* share of the pitch cycles' amplitude in the residual, 0 to 1 */
    float breath;            /* share of the noise's, so that the powers add up to 1 */
    float predictor[FA_CONCEAL_ORDER];
    float memory[FA_CONCEAL_ORDER]; /* newest outputs of the predictor, newest first */
    int16_t samples[];       /* history, as much again for the fill, and one block */
} fa_conceal;

/* Bytes of a whole fa_conceal: 1.6 KiB at 8 kHz, 4.4 KiB at 24 kHz. */
#define FA_CONCEAL_BYTES(sample_rate)                                                                 \
    (sizeof(fa_conceal) + (size_t)(sample_rate) / 1000 * sizeof(int16_t) *                            \
                              (2 * FA_CONCEAL_HISTORY_MS + FA_CONCEAL_BLOCK_MS))

/* Starts anew in memory of FA_CONCEAL_BYTES(sample_rate) bytes. Returns 0, or -1 (and touches nothing) when
 * the rate is not 8000, 16000 or 24000 Hz. */
int fa_conceal_init(fa_conceal *c, int sample_rate);

/* Forgets all samples, as after init. */
void fa_conceal_reset(fa_conceal *c);

/* n samples arrived. They are left as they are, but for the first 5 ms after a loss, which are cross-faded in
 * place from the fill. */
void fa_conceal_good(fa_conceal *c, int16_t *pcm, size_t n);

/* n samples did not arrive: writes what to play instead. */
void fa_conceal_lost(fa_conceal *c, int16_t *out, size_t n);

#endif
