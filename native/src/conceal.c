/* Packet loss concealment in plain C: pitch cycles of the prediction residual, played on through the predictor.
 *
 * Pitch: normalised correlation of the newest 10 ms, coarse at 4 kHz, then refined. Predictor: autocorrelation
 * of 30 ms under an asymmetric window, Levinson-Durbin (Rabiner and Schafer, Digital Processing of Speech
 * Signals, chapter 8). The history is kept as it was when the loss began; the fill is remembered behind it,
 * so that the next loss, if it comes soon, continues what was heard.
 */
#include "fa_conceal.h"

#include <math.h>
#include <string.h>

#define ORDER FA_CONCEAL_ORDER
#define RATE_MAX 24000
#define PER_MS_MAX (RATE_MAX / 1000)

/* Pitch: 62.5 to 400 Hz. */
#define COARSE_PER_MS 4
#define LAG_MIN_COARSE 10 /* 2.5 ms */
#define LAG_MAX_COARSE 64 /* 16 ms */
#define MATCH_MS 10       /* what is compared */
#define COARSE_SIZE ((MATCH_MS + 17) * COARSE_PER_MS)

/* Voicing: correlations up to the first play noise alone, from the second on pitch cycles alone. */
#define NOISE_CORRELATION 0.3f
#define VOICED_CORRELATION 0.6f
#define NOISE_MS 20 /* the noise is the newest residual, backwards, under random signs */

/* Predictor. */
#define WINDOW_MS 30
#define WINDOW_FALL 8            /* the window's newest eighth falls, the rest rises */
#define LAG_WINDOW_HZ 60.0f      /* spectral smoothing: peaks no sharper than this */
#define WHITE_NOISE 1.0001f      /* -40 dB, keeps the recursion stable */
#define QUIET_POWER 100.0f       /* a floor under the correlation: about the noise of rounding */

/* Which residual is played: the newest cycle at first, then the newest two and three in turn, since one cycle
 * repeated for long buzzes. */
#define TWO_CYCLES_MS 10
#define THREE_CYCLES_MS 20

/* Fade: per block of 5 ms. Down quickly in the first 20 ms, when most losses are already over and a wrong
 * guess costs most; slowly to 80 ms, where a burst would else leave a hole; then 0.7 per 20 ms. */
#define FIRST_BLOCKS 4
#define FIRST_FADE 0.898f  /* 0.65 in 20 ms */
#define SECOND_BLOCKS 16
#define SECOND_FADE 0.974f /* 0.9 per 20 ms */
#define LAST_BLOCKS 60     /* 300 ms; the block after it goes down to zero */
#define LAST_FADE 0.915f

#define LANES 8

static int16_t *history_of(fa_conceal *c) { return c->samples; }
static int16_t *fill_of(fa_conceal *c) { return c->samples + c->history_size; }
static int16_t *block_of(fa_conceal *c) { return c->samples + 2 * c->history_size; }

static uint32_t samples_in(const fa_conceal *c, uint32_t ms) { return (uint32_t)c->sample_rate / 1000 * ms; }

/* Any alignment is allowed outside, so samples are moved as bytes. */
static inline int16_t load_sample(const int16_t *pcm, size_t i)
{
    int16_t sample;
    memcpy(&sample, (const char *)pcm + i * sizeof sample, sizeof sample);
    return sample;
}

static inline void store_sample(int16_t *pcm, size_t i, float value)
{
    const int16_t sample = (int16_t)(value >= 32767 ? 32767 : value <= -32768 ? -32768 : lrintf(value));
    memcpy((char *)pcm + i * sizeof sample, &sample, sizeof sample);
}

/* Sums in lanes: strict float order would forbid vector code. */
static float dot(const float *a, const float *b, uint32_t n)
{
    float lanes[LANES] = {0}, sum = 0;
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (uint32_t k = 0; k < LANES; k++)
            lanes[k] += a[i + k] * b[i + k];
    }
    for (; i < n; i++)
        sum += a[i] * b[i];
    for (uint32_t k = 0; k < LANES; k++)
        sum += lanes[k];
    return sum;
}

static void to_float(const int16_t *pcm, uint32_t n, float *out)
{
    for (uint32_t i = 0; i < n; i++)
        out[i] = pcm[i];
}

/* The lag in `low`..`high` at which the newest `width` samples before `end` resemble older ones most. The true
 * lag's multiples resemble as much, within noise; a plain maximum serves, since multiples continue as well. */
