/* Adaptive jitter buffer for datagram audio: packets go in as they arrive and come out in order, in time.
 *
 * A packet's relative delay is its arrival less its timestamp. Playing runs at an offset on the same scale: a
 * packet is in time if its relative delay is not above the offset. The buffer keeps the relative delays of
 * the last 16 seconds and moves the offset by whole frames to where the E-model (ITU-T G.107) expects the
 * least impairment, delay and late packets together; a move that would be heard must be worth a frame.
 *
 * Sequence numbers give the order, timestamps the time. Both may wrap. Time is the caller's: `now` is in
 * seconds on one monotonic clock and never goes back (a step back counts as no time at all).
 */
#ifndef FA_JITTER_H
#define FA_JITTER_H

#include <stddef.h>
#include <stdint.h>

#define FA_JITTER_BINS 128           /* of relative delay, FA_JITTER_BIN_MS each */
#define FA_JITTER_BIN_MS 5
#define FA_JITTER_BLOCKS 16          /* of one second: what the estimate remembers */
#define FA_JITTER_FLOORS 4           /* quarter seconds that must agree before the path is called shorter */
#define FA_JITTER_MAX_SLOTS 1024
#define FA_JITTER_MAX_DELAY_MS 2000
#define FA_JITTER_MAX_BYTES 65535    /* of one payload */

/* Verdicts of fa_jitter_put. */
enum {
    FA_JITTER_ACCEPTED = 0,
    FA_JITTER_LATE = 1,        /* its turn is over: not kept */
    FA_JITTER_DUPLICATE = 2,   /* seen before: not kept */
    FA_JITTER_OVERFLOW = 3,    /* kept; the oldest packets were discarded to make room */
    FA_JITTER_RESET = 4,       /* kept; numbering or timing jumped, all before it was discarded */
    FA_JITTER_HELD = 5,        /* numbering or timing jumped: kept aside until the next packet or a dry get */
};

/* Verdicts of fa_jitter_get. */
enum {
    FA_JITTER_FRAME = 0,       /* a packet: play it */
    FA_JITTER_LOST = 1,        /* conceal: the packet is missing, later ones are here */
    FA_JITTER_EMPTY = 2,       /* conceal: nothing is here */
    FA_JITTER_EXPAND = 3,      /* conceal: the delay grows by this frame, nothing is lost */
    FA_JITTER_SILENCE = 4,     /* the sender sent nothing for this time (DTX): comfort noise */
    FA_JITTER_PREFETCH = 5,    /* silence: playing has not begun */
};

/* Errors of all calls. */
enum {
    FA_JITTER_BAD_ARGUMENT = -1,
    FA_JITTER_NO_ROOM = -2,    /* put: payload longer than a slot; get: packet longer than `room`, it stays */
};

typedef struct {
    uint32_t clock_hz;       /* of timestamps: 8000 .. 192000 */
    uint32_t frame;          /* duration of a packet in timestamp units: 1 .. 120 ms */
    uint32_t slots;          /* packets held at most: a power of two, 4 .. FA_JITTER_MAX_SLOTS */
    uint32_t slot_bytes;     /* longest payload: 1 .. FA_JITTER_MAX_BYTES */
    uint32_t initial_ms;     /* waited after the first packet, or until so much is here; min_ms .. max_ms */
    uint32_t min_ms;         /* delay above the fastest packets, at least ... */
    uint32_t max_ms;         /* ... and at most; <= FA_JITTER_MAX_DELAY_MS. min = max: a fixed buffer */
    uint32_t path_ms;        /* one-way delay assumed outside the buffer: past 177 ms in all delay is dear */
} fa_jitter_config;

typedef struct {
    int64_t seq;             /* extended sequence number; the slot remembers it after the packet left */
    int64_t timestamp;       /* extended */
    uint32_t duration;       /* timestamp units */
    uint16_t bytes;
    uint8_t present;
} fa_jitter_slot;

typedef struct {
    uint16_t seq;
    uint32_t timestamp;
    uint32_t duration;       /* timestamp units until the next get is due, whatever the verdict */
    size_t bytes;            /* payload written; 0 unless a FRAME */
} fa_jitter_frame;

