#include "websocket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { OP_TEXT = 1, OP_CLOSE = 8, OP_PING = 9, OP_PONG = 10 };

#define IN_START_BYTES 8192
#define IN_LIMIT_BYTES (4u << 20)
#define OUT_LIMIT_BYTES (8u << 20)

/* The key of RFC 6455 section 1.3 and its answer: a load generator needs no fresh one per connection. */
#define CLIENT_KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define CLIENT_ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

static const uint8_t CLIENT_MASK[4] = {0x5a, 0xc3, 0x17, 0xe8};

static int64_t clock_ns(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t wall_ns(void) { return clock_ns(CLOCK_REALTIME); }
int64_t mono_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

/* SHA-1 of a short text (RFC 3174), for Sec-WebSocket-Accept alone. */
static void sha1(const char *text, uint8_t digest[20])
{
    uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    uint8_t padded[192] = {0};
    size_t n = strlen(text), blocks = (n + 8) / 64 + 1;
    memcpy(padded, text, n);
    padded[n] = 0x80;
    for (int i = 0; i < 8; i++)
        padded[blocks * 64 - 1 - (size_t)i] = (uint8_t)(((uint64_t)n * 8) >> (8 * i));
    for (size_t block = 0; block < blocks; block++) {
        uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        for (int i = 0; i < 16; i++) {
            const uint8_t *p = padded + block * 64 + (size_t)i * 4;
            w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
        }
        for (int i = 16; i < 80; i++) {
            uint32_t x = w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16];
            w[i] = x << 1 | x >> 31;
        }
        for (int i = 0; i < 80; i++) {
            uint32_t f, k;
            if (i < 20) { f = (b & c) | (~b & d); k = 0x5a827999; }
            else if (i < 40) { f = b ^ c ^ d; k = 0x6ed9eba1; }
            else if (i < 60) { f = (b & c) | (b & d) | (c & d); k = 0x8f1bbcdc; }
            else { f = b ^ c ^ d; k = 0xca62c1d6; }
            uint32_t next = (a << 5 | a >> 27) + f + e + k + w[i];
            e = d; d = c; c = b << 30 | b >> 2; b = a; a = next;
        }
        h[0] += a; h[1] += b; h[2] += c; h[3] += d; h[4] += e;
    }
    for (int i = 0; i < 20; i++)
        digest[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
}

static void accept_key(const char *key, char answer[32])
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char joined[128];
    uint8_t d[21] = {0};
    snprintf(joined, sizeof joined, "%.64s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    sha1(joined, d);
    char *p = answer;
    for (int i = 0; i < 21; i += 3) {
        uint32_t v = (uint32_t)d[i] << 16 | (uint32_t)d[i + 1] << 8 | d[i + 2];
        for (int shift = 18; shift >= 0; shift -= 6)
            *p++ = alphabet[v >> shift & 63];
    }
    p[-1] = '='; /* 20 bytes: one pad */
    *p = 0;
}

char *json_string(const char *text, size_t n, const char *key, size_t *length)
{
    size_t key_len = strlen(key);
    const char *at = text, *end = text + n;
    while ((at = memmem(at, (size_t)(end - at), key, key_len)) != NULL) {
        const char *p = at + key_len;
        bool quoted = at > text && at[-1] == '"' && p < end && *p == '"';
        at = p;
        if (!quoted)
            continue;
        for (p++; p < end && (*p == ' ' || *p == ':'); p++)
            ;
        if (p >= end || *p != '"')
            continue;
        const char *start = ++p;
        while ((p = memchr(p, '"', (size_t)(end - p))) != NULL && p[-1] == '\\')
            p++;
        if (p == NULL)
            return NULL;
        *length = (size_t)(p - start);
        return (char *)start;
    }
    return NULL;
}

static ws_conn *make(int epoll, int fd, const ws_owner *owner)
{
    int on = 1;
    ws_conn *ws = calloc(1, sizeof *ws);
    if (ws == NULL || (ws->in = malloc(IN_START_BYTES + 1)) == NULL)
        abort();
    ws->fd = fd;
    ws->owner = owner;
    ws->in_cap = IN_START_BYTES;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = ws};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    return ws;
}