static uint32_t best_lag(const float *end, uint32_t width, uint32_t low, uint32_t high, float *correlation)
{
    const float *newest = end - width;
    const float energy = dot(newest, newest, width);
    float past_energy = dot(newest - low, newest - low, width);
    float best = -1;
    uint32_t best_at = low;
    for (uint32_t lag = low; lag <= high; lag++) {
        const float product = dot(newest, newest - lag, width);
        /* Running sums may come out below zero by rounding. */
        const float scale = energy * (past_energy > 0 ? past_energy : 0) + 1;
        const float likeness = product > 0 ? product * product / scale : 0;
        if (likeness > best) {
            best = likeness;
            best_at = lag;
        }
        const float enters = newest[-(int32_t)lag - 1], leaves = end[-(int32_t)lag - 1];
        past_energy += enters * enters - leaves * leaves;
    }
    *correlation = sqrtf(best);
    return best_at;
}

static void find_pitch(fa_conceal *c, const float *end)
{
    const uint32_t step = samples_in(c, 1) / COARSE_PER_MS;
    float coarse[COARSE_SIZE];
    /* Means of neighbours are filter enough: pitch lives below 1 kHz. */
    const float *oldest = end - COARSE_SIZE * step;
    for (uint32_t i = 0; i < COARSE_SIZE; i++) {
        coarse[i] = 0;
        for (uint32_t k = 0; k < step; k++)
            coarse[i] += oldest[i * step + k];
    }
    float correlation;
    const uint32_t rough = best_lag(coarse + COARSE_SIZE, MATCH_MS * COARSE_PER_MS, LAG_MIN_COARSE,
                                    LAG_MAX_COARSE, &correlation) *
                           step;
    const uint32_t low = LAG_MIN_COARSE * step, high = LAG_MAX_COARSE * step;
    c->pitch = best_lag(end, samples_in(c, MATCH_MS), rough - step < low ? low : rough - step,
                        rough + step > high ? high : rough + step, &correlation);
    const float voicing = (correlation - NOISE_CORRELATION) / (VOICED_CORRELATION - NOISE_CORRELATION);
    c->voicing = voicing < 0 ? 0 : voicing > 1 ? 1 : voicing;
    c->breath = sqrtf(1 - c->voicing * c->voicing);
}

/* predictor[j] weighs the sample j + 1 before; the residual is x[n] + sum of predictor[j] * x[n - 1 - j]. */
static void find_predictor(fa_conceal *c, const float *end)
{
    float windowed[WINDOW_MS * PER_MS_MAX];
    const uint32_t size = samples_in(c, WINDOW_MS), fall = size / WINDOW_FALL, rise = size - fall;
    for (uint32_t i = 0; i < rise; i++) {
        const float to_top = 1 - ((float)i + 0.5f) / (float)rise;
        windowed[i] = end[(int32_t)i - (int32_t)size] * (1 - 0.92f * to_top * to_top);
    }
    for (uint32_t i = 0; i < fall; i++) {
        const float from_top = ((float)i + 0.5f) / (float)fall;
        windowed[rise + i] = end[(int32_t)i - (int32_t)fall] * (1 - from_top * from_top);
    }
    float r[ORDER + 1];
    const float angle = 6.2831853f * LAG_WINDOW_HZ / (float)c->sample_rate;
    /* exp(-(angle k)^2 / 2) for k = 1, 2, ...: the ratio of neighbours is a geometric series. */
    float smoothing = 1, ratio = expf(-0.5f * angle * angle);
    const float ratio_step = ratio * ratio;
    for (uint32_t k = 0; k <= ORDER; k++) {
        r[k] = smoothing * dot(windowed, windowed + k, size - k);
        smoothing *= ratio;
        ratio *= ratio_step;
    }
    r[0] = r[0] * WHITE_NOISE + QUIET_POWER;
    float *a = c->predictor;
    float error = r[0];
    for (uint32_t i = 0; i < ORDER; i++) {
        float k = r[i + 1];
        for (uint32_t j = 0; j < i; j++)
            k += a[j] * r[i - j];
        k = -k / error;
        if (!(fabsf(k) < 1)) { /* rounding has eaten the rest: the order so far is stable */
            memset(a + i, 0, (ORDER - i) * sizeof *a);
            return;
        }
        for (uint32_t j = 0; j < i / 2; j++) {
            const float front = a[j], back = a[i - 1 - j];
            a[j] = front + k * back;
            a[i - 1 - j] = back + k * front;
        }
        if (i % 2 == 1)
            a[i / 2] += k * a[i / 2];
        a[i] = k;
        error *= 1 - k * k;
    }
}

