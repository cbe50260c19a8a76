#include "fa_sign.h"

#include <stdlib.h>

/* Number and check in FA_SIGN_SYMBOLS pairs of bits; numbers that differ in little differ much in their check. */
static uint32_t with_check(uint32_t number) { return number << 8 | ((number + 1) * 2654435761u) >> 24; }

void fa_sign_intervals(uint32_t number, int intervals_ms[FA_SIGN_SYMBOLS + 1])
{
    uint32_t bits = with_check(number);
    intervals_ms[0] = FA_SIGN_BEGIN_MS;
    for (int i = 0; i < FA_SIGN_SYMBOLS; i++)
        intervals_ms[i + 1] =
            FA_SIGN_SHORTEST_MS + FA_SIGN_STEP_MS * (int)(bits >> 2 * (FA_SIGN_SYMBOLS - 1 - i) & 3);
}

static int take_interval(fa_sign_reader *r, uint64_t samples, int sample_rate)
{
    int64_t us = samples > (uint64_t)sample_rate ? 1000000 : (int64_t)(samples * 1000000 / (uint64_t)sample_rate);
    if (us >= (FA_SIGN_BEGIN_MS - FA_SIGN_SLACK_MS) * 1000) {
        r->is_begun = true;
        r->count = 0;
        r->bits = 0;
        return -1;
    }
    int64_t symbol = (us - FA_SIGN_SHORTEST_MS * 1000 + FA_SIGN_STEP_MS * 500) / (FA_SIGN_STEP_MS * 1000);
    int64_t exact_us = (FA_SIGN_SHORTEST_MS + FA_SIGN_STEP_MS * symbol) * 1000;
    if (!r->is_begun || symbol < 0 || symbol > 3 || llabs(us - exact_us) > FA_SIGN_SLACK_MS * 1000) {
        r->is_begun = false;
        return -1;
    }
    r->bits = r->bits << 2 | (uint32_t)symbol;
    if (++r->count < FA_SIGN_SYMBOLS)
        return -1;
    r->is_begun = false;
    uint32_t number = r->bits >> 8;
    return number < FA_SIGN_NUMBERS && with_check(number) == r->bits ? (int)number : -1;
}

int fa_sign_read(fa_sign_reader *r, uint64_t sample, int sample_rate)
{
    int number = -1;
    if (!r->has_onset || sample - r->last >= (uint64_t)sample_rate * FA_SIGN_BREAK_MS / 1000) {
        if (r->has_onset)
            number = take_interval(r, sample - r->onset, sample_rate);
        else
            r->is_begun = true; /* the first murmur of all begins a number */
        r->onset = sample;
        r->has_onset = true;
    }
    r->last = sample;
    return number;
}