static int saved_epoll = -1;

static void watch(ws_conn *ws, bool for_writing)
{
    struct epoll_event event = {.events = EPOLLIN | (for_writing ? EPOLLOUT : 0u), .data.ptr = ws};
    ws->waits_to_write = for_writing;
    epoll_ctl(saved_epoll, EPOLL_CTL_MOD, ws->fd, &event);
}

int ws_listen(uint16_t *port)
{
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(*port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof a;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 1024) ||
        getsockname(fd, (struct sockaddr *)&a, &size))
        return -1;
    *port = ntohs(a.sin_port);
    return fd;
}

ws_conn *ws_accept(int epoll, int listener, const ws_owner *owner)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    saved_epoll = epoll;
    return fd < 0 ? NULL : make(epoll, fd, owner);
}

ws_conn *ws_connect(int epoll, uint16_t port, const char *path, const char *headers, const ws_owner *owner)
{
    /* Blocking: on loopback the kernel completes it at once or refuses it. */
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (fd < 0)
        return NULL;
    if (connect(fd, (struct sockaddr *)&a, sizeof a)) {
        close(fd);
        return NULL;
    }
    saved_epoll = epoll;
    ws_conn *ws = make(epoll, fd, owner);
    ws->is_client = true;
    char request[1024];
    int n = snprintf(request, sizeof request,
                     "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Key: " CLIENT_KEY "\r\nSec-WebSocket-Version: 13\r\n%s\r\n",
                     path, port, headers);
    if (n >= (int)sizeof request)
        abort();
    struct iovec part = {request, (size_t)n};
    ws_send_raw(ws, &part, 1);
    return ws;
}

void ws_drop(ws_conn *ws, const char *why)
{
    if (ws->is_dead)
        return;
    ws->is_dead = true;
    ws->is_open = false;
    close(ws->fd); /* leaves the epoll set with it */
    free(ws->in);
    free(ws->out);
    ws->in = ws->out = NULL;
    ws->in_len = ws->in_cap = ws->out_len = ws->out_pos = ws->out_cap = 0;
    ws->owner->closed(ws, why);
}

static void queue(ws_conn *ws, const uint8_t *bytes, size_t n)
{
    if (ws->out_len + n > ws->out_cap) {
        size_t cap = (ws->out_len + n) * 2;
        if (cap > OUT_LIMIT_BYTES * 2 || (ws->out = realloc(ws->out, cap)) == NULL)
            abort();
        ws->out_cap = cap;
    }
    memcpy(ws->out + ws->out_len, bytes, n);
    ws->out_len += n;
}

void ws_send_raw(ws_conn *ws, const struct iovec *parts, int count)
{
    size_t sent = 0;
    if (ws->is_dead)
        return;
    if (ws->out_len == 0) {
        struct msghdr message = {.msg_iov = (struct iovec *)parts, .msg_iovlen = (size_t)count};
        ssize_t n = sendmsg(ws->fd, &message, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
            ws_drop(ws, "cannot send");
            return;
        }
        sent = n < 0 ? 0 : (size_t)n;
    }
    for (int i = 0; i < count; i++) {
        size_t skip = sent < parts[i].iov_len ? sent : parts[i].iov_len;
        sent -= skip;
        if (skip < parts[i].iov_len)
            queue(ws, (const uint8_t *)parts[i].iov_base + skip, parts[i].iov_len - skip);
    }
    if (ws->out_len - ws->out_pos > OUT_LIMIT_BYTES)
        ws_drop(ws, "peer does not read");
    else if (ws->out_len > 0 && !ws->waits_to_write)
        watch(ws, true);
}

