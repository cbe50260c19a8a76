/* Streaming resampler in plain C: what comes out, and the choice of a faster body.
 *
 * Seen on the grid of the common rate, input i stands at i * up and output k at k * down. An output at
 * position g is due when input g / up arrives, and is the row g % up of the taps laid over the newest `width`
 * inputs. Sums are exact integers, so neither chunking nor the order of summation can change a bit.
 */
#include "fa_resample.h"

#include <string.h>

#include "fa_resample_filters.h"
#include "fa_resample_plan.h"
#include "fa_simd.h"

FA_CHOOSE_AVX2

_Static_assert(FA_RESAMPLE_LOW_SHIFT == FA_RESAMPLE_LOW_BITS, "taps are split elsewhere");
_Static_assert(FA_RESAMPLE_LOW_SHIFT + FA_RESAMPLE_HIGH_SHIFT == FA_RESAMPLE_FRACTION_BITS,
               "rounded elsewhere");

static const fa_resample_plan PLANS[] = {
#define PLAN(in_rate, out_rate, up, down, width, delay, table) \
    {in_rate, out_rate, up, down, width, delay, table##_high, table##_low},
    FA_RESAMPLE_PLANS(PLAN)
#undef PLAN
};

#define SILENCE 64 /* samples of silence at a time; the longest tail is 45 */
#define BLOCK 1024 /* inputs copied behind the history at a time: 2.3 KiB of stack */

/* Computes `count` outputs. `phase` is the first one's position relative to *newest on the common grid;
 * width - 1 samples before *newest are readable, and all inputs up to the last output's. */
static void run_scalar(const fa_resample_plan *plan, uint32_t phase, const int16_t *newest, size_t count,
                       int16_t *out)
{
    const uint32_t width = plan->width;
    const int16_t *window = newest - (width - 1) + phase / plan->up;
    phase %= plan->up;
    for (size_t k = 0; k < count; k++) {
        const int16_t *high_taps = plan->high + phase * width, *low_taps = plan->low + phase * width;
        int32_t high = 0, low = 0;
        for (uint32_t t = 0; t < width; t++) {
            high += high_taps[t] * window[t];
            low += low_taps[t] * window[t];
        }
        int32_t sum = high + (low >> FA_RESAMPLE_LOW_SHIFT) + (1 << (FA_RESAMPLE_HIGH_SHIFT - 1));
        int32_t value = sum >> FA_RESAMPLE_HIGH_SHIFT;
        int16_t sample = (int16_t)(value > INT16_MAX ? INT16_MAX : value < INT16_MIN ? INT16_MIN : value);
        memcpy((char *)out + k * sizeof sample, &sample, sizeof sample);
        phase += plan->down;
        window += phase / plan->up;
        phase %= plan->up;
    }
}

static size_t outputs(const fa_resampler *r, size_t n)
{
    size_t end = n * r->plan->up;
    return end <= r->phase ? 0 : (end - r->phase + r->plan->down - 1) / r->plan->down;
}

int fa_resampler_init(fa_resampler *r, int in_rate, int out_rate)
{
    for (size_t i = 0; i < sizeof PLANS / sizeof *PLANS; i++) {
        if (PLANS[i].in_rate == in_rate && PLANS[i].out_rate == out_rate) {
            r->plan = &PLANS[i];
            fa_resampler_reset(r);
            return 0;
        }
    }
    return -1;
}

void fa_resampler_reset(fa_resampler *r)
{
    r->phase = 0;
    memset(r->history, 0, sizeof r->history);
}

size_t fa_resampler_room(const fa_resampler *r, size_t n) { return outputs(r, n); }

size_t fa_resampler_process(fa_resampler *r, const int16_t *pcm, size_t n, int16_t *out)
{
    const fa_resample_plan *plan = r->plan;
    int16_t line[FA_RESAMPLE_HISTORY + BLOCK];
    size_t written = 0;
    while (n > 0) {
        size_t fed = n < BLOCK ? n : BLOCK;
        memcpy(line, r->history, sizeof r->history);
        memcpy(line + FA_RESAMPLE_HISTORY, pcm, fed * sizeof *line);
        size_t count = outputs(r, fed);
        (use_avx2 ? fa_resample_run_avx2 : run_scalar)(plan, r->phase, line + FA_RESAMPLE_HISTORY, count,
                                                       out + written);
        r->phase = (uint32_t)(r->phase + count * plan->down - fed * plan->up);
        memcpy(r->history, line + fed, sizeof r->history);
        written += count;
        pcm += fed;
        n -= fed;
    }
    return written;
}

size_t fa_resampler_flush(fa_resampler *r, int16_t *out)
{
    /* The delay is a whole number of samples in both rates, so this gives exactly `delay` outputs. */
    static const int16_t silence[SILENCE];
    size_t tail = (size_t)r->plan->delay * r->plan->down / r->plan->up;
    size_t written = fa_resampler_process(r, silence, tail, out);
    fa_resampler_reset(r);
    return written;
}

int fa_resampler_delay_samples(const fa_resampler *r) { return r->plan->delay; }

const char *fa_resample_variant(void) { return FA_VARIANT_NAME; }
