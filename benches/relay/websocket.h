/* WebSocket connections over epoll, both roles, as lean as a load generator needs.
 *
 * Text messages only, unfragmented; pings are answered; arrival times are the kernel's (SO_TIMESTAMPNS), so
 * that the time a message waits for this process is not counted against the server under test.
 */
#ifndef WEBSOCKET_H
#define WEBSOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

typedef struct ws_conn ws_conn;

typedef struct {
    /* The upgrade is done. `path` is what a client asked for (server role), else "". */
    void (*opened)(ws_conn *ws, const char *path);
    /* One text message. `text[n]` is writable and may be overwritten during the call. */
    void (*message)(ws_conn *ws, char *text, size_t n, int64_t arrived_ns);
    /* The connection is gone, told once; `why` is a short phrase. */
    void (*closed)(ws_conn *ws, const char *why);
} ws_owner;

struct ws_conn {
    int fd;
    bool is_client;
    bool is_open;        /* upgraded, no close frame seen or sent */
    bool close_sent;
    bool is_dead;        /* fd closed; kept until the process ends */
    bool waits_to_write;
    int close_code;      /* of the peer's close frame, 0 when none came */
    uint8_t *in, *out;
    size_t in_len, in_cap, out_pos, out_len, out_cap;
    const ws_owner *owner;
    void *call;          /* the owner's business */
    int role;            /* the owner's business */
};

int64_t wall_ns(void);   /* CLOCK_REALTIME, the clock of arrival times */
int64_t mono_ns(void);   /* CLOCK_MONOTONIC, the clock of schedules */

int ws_listen(uint16_t *port);                                 /* loopback; 0 = any, written back */
ws_conn *ws_accept(int epoll, int listener, const ws_owner *owner);
/* `headers` are further lines of the request, each with its line end. */
ws_conn *ws_connect(int epoll, uint16_t port, const char *path, const char *headers, const ws_owner *owner);

/* Writes whole frames already made by the caller; what the socket does not take is queued (at most 8 MiB). */
void ws_send_raw(ws_conn *ws, const struct iovec *parts, int count);
void ws_send_text(ws_conn *ws, const char *text, size_t n);
void ws_send_close(ws_conn *ws, int code);
void ws_ready(ws_conn *ws, uint32_t events);                   /* epoll says so */
void ws_drop(ws_conn *ws, const char *why);

/* Head of an unfragmented text frame of n bytes; returns its length (2, 4 or 10, plus 4 with a mask). */
size_t ws_frame_head(uint8_t *head, size_t n, const uint8_t mask[4]);

/* Masks n bytes, or takes the mask off again. */
void ws_mask(uint8_t *bytes, size_t n, const uint8_t mask[4]);

/* The string value of `key` in flat JSON text, escapes left as they are; NULL when absent. */
char *json_string(const char *text, size_t n, const char *key, size_t *length);

#endif