static void begin_loss(fa_conceal *c)
{
    float past[FA_CONCEAL_HISTORY_MS * PER_MS_MAX];
    to_float(history_of(c), c->history_size, past);
    const float *end = past + c->history_size;
    c->is_lost = 1;
    c->is_joining = 0;
    c->fresh = 0;
    c->blocks = 0;
    c->block_used = c->block_size;
    c->fade = 1;
    c->limiter = 1;
    c->block_energy_max = 0;
    for (uint32_t i = 1; i <= 20 / FA_CONCEAL_BLOCK_MS; i++) {
        const float *block = end - i * c->block_size;
        const float energy = dot(block, block, c->block_size);
        c->block_energy_max = energy > c->block_energy_max ? energy : c->block_energy_max;
    }
    c->is_silent = c->block_energy_max == 0;
    if (c->is_silent)
        return;
    find_pitch(c, end);
    find_predictor(c, end);
    c->position = c->history_size - c->pitch;
    for (uint32_t j = 0; j < ORDER; j++)
        c->memory[j] = end[-(int32_t)j - 1];
}

/* Where to go back to when the newest residual has been played. */
static uint32_t rewound(const fa_conceal *c, uint32_t age)
{
    uint32_t cycles = age < samples_in(c, TWO_CYCLES_MS) ? 1 : age < samples_in(c, THREE_CYCLES_MS) ? 2 : 3;
    while (cycles > 1 && cycles * c->pitch + ORDER > c->history_size)
        cycles--;
    return c->history_size - cycles * c->pitch;
}

static float next_fade(const fa_conceal *c)
{
    if (c->blocks < FIRST_BLOCKS)
        return c->fade * FIRST_FADE;
    if (c->blocks < SECOND_BLOCKS)
        return c->fade * SECOND_FADE;
    return c->blocks < LAST_BLOCKS ? c->fade * LAST_FADE : 0;
}

/* The residual of the n samples from `at` on; ORDER more lie before them. */
static void residual_of(const fa_conceal *c, const int16_t *at, uint32_t n, float *residual)
{
    float past[ORDER + FA_CONCEAL_BLOCK_MS * PER_MS_MAX];
    to_float(at - ORDER, n + ORDER, past);
    for (uint32_t i = 0; i < n; i++)
        residual[i] = past[ORDER + i];
    for (uint32_t j = 0; j < ORDER; j++) {
        const float weight = c->predictor[j], *older = past + ORDER - 1 - j;
        for (uint32_t i = 0; i < n; i++)
            residual[i] += weight * older[i];
    }
}

static void play_cycles(fa_conceal *c, float *residual)
{
    for (uint32_t done = 0; done < c->block_size;) {
        if (c->position == c->history_size)
            c->position = rewound(c, c->blocks * c->block_size + done);
        const uint32_t left = c->history_size - c->position, wanted = c->block_size - done;
        const uint32_t n = left < wanted ? left : wanted;
        residual_of(c, history_of(c) + c->position, n, residual + done);
        c->position += n;
        done += n;
    }
}

static void mix_noise(fa_conceal *c, float *residual)
{
    const uint32_t n = c->block_size;
    float noise[FA_CONCEAL_BLOCK_MS * PER_MS_MAX];
    const uint32_t before = (c->blocks % (NOISE_MS / FA_CONCEAL_BLOCK_MS) + 1) * n;
    residual_of(c, history_of(c) + c->history_size - before, n, noise);
    for (uint32_t i = 0; i < n; i++) {
        c->random = c->random * 1664525u + 1013904223u; /* of Numerical Recipes; its top bit is good enough */
        const float breath = c->random >> 31 ? -c->breath : c->breath;
        residual[i] = c->voicing * residual[i] + breath * noise[n - 1 - i];
    }
}

