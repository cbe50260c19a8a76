/* Level meter in plain C. One branch-free loop that compilers turn into vector code does all the sums; what
 * needs an order (runs at a rail) is looked at only when the loop met a sample at a rail. */
#include "fa_level.h"

#include <math.h>
#include <string.h>

#define FULL_SCALE 32768.0
#define LOOP_SAMPLES 256 /* 256 * 32768 * 255 < 2^31 */
#define BLOCKS_PER_SLOT (FA_LEVEL_BLOCKS_PER_S / FA_LEVEL_SLOTS)

static const int32_t RAIL[] = {[FA_LEVEL_PCM16] = 32767, [FA_LEVEL_MULAW] = 32124, [FA_LEVEL_ALAW] = 32256};

/* RMS in dBFS of the digital milliwatt of ITU-T G.711, tables 5 and 6, decoded as in G.191; linear samples
 * have G.100.1's figure, which is A-law's. */
static const double MILLIWATT_DBFS[] = {
    [FA_LEVEL_PCM16] = -6.15, [FA_LEVEL_MULAW] = -6.22, [FA_LEVEL_ALAW] = -6.15};

int fa_level_init(fa_level *m, int sample_rate, fa_level_encoding encoding)
{
    if (sample_rate < 8000 || sample_rate > 48000 || sample_rate % FA_LEVEL_BLOCKS_PER_S != 0)
        return -1;
    if ((unsigned)encoding > FA_LEVEL_ALAW)
        return -1;
    m->sample_rate = sample_rate;
    m->encoding = encoding;
    fa_level_reset(m);
    return 0;
}

void fa_level_reset(fa_level *m)
{
    const int32_t sample_rate = m->sample_rate;
    const fa_level_encoding encoding = m->encoding;
    memset(m, 0, sizeof *m);
    m->sample_rate = sample_rate;
    m->encoding = encoding;
    m->block_samples = (uint32_t)sample_rate / FA_LEVEL_BLOCKS_PER_S;
    m->last_arrival_s = -1;
}

/* Any alignment is allowed, so samples are read as bytes. */
static inline int16_t load_sample(const int16_t *pcm, size_t i)
{
    int16_t sample;
    memcpy(&sample, (const char *)pcm + i * sizeof sample, sizeof sample);
    return sample;
}

static void follow_rail(fa_level *m, const int16_t *pcm, uint32_t n, int32_t rail)
{
    uint32_t run = m->rail_run;
    int32_t sign = m->rail_sign;
    for (uint32_t i = 0; i < n; i++) {
        const int16_t sample = load_sample(pcm, i);
        const int32_t at = (sample >= rail) - (sample <= -rail);
        if (at == 0) {
            run = 0;
        } else if (at != sign || run == 0) {
            run = 1;
        } else if (run >= FA_LEVEL_CLIP_RUN) {
            m->clipped_samples++;
        } else if (++run == FA_LEVEL_CLIP_RUN) {
            m->clip_runs++;
            m->clipped_samples += FA_LEVEL_CLIP_RUN;
        }
        sign = at;
    }
    m->rail_run = run;
    m->rail_sign = sign;
}

/* Takes at most LOOP_SAMPLES. A square is x * (256 * high + low), so that both sums of products fit in 32 bits
 * and the loop is made of the processor's multiply-and-add of int16. */
static void measure(fa_level *m, const int16_t *pcm, uint32_t n)
{
    int32_t sum = 0, high_sum = 0, low_sum = 0;
    int16_t max = INT16_MIN, min = INT16_MAX;
    for (uint32_t i = 0; i < n; i++) {
        const int16_t sample = load_sample(pcm, i);
        const int16_t high = (int16_t)(sample >> 8);
        const int16_t low = (int16_t)(sample - high * 256); /* written with a mask gcc misses the idiom */
        high_sum += sample * high;
        low_sum += sample * low;
        sum += sample;
        max = sample > max ? sample : max;
        min = sample < min ? sample : min;
    }
    m->block_squares += (uint64_t)(256 * (int64_t)high_sum + low_sum);
    m->sum += sum;
    m->max = max > m->max ? max : m->max;
    m->min = min < m->min ? min : m->min;
    const int32_t rail = RAIL[m->encoding];
    if (max >= rail || min <= -rail)
        follow_rail(m, pcm, n, rail);
    else
        m->rail_run = 0;
}