typedef struct {
    uint64_t received;       /* packets put, all kinds */
    uint64_t played;
    uint64_t late;           /* came after their turn */
    uint64_t lost;           /* gets answered LOST, and missing packets skipped to shorten the delay */
    uint64_t empty;          /* gets answered EMPTY or PREFETCH */
    uint64_t duplicates;
    uint64_t reordered;      /* came after a packet with a higher number */
    uint64_t discarded;      /* in time but not played: overflow, reset, shortening. At any time received =
                              * played + late + duplicates + discarded + fa_jitter_waiting() */
    uint64_t expanded;       /* frames by which the delay grew */
    uint64_t accelerated;    /* frames by which the delay shrank */
    uint64_t silences;       /* gets answered SILENCE */
    uint64_t resets;
} fa_jitter_counters;

typedef struct {
    fa_jitter_config config;
    fa_jitter_slot *slot;    /* in the arena */
    uint8_t *payload;        /* in the arena */
    fa_jitter_counters counters;

    /* Order. */
    uint8_t begun;           /* a packet came since the reset */
    uint8_t playing;
    uint8_t resync;          /* the front was cut: go on at the next packet's timestamp */
    uint8_t held;            /* a packet of another numbering waits in the last slot */
    uint32_t count;          /* packets present */
    int64_t newest_seq, newest_timestamp;
    int64_t next_seq;        /* all lower ones are over */
    int64_t play_timestamp;  /* due at the next get */
    uint32_t frame;          /* duration in use */
    uint16_t held_seq;
    uint32_t held_timestamp, held_duration;
    double held_now;
    uint16_t held_bytes;

    /* Time, in ms. */
    double epoch, last_now;  /* seconds */
    int64_t epoch_timestamp;
    double offset_ms;        /* of playing, at the last get */
    double target_ms;        /* offset wanted */
    double first_ms;         /* relative delay of the first packet */
    double previous_ms;      /* relative delay of the packet before */
    double jitter_ms;
    double delay_ms;
    uint32_t since_shrink;   /* gets */

    /* What was seen of relative delays. */
    double floor_ms;         /* of the path, believed */
    double floors[FA_JITTER_FLOORS], ceilings[FA_JITTER_FLOORS];
    uint32_t floor_count;
    double floor_start;      /* seconds; of the quarter in progress, in slot 0 of floors */
    double block_start;
    uint32_t block;          /* in progress */
    uint32_t blocks;         /* in use, that one included */
    double block_origin[FA_JITTER_BLOCKS], block_floor[FA_JITTER_BLOCKS];
    uint8_t counts[FA_JITTER_BLOCKS][FA_JITTER_BINS];
    double origin_ms;        /* of bin 0 of the sum */
    uint32_t samples;
    uint32_t sum[FA_JITTER_BINS];
    uint8_t stale;           /* target to be computed anew */
} fa_jitter;

/* Bytes of arena for a configuration; 0 when it is out of range. */
size_t fa_jitter_arena_bytes(const fa_jitter_config *config);

/* Prepares. The arena (aligned for int64_t, fa_jitter_arena_bytes() long) is the caller's and must outlive
 * the buffer. Returns 0, or FA_JITTER_BAD_ARGUMENT. */
int fa_jitter_init(fa_jitter *j, const fa_jitter_config *config, void *arena, size_t arena_bytes);

/* Forgets all packets and all delays, not the counters. For a new source (another SSRC) or codec. */
void fa_jitter_reset(fa_jitter *j);

/* Takes a packet that arrived at `now`. `duration` in timestamp units, 0 for the configured frame. Returns a
 * verdict or an error. The payload is copied. */
int fa_jitter_put(fa_jitter *j, uint16_t seq, uint32_t timestamp, const uint8_t *payload, size_t n,
                  uint32_t duration, double now);

/* Gives what is to be played at `now`; the next get is due `frame->duration` later. `quiet`: the talker
 * pauses, so that a frame more or less is not heard. Returns a verdict, or an error (`frame`
 * is zero then). */
int fa_jitter_get(fa_jitter *j, double now, int quiet, uint8_t *out, size_t room, fa_jitter_frame *frame);

/* Packets inside. */
uint32_t fa_jitter_waiting(const fa_jitter *j);

/* Delay of the frame played last, above the fastest packets of late, in ms; and the one aimed at. */
double fa_jitter_delay_ms(const fa_jitter *j);
double fa_jitter_target_ms(const fa_jitter *j);

#endif
