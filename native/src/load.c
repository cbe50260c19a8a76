/* The engine: its lock, its events, its loop, its life. */
#include "fa_load_engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "fa_g711.h"

#define EPOLL_EVENTS 512
#define WAIT_MS_MAX 100

/* The engine's thread takes the lock again right after it gave it up, and would keep the others out for ever.
 * So one passes the turnstile first, and keeps it until the lock is his: who has waited goes next. */
void load_enter(fa_load *e)
{
    atomic_fetch_add(&e->waiting, 1);
    pthread_mutex_lock(&e->turnstile);
    pthread_mutex_lock(&e->lock);
    pthread_mutex_unlock(&e->turnstile);
    atomic_fetch_sub(&e->waiting, 1);
}

void load_leave(fa_load *e) { pthread_mutex_unlock(&e->lock); }

/* Lets others in, in the midst of a long turn. */
void load_make_way(fa_load *e)
{
    if (atomic_load_explicit(&e->waiting, memory_order_relaxed) > 0) {
        load_leave(e);
        load_enter(e);
    }
}

int64_t load_clock_ns(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t load_now_ns(void) { return load_clock_ns(CLOCK_MONOTONIC); }

/* Room for `wanted` bytes; false when memory is short. */
bool load_grow(uint8_t **bytes, size_t *cap, size_t wanted)
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

void load_tell(fa_load *e, const connection *c, fa_load_kind kind, int64_t at_ns, int64_t value, const char *text,
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

void fa_load_run(fa_load *e)
{
    struct epoll_event ready[EPOLL_EVENTS];
    prctl(PR_SET_TIMERSLACK, 1000ul); /* the default of 50 us would show in every send */
    load_enter(e);
    while (!e->is_stopped) {
        e->counters[FA_LOAD_THREAD_CPU_NS] = (uint64_t)load_clock_ns(CLOCK_THREAD_CPUTIME_ID);
        int64_t wait_ns = WAIT_MS_MAX * NS_PER_MS;
        if (e->heap_count > 0) {
            int64_t due = e->connections[e->heap[0]]->due_ns - load_now_ns();
            wait_ns = due < 0 ? 0 : due < wait_ns ? due : wait_ns;
        }
        struct timespec wait = {0, wait_ns};
        bool is_crowd = e->heap_count > FA_LOAD_CROWD;
        load_leave(e);
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
        load_enter(e);
        e->counters[FA_LOAD_WAKES]++;
        e->wall_less_mono_ns = load_clock_ns(CLOCK_REALTIME) - load_now_ns();
        load_send_all_due(e);
        for (int i = 0; i < n; i++) {
            if (ready[i].data.u32 == UINT32_MAX) {
                uint64_t wakes;
                if (read(e->wake_fd, &wakes, sizeof wakes) < 0)
                    e->counters[FA_LOAD_WAKES]--; /* somebody else took it */
                continue;
            }
            connection *c = e->connections[ready[i].data.u32];
            if (c->fd >= 0 && ready[i].events & EPOLLOUT && c->out_len > 0)
                load_flush(e, c);
            if (c->fd >= 0 && ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                load_read_from(e, c, ready[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR));
            load_make_way(e);
            if ((i & 15) == 15) /* what is due goes before what has come */
                load_send_all_due(e);
        }
    }
    load_leave(e);
}

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
        load_lose(e, e->connections[i], 1006);
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
    load_enter(e);
    if (read(e->events_fd, &count, sizeof count) < 0)
        count = 0;
    size_t n = e->event_count;
    *events = e->events;
    e->events = NULL;
    e->event_count = e->event_room = 0;
    load_leave(e);
    return n;
}

void fa_load_counters(fa_load *e, uint64_t counters[FA_LOAD_COUNTERS])
{
    load_enter(e);
    memcpy(counters, e->counters, sizeof e->counters);
    load_leave(e);
}
