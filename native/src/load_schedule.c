/* What is due: connections that send, soonest first, in a binary heap whose members know their place. */
#include "fa_load_engine.h"

#include <unistd.h>

enum { FLAG_LOUD = 1, FLAG_MARK = 2 };

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

/* Calls are opened at even distances, so without this they would fall due together: at 20 a second, all at two
 * moments of each 20 ms. Steps of the golden ratio lie apart from one another, however many there are. */
void load_begin_idling(fa_load *e, connection *c)
{
    if (c->heap_at >= 0 || !c->is_open || c->idle_clip < 0)
        return;
    load_begin_sending(e, c);
    int64_t quantum_ns = FA_LOAD_QUANTUM_US * NS_PER_US, quanta = e->clips[c->idle_clip].frame_ns / quantum_ns;
    uint32_t phase = ++e->begun * 2654435769u;
    if (quanta > 0) {
        int64_t wanted = (int64_t)((uint64_t)phase * (uint64_t)quanta >> 32), is = c->due_ns / quantum_ns % quanta;
        c->due_ns += (wanted - is + quanta) % quanta * quantum_ns;
        heap_settle(e, c->heap_at);
    }
}

void load_begin_sending(fa_load *e, connection *c)
{
    if (c->heap_at >= 0 || !c->is_open)
        return;
    int64_t quantum_ns = FA_LOAD_QUANTUM_US * NS_PER_US, now = load_now_ns();
    c->due_ns = (now + quantum_ns - 1) / quantum_ns * quantum_ns;
    c->heap_at = e->heap_count;
    e->heap[e->heap_count++] = c->id;
    heap_settle(e, c->heap_at);
    uint64_t one = 1;
    if (write(e->wake_fd, &one, sizeof one) < 0)
        e->counters[FA_LOAD_WAKES]++; /* full of wakes already, so it wakes */
}

void load_end_sending(fa_load *e, connection *c)
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

static void send_due(fa_load *e, connection *c)
{
    bool is_said = c->said_clip >= 0;
    int number = is_said ? c->said_clip : c->idle_clip;
    if (number < 0) {
        load_end_sending(e, c);
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
    load_record(e, FA_LOAD_LATE, load_now_ns() - due);
    e->counters[FA_LOAD_FRAMES_SENT]++;
    load_send_template(e, c, c->media, c->media_size, text, k->frame_chars);
    if (c->fd < 0)
        return;
    c->time_us += k->frame_ns / NS_PER_US;
    if (++*at == k->frames) {
        *at = 0;
        if (is_said) {
            c->said_clip = -1;
            load_tell(e, c, FA_LOAD_SAID, load_now_ns(), c->last_loud_ns, NULL, 0);
        }
    }
    c->due_ns += k->frame_ns;
    heap_settle(e, c->heap_at);
}

void load_send_all_due(fa_load *e)
{
    while (e->heap_count > 0 && e->connections[e->heap[0]]->due_ns <= load_now_ns()) {
        send_due(e, e->connections[e->heap[0]]);
        load_make_way(e);
    }
}
