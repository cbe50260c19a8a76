/* The sockets of a load test: bytes out, with a backlog, and bytes in, with the time at which the kernel had them. */
#include "fa_load_engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

void load_lose(fa_load *e, connection *c, int code)
{
    if (c->fd < 0)
        return;
    load_end_sending(e, c);
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
    load_tell(e, c, FA_LOAD_CLOSED, load_now_ns(), code, NULL, 0);
}

static void watch(fa_load *e, connection *c, bool for_writing)
{
    struct epoll_event event = {.events = WATCHED | (for_writing ? (uint32_t)EPOLLOUT : 0u), .data.u32 = (uint32_t)c->id};
    c->waits_to_write = for_writing;
    epoll_ctl(e->epoll, EPOLL_CTL_MOD, c->fd, &event);
}

void load_flush(fa_load *e, connection *c)
{
    ssize_t n = send(c->fd, c->out, c->out_len, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
        load_lose(e, c, 1006);
        return;
    }
    if (n > 0) {
        c->out_len -= (size_t)n;
        memmove(c->out, c->out + n, c->out_len);
    }
    if (c->out_len == 0)
        watch(e, c, false);
}

void load_put(fa_load *e, connection *c, const uint8_t *bytes, size_t size)
{
    if (c->out_len == 0) {
        ssize_t n = send(c->fd, bytes, size, MSG_NOSIGNAL);
        if (n == (ssize_t)size) {
            e->counters[FA_LOAD_BYTES_SENT] += size;
            return;
        }
        if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
            load_lose(e, c, 1006);
            return;
        }
        if (n > 0) {
            bytes += n;
            size -= (size_t)n;
        }
        e->counters[FA_LOAD_BLOCKED]++;
    }
    if (c->out_len + size > FA_LOAD_BACKLOG_BYTES_MAX || !load_grow(&c->out, &c->out_cap, c->out_len + size)) {
        load_lose(e, c, 1006);
        return;
    }
    memcpy(c->out + c->out_len, bytes, size);
    c->out_len += size;
    e->counters[FA_LOAD_BYTES_SENT] += size;
    if (!c->waits_to_write)
        watch(e, c, true);
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
            load_lose(e, c, 1006);
        return -1;
    }
    int64_t now = load_now_ns(), at_ns = now;
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    if (h != NULL && h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_TIMESTAMPNS) {
        struct timespec t;
        memcpy(&t, CMSG_DATA(h), sizeof t);
        at_ns = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec - e->wall_less_mono_ns;
        if (at_ns > now || at_ns < now - 1000 * NS_PER_MS) /* the wall clock was set meanwhile */
            at_ns = now;
    }
    load_record(e, FA_LOAD_READ_LATE, now - at_ns);
    load_take_bytes(e, c, e->read, (size_t)n, at_ns);
    return c->fd < 0 ? -1 : (size_t)n == sizeof e->read;
}

void load_read_from(fa_load *e, connection *c, bool is_to_the_end)
{
    int result;
    do {
        result = read_once(e, c);
    } while (result > 0 || (result == 0 && is_to_the_end));
}