size_t ws_frame_head(uint8_t *head, size_t n, const uint8_t mask[4])
{
    size_t at = 2;
    head[0] = 0x80 | OP_TEXT;
    if (n < 126) {
        head[1] = (uint8_t)n;
    } else if (n < 65536) {
        head[1] = 126;
        head[2] = (uint8_t)(n >> 8);
        head[3] = (uint8_t)n;
        at = 4;
    } else {
        head[1] = 127;
        for (int i = 0; i < 8; i++)
            head[2 + i] = (uint8_t)((uint64_t)n >> (56 - 8 * i));
        at = 10;
    }
    if (mask != NULL) {
        head[1] |= 0x80;
        memcpy(head + at, mask, 4);
        at += 4;
    }
    return at;
}

static void send_frame(ws_conn *ws, int opcode, const char *payload, size_t n)
{
    uint8_t head[14], *copy = NULL;
    size_t head_len = ws_frame_head(head, n, ws->is_client ? CLIENT_MASK : NULL);
    head[0] = (uint8_t)(0x80 | opcode);
    struct iovec parts[2] = {{head, head_len}, {(void *)payload, n}};
    if (ws->is_client && n > 0) {
        if ((copy = malloc(n)) == NULL)
            abort();
        for (size_t i = 0; i < n; i++)
            copy[i] = (uint8_t)payload[i] ^ CLIENT_MASK[i & 3];
        parts[1].iov_base = copy;
    }
    ws_send_raw(ws, parts, 2);
    free(copy);
}

void ws_send_text(ws_conn *ws, const char *text, size_t n) { send_frame(ws, OP_TEXT, text, n); }

void ws_send_close(ws_conn *ws, int code)
{
    char payload[2] = {(char)(code >> 8), (char)code};
    if (ws->is_dead || ws->close_sent)
        return;
    ws->close_sent = true;
    ws->is_open = false;
    send_frame(ws, OP_CLOSE, payload, 2);
}

/* Reads the upgrade head; returns false while it is unfinished or when the connection was dropped. */
static bool upgrade(ws_conn *ws)
{
    char *head = (char *)ws->in, *end, path[256] = "", key[80] = "";
    if ((end = memmem(head, ws->in_len, "\r\n\r\n", 4)) == NULL)
        return false;
    end[2] = 0;
    size_t used = (size_t)(end - head) + 4;
    if (ws->is_client) {
        char *answer = strcasestr(head, "sec-websocket-accept:");
        if (strncmp(head, "HTTP/1.1 101", 12) != 0 || answer == NULL || strstr(answer, CLIENT_ACCEPT) == NULL) {
            static char why[64];
            snprintf(why, sizeof why, "upgrade refused: %.20s", head);
            why[strcspn(why, "\r\n")] = 0;
            ws_drop(ws, why);
            return false;
        }
    } else {
        char answer[32], reply[256];
        char *line = strcasestr(head, "sec-websocket-key:");
        if (line == NULL || sscanf(head, "GET %255s", path) != 1 || sscanf(line + 18, " %79s", key) != 1) {
            ws_drop(ws, "not an upgrade");
            return false;
        }
        accept_key(key, answer);
        int n = snprintf(reply, sizeof reply,
                         "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                         "Sec-WebSocket-Accept: %s\r\n\r\n", answer);
        struct iovec part = {reply, (size_t)n};
        ws_send_raw(ws, &part, 1);
    }
    ws->in_len -= used;
    memmove(ws->in, ws->in + used, ws->in_len);
    ws->is_open = true;
    ws->owner->opened(ws, path);
    return !ws->is_dead;
}

void ws_mask(uint8_t *p, size_t n, const uint8_t mask[4])
{
    uint32_t four;
    memcpy(&four, mask, 4);
    uint64_t eight = (uint64_t)four << 32 | four, word;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        memcpy(&word, p + i, 8);
        word ^= eight;
        memcpy(p + i, &word, 8);
    }
    for (; i < n; i++)
        p[i] ^= mask[i & 3];
}

