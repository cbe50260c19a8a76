#include "fa_record.h"

#include <string.h>

#include "fa_g711.h"

/* Digital silence: 0 in PCM16; in mu-law 0xFF, positive zero (ITU-T G.711, table 2a). */
static int silence_byte(const fa_recorder *r) { return r->width == 1 ? 0xFF : 0; }

static uint8_t *caller_ring(const fa_recorder *r) { return r->ring; }

static uint8_t *bot_ring(const fa_recorder *r) { return r->ring + (size_t)FA_RECORD_RING * r->width; }

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

static void fill_silence(const fa_recorder *r, uint8_t *channel, int64_t from, int64_t until) {
    if (until > from) {
        memset(channel + (size_t)from * r->width, silence_byte(r), (size_t)(until - from) * r->width);
    }
}

/* Takes the first `count` samples off a channel; silence comes in behind. */
static void shift_out(const fa_recorder *r, uint8_t *channel, int64_t count) {
    int64_t gone = smaller(count, FA_RECORD_RING);
    memmove(channel, channel + (size_t)gone * r->width, (size_t)(FA_RECORD_RING - gone) * r->width);
    fill_silence(r, channel, FA_RECORD_RING - gone, FA_RECORD_RING);
}

static void store(const fa_recorder *r, uint8_t *channel, int64_t at, const int16_t *pcm, int64_t n) {
    if (n <= 0) {
        return;
    }
    uint8_t *out = channel + (size_t)at * r->width;
    if (r->width == 1) {
        fa_ulaw_encode(pcm, (size_t)n, out);
    } else {
        memcpy(out, pcm, (size_t)n * sizeof *pcm);
    }
}

int fa_record_init(fa_recorder *r, int encoding, uint8_t *ring, double now) {
    if (encoding != FA_RECORD_PCM16 && encoding != FA_RECORD_MULAW) {
        return -1;
    }
    memset(r, 0, sizeof *r);
    r->ring = ring;
    r->start_s = now;
    r->width = encoding == FA_RECORD_MULAW ? 1 : 2;
    memset(ring, silence_byte(r), FA_RECORD_RING_BYTES(encoding));
    return 0;
}

int64_t fa_record_position(const fa_recorder *r, double now) {
    double samples = (now - r->start_s) * FA_RECORD_RATE;
    if (!(samples > 0)) { /* a time that is no number counts as the start */
        return 0;
    }
    /* Doubles count samples exactly up to 2^53. A thousandth of a sample makes up for what `now` rounded off. */
    return samples < 9e15 ? (int64_t)(samples + 1e-3) : (int64_t)9e15;
}

void fa_record_advance(fa_recorder *r, double now) {
    int64_t wall = fa_record_position(r, now);
    if (wall > r->wall && !r->is_flushed) {
        r->wall = smaller(wall, r->wall + FA_RECORD_JUMP_MAX);
    }
}

static void restart_window(fa_recorder *r) {
    r->window_start = r->wall;
    r->window_lag = INT64_MAX;
}

/* Puts the next n samples where they end at the wall. */
static void place_caller(fa_recorder *r, int64_t n) {
    int64_t missing = r->wall - n - r->caller_end;
    if (missing > 0) {
        r->caller_end += missing;
        r->owed += missing;
        r->padded += missing;
    }
    r->audio_from = r->caller_end;
    r->proven = 0;
    r->is_placed = 1;
    restart_window(r);
}

/* Drops the oldest `surplus` of what the ring holds of the caller and of the n samples that come next. Returns how
 * many of these n are to be left out. */
static int64_t drop_oldest(fa_recorder *r, int64_t surplus, int64_t n) {
    int64_t held = smaller(surplus, r->caller_end - r->origin);
    int64_t silence = smaller(held, larger(0, r->audio_from - r->origin));
    shift_out(r, caller_ring(r), held);
    r->caller_end -= held;
    r->audio_from = larger(r->origin, r->audio_from - held);
    /* What moved into a pause belongs there, so it goes. */
    fill_silence(r, caller_ring(r), 0, larger(0, smaller(r->silent_until - r->origin, FA_RECORD_RING)));
    int64_t left_out = smaller(n, surplus - held);
    r->padded -= silence;
    r->dropped += held - silence + left_out;
    r->owed = larger(0, r->owed - surplus);
    r->proven = 0;
    return left_out;
}

/* How many of the next n samples belong to a pause. */
static int64_t unwanted(const fa_recorder *r, int64_t n) {
    if (r->is_paused || r->is_doubted) {
        return n;
    }
    if (r->silent_until <= 0) {
        return 0;
    }
    /* Whatever their place, they were spoken before they arrived. */
    int64_t place = smaller(r->caller_end, r->wall - n);
    return smaller(n, larger(0, r->silent_until - place));
}

/* Audio that stays behind although it keeps coming will not catch up: something was lost. */
static void mend_lag(fa_recorder *r) {
    r->window_lag = smaller(r->window_lag, r->wall - r->caller_end);
    if (r->wall - r->window_start < FA_RECORD_LAG_WINDOW) {
        return;
    }
    if (r->window_lag > FA_RECORD_LAG_MAX) {
        r->caller_end += r->window_lag;
        r->padded += r->window_lag;
    }
    restart_window(r);
}

