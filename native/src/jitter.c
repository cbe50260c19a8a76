/* Jitter buffer in plain C: order by sequence number, time by timestamp, delay by expected impairment. */
#include "fa_jitter.h"

#include <math.h>
#include <string.h>

/* ITU-T G.107 (06/2015): R falls by DELAY_SLOPE per ms, by KNEE_SLOPE more from KNEE_MS on (its usual linear
 * form), and by 95 p / (p / BurstR + Bpl) for p % of missing packets; Bpl of G.711 with concealment is in
 * G.113, appendix I. Late packets come in bursts. */
#define DELAY_SLOPE 0.024
#define KNEE_SLOPE 0.11
#define KNEE_MS 177.3
#define LOSS_SCALE 95.0
#define BPL 25.1
#define BURST_RATIO 2.0

/* What a move is charged, as R per frame: giving delay back drops a packet, taking it inserts concealment. In
 * a pause neither is heard, and the charge only keeps the buffer from moving for nothing. */
#define SHRINK_COST 0.25
#define GROW_COST 0.05
#define QUIET_COST 0.05

#define FEW_SAMPLES 250       /* counted as so many, lest one early straggler mean a bad path */
#define FLOOR_S 0.25          /* of FA_JITTER_FLOORS stretches the highest floor counts */
#define BLOCK_S 1.0
#define FLOOR_SLACK_MS 10.0   /* the floor of a steady path wanders by less */
#define ORIGIN_BELOW_MS 40.0  /* the floor moves a little: room for it below */

/* RFC 3550, appendix A.1, and a leap of relative delay that no path makes: another source or clock. */
#define MAX_DROPOUT 3000
#define MAX_MISORDER 100
#define MAX_LEAP_MS 3000.0
#define MAX_NOW_S 1e10
#define MAX_DURATION_MS 120

#define BIN_MS ((double)FA_JITTER_BIN_MS)
#define SHRINK_GAP 5 /* gets between two shortenings, fewer when far off */

static int64_t nearest(double x) { return (int64_t)floor(x + 0.5); }

static double ms_of(const fa_jitter *j, int64_t units) { return (double)units * 1000.0 / j->config.clock_hz; }

static double relative_ms(const fa_jitter *j, double now, int64_t timestamp)
{
    double ms = (now - j->epoch) * 1000.0 - ms_of(j, timestamp - j->epoch_timestamp);
    return floor(ms * 1000.0 + 0.5) / 1000.0; /* to the microsecond: a clock's last bits are no lateness */
}

static fa_jitter_slot *slot_of(const fa_jitter *j, int64_t seq)
{
    return &j->slot[(uint64_t)seq & (j->config.slots - 1)];
}

static uint8_t *payload_of(const fa_jitter *j, size_t index)
{
    return j->payload + index * j->config.slot_bytes;
}

static int valid(const fa_jitter_config *c)
{
    if (c->clock_hz < 8000 || c->clock_hz > 192000)
        return 0;
    if (c->frame < c->clock_hz / 1000 || c->frame > c->clock_hz / 1000 * MAX_DURATION_MS)
        return 0;
    if (c->slots < 4 || c->slots > FA_JITTER_MAX_SLOTS || (c->slots & (c->slots - 1)))
        return 0;
    if (c->slot_bytes < 1 || c->slot_bytes > FA_JITTER_MAX_BYTES)
        return 0;
    return c->min_ms <= c->initial_ms && c->initial_ms <= c->max_ms && c->max_ms <= FA_JITTER_MAX_DELAY_MS &&
           c->path_ms <= 10000;
}

size_t fa_jitter_arena_bytes(const fa_jitter_config *config)
{
    if (!valid(config))
        return 0;
    /* One slot more than asked for: the held packet. */
    return config->slots * sizeof(fa_jitter_slot) + ((size_t)config->slots + 1) * config->slot_bytes;
}

