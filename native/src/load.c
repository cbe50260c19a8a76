#include "fa_load.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "fa_base64.h"
#include "fa_g711.h"
#include "fa_sign.h"

#define NS_PER_MS 1000000ll
#define NS_PER_US 1000ll
#define READ_BYTES (256 * 1024)
#define EPOLL_EVENTS 512
#define SPECS_MAX 16
#define CLIPS_MAX 8192
#define HEAD_BYTES_MAX 14
#define WAIT_MS_MAX 100
/* By edges: by levels each event is polled twice. A short read has emptied the socket, unless the peer closed. */
#define WATCHED ((uint32_t)EPOLLIN | (uint32_t)EPOLLRDHUP | (uint32_t)EPOLLET)

enum { OP_CONTINUATION = 0, OP_TEXT = 1, OP_BINARY = 2, OP_CLOSE = 8, OP_PING = 9, OP_PONG = 10 };
enum { FLAG_LOUD = 1, FLAG_MARK = 2 };

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

/* The engine's thread takes the lock again right after it gave it up, and would keep the others out for ever.
 * So one passes the turnstile first, and keeps it until the lock is his: who has waited goes next. */
static void enter(fa_load *e)
{
    atomic_fetch_add(&e->waiting, 1);
    pthread_mutex_lock(&e->turnstile);
    pthread_mutex_lock(&e->lock);
    pthread_mutex_unlock(&e->turnstile);
    atomic_fetch_sub(&e->waiting, 1);
}

static void leave(fa_load *e) { pthread_mutex_unlock(&e->lock); }

/* Lets others in, in the midst of a long turn. */
static void make_way(fa_load *e)
{
    if (atomic_load_explicit(&e->waiting, memory_order_relaxed) > 0) {
        leave(e);
        enter(e);
    }
}