size_t fa_record_caller(fa_recorder *r, const int16_t *pcm, size_t n, double now) {
    fa_record_advance(r, now);
    if (n == 0 || r->is_flushed) {
        return n;
    }
    int64_t count = n < (size_t)INT32_MAX ? (int64_t)n : INT32_MAX;
    if (!r->is_placed) {
        place_caller(r, count);
    }
    int64_t left_out = 0;
    int64_t surplus = r->caller_end + count - r->wall;
    if (surplus > (r->owed > 0 ? FA_RECORD_FRAME : FA_RECORD_LAG_MAX)) {
        left_out = drop_oldest(r, surplus, count);
    }
    int64_t at = r->caller_end - r->origin;
    int64_t stored = larger(0, smaller(count - left_out, FA_RECORD_RING - at));
    int64_t quiet = unwanted(r, count - left_out);
    if (stored > quiet) {
        store(r, caller_ring(r), at + quiet, pcm + left_out + quiet, stored - quiet);
    }
    r->caller_end += stored;
    r->proven += stored;
    if (r->proven >= FA_RECORD_PROOF) {
        r->proven = FA_RECORD_PROOF;
        r->owed = 0;
        r->is_doubted = 0;
    }
    if (stored == count - left_out) {
        mend_lag(r);
    }
    return (size_t)(left_out + stored);
}

void fa_record_bot(fa_recorder *r, const int16_t *pcm, size_t n, int64_t position) {
    if (n == 0 || r->is_flushed) {
        return;
    }
    if (n > FA_RECORD_RING || position <= r->origin - FA_RECORD_RING || position >= r->origin + FA_RECORD_RING) {
        r->misplaced += n < (size_t)INT32_MAX ? (int64_t)n : INT32_MAX;
        return;
    }
    int64_t end = position + (int64_t)n;
    int64_t from = larger(position, r->origin);
    int64_t until = smaller(end, r->origin + FA_RECORD_RING);
    r->misplaced += (int64_t)n - larger(0, until - from);
    if (until <= from) {
        return;
    }
    uint8_t *channel = bot_ring(r);
    int64_t quiet_from = until, quiet_until = until;
    if (r->is_paused || r->silent_until > from) {
        quiet_from = smaller(until, larger(from, r->silent_from));
        quiet_until = r->is_paused ? until : larger(quiet_from, smaller(until, r->silent_until));
    }
    store(r, channel, from - r->origin, pcm + (from - position), quiet_from - from);
    fill_silence(r, channel, quiet_from - r->origin, quiet_until - r->origin);
    store(r, channel, quiet_until - r->origin, pcm + (quiet_until - position), until - quiet_until);
    r->bot_end = larger(r->bot_end, until);
}

/* How many samples of both channels are to leave now. */
static int64_t samples_due(fa_recorder *r) {
    if (r->is_flushed) {
        return larger(r->caller_end, r->bot_end) - r->origin;
    }
    int64_t behind_wall = r->wall - FA_RECORD_BOT_SLACK - r->origin;
    int64_t complete = smaller(r->caller_end - r->origin, behind_wall);
    int64_t ahead = larger(r->wall, r->caller_end) + FA_RECORD_FRAME - FA_RECORD_RING - r->origin;
    /* Silence that a burst may still fill stays as long as there is room. */
    int is_held = r->owed > 0 && r->audio_from > r->origin;
    if (ahead <= 0) {
        return complete >= FA_RECORD_BLOCK && !is_held ? complete : 0;
    }
    int64_t step = larger(FA_RECORD_STEP, ahead);
    if (r->caller_end == r->origin) {
        int64_t pad = smaller(step, behind_wall) - (r->caller_end - r->origin);
        if (r->caller_end < r->silent_until) {
            r->is_doubted = 1; /* what is missing may be of the pause */
        }
        r->caller_end += pad;
        r->owed += pad;
        r->padded += pad;
        r->is_placed = 0;
        return r->caller_end - r->origin;
    }
    return is_held ? smaller(complete, step) : complete;
}

size_t fa_record_due(fa_recorder *r) {
    return (size_t)larger(0, smaller(samples_due(r), FA_RECORD_RING)) * 2 * r->width;
}

size_t fa_record_take(fa_recorder *r, uint8_t *out, size_t room) {
    size_t width = r->width;
    size_t due = fa_record_due(r);
    size_t n = (due < room ? due : room) / (2 * width);
    if (n == 0) {
        return 0;
    }
    const uint8_t *left = caller_ring(r), *right = bot_ring(r);
    if (width == 1) {
        for (size_t i = 0; i < n; i++) {
            out[2 * i] = left[i];
            out[2 * i + 1] = right[i];
        }
    } else {
        for (size_t i = 0; i < n; i++) {
            memcpy(out + 4 * i, left + 2 * i, 2);
            memcpy(out + 4 * i + 2, right + 2 * i, 2);
        }
    }
    shift_out(r, caller_ring(r), (int64_t)n);
    shift_out(r, bot_ring(r), (int64_t)n);
    r->origin += (int64_t)n;
    return n * 2 * width;
}

int64_t fa_record_pause(fa_recorder *r, double now) {
    fa_record_advance(r, now);
    if (!r->is_paused) {
        r->is_paused = 1;
        if (r->silent_until <= r->origin) { /* else the bot's ring may still take audio of the pause before */
            r->silent_from = r->wall;
        }
    }
    return r->wall;
}

int64_t fa_record_resume(fa_recorder *r, double now) {
    fa_record_advance(r, now);
    if (r->is_paused) {
        r->is_paused = 0;
        r->silent_until = r->wall;
        if (r->owed > 0) {
            r->is_doubted = 1;
            r->proven = 0;
        }
    }
    return r->wall;
}

void fa_record_flush(fa_recorder *r, double now) {
    fa_record_advance(r, now);
    r->is_flushed = 1;
}
