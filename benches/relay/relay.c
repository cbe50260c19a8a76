/* The least a relay can do: bytes from one TCP connection to another, one thread, one buffer.
 *
 *   relay LISTEN_PORT UPSTREAM_PORT LIMIT_S
 *
 * Loopback only. Stands in for HAProxy in TCP mode where that is not installed. A peer that does not read
 * stops the reading of its partner: what is left over is kept per direction and never exceeds one buffer.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER_BYTES 16384 /* HAProxy's default, tune.bufsize */
#define EVENTS 64

typedef struct end {
    int fd;
    struct end *other;
    char *left_over;      /* bytes for this end that its socket did not take */
    size_t left_at, left_len;
    bool is_closed;
} end;

static int epoll_fd;

static void watch(end *e, uint32_t events, int operation)
{
    struct epoll_event event = {.events = events, .data.ptr = e};
    epoll_ctl(epoll_fd, operation, e->fd, &event);
}

static struct sockaddr_in loopback(int port)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    return a;
}

static end *make_end(int fd)
{
    int on = 1;
    end *e = calloc(1, sizeof *e);
    if (e == NULL)
        abort();
    e->fd = fd;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return e;
}

static void close_pair(end *e)
{
    /* Freed only with the process: events of the same batch may still name them. */
    for (int i = 0; i < 2; i++, e = e->other) {
        if (!e->is_closed)
            close(e->fd);
        free(e->left_over);
        e->left_over = NULL;
        e->is_closed = true;
    }
}

static void open_pair(int listener, int upstream_port)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct sockaddr_in to = loopback(upstream_port);
        int upstream = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (upstream < 0 || connect(upstream, (struct sockaddr *)&to, sizeof to)) {
            close(fd);
            if (upstream >= 0)
                close(upstream);
            continue;
        }
        end *a = make_end(fd), *b = make_end(upstream);
        a->other = b;
        b->other = a;
        watch(a, EPOLLIN, EPOLL_CTL_ADD);
        watch(b, EPOLLIN, EPOLL_CTL_ADD);
    }
}

static void flush(end *e)
{
    ssize_t n = send(e->fd, e->left_over + e->left_at, e->left_len, MSG_NOSIGNAL);
    if (n < 0) {
        if (errno != EAGAIN)
            close_pair(e);
        return;
    }
    e->left_at += (size_t)n;
    e->left_len -= (size_t)n;
    if (e->left_len == 0) {
        watch(e, EPOLLIN, EPOLL_CTL_MOD);
        watch(e->other, EPOLLIN | (e->other->left_len ? EPOLLOUT : 0u), EPOLL_CTL_MOD);
    }
}

static void pass_on(end *from)
{
    static char buffer[BUFFER_BYTES];
    end *to = from->other;
    if (to->left_len > 0)
        return;
    ssize_t n = recv(from->fd, buffer, sizeof buffer, 0);
    if (n <= 0) {
        if (n == 0 || (errno != EAGAIN && errno != EINTR))
            close_pair(from);
        return;
    }
    ssize_t sent = send(to->fd, buffer, (size_t)n, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
        close_pair(from);
        return;
    }
    if (sent < 0)
        sent = 0;
    if (sent < n) {
        if (to->left_over == NULL && (to->left_over = malloc(BUFFER_BYTES)) == NULL)
            abort();
        to->left_at = 0;
        to->left_len = (size_t)(n - sent);
        memcpy(to->left_over, buffer + sent, to->left_len);
        watch(to, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
        watch(from, from->left_len ? EPOLLOUT : 0u, EPOLL_CTL_MOD);
    }
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: relay LISTEN_PORT UPSTREAM_PORT LIMIT_S\n");
        return 2;
    }
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = loopback(atoi(argv[1]));
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm((unsigned)atoi(argv[3]));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (listener < 0 || bind(listener, (struct sockaddr *)&a, sizeof a) || listen(listener, 1024)) {
        perror("relay: listen");
        return 1;
    }
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        struct epoll_event events[EVENTS];
        int n = epoll_wait(epoll_fd, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            end *e = events[i].data.ptr;
            if (e == NULL) {
                open_pair(listener, atoi(argv[2]));
                continue;
            }
            if (!e->is_closed && e->left_len > 0 && events[i].events & EPOLLOUT)
                flush(e);
            if (!e->is_closed && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                pass_on(e);
        }
    }
}