static void end_block(fa_level *m)
{
    /* 10^(-60/10) of full scale squared; the product is exact. */
    static const double SILENT_SQUARE = 1e-6 * FULL_SCALE * FULL_SCALE;
    const uint32_t slot = m->blocks / BLOCKS_PER_SLOT % FA_LEVEL_SLOTS;
    if (m->blocks % BLOCKS_PER_SLOT == 0)
        m->slots[slot] = 0;
    m->slots[slot] += m->block_squares;
    m->squares += m->block_squares;
    if ((double)m->block_squares < SILENT_SQUARE * m->block_samples) {
        m->silent_blocks++;
        if (++m->silence_run > m->silence_run_max)
            m->silence_run_max = m->silence_run;
    } else {
        m->silence_run = 0;
    }
    m->blocks++;
    m->block_fill = 0;
    m->block_squares = 0;
}

void fa_level_arrived(fa_level *m, double now_s)
{
    if (m->last_arrival_s >= 0 && now_s - m->last_arrival_s > m->gap_max_s)
        m->gap_max_s = now_s - m->last_arrival_s;
    if (now_s > m->last_arrival_s)
        m->last_arrival_s = now_s;
}

void fa_level_process(fa_level *m, const int16_t *pcm, size_t n, double now_s)
{
    if (n == 0)
        return;
    fa_level_arrived(m, now_s);
    m->samples += n;
    while (n > 0) {
        const uint32_t room = m->block_samples - m->block_fill;
        const uint32_t most = room < LOOP_SAMPLES ? room : LOOP_SAMPLES;
        const uint32_t fed = n < most ? (uint32_t)n : most;
        measure(m, pcm, fed);
        m->block_fill += fed;
        if (m->block_fill == m->block_samples)
            end_block(m);
        pcm = (const int16_t *)((const char *)pcm + fed * sizeof *pcm);
        n -= fed;
    }
}

static double decibels(double squares, double samples)
{
    if (squares <= 0)
        return FA_LEVEL_FLOOR_DB;
    const double db = 10 * log10(squares / samples / (FULL_SCALE * FULL_SCALE));
    return db > FA_LEVEL_FLOOR_DB ? db : FA_LEVEL_FLOOR_DB;
}

void fa_level_snapshot(const fa_level *m, double now_s, fa_level_figures *f)
{
    const double milliwatt_db = MILLIWATT_DBFS[m->encoding];
    const double block_s = 1.0 / FA_LEVEL_BLOCKS_PER_S;
    /* The oldest slot leaves the ring when the first block of a new one ends. */
    const uint32_t in_ring = m->blocks > (FA_LEVEL_SLOTS - 1) * BLOCKS_PER_SLOT
                                 ? (FA_LEVEL_SLOTS - 1) * BLOCKS_PER_SLOT + 1 + (m->blocks - 1) % BLOCKS_PER_SLOT
                                 : m->blocks;
    uint64_t recent = m->block_squares;
    for (int i = 0; i < FA_LEVEL_SLOTS; i++)
        recent += m->slots[i];
    const double recent_samples = (double)in_ring * m->block_samples + m->block_fill;
    f->samples = m->samples;
    f->clipped_samples = m->clipped_samples;
    f->clip_runs = m->clip_runs;
    f->peak = m->max > -m->min ? m->max : -m->min;
    f->peak_dbfs = decibels((double)f->peak * f->peak, 1);
    f->rms_dbfs = decibels((double)(m->squares + m->block_squares), (double)m->samples);
    f->rms_dbm0 = f->rms_dbfs - milliwatt_db;
    f->recent_rms_dbfs = decibels((double)recent, recent_samples);
    f->recent_rms_dbm0 = f->recent_rms_dbfs - milliwatt_db;
    f->dc_offset = m->samples > 0 ? (double)m->sum / (double)m->samples : 0;
    f->silence_share = m->blocks > 0 ? (double)m->silent_blocks / m->blocks : 0;
    f->silence_s = m->silence_run * block_s;
    f->silence_max_s = m->silence_run_max * block_s;
    const double age_s = now_s - m->last_arrival_s;
    f->age_s = m->last_arrival_s < 0 ? -1 : age_s > 0 ? age_s : 0;
    f->gap_max_s = m->gap_max_s;
}
