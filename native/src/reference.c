#include "fa_reference.h"

#include <math.h>
#include <string.h>

enum { STREAM_WINDOW_SAMPLES = 2 * FA_REFERENCE_HZ };
static const double SLOT_S = (double)FA_SLOT_SAMPLES / FA_REFERENCE_HZ;

void fa_reference_init(fa_reference *r, double now_s) {
    memset(r, 0, sizeof *r);
    r->clock.sample_rate = FA_REFERENCE_HZ;
    r->begun_s = now_s;
    r->is_dry = 1;
    fa_playout_settle(&r->clock, now_s);
}

void fa_reference_clear(fa_reference *r) { fa_fifo_clear(&r->in_flight); }

int fa_reference_sent(fa_reference *r, const int16_t *pcm, size_t n, double now_s) {
    if (fa_fifo_push(&r->in_flight, (const uint8_t *)pcm, n * sizeof *pcm) < 0)
        return -1;
    fa_playout_sent(&r->clock, (int64_t)n, now_s);
    return 0;
}

void fa_reference_cut(fa_reference *r, double now_s) {
    /* The slot that runs still ends with what was heard of it. */
    int64_t unheard = r->clock.sent - fa_playout_played(&r->clock, now_s);
    int64_t kept = (int64_t)(r->in_flight.size / sizeof(int16_t)) - unheard;
    if (kept <= 0) {
        fa_fifo_clear(&r->in_flight);
    } else {
        int16_t rest[FA_SLOT_SAMPLES];
        size_t n = fa_fifo_pop(&r->in_flight, (uint8_t *)rest,
                               kept < FA_SLOT_SAMPLES ? (size_t)kept * sizeof *rest : sizeof rest);
        fa_fifo_clear(&r->in_flight);
        fa_fifo_push(&r->in_flight, (const uint8_t *)rest, n);
    }
    r->clock.sent = r->taken + (int64_t)(r->in_flight.size / sizeof(int16_t));
    fa_playout_settle(&r->clock, now_s);
}

int fa_reference_next(fa_reference *r, double now_s, int16_t *pcm, int *audible) {
    double begin_s = r->begun_s + (double)r->slots * SLOT_S;
    double end_s = begin_s + SLOT_S;
    if (end_s > now_s)
        return 0;
    int64_t due = fa_playout_played(&r->clock, end_s) - r->taken;
    if (due < 0)
        due = 0;
    if (due > FA_SLOT_SAMPLES) /* rounding, or a clock that was set */
        due = FA_SLOT_SAMPLES;
    int64_t offset = 0;
    if (r->is_dry && due > 0 && due < FA_SLOT_SAMPLES) {
        double lead = (r->clock.base_time_s - begin_s) * FA_REFERENCE_HZ;
        offset = lead > 0 ? (int64_t)(lead + 0.5) : 0;
        if (offset > FA_SLOT_SAMPLES - due)
            offset = FA_SLOT_SAMPLES - due;
    }
    memset(pcm, 0, FA_SLOT_SAMPLES * sizeof *pcm);
    size_t got = fa_fifo_pop(&r->in_flight, (uint8_t *)(pcm + offset), (size_t)due * sizeof *pcm) / sizeof *pcm;
    r->taken += (int64_t)got;
    r->is_dry = r->in_flight.size == 0;
    r->slots++;
    *audible = (int)got;
    return 1;
}

void fa_stream_clock_init(fa_stream_clock *c) { memset(c, 0, sizeof *c); }

double fa_stream_clock_take(fa_stream_clock *c, int n, double now_s) {
    c->samples += n;
    double wait_s = now_s - (double)c->samples / FA_REFERENCE_HZ;
    if (!c->is_running) {
        c->is_running = 1;
        c->wait_s = c->window_s[0] = c->window_s[1] = wait_s;
    }
    if (wait_s < c->wait_s + FA_STREAM_LATE_MS / 1000.0) {
        c->is_in_doubt = 0;
    } else if (!c->is_in_doubt) {
        c->is_in_doubt = 1;
        c->late_since_s = now_s;
        c->late_wait_s = wait_s;
        c->late_samples = 0;
    } else {
        c->late_samples += n;
        if (wait_s < c->late_wait_s)
            c->late_wait_s = wait_s;
        double streamed_s = (double)c->late_samples / FA_REFERENCE_HZ;
        if (streamed_s >= FA_STREAM_PROOF_MS / 1000.0 && now_s - c->late_since_s >= 0.8 * streamed_s) {
            /* In real time, and no earlier: what is missing will not come. */
            c->window_s[0] = c->window_s[1] = c->late_wait_s;
            c->is_in_doubt = 0;
        }
    }
    if (wait_s < c->window_s[1])
        c->window_s[1] = wait_s;
    c->wait_s = fmin(c->window_s[0], c->window_s[1]);
    c->window_fill += n;
    if (c->window_fill >= STREAM_WINDOW_SAMPLES) {
        c->window_fill = 0;
        c->window_s[0] = c->window_s[1];
        c->window_s[1] = wait_s;
    }
    return c->wait_s + (double)c->samples / FA_REFERENCE_HZ;
}
