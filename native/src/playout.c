#include "fa_playout.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    FIFO_STEP = 1024,    /* bytes: what small queues grow by, so that a call holds little more than it needs */
    FIFO_SMALL = 65536,  /* beyond, the memory doubles */
    FIFO_KEPT = 16384    /* most that an empty queue keeps */
};

static size_t room_for(size_t capacity, size_t needed) {
    if (needed < FIFO_SMALL)
        return (needed + needed / 8 + FIFO_STEP - 1) / FIFO_STEP * FIFO_STEP;
    if (capacity < FIFO_SMALL)
        capacity = FIFO_SMALL;
    while (capacity < needed)
        capacity *= 2;
    return capacity;
}

int fa_fifo_push(fa_fifo *f, const uint8_t *bytes, size_t n) {
    if (n == 0)
        return 0;
    if (f->size + n > f->capacity) {
        size_t capacity = room_for(f->capacity, f->size + n);
        uint8_t *grown = malloc(capacity);
        if (grown == NULL)
            return -1;
        size_t kept = f->size;
        fa_fifo_pop(f, grown, kept);
        free(f->bytes);
        *f = (fa_fifo){.bytes = grown, .capacity = capacity, .head = 0, .size = kept};
    }
    size_t tail = (f->head + f->size) % f->capacity;
    size_t first = f->capacity - tail < n ? f->capacity - tail : n;
    memcpy(f->bytes + tail, bytes, first);
    memcpy(f->bytes, bytes + first, n - first);
    f->size += n;
    return 0;
}

size_t fa_fifo_pop(fa_fifo *f, uint8_t *out, size_t n) {
    if (n > f->size)
        n = f->size;
    if (n == 0)
        return 0;
    size_t first = f->capacity - f->head < n ? f->capacity - f->head : n;
    memcpy(out, f->bytes + f->head, first);
    memcpy(out + first, f->bytes, n - first);
    f->head = (f->head + n) % f->capacity;
    f->size -= n;
    if (f->size == 0 && f->capacity > FIFO_KEPT)
        fa_fifo_clear(f);
    return n;
}

void fa_fifo_drop(fa_fifo *f, size_t n) {
    if (n >= f->size) {
        f->size = 0;
        if (f->capacity > FIFO_KEPT)
            fa_fifo_clear(f);
        return;
    }
    f->head = (f->head + n) % f->capacity;
    f->size -= n;
}

int fa_fifo_prepend(fa_fifo *f, fa_fifo *front) {
    if (front->size == 0)
        return 0;
    if (f->size == 0) {
        fa_fifo_clear(f);
        *f = *front;
        *front = (fa_fifo){0};
        return 0;
    }
    /* What waits goes behind the front; then the two change places. */
    size_t first = f->capacity - f->head < f->size ? f->capacity - f->head : f->size;
    size_t front_size = front->size;
    if (fa_fifo_push(front, f->bytes + f->head, first) < 0)
        return -1;
    if (fa_fifo_push(front, f->bytes, f->size - first) < 0) {
        front->size = front_size;
        return -1;
    }
    fa_fifo_clear(f);
    *f = *front;
    *front = (fa_fifo){0};
    return 0;
}

void fa_fifo_clear(fa_fifo *f) {
    free(f->bytes);
    *f = (fa_fifo){0};
}

int64_t fa_playout_played(const fa_playout_clock *c, double now_s) {
    double elapsed = (now_s - c->base_time_s) * c->sample_rate;
    if (elapsed <= 0) {
        double unplayed = (c->dry_since_s - now_s) * c->sample_rate;
        if (unplayed <= 0)
            return c->base_position;
        return unplayed >= (double)c->base_position ? 0 : (int64_t)((double)c->base_position - unplayed);
    }
    if (elapsed >= (double)(c->sent - c->base_position))
        return c->sent;
    return c->base_position + (int64_t)elapsed;
}

void fa_playout_sent(fa_playout_clock *c, int64_t n, double now_s) {
    if (fa_playout_played(c, now_s) >= c->sent) {
        if (c->sent > c->base_position)
            c->dry_since_s = c->base_time_s + (double)(c->sent - c->base_position) / c->sample_rate;
        c->base_position = c->sent;
        c->base_time_s = now_s;
    }
    c->sent += n;
}

void fa_playout_settle(fa_playout_clock *c, double now_s) {
    c->base_position = c->sent;
    c->base_time_s = now_s;
    c->dry_since_s = -INFINITY;
}
