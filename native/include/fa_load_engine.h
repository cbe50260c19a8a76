/* Inside the engine of fa_load.h: what its files share. Everything but the lock itself expects it to be held. */
#ifndef FA_LOAD_ENGINE_H
#define FA_LOAD_ENGINE_H

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "fa_load.h"
#include "fa_sign.h"

#define NS_PER_MS 1000000ll
#define NS_PER_US 1000ll
#define READ_BYTES (256 * 1024)
#define SPECS_MAX 16
#define CLIPS_MAX 8192
#define HEAD_BYTES_MAX 14 /* of a WebSocket frame, with its mask */
/* By edges: by levels each event is polled twice. A short read has emptied the socket, unless the peer closed. */
#define WATCHED ((uint32_t)EPOLLIN | (uint32_t)EPOLLRDHUP | (uint32_t)EPOLLET)

enum { OP_TEXT = 1, OP_CLOSE = 8, OP_PING = 9, OP_PONG = 10 }; /* RFC 6455, section 5.2 */

typedef struct {
    char *text;
    uint32_t frames, frame_chars;
    int64_t frame_ns;
    uint8_t *flags;
    uint32_t *mark_us;
} clip;

typedef struct { int64_t due_ns; const char *text; uint32_t chars; } sent_frame;
typedef struct { int64_t due_ns, position_us; } sent_mark;

typedef struct {
    int fd, peer, spec, id;
    bool is_client, is_up, is_open, close_sent, waits_to_write;
    uint32_t mask;
    /* Bytes of a frame that is not whole yet, and of a message in fragments. */
    uint8_t *in, *out, *parts;
    size_t in_len, in_cap, out_len, out_cap, parts_len, parts_cap;
    /* Sending. */
    char *media;
    size_t media_size;
    uint32_t sequence, chunk;
    int64_t time_us;
    int idle_clip, said_clip, heap_at; /* heap_at: place among the due ones, -1 when not sending */
    uint32_t idle_at, said_at;
    int64_t due_ns, last_loud_ns, spoke_ns, position_us;
    sent_frame *sent;
    uint32_t sent_first, sent_count;
    sent_mark marks[FA_LOAD_MARKS_MAX];
    uint32_t marks_first, marks_count;
    /* Receiving. */
    char encoding;
    int sample_rate, end_quiet_ms;
    uint64_t samples;              /* since the start */
    uint64_t quiet;                /* samples since the last loud one */
    uint64_t last_mark;            /* sample position of the last mark found here */
    int64_t matched_us, matched_sample; /* the last mark that was recognised: its two positions */
    bool has_match, has_last_mark, is_speech, is_expecting;
    bool is_nameless;              /* a model's, and nobody has said yet whose audio comes here */
    bool is_accounted;             /* what it says began when it had a partner already */
    fa_sign_reader sign;
    int64_t last_audio_ns, played_ns;
} connection;

struct fa_load {
    pthread_mutex_t turnstile, lock;
    atomic_int waiting; /* others that want the lock */
    int epoll, events_fd, wake_fd;
    volatile bool is_stopped;
    connection **connections;
    int count, room;
    int *heap, heap_count; /* of connections, by due_ns */
    uint32_t begun;        /* connections that began to idle */
    clip clips[CLIPS_MAX];
    int clip_count;
    fa_envelope_spec specs[SPECS_MAX];
    int spec_count;
    fa_load_event *events;
    size_t event_count, event_room;
    uint64_t counters[FA_LOAD_COUNTERS];
    uint32_t histogram[FA_LOAD_HISTOGRAMS][FA_LOAD_CLASSES];
    int64_t largest[FA_LOAD_HISTOGRAMS];
    int16_t mulaw[256], alaw[256]; /* what each code stands for */
    int64_t wall_less_mono_ns;
    uint8_t read[READ_BYTES];
    uint8_t frame[HEAD_BYTES_MAX + FA_LOAD_TEMPLATE_BYTES_MAX + 65536];
    uint8_t audio[65536];
};

/* load.c */
void load_enter(fa_load *e);
void load_leave(fa_load *e);
void load_make_way(fa_load *e);
int64_t load_clock_ns(clockid_t id);
int64_t load_now_ns(void);
bool load_grow(uint8_t **bytes, size_t *cap, size_t wanted);
void load_tell(fa_load *e, const connection *c, fa_load_kind kind, int64_t at_ns, int64_t value, const char *text,
               size_t size);

/* load_histogram.c */
void load_record(fa_load *e, fa_load_histogram which, int64_t value_ns);

/* load_schedule.c */
void load_begin_idling(fa_load *e, connection *c);
void load_begin_sending(fa_load *e, connection *c);
void load_end_sending(fa_load *e, connection *c);
void load_send_all_due(fa_load *e);

/* load_socket.c */
void load_lose(fa_load *e, connection *c, int code);
void load_put(fa_load *e, connection *c, const uint8_t *bytes, size_t size);
void load_flush(fa_load *e, connection *c);
void load_read_from(fa_load *e, connection *c, bool is_to_the_end);

/* load_frame.c */
void load_send_frame(fa_load *e, connection *c, int opcode, uint8_t *payload, size_t size);
void load_send_control(fa_load *e, connection *c, int opcode, const uint8_t *payload, size_t size);
void load_send_template(fa_load *e, connection *c, const char *text, size_t size, const char *audio, size_t chars);
void load_take_bytes(fa_load *e, connection *c, uint8_t *bytes, size_t n, int64_t at_ns);

/* load_marks.c */
void load_take_audio(fa_load *e, connection *c, const char *text, size_t chars, int64_t at_ns);

#endif