/* Hands on every whole frame in the buffer. */
static void frames(ws_conn *ws, int64_t arrived_ns)
{
    size_t at = 0;
    while (!ws->is_dead && ws->in_len - at >= 2) {
        uint8_t *p = ws->in + at;
        size_t left = ws->in_len - at, head = 2, n = p[1] & 127;
        bool masked = p[1] & 128;
        if (n == 126) {
            head = 4;
            if (left < head)
                break;
            n = (size_t)p[2] << 8 | p[3];
        } else if (n == 127) {
            head = 10;
            if (left < head)
                break;
            n = 0;
            for (int i = 0; i < 8; i++)
                n = n << 8 | p[2 + i];
        }
        head += masked ? 4 : 0;
        if (n > IN_LIMIT_BYTES) {
            ws_drop(ws, "message too long");
            return;
        }
        if (left < head + n)
            break;
        if (masked == ws->is_client || (p[0] & 0xf0) != 0x80) {
            ws_drop(ws, "frame we do not expect: wrong mask, reserved bits or a fragment");
            return;
        }
        uint8_t *payload = p + head;
        int opcode = p[0] & 15;
        if (masked)
            ws_mask(payload, n, p + head - 4);
        at += head + n;
        if (opcode == OP_TEXT) {
            /* Owners may read on with str…(): end the text, and give the next frame's first byte back after. */
            uint8_t next = payload[n];
            payload[n] = 0;
            ws->owner->message(ws, (char *)payload, n, arrived_ns);
            if (!ws->is_dead)
                payload[n] = next;
        } else if (opcode == OP_PING) {
            send_frame(ws, OP_PONG, (char *)payload, n);
        } else if (opcode == OP_CLOSE) {
            ws->close_code = n >= 2 ? payload[0] << 8 | payload[1] : 1005;
            ws_send_close(ws, 1000);
            ws_drop(ws, "closed by the peer");
            return;
        } else if (opcode != OP_PONG) {
            ws_drop(ws, "opcode we do not expect");
            return;
        }
    }
    if (ws->is_dead || at == 0)
        return;
    ws->in_len -= at;
    memmove(ws->in, ws->in + at, ws->in_len);
}

static void read_some(ws_conn *ws)
{
    char control[CMSG_SPACE(sizeof(struct timespec))];
    if (ws->in_cap - ws->in_len < 4096) {
        if (ws->in_cap > IN_LIMIT_BYTES * 2 || (ws->in = realloc(ws->in, ws->in_cap * 2 + 1)) == NULL)
            abort();
        ws->in_cap *= 2;
    }
    struct iovec part = {ws->in + ws->in_len, ws->in_cap - ws->in_len};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(ws->fd, &message, 0);
    if (n <= 0) {
        if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
            ws_drop(ws, n == 0 ? "connection ended" : "connection reset");
        return;
    }
    int64_t arrived_ns = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c != NULL; c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPNS) {
            struct timespec t;
            memcpy(&t, CMSG_DATA(c), sizeof t);
            arrived_ns = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
        }
    }
    ws->in_len += (size_t)n;
    if (!ws->is_open && !ws->close_sent && !upgrade(ws))
        return;
    frames(ws, arrived_ns ? arrived_ns : wall_ns());
}

void ws_ready(ws_conn *ws, uint32_t events)
{
    if (ws->is_dead)
        return;
    if (events & EPOLLOUT) {
        ssize_t n = send(ws->fd, ws->out + ws->out_pos, ws->out_len - ws->out_pos, MSG_NOSIGNAL);
        if (n > 0)
            ws->out_pos += (size_t)n;
        if (ws->out_pos == ws->out_len) {
            ws->out_pos = ws->out_len = 0;
            watch(ws, false);
        }
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        read_some(ws);
}