int fa_jitter_init(fa_jitter *j, const fa_jitter_config *config, void *arena, size_t arena_bytes)
{
    size_t need = fa_jitter_arena_bytes(config);
    if (need == 0 || arena == NULL || arena_bytes < need || (uintptr_t)arena % _Alignof(fa_jitter_slot) != 0)
        return FA_JITTER_BAD_ARGUMENT;
    memset(j, 0, sizeof *j);
    j->config = *config;
    j->slot = arena;
    j->payload = (uint8_t *)arena + config->slots * sizeof(fa_jitter_slot);
    j->last_now = -MAX_NOW_S;
    fa_jitter_reset(j);
    return 0;
}

void fa_jitter_reset(fa_jitter *j)
{
    const fa_jitter_config config = j->config;
    const fa_jitter_counters counters = j->counters;
    fa_jitter_slot *slot = j->slot;
    uint8_t *payload = j->payload;
    uint64_t dropped = (uint64_t)j->count + j->held;
    double last_now = j->last_now;
    memset(j, 0, sizeof *j);
    j->config = config;
    j->slot = slot;
    j->payload = payload;
    j->counters = counters;
    j->counters.discarded += dropped;
    j->last_now = last_now;
    j->frame = j->config.frame;
    for (uint32_t i = 0; i < j->config.slots; i++)
        j->slot[i] = (fa_jitter_slot){.seq = -1};
}

/* --- what is known of delays --------------------------------------------------------------------------- */

static uint32_t bin_of(double above_origin_ms)
{
    /* Bin b holds delays up to b bins above the origin, so that rounding never calls a late packet timely. */
    double b = ceil(above_origin_ms / BIN_MS);
    return b <= 0 ? 0 : b >= FA_JITTER_BINS - 1 ? FA_JITTER_BINS - 1 : (uint32_t)b;
}

/* Sums the blocks. Where the path was longer, a block's delays move down with the floor: they tell of jitter,
 * not of a route or a clock that has changed since. */
static void add_up(fa_jitter *j)
{
    memset(j->sum, 0, sizeof j->sum);
    j->samples = 0;
    j->origin_ms = j->floor_ms - ORIGIN_BELOW_MS;
    for (uint32_t i = 0; i < j->blocks; i++) {
        uint32_t b = (j->block + FA_JITTER_BLOCKS - i) % FA_JITTER_BLOCKS;
        double fallen = j->block_floor[b] - j->floor_ms;
        double shift = (j->block_origin[b] - j->origin_ms) - (i && fallen > FLOOR_SLACK_MS ? fallen : 0);
        int64_t by = nearest(fmax(-1e6, fmin(1e6, shift / BIN_MS)));
        for (int64_t k = 0; k < FA_JITTER_BINS; k++) {
            int64_t at = k + by;
            if (j->counts[b][k]) {
                j->sum[at < 0 ? 0 : at >= FA_JITTER_BINS ? FA_JITTER_BINS - 1 : at] += j->counts[b][k];
                j->samples += j->counts[b][k];
            }
        }
    }
}

static void begin_block(fa_jitter *j, double now)
{
    j->block = (j->block + 1) % FA_JITTER_BLOCKS;
    if (j->blocks < FA_JITTER_BLOCKS)
        j->blocks++;
    memset(j->counts[j->block], 0, sizeof j->counts[j->block]);
    j->block_origin[j->block] = j->floor_ms - ORIGIN_BELOW_MS;
    j->block_floor[j->block] = j->floor_ms;
    j->block_start = now;
}

/* Begins the statistics with a delay that makes all earlier ones meaningless. */
static void rebase(fa_jitter *j, double r, double now)
{
    j->floors[0] = j->ceilings[0] = j->floor_ms = r;
    j->floor_count = 1;
    j->floor_start = now;
    j->blocks = 0;
    begin_block(j, now);
    add_up(j);
    j->stale = 1;
}

