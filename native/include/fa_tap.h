/* What hears a call beside the audio path.
 *
 * Both directions are measured as they pass (fa_level): all of it where it is decoded anyway, else one message of
 * FA_TAP_MEASURED_EVERY, for a level needs no more. With ears, both become 20 ms frames at 8 kHz on one clock:
 *
 *   caller, as it arrives ──▶ frame ──▶ bands ──▶ voice detector ──▶ barge-in gate ──▶ utterances
 *                               └─────▶ DTMF                              ▲
 *   bot, as it is sent ──▶ in flight ──▶ as it is heard ──▶ bands ────────┘
 *
 * Nothing is sent from here: what was found waits as events until it is taken.
 */
#ifndef FA_TAP_H
#define FA_TAP_H

#include <stddef.h>
#include <stdint.h>

#include "fa_bargein.h"
#include "fa_convert.h"
#include "fa_dtmf.h"
#include "fa_level.h"
#include "fa_reference.h"
#include "fa_vad.h"

#define FA_TAP_BLOCK_BYTES 3072 /* most that is given at a time */
#define FA_TAP_MEASURED_EVERY 4
#define FA_TAP_EVENTS 16        /* that wait; further ones are dropped and counted */
#define FA_TAP_SLOTS 32         /* of bot audio remembered: how far a caller's frame may be delayed, 0.64 s */

/* What is listened for. */
enum { FA_TAP_SPEECH = 1, FA_TAP_OVERLAP = 2, FA_TAP_DTMF = 4, FA_TAP_PLAYED = 8, FA_TAP_CALLER = 16 };

typedef enum {
    FA_TAP_SPEECH_STARTED = 1, /* position: where speech began */
    FA_TAP_SPEECH_STOPPED,     /* position: where it ended */
    FA_TAP_OVERLAP_CONFIRMED,  /* the caller, not echo, is heard over the bot; position: their first sound */
    FA_TAP_DIGIT               /* a keypad digit sounds; position: its beginning */
} fa_tap_kind;

typedef struct {
    int64_t position; /* of the caller's samples at 8 kHz */
    uint8_t kind;
    char digit;
} fa_tap_event;

/* Another voice detector than our own: the speech probability of FA_FRAME_SAMPLES samples. */
typedef float (*fa_tap_detector)(void *context, const int16_t *frame);
/* Who wants whole 20 ms frames: the caller's as they come (FA_TAP_CALLER: any count of samples), the bot's as they
 * are heard (FA_TAP_PLAYED: one slot; `slot` counts 20 ms since the start). */
typedef void (*fa_tap_caller_sink)(void *context, const int16_t *pcm, size_t n, double now_s);
typedef void (*fa_tap_played_sink)(void *context, const int16_t *pcm, int64_t slot);

typedef struct {
    float band[FA_BANDS];
    float power; /* negative: nothing was played */
} fa_tap_slot;

/* What only a call with ears has. */
typedef struct {
    fa_resampler caller_down, bot_down;
    fa_bands caller_bands, bot_bands;
    fa_vad vad;
    fa_speech speech;
    fa_bargein gate;
    fa_dtmf dtmf;
    fa_stream_clock stream;
    fa_reference reference;
    fa_tap_slot slots[FA_TAP_SLOTS];
    fa_tap_detector detector;
    fa_tap_caller_sink caller_sink;
    fa_tap_played_sink played_sink;
    void *detector_context, *sink_context;
    int64_t position; /* caller samples in whole frames */
    int64_t over_begin, over_end; /* of what the caller says over the bot: first and last sound */
    int16_t frame[FA_FRAME_SAMPLES];
    uint16_t fill;
    uint8_t wants;
    uint8_t was_confirmed;
    uint8_t is_followed; /* over_begin and over_end hold */
    uint8_t bot_rings; /* the bands of the bot hold a tail */
} fa_ears;

typedef struct {
    /* What every message touches stands together. */
    fa_ears *ears; /* the owner's memory; NULL for none */
    int sample_rate;
    uint32_t events_dropped;
    uint8_t events_waiting;
    uint8_t caller_passed, bot_passed; /* messages since one was wanted */
    fa_level caller_level, bot_level;
    fa_converter caller, bot; /* to int16, at the rate they have */
    fa_tap_event events[FA_TAP_EVENTS];
} fa_tap;

/* The format of both directions; `riff`: WAV headers may stand in the caller's. Returns 0, or -1 for a format that
 * cannot be. */
int fa_tap_init(fa_tap *t, int encoding, int sample_rate, int riff);

/* Gives the tap ears that listen for `wants`. Returns 0, or -1 when 8 kHz cannot be had from the rate. The ears are
 * the owner's to free, after fa_tap_close_ears. */
int fa_tap_open_ears(fa_tap *t, fa_ears *ears, int wants, const fa_speech_options *speech, double now_s);
void fa_tap_close_ears(fa_tap *t);

/* Whether a message that need not be decoded is wanted all the same: with ears each is, else one of
 * FA_TAP_MEASURED_EVERY, beginning with the first. Of the others it is noted that they came. */
int fa_tap_wants_caller(fa_tap *t, double now_s);
int fa_tap_wants_bot(fa_tap *t, double now_s);

/* Takes up to FA_TAP_BLOCK_BYTES of a message of the caller's; `begins`: its first. Linear samples are cheapest at an
 * even address. */
void fa_tap_caller(fa_tap *t, const uint8_t *bytes, size_t n, int begins, double now_s);
/* The caller's stream begins anew, on another socket. */
void fa_tap_caller_reset(fa_tap *t);

/* Takes bot audio that is sent now. Returns 0, or -1 when memory is out. */
int fa_tap_bot(fa_tap *t, const uint8_t *bytes, size_t n, double now_s);
/* What the far end had not played is dropped there. */
void fa_tap_cut(fa_tap *t, double now_s);

/* How long the caller speaks over the bot, from the first sound to the last, and how long ago that was. Both go on
 * after the utterance, until fa_tap_rearm: then nothing was said, and nothing has been for long. */
uint32_t fa_tap_spoken_ms(const fa_tap *t);
uint32_t fa_tap_quiet_ms(const fa_tap *t);
void fa_tap_rearm(fa_tap *t);
#define FA_TAP_LONG_MS 60000

/* Gives the bot's audio heard by `now_s` to who wants it, though no caller's frame comes. */
void fa_tap_settle(fa_tap *t, double now_s);

#endif