static void make_block(fa_conceal *c)
{
    int16_t *block = block_of(c);
    c->block_used = 0;
    if (c->is_silent) {
        memset(block, 0, c->block_size * sizeof *block);
        return;
    }
    const uint32_t n = c->block_size;
    float line[ORDER + FA_CONCEAL_BLOCK_MS * PER_MS_MAX], residual[FA_CONCEAL_BLOCK_MS * PER_MS_MAX];
    float *out = line + ORDER;
    for (uint32_t j = 0; j < ORDER; j++)
        out[-(int32_t)j - 1] = c->memory[j];
    play_cycles(c, residual);
    if (c->voicing < 1)
        mix_noise(c, residual);
    for (uint32_t i = 0; i < n; i++) {
        /* Four sums side by side, the newest output last: one sum would wait for itself sixteen times. */
        const float *newest = out + i - 1;
        float sums[4] = {residual[i], 0, 0, 0};
        for (uint32_t j = ORDER; j-- > 0;)
            sums[j % 4] -= c->predictor[j] * newest[-(int32_t)j];
        out[i] = sums[0] + (sums[1] + (sums[2] + sums[3]));
    }
    for (uint32_t j = 0; j < ORDER; j++)
        c->memory[j] = out[n - 1 - j];

    const float energy = dot(out, out, n);
    const float limiter = energy > c->block_energy_max ? sqrtf(c->block_energy_max / energy) : 1;
    const float fade = next_fade(c);
    float gain = c->fade * c->limiter;
    const float slope = (fade * limiter - gain) / (float)n;
    for (uint32_t i = 0; i < n; i++) {
        gain += slope;
        out[i] *= gain;
    }
    /* The gain moves over the block: one that is loud before it has come down is brought down whole. */
    const float given = dot(out, out, n);
    const float rest = given > c->block_energy_max ? sqrtf(c->block_energy_max / given) : 1;
    for (uint32_t i = 0; i < n; i++)
        store_sample(block, i, out[i] * rest);
    c->fade = fade;
    c->limiter = limiter * rest;
    c->blocks++;
    c->is_silent = fade == 0;
}

/* Keeps the newest `size` samples of `kept` with n more behind them. */
static void append(int16_t *kept, uint32_t size, const int16_t *pcm, size_t n)
{
    if (n >= size) {
        memcpy(kept, (const char *)pcm + (n - size) * sizeof *pcm, size * sizeof *kept);
        return;
    }
    memmove(kept, kept + n, (size - n) * sizeof *kept);
    memcpy(kept + size - n, pcm, n * sizeof *kept);
}

/* Gives n samples of the fill, at most a block. */
static void take(fa_conceal *c, int16_t *out, uint32_t n)
{
    while (n > 0) {
        if (c->block_used == c->block_size)
            make_block(c);
        const uint32_t left = c->block_size - c->block_used;
        const uint32_t given = n < left ? n : left;
        memcpy(out, block_of(c) + c->block_used, given * sizeof *out);
        c->block_used += given;
        out = (int16_t *)((char *)out + given * sizeof *out);
        n -= given;
    }
}

/* The fill becomes history, and 5 ms more of it are made for the cross-fade. */
static void end_loss(fa_conceal *c)
{
    int16_t tail[FA_CONCEAL_BLOCK_MS * PER_MS_MAX];
    take(c, tail, c->block_size);
    memcpy(block_of(c), tail, c->block_size * sizeof *tail);
    append(history_of(c), c->history_size, fill_of(c) + c->history_size - c->fresh, c->fresh);
    c->block_used = 0;
    c->is_lost = 0;
    c->is_joining = 1;
}

int fa_conceal_init(fa_conceal *c, int sample_rate)
{
    if (sample_rate != 8000 && sample_rate != 16000 && sample_rate != 24000)
        return -1;
    c->sample_rate = sample_rate;
    fa_conceal_reset(c);
    return 0;
}

void fa_conceal_reset(fa_conceal *c)
{
    const int32_t sample_rate = c->sample_rate;
    memset(c, 0, FA_CONCEAL_BYTES(sample_rate));
    c->sample_rate = sample_rate;
    c->history_size = samples_in(c, FA_CONCEAL_HISTORY_MS);
    c->block_size = samples_in(c, FA_CONCEAL_BLOCK_MS);
    c->random = 1;
}

void fa_conceal_good(fa_conceal *c, int16_t *pcm, size_t n)
{
    if (n == 0)
        return;
    if (c->is_lost)
        end_loss(c);
    if (c->is_joining) {
        const int16_t *fill = block_of(c);
        const float step = 1 / (float)(c->block_size + 1);
        for (size_t i = 0; i < n && c->block_used < c->block_size; i++, c->block_used++) {
            const float weight = (float)(c->block_used + 1) * step, old = fill[c->block_used];
            store_sample(pcm, i, old + weight * ((float)load_sample(pcm, i) - old));
        }
        c->is_joining = c->block_used < c->block_size;
    }
    append(history_of(c), c->history_size, pcm, n);
}

void fa_conceal_lost(fa_conceal *c, int16_t *out, size_t n)
{
    if (n == 0)
        return;
    if (!c->is_lost)
        begin_loss(c);
    while (n > 0) {
        const uint32_t given = n < c->block_size ? (uint32_t)n : c->block_size;
        take(c, out, given);
        append(fill_of(c), c->history_size, out, given);
        c->fresh = c->fresh + given < c->history_size ? c->fresh + given : c->history_size;
        out = (int16_t *)((char *)out + given * sizeof *out);
        n -= given;
    }
}
