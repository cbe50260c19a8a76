/* What the callers and the model share: formats, one call, and the account of its audio.
 *
 * Audio is accounted by position. A sender notes when each chunk left; a receiver adds up the bytes that came,
 * and a chunk is complete when the position has passed its end. That holds for passthrough and transcoding,
 * and however the server cuts or joins messages. A resampler sends its tail after each utterance, so downlink
 * positions are set right wherever a play stream begins an utterance; within one stream that holds several, the
 * tails add up and are counted as surplus at its end. Where both sides use one format each chunk also opens with a
 * stamp (16 base64 characters: direction, call, number), so a wrong, repeated or missing chunk is seen as such.
 */
#ifndef CALLS_H
#define CALLS_H

#include <stdio.h>

#include "histogram.h"
#include "websocket.h"

#define UP_CHUNK_MS 20
#define DOWN_CHUNK_MS 100
#define STAMP_CHARS 16
#define RING_CHUNKS 512          /* 10 s of uplink may be under way */
#define UTTERANCE_RING 64
#define CHUNK_CHARS_MAX 6400     /* 100 ms at 24 kHz, base64 */

typedef struct {
    const char *name;
    int bytes_per_ms;
    bool is_pcm16;
} audio_format;

#define MARKS_MAX 64             /* of one call, not yet played */
#define MARK_CHARS_MAX 127

/* Twilio's: comes back once everything before it was played. */
typedef struct {
    int64_t played_ns;
    char name[MARK_CHARS_MAX + 1];
} mark;

/* One way of one call. */
typedef struct {
    const audio_format *from, *to;
    uint32_t chunk_bytes;        /* of one chunk as the receiver should see it */
    uint32_t chunk_ms;
    uint64_t sent;               /* chunks */
    uint64_t completed;          /* chunks */
    uint64_t position_bytes;     /* received, aligned where a play stream begins an utterance */
    uint64_t received_bytes;
    uint64_t lost_bytes, surplus_bytes;
    uint64_t stamps_right, stamps_wrong;
    int64_t sent_ns[RING_CHUNKS]; /* when each chunk left; negative when it bears a stamp */
} track;

typedef enum { CALL_IDLE, CALL_OPENING, CALL_ACCEPTED, CALL_TALKING, CALL_ENDING, CALL_ENDED, CALL_FAILED } call_state;

typedef struct {
    int id;
    call_state state;
    ws_conn *caller, *model;
    bool model_ready;            /* the model's side may talk */
    bool stream_open;            /* a play stream, seen by the caller */
    int talk_chunks_left, gap_chunks_left;
    bool is_in_utterance;        /* the model's */
    uint32_t utterances_begun, streams_begun;
    uint32_t utterance_aligned;  /* the last one whose first byte was known to begin a play stream */
    uint64_t utterance_start[UTTERANCE_RING]; /* first chunk of each utterance */
    int64_t setup_began_ns;
    double level_worst_db;       /* of transcoded audio against the tone */
    track up, down;
    uint8_t *up_frame;           /* the caller's masked chunk message, whole; only the stamp changes */
    size_t up_frame_len, up_stamp_at, up_stamp_phase;
    char *answered;              /* what the carrier's webhook was answered; NULL when none was asked */
    uint64_t sequence;           /* the caller's messages that bear a number */
    int64_t plays_until_ns;      /* the bot's audio, as the caller hears it */
    mark marks[MARKS_MAX];       /* a ring */
    unsigned first_mark, mark_count;
} call;

/* One telephone network's messages: the callers' end of them, and the bot's where a byte relay is measured. */
typedef struct {
    const char *name;
    bool (*open)(call *c, int epoll, uint16_t port, const char *path);
    void (*send_chunk)(call *c);
    void (*advance)(call *c);    /* what is due by the clock */
    void (*end)(call *c);
    void (*bot_message)(ws_conn *ws, call *c, char *text, size_t n, int64_t arrived_ns);
    /* These write text and give its length, 0 for no message. */
    int (*bot_begins)(const call *c, unsigned utterance, char *text, size_t size);
    int (*bot_audio)(const call *c, unsigned utterance, char *text, size_t size); /* up to the audio itself */
    const char *bot_audio_end;
    int (*bot_ends)(const call *c, unsigned utterance, char *text, size_t size);
} carrier;

typedef struct {
    bool is_relay;               /* the model's port speaks the carrier's messages */
    const carrier *carrier;
    const audio_format *format;  /* the caller's */
    int talk_chunks, gap_chunks;
    unsigned forget_every;       /* 0 = nothing is lost on purpose */
    uint64_t seed;
} plan;

/* Everything counted; durations are recorded for chunks sent within the window only. */
typedef struct {
    histogram up, down, lateness, setup;
    int64_t window_from_ns, window_to_ns;
    uint64_t up_sent, down_sent;
    uint64_t orphan_chunks, unknown_streams, hangups, model_errors, cuts, other_messages;
    uint64_t marks, marks_returned;
    uint64_t failed;
    char first_failure[96];
} tally;

extern plan the_plan;
extern tally the_tally;
extern call *call_being_opened;

/* calls.c */
const audio_format *format_named(const char *name);
const audio_format *format_of_model(const char *type);   /* audio/pcm, audio/pcmu, audio/pcma */
const char *tone_base64(const audio_format *format, int duration_ms, size_t *chars);
void track_begin(track *t, const audio_format *from, const audio_format *to, uint32_t chunk_ms);
bool track_stamps(const track *t);
bool track_sent(track *t, int64_t now_ns, bool is_stamped); /* false: this one is to be forgotten */
void track_received(track *t, const call *c, char direction, const char *audio, size_t chars, int64_t arrived_ns,
                    histogram *latency);
void track_align(track *t, uint64_t chunk);
uint64_t track_missing_bytes(const track *t);
void stamp(char out[STAMP_CHARS], char direction, int call_id, uint64_t number);
void level_check(call *c, const track *t, const char *audio, size_t chars);
void call_fail(call *c, const char *why);
bool call_is_set_up(const call *c);

/* audiocodes.c, twilio.c */
extern const carrier audiocodes, twilio;

/* model.c: the Realtime server's end, or in relay mode the carrier's bot */
extern const ws_owner model_owner;
void model_talk(call *c);            /* every 100 ms: a delta, the end of an utterance, or the pause */
void model_finish_utterance(call *c);

#endif
