/* Many calls of a load test on one thread: sockets, WebSocket frames, due times and the account of the audio.
 *
 * The engine knows no vendor and makes no handshake: it takes connected sockets whose upgrade is done. On each
 * it sends the frames of a clip when they are due (open loop: a frame that is late does not move the next one)
 * and looks at the audio that comes back. Whatever is not media becomes an event for the owner.
 *
 * Two connections may be paired: what one sends the server should bring to the other. Audio is then matched
 *   - verbatim, by the base64 text of each frame, where the server passes audio through, and
 *   - by marks: a loud sample after FA_LOAD_QUIET_MS of quiet, found by the same rule in what is sent and in
 *     what arrives, at whatever rate and encoding, and recognised by the audio between it and the last one.
 * A latency is the arrival at our socket (as the kernel stamped it) less the time at which the frame was due.
 *
 * `fa_load_run` belongs to one thread; every other function may be called from any, and takes the lock.
 */
#ifndef FA_LOAD_H
#define FA_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fa_envelope.h"

enum {
    FA_LOAD_QUIET_MS = 80,              /* so much quiet makes the next loud sample a mark */
    FA_LOAD_LOUD = 2000,                /* a loud sample of int16; speech has peaks of 10,000 and more */
    FA_LOAD_QUANTUM_US = 500,           /* due times lie on this grid, so that one wake serves several calls */
    FA_LOAD_CROWD = 64,                 /* beyond so many that send, what arrives waits for the next wake, too:
                                         * the kernel has stamped it, so only our answers are later by a quantum */
    FA_LOAD_SENT_MAX = 512,             /* frames of one connection under way; the oldest is given up */
    FA_LOAD_MARKS_MAX = 64,
    FA_LOAD_MARK_LIMIT_MS = 5000,       /* a mark that did not arrive by then is lost */
    FA_LOAD_MARK_SLACK_MS = 12,         /* how far a resampler may move a mark */
    FA_LOAD_BACKLOG_BYTES_MAX = 1 << 20,/* a server that reads no more is left */
    FA_LOAD_MESSAGE_BYTES_MAX = 4 << 20,
    FA_LOAD_EVENTS_MAX = 1 << 18,       /* events that the owner has not taken; more are lost and counted */
    FA_LOAD_TEMPLATE_BYTES_MAX = 4096,
};

/* Bytes in a template that stand for numbers, or for the audio. Everything else is sent as it is. */
enum { FA_LOAD_AT_SEQUENCE = 1, FA_LOAD_AT_CHUNK = 2, FA_LOAD_AT_TIME_MS = 3, FA_LOAD_AT_AUDIO = 4 };

/* Log-linear classes of durations in ns, 32 to the octave: error below 3.2 %, 1 ns to 137 s. */
#define FA_LOAD_CLASS_BITS 5
#define FA_LOAD_CLASSES ((38 - FA_LOAD_CLASS_BITS) << FA_LOAD_CLASS_BITS)

typedef enum {
    FA_LOAD_LATE,        /* our own: when a frame went out, less when it was due */
    FA_LOAD_READ_LATE,   /* our own: when bytes were read, less when the kernel had them */
    FA_LOAD_UP_FRAME, FA_LOAD_DOWN_FRAME,
    FA_LOAD_UP_MARK, FA_LOAD_DOWN_MARK,
    FA_LOAD_HISTOGRAMS
} fa_load_histogram;

typedef enum {
    FA_LOAD_MESSAGE,     /* not media, or media without audio; value: when the audio so far will have been played, ns */
    FA_LOAD_CLOSED,      /* value: close code, 1006 without one */
    FA_LOAD_ONSET,       /* a loud sample, the first after `fa_load_expect` or after the speech before ended */
    FA_LOAD_QUIET,       /* the connection's `end_quiet_ms` of quiet after speech */
    FA_LOAD_SAID,        /* a clip is out; value: when its last loud frame was due, ns */
    FA_LOAD_SIGN,        /* a model's connection without a partner heard a caller's sign (fa_sign.h); value: its number */
} fa_load_kind;