static void note_delay(fa_jitter *j, double r, double now)
{
    if (j->floor_count == 0 || (j->floor_count < FA_JITTER_FLOORS && r < j->floor_ms - ORIGIN_BELOW_MS)) {
        rebase(j, r, now); /* in the first second: what came first was held up */
    } else if (now - j->floor_start >= FLOOR_S) {
        memmove(j->floors + 1, j->floors, sizeof j->floors - sizeof *j->floors);
        memmove(j->ceilings + 1, j->ceilings, sizeof j->ceilings - sizeof *j->ceilings);
        j->floors[0] = j->ceilings[0] = r;
        j->floor_start = now;
        if (j->floor_count < FA_JITTER_FLOORS)
            j->floor_count++;
        /* One early burst is not a shorter path: the quarter with the highest floor tells. */
        double floor_ms = j->floors[1];
        for (uint32_t i = 2; i < j->floor_count; i++)
            floor_ms = fmax(floor_ms, j->floors[i]);
        j->floor_ms = floor_ms;
        j->block_floor[j->block] = fmin(j->block_floor[j->block], floor_ms);
        if (now - j->block_start >= BLOCK_S)
            begin_block(j, now);
        add_up(j);
        j->stale = 1;
    } else {
        j->floors[0] = fmin(j->floors[0], r);
        j->ceilings[0] = fmax(j->ceilings[0], r);
    }
    uint8_t *count = &j->counts[j->block][bin_of(r - j->block_origin[j->block])];
    if (*count < UINT8_MAX)
        ++*count;
    j->sum[bin_of(r - j->origin_ms)]++;
    j->samples++;
    if (r > j->offset_ms)
        j->stale = 1;
}

/* --- where to play ------------------------------------------------------------------------------------- */

static double impairment(const fa_jitter *j, double offset_ms, double late)
{
    double delay_ms = offset_ms - j->floor_ms;
    double percent = 100.0 * late / (j->samples < FEW_SAMPLES ? FEW_SAMPLES : j->samples);
    double knee = delay_ms + j->config.path_ms - KNEE_MS;
    return DELAY_SLOPE * delay_ms + (knee > 0 ? KNEE_SLOPE * knee : 0) +
           LOSS_SCALE * percent / (percent / BURST_RATIO + BPL);
}

/* Best of the offsets that whole frames can reach from the present one. */
static void retarget(fa_jitter *j, int quiet, uint32_t overdue)
{
    j->stale = 0;
    double frame_ms = ms_of(j, j->frame), half = frame_ms / 2;
    if (j->config.min_ms == j->config.max_ms) {
        double ceiling = j->ceilings[0];
        for (uint32_t i = 1; i < j->floor_count; i++)
            ceiling = fmax(ceiling, j->ceilings[i]);
        /* Dry, with late packets here: wait for them as far as the limit goes. */
        double longest = j->floor_ms + j->config.max_ms;
        j->target_ms = fmax(j->offset_ms, fmin(j->offset_ms + overdue * frame_ms, longest));
        if (j->floor_count == FA_JITTER_FLOORS && ceiling + j->config.max_ms + half < j->offset_ms)
            j->target_ms = ceiling + j->config.max_ms;
        else if (j->floor_count == FA_JITTER_FLOORS && j->floor_ms > j->offset_ms)
            j->target_ms = j->floor_ms + j->config.max_ms;
        return;
    }
    uint32_t late[FA_JITTER_BINS]; /* samples above bin b */
    uint32_t above = 0;
    for (int b = FA_JITTER_BINS - 1; b >= 0; b--) {
        late[b] = above;
        above += j->sum[b];
    }
    double lowest = j->floor_ms + j->config.min_ms, highest = j->floor_ms + j->config.max_ms;
    /* A late packet that is here can be had for the delay; giving that back later costs a packet again. */
    double rescue = LOSS_SCALE * 100.0 / BPL / (j->samples < FEW_SAMPLES ? FEW_SAMPLES : j->samples);
    double best = INFINITY, chosen = j->offset_ms;
    /* The offset nearest to the lower limit, then frame by frame. */
    double k = ceil((lowest - half - j->offset_ms) / frame_ms);
    for (double at = j->offset_ms + k * frame_ms; at <= highest + half; at += frame_ms, k += 1) {
        double b = floor((at - j->origin_ms) / BIN_MS + 1e-6);
        uint32_t missed = b < 0 ? j->samples : b >= FA_JITTER_BINS ? 0 : late[(int)b];
        double cost = impairment(j, at, missed);
        if (k < 0)
            cost -= k * (quiet ? QUIET_COST : SHRINK_COST);
        else
            cost += k * (quiet ? QUIET_COST : GROW_COST) - rescue * fmin(k, overdue);
        if (k < 0 && j->samples < FEW_SAMPLES && at < j->first_ms + j->config.initial_ms - half)
            continue;
        if (cost < best) {
            best = cost;
            chosen = at;
        }
    }
    if (best == INFINITY)
        chosen = j->offset_ms > highest ? highest : lowest;
    j->target_ms = chosen;
}

