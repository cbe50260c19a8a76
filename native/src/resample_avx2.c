/* The resampler's dot products, 16 taps and four outputs at a time; bit-equal to resample.c. */
#include "fa_resample_plan.h"
#include "fa_simd.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))
#define AVX2_INLINE __attribute__((target("avx2"), always_inline)) static inline

/* Where the next output stands: the window of inputs it looks at, and its row of taps. */
typedef struct {
    const int16_t *window;
    uint32_t phase;
} cursor;

AVX2_INLINE void advance(cursor *at, uint32_t up, uint32_t down)
{
    at->phase += down;
    at->window += at->phase / up;
    at->phase %= up;
}

/* Lanes: {high, high, low, low} sums of one output, in each half, still to be added up. */
AVX2_INLINE __m256i half_summed(const fa_resample_plan *plan, const cursor *at, uint32_t width)
{
    const __m256i *high_taps = (const __m256i *)(plan->high + at->phase * width);
    const __m256i *low_taps = (const __m256i *)(plan->low + at->phase * width);
    __m256i high = _mm256_setzero_si256(), low = high;
    for (uint32_t t = 0; t < width / 16; t++) {
        __m256i x = _mm256_loadu_si256((const __m256i *)at->window + t);
        high = _mm256_add_epi32(high, _mm256_madd_epi16(x, high_taps[t]));
        low = _mm256_add_epi32(low, _mm256_madd_epi16(x, low_taps[t]));
    }
    return _mm256_hadd_epi32(high, low);
}

/* {high, low, high, low} of two outputs. */
AVX2_INLINE __m128i summed(__m256i first, __m256i second)
{
    __m256i both = _mm256_hadd_epi32(first, second);
    return _mm_add_epi32(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
}

/* Four samples in the lower half. */
AVX2_INLINE __m128i rounded(__m128i ab, __m128i cd)
{
    __m128 f_ab = _mm_castsi128_ps(ab), f_cd = _mm_castsi128_ps(cd);
    __m128i high = _mm_castps_si128(_mm_shuffle_ps(f_ab, f_cd, _MM_SHUFFLE(2, 0, 2, 0)));
    __m128i low = _mm_castps_si128(_mm_shuffle_ps(f_ab, f_cd, _MM_SHUFFLE(3, 1, 3, 1)));
    __m128i half = _mm_set1_epi32(1 << (FA_RESAMPLE_HIGH_SHIFT - 1));
    __m128i sum = _mm_add_epi32(_mm_add_epi32(high, _mm_srai_epi32(low, FA_RESAMPLE_LOW_SHIFT)), half);
    sum = _mm_srai_epi32(sum, FA_RESAMPLE_HIGH_SHIFT);
    return _mm_packs_epi32(sum, sum);
}

/* Inlined with constants for each pair of rates, so that the loop over taps unrolls and no division stays. */
AVX2_INLINE void run(const fa_resample_plan *plan, cursor at, size_t count, int16_t *out, uint32_t up,
                     uint32_t down, uint32_t width)
{
    char *to = (char *)out;
    __m256i sums[4];
    for (; count >= 4; count -= 4, to += 4 * sizeof *out) {
        for (int k = 0; k < 4; k++) {
            sums[k] = half_summed(plan, &at, width);
            advance(&at, up, down);
        }
        _mm_storel_epi64((__m128i *)to, rounded(summed(sums[0], sums[1]), summed(sums[2], sums[3])));
    }
    for (; count > 0; count--, to += sizeof *out) {
        sums[0] = half_summed(plan, &at, width);
        advance(&at, up, down);
        __m128i one = summed(sums[0], sums[0]);
        int16_t sample = (int16_t)_mm_extract_epi16(rounded(one, one), 0);
        memcpy(to, &sample, sizeof sample);
    }
}

AVX2 void fa_resample_run_avx2(const fa_resample_plan *plan, uint32_t phase, const int16_t *newest,
                               size_t count, int16_t *out)
{
    cursor at = {newest - (plan->width - 1) + phase / plan->up, phase % plan->up};
    switch (plan->width * 100 + plan->up * 10 + plan->down) {
    case 3221: run(plan, at, count, out, 2, 1, 32); break;
    case 3231: run(plan, at, count, out, 3, 1, 32); break;
    case 4832: run(plan, at, count, out, 3, 2, 48); break;
    case 6412: run(plan, at, count, out, 1, 2, 64); break;
    case 6423: run(plan, at, count, out, 2, 3, 64); break;
    case 9613: run(plan, at, count, out, 1, 3, 96); break;
    default: run(plan, at, count, out, plan->up, plan->down, plan->width);
    }
}

#else

/* ISO C wants a declaration in every file. */
typedef int fa_resample_avx2_absent;

#endif
