/* What a pair of rates means to the resampler's bodies; callers see only the name of the struct. */
#ifndef FA_RESAMPLE_PLAN_H
#define FA_RESAMPLE_PLAN_H

#include "fa_resample.h"

struct fa_resample_plan {
    int in_rate, out_rate;           /* Hz */
    uint32_t up, down;               /* out_rate / in_rate in lowest terms */
    uint32_t width;                  /* taps per phase: a multiple of 16, less than FA_RESAMPLE_HISTORY */
    int delay;                       /* output samples */
    const int16_t *high, *low;       /* up rows of width taps each, see fa_resample_filters.h */
};

/* Sums in the fixed point of the taps to one sample: rounded half up, saturated.
 * Flooring `low` first changes nothing: floor(floor(a) + b) is floor(a + b) for a whole b. */
#define FA_RESAMPLE_LOW_SHIFT 10
#define FA_RESAMPLE_HIGH_SHIFT 14

#endif