typedef enum {
    FA_LOAD_FRAMES_SENT, FA_LOAD_BYTES_SENT, FA_LOAD_FRAMES_RECEIVED, FA_LOAD_BYTES_RECEIVED,
    FA_LOAD_BLOCKED,          /* sends that found the socket full; they wait in the backlog */
    FA_LOAD_VERBATIM,         /* frames that arrived byte for byte */
    FA_LOAD_FRAMES_LOST,      /* frames passed over between two that arrived verbatim */
    FA_LOAD_MARKS_SENT, FA_LOAD_MARKS_HEARD, FA_LOAD_MARKS_LOST, FA_LOAD_MARKS_UNKNOWN,
    FA_LOAD_AUDIO_UNREADABLE, FA_LOAD_EVENTS_LOST, FA_LOAD_WAKES, FA_LOAD_THREAD_CPU_NS,
    FA_LOAD_COUNTERS
} fa_load_counter;

typedef struct {
    int32_t connection;
    int32_t kind;
    int64_t at_ns;       /* CLOCK_MONOTONIC */
    int64_t value;
    char *text;          /* of a message; the taker frees it */
    size_t size;
} fa_load_event;

typedef struct fa_load fa_load;

/* NULL when memory or descriptors are short. */
fa_load *fa_load_new(void);
void fa_load_free(fa_load *e);

/* Serves until `fa_load_stop`. */
void fa_load_run(fa_load *e);
void fa_load_stop(fa_load *e);

/* Readable while there are events. */
int fa_load_event_fd(const fa_load *e);

/* Takes all events; `*events` is to be freed, and each text. Returns the count. */
size_t fa_load_take_events(fa_load *e, fa_load_event **events);

/* Declares a media message; the spec's texts must outlive the engine. Returns its number, or -1. */
int fa_load_add_spec(fa_load *e, const fa_envelope_spec *spec);

/* A clip of `frames` frames, each `frame_chars` of base64 that last `frame_us`. Bits of flags[i]: 1 the frame
 * is loud somewhere, 2 it holds a mark, `mark_us[i]` after its start. Returns its number, or -1. */
int fa_load_add_clip(fa_load *e, const char *text, uint32_t frames, uint32_t frame_chars, uint32_t frame_us,
                     const uint8_t *flags, const uint32_t *mark_us);

/* Takes over a connected, non-blocking socket; `first` bytes were read behind the upgrade. `is_up`: what is sent
 * here goes to the model. The template is of a media message, with FA_LOAD_AT_* in it. Returns the number, or -1. */
int fa_load_add(fa_load *e, int fd, bool is_client, bool is_up, int spec, const char *media_template,
                size_t template_size, int end_quiet_ms, const char *first, size_t first_size);

/* What comes in: bytes of a sample, 'u' mu-law, 'a' A-law, 'l' PCM16; rate in Hz. */
int fa_load_format(fa_load *e, int connection, char encoding, int sample_rate);
/* Another template for the media messages sent from now on. */
int fa_load_media(fa_load *e, int connection, const char *text, size_t size);
/* What one sends shall arrive at the other; marks count from the next clip that is said. -1 when either has a
 * partner. */
int fa_load_pair(fa_load *e, int one, int other);

/* A text message, a template too. -1 when the connection is gone. */
int fa_load_send(fa_load *e, int connection, const char *text, size_t size);

/* Sends `clip` over and over whenever nothing is said; -1 sends nothing then. It begins within a frame's time, so
 * that what many connections send is spread over it. */
int fa_load_idle(fa_load *e, int connection, int clip);
/* Says a clip once, from the next frame on; it takes the place of one that is being said. */
int fa_load_say(fa_load *e, int connection, int clip);
/* Stops saying. What was said and has not arrived is not expected any more. */
int fa_load_hush(fa_load *e, int connection);
/* Sends no more frames at all. */
int fa_load_mute(fa_load *e, int connection);
/* The next loud sample after some quiet is told as FA_LOAD_ONSET. */
int fa_load_expect(fa_load *e, int connection);
/* The audio not yet played is dropped, as far as our clock of the playback is concerned. */
int fa_load_cut(fa_load *e, int connection);
/* When the last audio came, when its first loud frame was said, and when all of it will have been played (ns). */
int fa_load_times(fa_load *e, int connection, int64_t *last_audio_ns, int64_t *spoke_ns, int64_t *played_ns);

/* A close frame, then the socket is closed when the peer closes; `is_abrupt`: reset at once. */
int fa_load_close(fa_load *e, int connection, int code, bool is_abrupt);

/* Counts since the last call; `counts` has FA_LOAD_CLASSES. Returns the largest value in ns. */
int64_t fa_load_take_histogram(fa_load *e, fa_load_histogram which, uint32_t *counts);
void fa_load_counters(fa_load *e, uint64_t counters[FA_LOAD_COUNTERS]);

/* The lower edge of a class in ns. */
int64_t fa_load_class_ns(uint32_t index);

#endif