static int64_t clock_ns(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

int64_t fa_load_class_ns(uint32_t index)
{
    uint32_t shift = index >> FA_LOAD_CLASS_BITS;
    if (shift == 0)
        return index;
    return (int64_t)((1u << FA_LOAD_CLASS_BITS) + (index & ((1u << FA_LOAD_CLASS_BITS) - 1))) << (shift - 1);
}

static void record(fa_load *e, fa_load_histogram which, int64_t value_ns)
{
    uint64_t v = value_ns < 1 ? 1 : (uint64_t)value_ns, index = v;
    if (v >> FA_LOAD_CLASS_BITS) {
        int shift = 63 - __builtin_clzll(v) - FA_LOAD_CLASS_BITS;
        index = ((uint64_t)shift << FA_LOAD_CLASS_BITS) + (v >> shift);
    }
    e->histogram[which][index < FA_LOAD_CLASSES ? index : FA_LOAD_CLASSES - 1]++;
    if ((int64_t)v > e->largest[which])
        e->largest[which] = (int64_t)v;
}

/* Room for `wanted` bytes; false when memory is short. */
static bool grow(uint8_t **bytes, size_t *cap, size_t wanted)
{
    if (wanted <= *cap)
        return true;
    size_t room = *cap ? *cap : 1024;
    while (room < wanted)
        room *= 2;
    uint8_t *more = realloc(*bytes, room);
    if (more == NULL)
        return false;
    *bytes = more;
    *cap = room;
    return true;
}

static void tell(fa_load *e, const connection *c, fa_load_kind kind, int64_t at_ns, int64_t value, const char *text,
                 size_t size)
{
    if (e->event_count == e->event_room && e->event_room < FA_LOAD_EVENTS_MAX) {
        size_t room = e->event_room ? e->event_room * 2 : 256;
        fa_load_event *more = realloc(e->events, room * sizeof *more);
        if (more != NULL) {
            e->events = more;
            e->event_room = room;
        }
    }
    char *copy = NULL;
    if (e->event_count == e->event_room || (text != NULL && (copy = malloc(size + 1)) == NULL)) {
        e->counters[FA_LOAD_EVENTS_LOST]++;
        return;
    }
    if (text != NULL)
        memcpy(copy, text, size);
    if (e->event_count == 0) {
        uint64_t one = 1;
        if (write(e->events_fd, &one, sizeof one) < 0)
            e->counters[FA_LOAD_EVENTS_LOST]++;
    }
    e->events[e->event_count++] = (fa_load_event){c->id, (int32_t)kind, at_ns, value, copy, size};
}

/* The due ones, soonest first: a binary heap whose members know their place. */

static void heap_put(fa_load *e, int at, int id)
{
    e->heap[at] = id;
    e->connections[id]->heap_at = at;
}

static void heap_settle(fa_load *e, int at)
{
    int id = e->heap[at];
    int64_t due = e->connections[id]->due_ns;
    while (at > 0 && e->connections[e->heap[(at - 1) / 2]]->due_ns > due) {
        heap_put(e, at, e->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    for (;;) {
        int child = 2 * at + 1;
        if (child >= e->heap_count)
            break;
        if (child + 1 < e->heap_count &&
            e->connections[e->heap[child + 1]]->due_ns < e->connections[e->heap[child]]->due_ns)
            child++;
        if (e->connections[e->heap[child]]->due_ns >= due)
            break;
        heap_put(e, at, e->heap[child]);
        at = child;
    }
    heap_put(e, at, id);
}

static void begin_sending(fa_load *e, connection *c)
{
    if (c->heap_at >= 0 || !c->is_open)
        return;
    int64_t quantum_ns = FA_LOAD_QUANTUM_US * NS_PER_US, now = now_ns();
    c->due_ns = (now + quantum_ns - 1) / quantum_ns * quantum_ns;
    c->heap_at = e->heap_count;
    e->heap[e->heap_count++] = c->id;
    heap_settle(e, c->heap_at);
    uint64_t one = 1;
    if (write(e->wake_fd, &one, sizeof one) < 0)
        e->counters[FA_LOAD_WAKES]++; /* full of wakes already, so it wakes */
}

static void end_sending(fa_load *e, connection *c)
{
    int at = c->heap_at;
    if (at < 0)
        return;
    c->heap_at = -1;
    int last = e->heap[--e->heap_count];
    if (last != c->id) {
        heap_put(e, at, last);
        heap_settle(e, at);
    }
}

/* Sockets. */

static void lose(fa_load *e, connection *c, int code)
{
    if (c->fd < 0)
        return;
    end_sending(e, c);
    close(c->fd); /* leaves the epoll set with it */
    c->fd = -1;
    c->is_open = false;
    if (c->peer >= 0) {
        e->connections[c->peer]->peer = -1;
        c->peer = -1;
    }
    free(c->in);
    free(c->out);
    free(c->parts);
    free(c->media);
    free(c->sent);
    c->in = c->out = c->parts = NULL;
    c->in_len = c->in_cap = c->out_len = c->out_cap = c->parts_len = c->parts_cap = 0;
    c->media = NULL;
    c->sent = NULL;
    c->sent_count = c->marks_count = 0;
    tell(e, c, FA_LOAD_CLOSED, now_ns(), code, NULL, 0);
}

static void watch(fa_load *e, connection *c, bool for_writing)
{
    struct epoll_event event = {.events = WATCHED | (for_writing ? (uint32_t)EPOLLOUT : 0u), .data.u32 = (uint32_t)c->id};
    c->waits_to_write = for_writing;
    epoll_ctl(e->epoll, EPOLL_CTL_MOD, c->fd, &event);
}

static void flush(fa_load *e, connection *c)
{
    ssize_t n = send(c->fd, c->out, c->out_len, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
        lose(e, c, 1006);
        return;
    }
    if (n > 0) {
        c->out_len -= (size_t)n;
        memmove(c->out, c->out + n, c->out_len);
    }
    if (c->out_len == 0)
        watch(e, c, false);
}

static void put(fa_load *e, connection *c, const uint8_t *bytes, size_t size)
{
    if (c->out_len == 0) {
        ssize_t n = send(c->fd, bytes, size, MSG_NOSIGNAL);
        if (n == (ssize_t)size) {
            e->counters[FA_LOAD_BYTES_SENT] += size;
            return;
        }
        if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
            lose(e, c, 1006);
            return;
        }
        if (n > 0) {
            bytes += n;
            size -= (size_t)n;
        }
        e->counters[FA_LOAD_BLOCKED]++;
    }
    if (c->out_len + size > FA_LOAD_BACKLOG_BYTES_MAX || !grow(&c->out, &c->out_cap, c->out_len + size)) {
        lose(e, c, 1006);
        return;
    }
    memcpy(c->out + c->out_len, bytes, size);
    c->out_len += size;
    e->counters[FA_LOAD_BYTES_SENT] += size;
    if (!c->waits_to_write)
        watch(e, c, true);
}

static void apply_mask(uint8_t *p, size_t n, uint32_t mask)
{
    size_t i = 0;
    uint64_t wide = (uint64_t)mask << 32 | mask, word;
    for (; i + 8 <= n; i += 8) {
        memcpy(&word, p + i, 8);
        word ^= wide;
        memcpy(p + i, &word, 8);
    }
    for (; i < n; i++)
        p[i] ^= ((const uint8_t *)&mask)[i & 3];
}

/* Puts the head before `size` bytes at `payload`, which has room for it in front, masks and sends. */
static void send_frame(fa_load *e, connection *c, int opcode, uint8_t *payload, size_t size)
{
    size_t head = (size < 126 ? 2 : size < 65536 ? 4 : 10) + (c->is_client ? 4 : 0);
    uint8_t *p = payload - head;
    p[0] = (uint8_t)(0x80 | opcode);
    if (size < 126) {
        p[1] = (uint8_t)size;
    } else if (size < 65536) {
        p[1] = 126;
        p[2] = (uint8_t)(size >> 8);
        p[3] = (uint8_t)size;
    } else {
        p[1] = 127;
        for (int i = 0; i < 8; i++)
            p[2 + i] = (uint8_t)((uint64_t)size >> (56 - 8 * i));
    }
    if (c->is_client) {
        p[1] |= 0x80;
        c->mask = c->mask * 1664525u + 1013904223u; /* another for each frame; a load test keeps no secret */
        memcpy(payload - 4, &c->mask, 4);
        apply_mask(payload, size, c->mask);
    }
    put(e, c, p, head + size);
}

static char *write_number(char *p, uint64_t number)
{
    char digits[20];
    int n = 0;
    do {
        digits[n++] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    while (n > 0)
        *p++ = digits[--n];
    return p;
}

/* Writes a template with its numbers and audio and sends it. Sizes were checked by the callers. */
static void send_template(fa_load *e, connection *c, const char *text, size_t size, const char *audio, size_t chars)
{
    char *start = (char *)e->frame + HEAD_BYTES_MAX, *p = start;
    for (const char *end = text + size; text < end; text++) {
        switch (*text) {
        case FA_LOAD_AT_SEQUENCE: p = write_number(p, ++c->sequence); break;
        case FA_LOAD_AT_CHUNK: p = write_number(p, ++c->chunk); break;
        case FA_LOAD_AT_TIME_MS: p = write_number(p, (uint64_t)(c->time_us / 1000)); break;
        case FA_LOAD_AT_AUDIO: memcpy(p, audio, chars); p += chars; break;
        default: *p++ = *text;
        }
    }
    send_frame(e, c, OP_TEXT, (uint8_t *)start, (size_t)(p - start));
}

/* Sending. */

static void send_due(fa_load *e, connection *c)
{
    bool is_said = c->said_clip >= 0;
    int number = is_said ? c->said_clip : c->idle_clip;
    if (number < 0) {
        end_sending(e, c);
        return;
    }
    const clip *k = &e->clips[number];
    uint32_t *at = is_said ? &c->said_at : &c->idle_at;
    const char *text = k->text + (size_t)*at * k->frame_chars;
    uint8_t flags = k->flags[*at];
    int64_t due = c->due_ns;
    if (c->peer >= 0) {
        if (c->sent_count == FA_LOAD_SENT_MAX) {
            c->sent_first++;
            c->sent_count--;
        }
        c->sent[(c->sent_first + c->sent_count++) % FA_LOAD_SENT_MAX] = (sent_frame){due, text, k->frame_chars};
        if (is_said && c->is_accounted && flags & FLAG_MARK) {
            if (c->marks_count == FA_LOAD_MARKS_MAX) {
                c->marks_first++;
                c->marks_count--;
                e->counters[FA_LOAD_MARKS_LOST]++;
            }
            c->marks[(c->marks_first + c->marks_count++) % FA_LOAD_MARKS_MAX] =
                (sent_mark){due, c->position_us + k->mark_us[*at]};
            e->counters[FA_LOAD_MARKS_SENT]++;
        }
    }
    if (is_said && flags & FLAG_LOUD) {
        if (c->spoke_ns == 0)
            c->spoke_ns = due;
        c->last_loud_ns = due + k->frame_ns;
    }
    c->position_us += k->frame_ns / NS_PER_US;
    record(e, FA_LOAD_LATE, now_ns() - due);
    e->counters[FA_LOAD_FRAMES_SENT]++;
    send_template(e, c, c->media, c->media_size, text, k->frame_chars);
    if (c->fd < 0)
        return;
    c->time_us += k->frame_ns / NS_PER_US;
    if (++*at == k->frames) {
        *at = 0;
        if (is_said) {
            c->said_clip = -1;
            tell(e, c, FA_LOAD_SAID, now_ns(), c->last_loud_ns, NULL, 0);
        }
    }
    c->due_ns += k->frame_ns;
    heap_settle(e, c->heap_at);
}

static void send_all_due(fa_load *e)
{
    while (e->heap_count > 0 && e->connections[e->heap[0]]->due_ns <= now_ns()) {
        send_due(e, e->connections[e->heap[0]]);
        make_way(e);
    }
}

/* Receiving. */

static void match_frame(fa_load *e, const connection *c, connection *from, const char *audio, size_t chars, int64_t at_ns)
{
    for (uint32_t i = 0; i < from->sent_count; i++) {
        const sent_frame *s = &from->sent[(from->sent_first + i) % FA_LOAD_SENT_MAX];
        if (s->chars != chars || memcmp(s->text, audio, chars) != 0)
            continue;
        e->counters[FA_LOAD_FRAMES_LOST] += i;
        e->counters[FA_LOAD_VERBATIM]++;
        record(e, c->is_up ? FA_LOAD_DOWN_FRAME : FA_LOAD_UP_FRAME, at_ns - s->due_ns);
        from->sent_first += i + 1;
        from->sent_count -= i + 1;
        return;
    }
}

/* A mark was found at `sample`: which of those sent is it? */
static void match_mark(fa_load *e, connection *c, connection *from, uint64_t sample, int64_t at_ns)
{
    int64_t slack_us = FA_LOAD_MARK_SLACK_MS * 1000;
    if (!from->is_accounted)
        return;
    while (from->marks_count > 0 &&
           at_ns - from->marks[from->marks_first % FA_LOAD_MARKS_MAX].due_ns > FA_LOAD_MARK_LIMIT_MS * NS_PER_MS) {
        from->marks_first++;
        from->marks_count--;
        e->counters[FA_LOAD_MARKS_LOST]++;
    }
    int64_t since_match_us = ((int64_t)sample - c->matched_sample) * 1000000 / c->sample_rate;
    int64_t since_last_us = (int64_t)(sample - c->last_mark) * 1000000 / c->sample_rate;
    int found = -1;
    for (uint32_t i = 0; i < from->marks_count && found < 0; i++) {
        const sent_mark *m = &from->marks[(from->marks_first + i) % FA_LOAD_MARKS_MAX];
        if (!c->has_match || llabs(m->position_us - c->matched_us - since_match_us) <= slack_us)
            found = (int)i;
    }
    /* Audio was lost, or added, since the last one that was recognised: two marks in a row tell where we are. */
    for (uint32_t i = 1; i < from->marks_count && found < 0 && c->has_last_mark; i++) {
        const sent_mark *m = &from->marks[(from->marks_first + i) % FA_LOAD_MARKS_MAX];
        const sent_mark *before = &from->marks[(from->marks_first + i - 1) % FA_LOAD_MARKS_MAX];
        if (llabs(m->position_us - before->position_us - since_last_us) <= slack_us)
            found = (int)i;
    }
    c->last_mark = sample;
    c->has_last_mark = true;
    if (found < 0) {
        e->counters[FA_LOAD_MARKS_UNKNOWN]++;
        return;
    }
    const sent_mark m = from->marks[(from->marks_first + (uint32_t)found) % FA_LOAD_MARKS_MAX];
    from->marks_first += (uint32_t)found + 1;
    from->marks_count -= (uint32_t)found + 1;
    e->counters[FA_LOAD_MARKS_LOST] += (uint64_t)found;
    e->counters[FA_LOAD_MARKS_HEARD]++;
    c->matched_us = m.position_us;
    c->matched_sample = (int64_t)sample;
    c->has_match = true;
    record(e, c->is_up ? FA_LOAD_DOWN_MARK : FA_LOAD_UP_MARK, at_ns - m.due_ns);
}

static void loud_sample(fa_load *e, connection *c, uint64_t sample, uint64_t quiet_ms, bool was_gap, int64_t at_ns)
{
    if (quiet_ms < FA_LOAD_QUIET_MS && !was_gap)
        return;
    if (c->is_expecting || !c->is_speech) {
        c->is_expecting = false;
        c->is_speech = true;
        tell(e, c, FA_LOAD_ONSET, at_ns, 0, NULL, 0);
    }
    /* After a gap, too: an answer that was cut in the midst of a word leaves no quiet behind. */
    if (c->peer >= 0)
        match_mark(e, c, e->connections[c->peer], sample, at_ns);
}

static void take_audio(fa_load *e, connection *c, const char *text, size_t chars, int64_t at_ns)
{
    e->counters[FA_LOAD_FRAMES_RECEIVED]++;
    if (c->peer >= 0)
        match_frame(e, c, e->connections[c->peer], text, chars, at_ns);
    if (c->sample_rate == 0)
        return;
    uint64_t per_ms = (uint64_t)c->sample_rate / 1000;
    bool was_gap = at_ns - c->played_ns > FA_LOAD_QUIET_MS * NS_PER_MS;
    uint64_t before = c->samples;
    /* Pieces of whole groups of four characters, so that any size of message fits. */
    size_t piece_max = sizeof e->audio / 3 * 4 / 16 * 16;
    for (size_t at = 0; at < chars; at += piece_max) {
        size_t piece = chars - at < piece_max ? chars - at : piece_max;
        ptrdiff_t bytes = fa_base64_decode(text + at, piece, e->audio);
        if (bytes < 0) {
            e->counters[FA_LOAD_AUDIO_UNREADABLE]++;
            return;
        }
        size_t n = c->encoding == 'l' ? (size_t)bytes / 2 : (size_t)bytes;
        const int16_t *of_code = c->encoding == 'u' ? e->mulaw : e->alaw;
        for (size_t i = 0; i < n; i++) {
            int16_t s;
            if (c->encoding == 'l')
                memcpy(&s, e->audio + 2 * i, 2);
            else
                s = of_code[e->audio[i]];
            if (c->is_nameless && (s >= FA_SIGN_LEVEL || s <= -FA_SIGN_LEVEL)) {
                int number = fa_sign_read(&c->sign, c->samples + i, c->sample_rate);
                if (number >= 0)
                    tell(e, c, FA_LOAD_SIGN, at_ns, number, NULL, 0);
            }
            if (s < FA_LOAD_LOUD && s > -FA_LOAD_LOUD) {
                c->quiet++;
                continue;
            }
            if (c->quiet >= FA_LOAD_QUIET_MS * per_ms || was_gap || c->is_expecting) {
                loud_sample(e, c, c->samples + i, c->quiet / per_ms, was_gap, at_ns);
                was_gap = false;
            }
            c->quiet = 0;
        }
        c->samples += n;
        if (c->is_speech && c->end_quiet_ms > 0 && c->quiet >= (uint64_t)c->end_quiet_ms * per_ms) {
            c->is_speech = false;
            tell(e, c, FA_LOAD_QUIET, at_ns, (int64_t)(c->quiet / per_ms), NULL, 0);
        }
    }
    c->last_audio_ns = at_ns;
    c->played_ns = (c->played_ns > at_ns ? c->played_ns : at_ns) +
                   (int64_t)(c->samples - before) * 1000000000 / c->sample_rate;
}

static void take_message(fa_load *e, connection *c, const char *text, size_t size, int64_t at_ns)
{
    fa_envelope_match match;
    if (c->spec >= 0 && fa_envelope_scan(&e->specs[c->spec], text, size, &match) == FA_ENVELOPE_MEDIA &&
        match.audio.size > 0)
        take_audio(e, c, match.audio.start, match.audio.size, at_ns);
    else
        tell(e, c, FA_LOAD_MESSAGE, at_ns, c->played_ns, text, size);
}

static void send_control(fa_load *e, connection *c, int opcode, const uint8_t *payload, size_t size)
{
    uint8_t room[HEAD_BYTES_MAX + 125];
    memcpy(room + HEAD_BYTES_MAX, payload, size);
    send_frame(e, c, opcode, room + HEAD_BYTES_MAX, size);
}

/* One whole frame. `payload` may be written to. */
static void take_frame(fa_load *e, connection *c, uint8_t first, uint8_t *payload, size_t size, int64_t at_ns)
{
    int opcode = first & 15;
    bool is_last = first & 0x80;
    switch (opcode) {
    case OP_CLOSE: {
        int code = size >= 2 ? payload[0] << 8 | payload[1] : 1005;
        if (!c->close_sent)
            send_control(e, c, OP_CLOSE, payload, size >= 2 ? 2 : 0);
        lose(e, c, code);
        return;
    }
    case OP_PING:
        if (size <= 125)
            send_control(e, c, OP_PONG, payload, size);
        return;
    case OP_PONG:
        return;
    default:
        if (is_last && c->parts_len == 0) {
            take_message(e, c, (const char *)payload, size, at_ns);
            return;
        }
        if (c->parts_len + size > FA_LOAD_MESSAGE_BYTES_MAX || !grow(&c->parts, &c->parts_cap, c->parts_len + size)) {
            lose(e, c, 1009);
            return;
        }
        memcpy(c->parts + c->parts_len, payload, size);
        c->parts_len += size;
        if (is_last) {
            size = c->parts_len;
            c->parts_len = 0;
            take_message(e, c, (const char *)c->parts, size, at_ns);
        }
    }
}

/* Takes the whole frames of n bytes; returns how many bytes they were. */
static size_t take_frames(fa_load *e, connection *c, uint8_t *bytes, size_t n, int64_t at_ns)
{
    size_t at = 0;
    while (c->fd >= 0 && n - at >= 2) {
        uint8_t *p = bytes + at;
        size_t head = 2, size = p[1] & 127;
        if (size == 126) {
            if (n - at < 4)
                break;
            size = (size_t)p[2] << 8 | p[3];
            head = 4;
        } else if (size == 127) {
            if (n - at < 10)
                break;
            size = 0;
            for (int i = 0; i < 8; i++)
                size = size << 8 | p[2 + i];
            head = 10;
        }
        if (size > FA_LOAD_MESSAGE_BYTES_MAX) {
            lose(e, c, 1009);
            break;
        }
        bool is_masked = p[1] & 0x80;
        if (n - at < head + (is_masked ? 4 : 0) + size)
            break;
        if (is_masked) {
            uint32_t mask;
            memcpy(&mask, p + head, 4);
            head += 4;
            apply_mask(p + head, size, mask);
        }
        take_frame(e, c, p[0], p + head, size, at_ns);
        at += head + size;
    }
    return at;
}

static void take_bytes(fa_load *e, connection *c, uint8_t *bytes, size_t n, int64_t at_ns)
{
    e->counters[FA_LOAD_BYTES_RECEIVED] += n;
    if (c->in_len > 0) {
        if (!grow(&c->in, &c->in_cap, c->in_len + n)) {
            lose(e, c, 1006);
            return;
        }
        memcpy(c->in + c->in_len, bytes, n);
        c->in_len += n;
        size_t used = take_frames(e, c, c->in, c->in_len, at_ns);
        if (c->fd >= 0) {
            c->in_len -= used;
            memmove(c->in, c->in + used, c->in_len);
        }
        return;
    }
    size_t used = take_frames(e, c, bytes, n, at_ns);
    if (c->fd >= 0 && used < n) {
        if (!grow(&c->in, &c->in_cap, n - used)) {
            lose(e, c, 1006);
            return;
        }
        memcpy(c->in, bytes + used, n - used);
        c->in_len = n - used;
    }
}

/* Reads once: 1 when the buffer was filled, 0 when it was not, -1 when there was nothing or the peer is gone. */
static int read_once(fa_load *e, connection *c)
{
    char control[CMSG_SPACE(sizeof(struct timespec))];
    struct iovec part = {e->read, sizeof e->read};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(c->fd, &m, 0);
    if (n <= 0) {
        if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK))
            lose(e, c, 1006);
        return -1;
    }
    int64_t now = now_ns(), at_ns = now;
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    if (h != NULL && h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_TIMESTAMPNS) {
        struct timespec t;
        memcpy(&t, CMSG_DATA(h), sizeof t);
        at_ns = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec - e->wall_less_mono_ns;
        if (at_ns > now || at_ns < now - 1000 * NS_PER_MS) /* the wall clock was set meanwhile */
            at_ns = now;
    }
    record(e, FA_LOAD_READ_LATE, now - at_ns);
    take_bytes(e, c, e->read, (size_t)n, at_ns);
    return c->fd < 0 ? -1 : (size_t)n == sizeof e->read;
}

static void read_from(fa_load *e, connection *c, bool is_to_the_end)
{
    int result;
    do {
        result = read_once(e, c);
    } while (result > 0 || (result == 0 && is_to_the_end));
}

void fa_load_run(fa_load *e)
{
    struct epoll_event ready[EPOLL_EVENTS];
    prctl(PR_SET_TIMERSLACK, 1000ul); /* the default of 50 us would show in every send */
    enter(e);
    while (!e->is_stopped) {
        e->counters[FA_LOAD_THREAD_CPU_NS] = (uint64_t)clock_ns(CLOCK_THREAD_CPUTIME_ID);
        int64_t wait_ns = WAIT_MS_MAX * NS_PER_MS;
        if (e->heap_count > 0) {
            int64_t due = e->connections[e->heap[0]]->due_ns - now_ns();
            wait_ns = due < 0 ? 0 : due < wait_ns ? due : wait_ns;
        }
        struct timespec wait = {0, wait_ns};
        bool is_crowd = e->heap_count > FA_LOAD_CROWD;
        leave(e);
        if (is_crowd) {
            if (wait_ns > FA_LOAD_QUANTUM_US * NS_PER_US)
                wait.tv_nsec = FA_LOAD_QUANTUM_US * NS_PER_US;
            if (wait.tv_nsec > 0)
                nanosleep(&wait, NULL);
            wait.tv_nsec = 0;
        }
        int n = (int)syscall(SYS_epoll_pwait2, e->epoll, ready, EPOLL_EVENTS, &wait, NULL, 0);
        if (n < 0 && errno == ENOSYS) /* Linux before 5.11 waits in whole ms */
            n = epoll_wait(e->epoll, ready, EPOLL_EVENTS, (int)(wait_ns / NS_PER_MS));
        enter(e);
        e->counters[FA_LOAD_WAKES]++;
        e->wall_less_mono_ns = clock_ns(CLOCK_REALTIME) - now_ns();
        send_all_due(e);
        for (int i = 0; i < n; i++) {
            if (ready[i].data.u32 == UINT32_MAX) {
                uint64_t wakes;
                if (read(e->wake_fd, &wakes, sizeof wakes) < 0)
                    e->counters[FA_LOAD_WAKES]--; /* somebody else took it */
                continue;
            }
            connection *c = e->connections[ready[i].data.u32];
            if (c->fd >= 0 && ready[i].events & EPOLLOUT && c->out_len > 0)
                flush(e, c);
            if (c->fd >= 0 && ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                read_from(e, c, ready[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR));
            make_way(e);
            if ((i & 15) == 15) /* what is due goes before what has come */
                send_all_due(e);
        }
    }
    leave(e);
}

/* The owner's side. */

fa_load *fa_load_new(void)
{
    fa_load *e = calloc(1, sizeof *e);
    if (e == NULL)
        return NULL;
    pthread_mutex_init(&e->turnstile, NULL);
    pthread_mutex_init(&e->lock, NULL);
    e->epoll = epoll_create1(EPOLL_CLOEXEC);
    e->events_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    e->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = UINT32_MAX};
    if (e->epoll < 0 || e->events_fd < 0 || e->wake_fd < 0 ||
        epoll_ctl(e->epoll, EPOLL_CTL_ADD, e->wake_fd, &event) < 0) {
        fa_load_free(e);
        return NULL;
    }
    for (int i = 0; i < 256; i++) {
        uint8_t code = (uint8_t)i;
        fa_ulaw_decode(&code, 1, &e->mulaw[i]);
        fa_alaw_decode(&code, 1, &e->alaw[i]);
    }
    return e;
}

void fa_load_free(fa_load *e)
{
    for (int i = 0; i < e->count; i++) {
        lose(e, e->connections[i], 1006);
        free(e->connections[i]);
    }
    for (int i = 0; i < e->clip_count; i++) {
        free(e->clips[i].text);
        free(e->clips[i].flags);
        free(e->clips[i].mark_us);
    }
    for (size_t i = 0; i < e->event_count; i++)
        free(e->events[i].text);
    for (int i = 0; i < 3; i++) {
        int fd = i == 0 ? e->epoll : i == 1 ? e->events_fd : e->wake_fd;
        if (fd >= 0)
            close(fd);
    }
    free(e->events);
    free(e->connections);
    free(e->heap);
    pthread_mutex_destroy(&e->turnstile);
    pthread_mutex_destroy(&e->lock);
    free(e);
}

void fa_load_stop(fa_load *e)
{
    uint64_t one = 1;
    e->is_stopped = true;
    if (write(e->wake_fd, &one, sizeof one) < 0)
        return; /* it is awake */
}

int fa_load_event_fd(const fa_load *e) { return e->events_fd; }

size_t fa_load_take_events(fa_load *e, fa_load_event **events)
{
    uint64_t count;
    enter(e);
    if (read(e->events_fd, &count, sizeof count) < 0)
        count = 0;
    size_t n = e->event_count;
    *events = e->events;
    e->events = NULL;
    e->event_count = e->event_room = 0;
    leave(e);
    return n;
}

int fa_load_add_spec(fa_load *e, const fa_envelope_spec *spec)
{
    enter(e);
    int number = e->spec_count < SPECS_MAX ? e->spec_count++ : -1;
    if (number >= 0)
        e->specs[number] = *spec;
    leave(e);
    return number;
}

int fa_load_add_clip(fa_load *e, const char *text, uint32_t frames, uint32_t frame_chars, uint32_t frame_us,
                     const uint8_t *flags, const uint32_t *mark_us)
{
    size_t size = (size_t)frames * frame_chars;
    if (frames == 0 || frame_chars == 0 || frame_chars > 65536 || frame_us == 0)
        return -1;
    clip k = {malloc(size), frames, frame_chars, (int64_t)frame_us * NS_PER_US, malloc(frames),
              malloc(frames * sizeof *mark_us)};
    enter(e);
    int number = k.text && k.flags && k.mark_us && e->clip_count < CLIPS_MAX ? e->clip_count : -1;
    if (number >= 0) {
        memcpy(k.text, text, size);
        memcpy(k.flags, flags, frames);
        memcpy(k.mark_us, mark_us, frames * sizeof *mark_us);
        e->clips[e->clip_count++] = k;
    } else {
        free(k.text);
        free(k.flags);
        free(k.mark_us);
    }
    leave(e);
    return number;
}

int fa_load_add(fa_load *e, int fd, bool is_client, bool is_up, int spec, const char *media_template,
                size_t template_size, int end_quiet_ms, const char *first, size_t first_size)
{
    int on = 1, id = -1;
    if (template_size > FA_LOAD_TEMPLATE_BYTES_MAX - 256) /* numbers are longer than what stands for them */
        return -1;
    connection *c = calloc(1, sizeof *c);
    if (c == NULL)
        return -1;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    /* A socket that is not TCP, as in front of TLS, knows neither; then arrivals are stamped by us. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
    enter(e);
    c->media = malloc(template_size + 1);
    c->sent = malloc(FA_LOAD_SENT_MAX * sizeof *c->sent);
    bool is_roomy = e->count < e->room;
    if (!is_roomy) {
        int room = e->room ? e->room * 2 : 256;
        connection **more = realloc(e->connections, (size_t)room * sizeof *more);
        int *heap = more == NULL ? NULL : realloc(e->heap, (size_t)room * sizeof *heap);
        e->connections = more != NULL ? more : e->connections;
        if (heap != NULL) {
            e->heap = heap;
            e->room = room;
            is_roomy = true;
        }
    }
    if (c->media == NULL || c->sent == NULL || !is_roomy) {
        free(c->media);
        free(c->sent);
        free(c);
    } else {
        id = e->count;
        memcpy(c->media, media_template, template_size);
        c->media_size = template_size;
        c->fd = fd;
        c->id = id;
        c->peer = c->idle_clip = c->said_clip = c->heap_at = -1;
        c->spec = spec;
        c->is_client = is_client;
        c->is_up = is_up;
        c->is_open = true;
        c->mask = 0x5ac317e8u ^ (uint32_t)id * 2654435761u;
        c->end_quiet_ms = end_quiet_ms;
        c->is_nameless = !is_up;
        e->connections[e->count++] = c;
        struct epoll_event event = {.events = WATCHED, .data.u32 = (uint32_t)id};
        if (epoll_ctl(e->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
            lose(e, c, 1006);
        else if (first_size > 0 && first_size <= READ_BYTES) {
            uint8_t *copy = malloc(first_size);
            if (copy != NULL) {
                memcpy(copy, first, first_size);
                take_bytes(e, c, copy, first_size, now_ns());
                free(copy);
            }
        }
    }
    leave(e);
    return id;
}

/* Runs `work` on an open connection, under the lock. */
#define ON_CONNECTION(e, number, ...)                                                                     \
    do {                                                                                                  \
        int result_ = -1;                                                                                 \
        enter(e);                                                                                         \
        if ((number) >= 0 && (number) < (e)->count && (e)->connections[number]->fd >= 0) {                \
            connection *c = (e)->connections[number];                                                     \
            result_ = 0;                                                                                  \
            __VA_ARGS__;                                                                                      \
        }                                                                                                 \
        leave(e);                                                                                         \
        return result_;                                                                                   \
    } while (0)

int fa_load_format(fa_load *e, int number, char encoding, int sample_rate)
{
    ON_CONNECTION(e, number, {
        c->encoding = encoding;
        c->sample_rate = sample_rate;
        c->samples = c->quiet = 0;
        c->quiet = (uint64_t)sample_rate; /* nothing yet is quiet */
        c->has_match = c->has_last_mark = c->is_speech = false;
        c->sign = (fa_sign_reader){0};
    });
}

int fa_load_media(fa_load *e, int number, const char *text, size_t size)
{
    if (size > FA_LOAD_TEMPLATE_BYTES_MAX - 256)
        return -1;
    ON_CONNECTION(e, number, {
        char *more = realloc(c->media, size + 1);
        if (more == NULL) {
            result_ = -1;
        } else {
            memcpy(more, text, size);
            c->media = more;
            c->media_size = size;
        }
    });
}

static void forget_sent(connection *c)
{
    c->sent_count = c->marks_count = 0;
}

int fa_load_unpair(fa_load *e, int one)
{
    ON_CONNECTION(e, one, {
        if (c->peer >= 0)
            e->connections[c->peer]->peer = -1;
        c->peer = -1;
    });
}

int fa_load_pair(fa_load *e, int one, int other)
{
    ON_CONNECTION(e, one, {
        connection *d = other >= 0 && other < e->count ? e->connections[other] : NULL;
        if (d == NULL || d->fd < 0 || c->peer >= 0 || d->peer >= 0) {
            result_ = -1;
        } else {
            c->peer = other;
            d->peer = one;
            forget_sent(c);
            forget_sent(d);
            c->is_nameless = d->is_nameless = c->is_accounted = d->is_accounted = false;
            c->has_match = d->has_match = c->has_last_mark = d->has_last_mark = false;
        }
    });
}

int fa_load_send(fa_load *e, int number, const char *text, size_t size)
{
    if (size > FA_LOAD_TEMPLATE_BYTES_MAX + 32768)
        return -1;
    ON_CONNECTION(e, number, send_template(e, c, text, size, "", 0));
}

int fa_load_idle(fa_load *e, int number, int k)
{
    ON_CONNECTION(e, number, {
        c->idle_clip = k < e->clip_count ? k : -1;
        c->idle_at = 0;
        begin_sending(e, c);
    });
}

int fa_load_say(fa_load *e, int number, int k)
{
    ON_CONNECTION(e, number, {
        c->said_clip = k < e->clip_count ? k : -1;
        c->said_at = 0;
        c->spoke_ns = c->last_loud_ns = 0;
        c->is_accounted = c->peer >= 0;
        begin_sending(e, c);
    });
}

int fa_load_hush(fa_load *e, int number)
{
    ON_CONNECTION(e, number, {
        c->said_clip = -1;
        forget_sent(c);
        if (c->peer >= 0)
            e->connections[c->peer]->has_match = e->connections[c->peer]->has_last_mark = false;
    });
}

int fa_load_mute(fa_load *e, int number)
{
    ON_CONNECTION(e, number, {
        c->said_clip = c->idle_clip = -1;
        end_sending(e, c);
    });
}

int fa_load_expect(fa_load *e, int number) { ON_CONNECTION(e, number, c->is_expecting = true; c->is_speech = false); }

int fa_load_cut(fa_load *e, int number) { ON_CONNECTION(e, number, c->played_ns = now_ns()); }

int fa_load_times(fa_load *e, int number, int64_t *last_audio_ns, int64_t *spoke_ns, int64_t *played_ns)
{
    ON_CONNECTION(e, number, {
        *last_audio_ns = c->last_audio_ns;
        *spoke_ns = c->spoke_ns;
        *played_ns = c->played_ns;
    });
}

int fa_load_close(fa_load *e, int number, int code, bool is_abrupt)
{
    ON_CONNECTION(e, number, {
        end_sending(e, c);
        c->is_open = false;
        if (is_abrupt) {
            struct linger none = {1, 0};
            setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
            lose(e, c, 1006);
        } else if (!c->close_sent) {
            uint8_t payload[2] = {(uint8_t)(code >> 8), (uint8_t)code};
            c->close_sent = true;
            send_control(e, c, OP_CLOSE, payload, 2);
        }
    });
}

int64_t fa_load_take_histogram(fa_load *e, fa_load_histogram which, uint32_t *counts)
{
    enter(e);
    memcpy(counts, e->histogram[which], sizeof e->histogram[which]);
    memset(e->histogram[which], 0, sizeof e->histogram[which]);
    int64_t largest = e->largest[which];
    e->largest[which] = 0;
    leave(e);
    return largest;
}

void fa_load_counters(fa_load *e, uint64_t counters[FA_LOAD_COUNTERS])
{
    enter(e);
    memcpy(counters, e->counters, sizeof e->counters);
    leave(e);
}