/* --- packets ------------------------------------------------------------------------------------------- */

static void drop(fa_jitter *j, fa_jitter_slot *s)
{
    s->present = 0;
    j->count--;
}

/* Lowest packet present, NULL when there is none. */
static fa_jitter_slot *front(const fa_jitter *j)
{
    if (j->count == 0)
        return NULL;
    for (int64_t seq = j->next_seq;; seq++) {
        fa_jitter_slot *s = slot_of(j, seq);
        if (s->present && s->seq == seq)
            return s;
    }
}

static void store(fa_jitter *j, int64_t seq, int64_t timestamp, const uint8_t *payload, size_t n,
                  uint32_t duration)
{
    fa_jitter_slot *s = slot_of(j, seq);
    s->seq = seq;
    s->timestamp = timestamp;
    s->duration = duration;
    s->bytes = (uint16_t)n;
    s->present = 1;
    j->count++;
    if (n)
        memcpy(payload_of(j, (size_t)(s - j->slot)), payload, n);
}

static void begin(fa_jitter *j, uint16_t seq, uint32_t timestamp, const uint8_t *payload, size_t n,
                  uint32_t duration, double now)
{
    j->begun = 1;
    /* Far above zero, so that what comes before the first packet has a number too. */
    j->newest_seq = j->next_seq = ((int64_t)1 << 32) + seq;
    j->newest_timestamp = j->epoch_timestamp = j->play_timestamp = ((int64_t)1 << 40) + timestamp;
    j->epoch = now;
    j->first_ms = j->previous_ms = 0;
    j->frame = duration;
    j->offset_ms = j->target_ms = j->config.initial_ms;
    store(j, j->newest_seq, j->newest_timestamp, payload, n, duration);
    note_delay(j, 0, now);
}

/* Begins anew with the held packet. */
static void adopt(fa_jitter *j)
{
    uint16_t seq = j->held_seq, n = j->held_bytes;
    uint32_t timestamp = j->held_timestamp, duration = j->held_duration;
    double now = j->held_now;
    j->held = 0;
    j->counters.resets++;
    fa_jitter_reset(j);
    begin(j, seq, timestamp, payload_of(j, j->config.slots), n, duration, now);
}

static int is_foreign(const fa_jitter *j, int64_t leap, double r)
{
    return leap > MAX_DROPOUT || leap < -MAX_MISORDER || fabs(r - j->floor_ms) > MAX_LEAP_MS;
}

