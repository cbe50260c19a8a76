/* What goes to the caller and when: a byte queue that is no larger than its content needs, and the clock that
 * estimates how much of the audio sent has been heard.
 *
 * The far end plays in real time from the moment audio arrives and starts anew after it ran dry:
 *   played(now) = min(sent, base_position + (now - base_time) * sample_rate)
 * Positions count carrier samples since the call began.
 */
#ifndef FA_PLAYOUT_H
#define FA_PLAYOUT_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint8_t *bytes;
    size_t capacity, head, size;
} fa_fifo;

/* Appends n bytes. Returns 0, or -1 when memory is out (nothing is appended). */
int fa_fifo_push(fa_fifo *f, const uint8_t *bytes, size_t n);
/* Takes up to n bytes off the front; returns the count. An emptied queue gives large memory back. */
size_t fa_fifo_pop(fa_fifo *f, uint8_t *out, size_t n);
/* Takes up to n bytes off the front and forgets them. */
void fa_fifo_drop(fa_fifo *f, size_t n);
/* Puts the content of `front` before that of `f` and empties it. Returns 0, or -1 when memory is out (nothing
 * is moved). */
int fa_fifo_prepend(fa_fifo *f, fa_fifo *front);
/* Drops everything and gives the memory back. */
void fa_fifo_clear(fa_fifo *f);

typedef struct {
    double sample_rate;
    int64_t sent;
    int64_t base_position;
    double base_time_s;
    double dry_since_s; /* when the audio before the base ended */
} fa_playout_clock;

/* Samples heard by `now_s`, never more than were sent. For a time before the base the answer may be too small by
 * the silences before the last one, never too large. */
int64_t fa_playout_played(const fa_playout_clock *c, double now_s);
/* Notes that n samples leave now. */
void fa_playout_sent(fa_playout_clock *c, int64_t n, double now_s);
/* Takes everything sent so far as over: heard, or discarded by the far end. */
void fa_playout_settle(fa_playout_clock *c, double now_s);

#endif
