/* Streaming resampler between 8, 16 and 24 kHz: causal polyphase FIR on int16 samples.
 *
 * After N input samples in total exactly ceil(N * out_rate / in_rate) output samples have been written,
 * whatever the chunking, and they are bit-identical for every chunking. Output saturates, never wraps.
 * The filter's group delay is constant: fa_resampler_delay_samples() output samples.
 */
#ifndef FA_RESAMPLE_H
#define FA_RESAMPLE_H

#include <stddef.h>
#include <stdint.h>

/* Room for the longest filter's input history (samples). */
#define FA_RESAMPLE_HISTORY 128

typedef struct fa_resample_plan fa_resample_plan;

typedef struct {
    const fa_resample_plan *plan;
    uint32_t phase;                         /* position of the next output between two inputs */
    int16_t history[FA_RESAMPLE_HISTORY];   /* the newest inputs, oldest first */
} fa_resampler;

/* Prepares for a pair of rates in Hz. Returns 0, or -1 when the pair is not one of
 * 8000<->16000, 8000<->24000, 16000<->24000. */
int fa_resampler_init(fa_resampler *r, int in_rate, int out_rate);

/* Forgets all input, as after init. */
void fa_resampler_reset(fa_resampler *r);

/* Most output samples that n further input samples can give. */
size_t fa_resampler_room(const fa_resampler *r, size_t n);

/* Feeds n samples; returns how many were written to `out` (at most fa_resampler_room). */
size_t fa_resampler_process(fa_resampler *r, const int16_t *pcm, size_t n, int16_t *out);

/* Writes the tail that the filter still holds (about fa_resampler_delay_samples() samples) by feeding
 * silence, then resets. Returns the count written; `out` needs room for FA_RESAMPLE_FLUSH_ROOM samples. */
#define FA_RESAMPLE_FLUSH_ROOM 512
size_t fa_resampler_flush(fa_resampler *r, int16_t *out);

/* Group delay in output samples, rounded to nearest. */
int fa_resampler_delay_samples(const fa_resampler *r);

/* The variant chosen for this processor: "avx2" or "scalar". */
const char *fa_resample_variant(void);

#endif