int fa_jitter_put(fa_jitter *j, uint16_t seq16, uint32_t timestamp32, const uint8_t *payload, size_t n,
                  uint32_t duration, double now)
{
    if (!isfinite(now) || fabs(now) > MAX_NOW_S || (payload == NULL && n))
        return FA_JITTER_BAD_ARGUMENT;
    if (n > j->config.slot_bytes)
        return FA_JITTER_NO_ROOM;
    if (duration == 0)
        duration = j->config.frame;
    if (duration < j->config.clock_hz / 1000 || duration > j->config.clock_hz / 1000 * MAX_DURATION_MS)
        return FA_JITTER_BAD_ARGUMENT;
    now = j->last_now = fmax(now, j->last_now);
    j->counters.received++;
    if (!j->begun) {
        begin(j, seq16, timestamp32, payload, n, duration, now);
        return FA_JITTER_ACCEPTED;
    }
    int64_t leap = (int16_t)(uint16_t)(seq16 - (uint16_t)j->newest_seq);
    int64_t seq = j->newest_seq + leap;
    int64_t timestamp = j->newest_timestamp + (int32_t)(timestamp32 - (uint32_t)j->newest_timestamp);
    double r = relative_ms(j, now, timestamp);
    int verdict = FA_JITTER_ACCEPTED;
    if (is_foreign(j, leap, r)) {
        /* A stray packet must not throw the stream away: two in a row, or nothing else to play (see get). */
        if (j->held && (uint16_t)(j->held_seq + 1) == seq16) {
            adopt(j);
            int after = fa_jitter_put(j, seq16, timestamp32, payload, n, duration, now);
            j->counters.received--;
            return after == FA_JITTER_ACCEPTED ? FA_JITTER_RESET : after;
        }
        if (j->held)
            j->counters.discarded++;
        j->held = 1;
        j->held_seq = seq16;
        j->held_timestamp = timestamp32;
        j->held_duration = duration;
        j->held_now = now;
        j->held_bytes = (uint16_t)n;
        if (n)
            memcpy(payload_of(j, j->config.slots), payload, n);
        return FA_JITTER_HELD;
    }
    if (slot_of(j, seq)->seq == seq) {
        j->counters.duplicates++;
        return FA_JITTER_DUPLICATE;
    }
    if (leap < 0)
        j->counters.reordered++;
    j->jitter_ms += (fabs(r - j->previous_ms) - j->jitter_ms) / 16; /* RFC 3550, 6.4.1 */
    j->previous_ms = r;
    note_delay(j, r, now);
    if (seq < j->next_seq) {
        if (!j->playing && j->newest_seq - seq < j->config.slots) {
            j->next_seq = seq; /* overtaken before playing began: still in time */
        } else {
            j->counters.late++;
            return FA_JITTER_LATE;
        }
    }
    if (seq > j->newest_seq) {
        int64_t first_kept = seq - j->config.slots + 1;
        while (j->count && front(j)->seq < first_kept) {
            drop(j, front(j));
            j->counters.discarded++;
            verdict = FA_JITTER_OVERFLOW;
        }
        if (j->next_seq < first_kept)
            j->next_seq = first_kept;
        if (verdict == FA_JITTER_OVERFLOW) {
            j->resync = 1;
            rebase(j, r, now);
        }
        j->newest_seq = seq;
        j->newest_timestamp = timestamp;
    }
    store(j, seq, timestamp, payload, n, duration);
    return verdict;
}

/* Packets present, from `s` on, whose turn is over. */
static uint32_t overdue_packets(const fa_jitter *j, const fa_jitter_slot *s)
{
    uint32_t n = 0;
    for (int64_t seq = s->seq; seq <= j->newest_seq; seq++) {
        s = slot_of(j, seq);
        if (!s->present || s->seq != seq)
            continue;
        if (j->play_timestamp - s->timestamp <= (int64_t)j->frame / 2)
            break;
        n++;
    }
    return n;
}

static int deliver(fa_jitter *j, fa_jitter_slot *s, double now, uint8_t *out, fa_jitter_frame *frame)
{
    frame->seq = (uint16_t)s->seq;
    frame->timestamp = (uint32_t)s->timestamp;
    frame->duration = j->frame = s->duration;
    frame->bytes = s->bytes;
    if (s->bytes)
        memcpy(out, payload_of(j, (size_t)(s - j->slot)), s->bytes);
    j->offset_ms = relative_ms(j, now, s->timestamp);
    j->delay_ms = j->offset_ms - j->floor_ms;
    j->next_seq = s->seq + 1;
    j->play_timestamp = s->timestamp + s->duration;
    drop(j, s);
    j->counters.played++;
    return FA_JITTER_FRAME;
}

