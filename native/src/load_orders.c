/* What the owner has the engine do, from any thread. */
#include "fa_load_engine.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

int fa_load_add_spec(fa_load *e, const fa_envelope_spec *spec)
{
    load_enter(e);
    int number = e->spec_count < SPECS_MAX ? e->spec_count++ : -1;
    if (number >= 0)
        e->specs[number] = *spec;
    load_leave(e);
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
    load_enter(e);
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
    load_leave(e);
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
    load_enter(e);
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
            load_lose(e, c, 1006);
        else if (first_size > 0 && first_size <= READ_BYTES) {
            uint8_t *copy = malloc(first_size);
            if (copy != NULL) {
                memcpy(copy, first, first_size);
                load_take_bytes(e, c, copy, first_size, load_now_ns());
                free(copy);
            }
        }
    }
    load_leave(e);
    return id;
}

/* Runs `work` on an open connection, under the lock. */
#define ON_CONNECTION(e, number, ...)                                                                     \
    do {                                                                                                  \
        int result_ = -1;                                                                                 \
        load_enter(e);                                                                                         \
        if ((number) >= 0 && (number) < (e)->count && (e)->connections[number]->fd >= 0) {                \
            connection *c = (e)->connections[number];                                                     \
            result_ = 0;                                                                                  \
            __VA_ARGS__;                                                                                      \
        }                                                                                                 \
        load_leave(e);                                                                                         \
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
    ON_CONNECTION(e, number, load_send_template(e, c, text, size, "", 0));
}

int fa_load_idle(fa_load *e, int number, int k)
{
    ON_CONNECTION(e, number, {
        c->idle_clip = k < e->clip_count ? k : -1;
        c->idle_at = 0;
        load_begin_idling(e, c);
    });
}

int fa_load_say(fa_load *e, int number, int k)
{
    ON_CONNECTION(e, number, {
        c->said_clip = k < e->clip_count ? k : -1;
        c->said_at = 0;
        c->spoke_ns = c->last_loud_ns = 0;
        c->is_accounted = c->peer >= 0;
        load_begin_sending(e, c);
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
        load_end_sending(e, c);
    });
}

int fa_load_expect(fa_load *e, int number) { ON_CONNECTION(e, number, c->is_expecting = true; c->is_speech = false); }

int fa_load_cut(fa_load *e, int number) { ON_CONNECTION(e, number, c->played_ns = load_now_ns()); }

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
        load_end_sending(e, c);
        c->is_open = false;
        if (is_abrupt) {
            struct linger none = {1, 0};
            setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
            load_lose(e, c, 1006);
        } else if (!c->close_sent) {
            uint8_t payload[2] = {(uint8_t)(code >> 8), (uint8_t)code};
            c->close_sent = true;
            load_send_control(e, c, OP_CLOSE, payload, 2);
        }
    });
}
