/* Stereo timeline of a call for a recording: two mono streams at 8 kHz in, interleaved samples of the file out.
 *
 * Positions count samples since the start of the recording, by the wall clock that `now` (monotonic seconds) reads;
 * "the wall" is the position of the latest `now`. Left is the caller, right the bot.
 *
 *   caller  contiguous as it comes, whatever the jitter. Its first frame is placed so that it ends at the wall.
 *           If the smallest lag behind the wall within FA_RECORD_LAG_WINDOW stays above FA_RECORD_LAG_MAX, audio was
 *           lost: silence of that lag goes in. Once it is so late that the ring is full, silence takes its place
 *           and the audio that comes next ends at the wall again; should it turn out to be a late burst, it fills
 *           the silence that has not left yet, and its oldest surplus is dropped, so that the newest is in place.
 *           A caller who runs ahead of the wall by more than FA_RECORD_LAG_MAX loses the surplus likewise.
 *   bot     stands where its position says; gaps are silence. Give it when it is played, never later than
 *           FA_RECORD_BOT_SLACK behind the wall and never before: what falls outside the ring is dropped.
 *   pause   the clock goes on over silence. Nothing that came in, or belongs, between pause and resume is kept:
 *           late audio whose place cannot be told is kept out, too, until the caller's stream has proven itself
 *           by FA_RECORD_PROOF samples without a surplus.
 *
 * After every call that takes `now`, call fa_record_take until it gives 0; then FA_RECORD_FRAME samples fit.
 * The streams are plain int16 of any alignment; nothing overlaps. No allocation.
 */
#ifndef FA_RECORD_H
#define FA_RECORD_H

#include <stddef.h>
#include <stdint.h>

#define FA_RECORD_RATE 8000     /* Hz */
#define FA_RECORD_FRAME 160     /* 20 ms */
#define FA_RECORD_RING 4000     /* samples per channel: the latest that audio may come */
#define FA_RECORD_BLOCK 3200    /* given at a time while nothing is amiss */
#define FA_RECORD_BOT_SLACK 480 /* the bot's audio of 60 ms ago has all been given */
#define FA_RECORD_STEP 800      /* given at a time while a stalled caller's place is kept free */
#define FA_RECORD_LAG_MAX 1600
#define FA_RECORD_LAG_WINDOW 8000
#define FA_RECORD_PROOF 8000    /* more than a ring, so a burst shows itself before */
#define FA_RECORD_JUMP_MAX (600 * FA_RECORD_RATE) /* the wall moves no further by one `now` */

enum { FA_RECORD_PCM16 = 0, FA_RECORD_MULAW = 1 };

/* Bytes of ring that an encoding needs. */
#define FA_RECORD_RING_BYTES(encoding) ((size_t)2 * FA_RECORD_RING * ((encoding) == FA_RECORD_MULAW ? 1 : 2))

typedef struct {
    uint8_t *ring;        /* the caller's channel, then the bot's, in the file's encoding; the owner's memory */
    double start_s;
    int64_t wall;
    int64_t origin;       /* position of the ring's first sample: everything before has left */
    int64_t caller_end;   /* where the caller's next sample goes */
    int64_t bot_end;
    int64_t audio_from;   /* between origin and here the caller's channel is silence put in for missing audio */
    int64_t owed;         /* samples of such silence whose audio may yet come */
    int64_t proven;       /* the caller's samples since the stream was placed or had a surplus */
    int64_t window_start; /* of the search for the smallest lag */
    int64_t window_lag;
    int64_t silent_from, silent_until; /* the latest pause */
    int64_t padded;       /* samples of silence put in for missing audio of the caller */
    int64_t dropped;      /* samples of the caller's that had no place */
    int64_t misplaced;    /* samples of the bot's outside the ring */
    uint8_t width;        /* bytes of a sample */
    uint8_t is_placed, is_paused, is_doubted, is_flushed;
} fa_recorder;

/* Starts the clock at `now`. `ring` has FA_RECORD_RING_BYTES(encoding) and lives as long as `r` is used.
 * Returns 0, or -1 for an unknown encoding. */
int fa_record_init(fa_recorder *r, int encoding, uint8_t *ring, double now);

/* The position that `now` is at; 0 for times before the start. */
int64_t fa_record_position(const fa_recorder *r, double now);

/* Lets time pass: for a caller who sends nothing, about every 100 ms. Time never runs backwards. */
void fa_record_advance(fa_recorder *r, double now);

/* Takes up to n samples that arrived at `now`; returns how many. If fewer than n, take, then give the rest. */
size_t fa_record_caller(fa_recorder *r, const int16_t *pcm, size_t n, double now);

/* Takes n samples that the far end plays from `position` on. */
void fa_record_bot(fa_recorder *r, const int16_t *pcm, size_t n, int64_t position);

/* The bytes that fa_record_take would give now, at most FA_RECORD_RING_BYTES. */
size_t fa_record_due(fa_recorder *r);

/* Writes interleaved samples that are due, at most `room` bytes; returns the bytes written. 0: nothing is due, or
 * there is no room for one sample of both. FA_RECORD_RING_BYTES is always enough. */
size_t fa_record_take(fa_recorder *r, uint8_t *out, size_t room);

/* From `now` on nothing is kept, or again. Both give the position; pausing or resuming twice changes nothing. */
int64_t fa_record_pause(fa_recorder *r, double now);
int64_t fa_record_resume(fa_recorder *r, double now);

/* Ends the recording: fa_record_take then gives all that is left, the shorter channel filled up with silence.
 * What is fed later is ignored. */
void fa_record_flush(fa_recorder *r, double now);

#endif