int fa_jitter_get(fa_jitter *j, double now, int quiet, uint8_t *out, size_t room, fa_jitter_frame *frame)
{
    *frame = (fa_jitter_frame){.duration = j->frame};
    if (!isfinite(now) || fabs(now) > MAX_NOW_S || (out == NULL && room)) {
        frame->duration = 0;
        return FA_JITTER_BAD_ARGUMENT;
    }
    now = j->last_now = fmax(now, j->last_now);
    if (j->held && j->count == 0) {
        adopt(j);
        frame->duration = j->frame;
    }
    if (!j->begun) {
        j->counters.empty++;
        return FA_JITTER_PREFETCH;
    }
    fa_jitter_slot *s = front(j);
    if (!j->playing) {
        double waited_ms = relative_ms(j, now, s->timestamp) - j->first_ms;
        double here_ms = ms_of(j, (int64_t)j->count * j->frame);
        if (waited_ms < j->config.initial_ms && here_ms < j->config.initial_ms) {
            j->counters.empty++;
            return FA_JITTER_PREFETCH;
        }
        j->playing = 1;
        j->play_timestamp = s->timestamp;
    }
    if (s && j->resync)
        j->play_timestamp = s->timestamp;
    j->resync = 0;
    j->offset_ms = relative_ms(j, now, j->play_timestamp);
    double frame_ms = ms_of(j, j->frame), half = frame_ms / 2;
    j->since_shrink++;
    uint32_t overdue = s ? overdue_packets(j, s) : 0;
    if (j->stale || quiet || overdue || fabs(j->target_ms - j->offset_ms) > half / 2)
        retarget(j, quiet, overdue);
    double missing_ms = j->target_ms - j->offset_ms; /* of delay; below zero: too much */

    /* Packets whose turn is over: play them after all if the delay is to grow, else they are late. */
    while (s && s->timestamp < j->play_timestamp && ms_of(j, j->play_timestamp - s->timestamp) > half) {
        double behind_ms = ms_of(j, j->play_timestamp - s->timestamp);
        if (behind_ms <= missing_ms + half) {
            j->counters.expanded += (uint64_t)nearest(behind_ms / frame_ms);
            missing_ms -= behind_ms;
            break;
        }
        j->counters.late++;
        j->next_seq = s->seq + 1;
        drop(j, s);
        s = front(j);
    }
    int64_t ahead = s ? s->timestamp - j->play_timestamp : 0;
    if (s && ms_of(j, ahead) <= half) {
        if (s->bytes > room) {
            frame->duration = 0;
            return FA_JITTER_NO_ROOM;
        }
        if (missing_ms >= half && ahead >= 0 - (int64_t)j->frame / 2) {
            j->counters.expanded++;
            return FA_JITTER_EXPAND;
        }
        fa_jitter_slot *after = slot_of(j, s->seq + 1);
        uint32_t excess = missing_ms < -half ? (uint32_t)nearest(-missing_ms / frame_ms) : 0;
        if (excess && (quiet || j->since_shrink + excess > SHRINK_GAP) && after->present &&
            after->seq == s->seq + 1 && after->bytes <= room) {
            drop(j, s);
            j->counters.discarded++;
            j->counters.accelerated++;
            j->since_shrink = 0;
            s = after;
        }
        return deliver(j, s, now, out, frame);
    }
    if (s) {
        int unsent = s->seq == j->next_seq; /* nothing is missing before it: the sender paused (DTX) */
        double gap_ms = ms_of(j, ahead);
        if (missing_ms < -half && gap_ms <= -missing_ms + half) {
            if (s->bytes > room) {
                frame->duration = 0;
                return FA_JITTER_NO_ROOM;
            }
            j->counters.accelerated += (uint64_t)nearest(gap_ms / frame_ms);
            j->counters.lost += unsent ? 0 : (uint64_t)(s->seq - j->next_seq);
            return deliver(j, s, now, out, frame);
        }
        if (missing_ms >= half) {
            j->counters.expanded++;
            if (unsent)
                j->counters.silences++;
            return unsent ? FA_JITTER_SILENCE : FA_JITTER_EXPAND;
        }
        j->play_timestamp += j->frame;
        if (unsent) {
            j->counters.silences++;
            return FA_JITTER_SILENCE;
        }
        j->counters.lost++;
        return FA_JITTER_LOST;
    }
    j->counters.empty++;
    if (missing_ms < half)
        j->play_timestamp += j->frame;
    else
        j->counters.expanded++;
    return FA_JITTER_EMPTY;
}

uint32_t fa_jitter_waiting(const fa_jitter *j) { return j->count + j->held; }

double fa_jitter_delay_ms(const fa_jitter *j) { return j->delay_ms; }

double fa_jitter_target_ms(const fa_jitter *j) { return j->begun ? j->target_ms - j->floor_ms : 0; }
