/* The band analysis: a 256-point real transform through a 128-point complex one, in split arrays.
 *
 * Stockham's ordering: each stage reads one pair of arrays and writes another, so there is no bit reversal
 * and every inner loop runs over neighbouring floats, which compilers turn into vectors by themselves.
 */
#include "fa_bands.h"

#include <string.h>

#include "fa_bands_tables.h"

#define HALF (FA_BANDS_WINDOW / 2)
#define LANES 8 /* independent sums: float addition may not be reordered by the compiler */

_Static_assert(FA_SPECTRUM_BINS == HALF, "one bin per complex point");
_Static_assert(sizeof SLOPE == FA_BANDS_OVERLAP * sizeof(float), "the slope covers the overlap");
_Static_assert(FA_FRAME_SAMPLES % LANES == 0, "the frame is summed in whole lanes");

/* Mean square per bin of a one-sided spectrum: two sides, over the transform and the hop. */
static const float BIN_SCALE = 2.0f / (FA_BANDS_WINDOW * FA_FRAME_SAMPLES);

static const uint8_t EDGES[FA_BANDS + 1] = FA_BAND_EDGES_INIT;

/* Four points at stride `step`, combined and turned, into four neighbours at `out`. */
#define BUTTERFLY(re, im, at, step, out_re, out_im, to, gap, c1, s1, c2, s2, c3, s3)                        \
    do {                                                                                                    \
        float ar = (re)[at] + (re)[(at) + 2 * (step)], ai = (im)[at] + (im)[(at) + 2 * (step)];             \
        float br = (re)[at] - (re)[(at) + 2 * (step)], bi = (im)[at] - (im)[(at) + 2 * (step)];             \
        float cr = (re)[(at) + (step)] + (re)[(at) + 3 * (step)];                                           \
        float ci = (im)[(at) + (step)] + (im)[(at) + 3 * (step)];                                           \
        float dr = (re)[(at) + (step)] - (re)[(at) + 3 * (step)];                                           \
        float di = (im)[(at) + (step)] - (im)[(at) + 3 * (step)];                                           \
        float er = br + di, ei = bi - dr, fr = ar - cr, fi = ai - ci, gr = br - di, gi = bi + dr;           \
        (out_re)[to] = ar + cr;                                                                             \
        (out_im)[to] = ai + ci;                                                                             \
        (out_re)[(to) + (gap)] = er * (c1) + ei * (s1);                                                     \
        (out_im)[(to) + (gap)] = ei * (c1) - er * (s1);                                                     \
        (out_re)[(to) + 2 * (gap)] = fr * (c2) + fi * (s2);                                                 \
        (out_im)[(to) + 2 * (gap)] = fi * (c2) - fr * (s2);                                                 \
        (out_re)[(to) + 3 * (gap)] = gr * (c3) + gi * (s3);                                                 \
        (out_im)[(to) + 3 * (gap)] = gi * (c3) - gr * (s3);                                                 \
    } while (0)

static void transform(float *restrict re, float *restrict im, float *restrict other_re,
                      float *restrict other_im)
{
    for (int p = 0; p < 32; p++) {
        BUTTERFLY(re, im, p, 32, other_re, other_im, 4 * p, 1, COS_128_1[p], SIN_128_1[p], COS_128_2[p],
                  SIN_128_2[p], COS_128_3[p], SIN_128_3[p]);
    }
    for (int p = 0; p < 8; p++) {
        for (int q = 0; q < 4; q++) {
            BUTTERFLY(other_re, other_im, q + 4 * p, 32, re, im, q + 16 * p, 4, COS_32_1[p], SIN_32_1[p],
                      COS_32_2[p], SIN_32_2[p], COS_32_3[p], SIN_32_3[p]);
        }
    }
    for (int p = 0; p < 2; p++) {
        for (int q = 0; q < 16; q++) {
            BUTTERFLY(re, im, q + 16 * p, 32, other_re, other_im, q + 64 * p, 16, COS_8_1[p], SIN_8_1[p],
                      COS_8_2[p], SIN_8_2[p], COS_8_3[p], SIN_8_3[p]);
        }
    }
    for (int q = 0; q < 64; q++) {
        re[q] = other_re[q] + other_re[q + 64];
        im[q] = other_im[q] + other_im[q + 64];
        re[q + 64] = other_re[q] - other_re[q + 64];
        im[q + 64] = other_im[q] - other_im[q + 64];
    }
}

/* Splits the transform of two interleaved halves into the mean squares of the real signal's bins. */
static void split(const float *restrict re, const float *restrict im, float *restrict spectrum)
{
    float upper[HALF / 2];
    for (int k = 1; k <= HALF / 2; k++) {
        float even_re = re[k] + re[HALF - k], even_im = im[k] - im[HALF - k];
        float odd_re = im[k] + im[HALF - k], odd_im = re[HALF - k] - re[k];
        float turned_re = odd_re * COS_SPLIT[k - 1] + odd_im * SIN_SPLIT[k - 1];
        float turned_im = odd_im * COS_SPLIT[k - 1] - odd_re * SIN_SPLIT[k - 1];
        float low_re = even_re + turned_re, low_im = even_im + turned_im;
        float high_re = even_re - turned_re, high_im = even_im - turned_im;
        /* The two sums above are twice the halves, hence a quarter in power. */
        spectrum[k] = (low_re * low_re + low_im * low_im) * (0.25f * BIN_SCALE);
        upper[k - 1] = (high_re * high_re + high_im * high_im) * (0.25f * BIN_SCALE);
    }
    for (int k = 1; k < HALF / 2; k++) {
        spectrum[HALF - k] = upper[k - 1];
    }
    float constant = re[0] + im[0];
    spectrum[0] = constant * constant * (0.5f * BIN_SCALE);
}

static float mean_square(const float *samples)
{
    float sums[LANES] = {0};
    for (int i = 0; i < FA_FRAME_SAMPLES; i += LANES) {
        for (int lane = 0; lane < LANES; lane++) {
            sums[lane] += samples[i + lane] * samples[i + lane];
        }
    }
    return (((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]))) *
           (1.0f / FA_FRAME_SAMPLES);
}

void fa_bands_init(fa_bands *b) { memset(b->history, 0, sizeof b->history); }

void fa_bands_process(fa_bands *b, const int16_t *pcm, fa_band_frame *out)
{
    int16_t line[FA_BANDS_WINDOW];
    float window[FA_BANDS_WINDOW], re[HALF], im[HALF], other_re[HALF], other_im[HALF];

    memcpy(line, b->history, sizeof b->history);
    memcpy(line + FA_BANDS_OVERLAP, pcm, FA_FRAME_SAMPLES * sizeof *line);
    memcpy(b->history, line + FA_FRAME_SAMPLES, sizeof b->history);

    for (int i = 0; i < FA_BANDS_WINDOW; i++) {
        window[i] = line[i];
    }
    out->power = mean_square(window + FA_BANDS_OVERLAP);
    for (int i = 0; i < FA_BANDS_OVERLAP; i++) {
        window[i] *= SLOPE[i];
        window[FA_FRAME_SAMPLES + i] *= SLOPE[FA_BANDS_OVERLAP - 1 - i];
    }
    for (int i = 0; i < HALF; i++) {
        re[i] = window[2 * i];
        im[i] = window[2 * i + 1];
    }
    transform(re, im, other_re, other_im);
    split(re, im, out->spectrum);
    for (int i = 0; i < FA_BANDS; i++) {
        float sum = 0;
        for (int k = EDGES[i]; k < EDGES[i + 1]; k++) {
            sum += out->spectrum[k];
        }
        out->band[i] = sum;
    }
}
