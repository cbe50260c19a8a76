/* WebSocket frames and messages (RFC 6455, section 5), out by templates and in. */
#include "fa_load_engine.h"

#include <string.h>

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
void load_send_frame(fa_load *e, connection *c, int opcode, uint8_t *payload, size_t size)
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
    load_put(e, c, p, head + size);
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
void load_send_template(fa_load *e, connection *c, const char *text, size_t size, const char *audio, size_t chars)
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
    load_send_frame(e, c, OP_TEXT, (uint8_t *)start, (size_t)(p - start));
}

void load_send_control(fa_load *e, connection *c, int opcode, const uint8_t *payload, size_t size)
{
    uint8_t room[HEAD_BYTES_MAX + 125];
    memcpy(room + HEAD_BYTES_MAX, payload, size);
    load_send_frame(e, c, opcode, room + HEAD_BYTES_MAX, size);
}

static void take_message(fa_load *e, connection *c, const char *text, size_t size, int64_t at_ns)
{
    fa_envelope_match match;
    if (c->spec >= 0 && fa_envelope_scan(&e->specs[c->spec], text, size, &match) == FA_ENVELOPE_MEDIA &&
        match.audio.size > 0)
        load_take_audio(e, c, match.audio.start, match.audio.size, at_ns);
    else
        load_tell(e, c, FA_LOAD_MESSAGE, at_ns, c->played_ns, text, size);
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
            load_send_control(e, c, OP_CLOSE, payload, size >= 2 ? 2 : 0);
        load_lose(e, c, code);
        return;
    }
    case OP_PING:
        if (size <= 125)
            load_send_control(e, c, OP_PONG, payload, size);
        return;
    case OP_PONG:
        return;
    default:
        if (is_last && c->parts_len == 0) {
            take_message(e, c, (const char *)payload, size, at_ns);
            return;
        }
        if (c->parts_len + size > FA_LOAD_MESSAGE_BYTES_MAX || !load_grow(&c->parts, &c->parts_cap, c->parts_len + size)) {
            load_lose(e, c, 1009);
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
            load_lose(e, c, 1009);
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

void load_take_bytes(fa_load *e, connection *c, uint8_t *bytes, size_t n, int64_t at_ns)
{
    e->counters[FA_LOAD_BYTES_RECEIVED] += n;
    if (c->in_len > 0) {
        if (!load_grow(&c->in, &c->in_cap, c->in_len + n)) {
            load_lose(e, c, 1006);
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
        if (!load_grow(&c->in, &c->in_cap, n - used)) {
            load_lose(e, c, 1006);
            return;
        }
        memcpy(c->in, bytes + used, n - used);
        c->in_len = n - used;
    }
}
