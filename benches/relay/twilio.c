/* Twilio Media Streams: callers, one stream each, and a bot at the far end of a byte relay.
 *
 * A caller's stream begins with what its webhook was answered (one line: the call's SID, the account's, the
 * stream's path, the upgrade's signature, the parameters as JSON), or with nothing of that where no webhook is
 * asked. Chunks are numbered as Twilio numbers them, so each message is written anew. The bot's audio is heard by a
 * clock: a mark comes back, within 20 ms, once all before it was played, and at `clear` every mark at once.
 */
#include <stdlib.h>
#include <string.h>

#include "calls.h"

#define NS_PER_MS 1000000ll
#define SID_CHARS 34
#define PATH_CHARS_MAX 200
#define SIGNATURE_CHARS_MAX 100
#define MESSAGE_BYTES_MAX 2048

static const uint8_t MASK[4] = {0x9d, 0x21, 0x74, 0xbe};
static const char NO_ACCOUNT[] = "AC00000000000000000000000000000001";

static const ws_owner caller_owner;

static void stream_sid(const call *c, char sid[SID_CHARS + 1])
{
    snprintf(sid, SID_CHARS + 1, "MZ%08x%024x", (unsigned)(the_plan.seed & 0xffffffff), (unsigned)c->id);
}

typedef struct {
    char call_sid[SID_CHARS + 1], account_sid[SID_CHARS + 1], path[PATH_CHARS_MAX + 1];
    char signature[SIGNATURE_CHARS_MAX + 1];
    const char *parameters; /* JSON */
} answer;

static bool read_answer(const call *c, const char *default_path, answer *a)
{
    int parameters_at = 0;
    if (c->answered == NULL) {
        snprintf(a->call_sid, sizeof a->call_sid, "CA%032x", (unsigned)c->id);
        snprintf(a->account_sid, sizeof a->account_sid, "%s", NO_ACCOUNT);
        snprintf(a->path, sizeof a->path, "%s", default_path);
        a->signature[0] = 0;
        a->parameters = "{}";
        return true;
    }
    if (sscanf(c->answered, "%34s %34s %200s %100s %n", a->call_sid, a->account_sid, a->path, a->signature,
               &parameters_at) != 4 ||
        parameters_at == 0)
        return false;
    a->parameters = c->answered + parameters_at;
    return true;
}

static bool open_call(call *c, int epoll, uint16_t port, const char *path)
{
    answer a;
    char headers[SIGNATURE_CHARS_MAX + 40] = "";
    if (!read_answer(c, path, &a))
        return false;
    if (a.signature[0])
        snprintf(headers, sizeof headers, "X-Twilio-Signature: %s\r\n", a.signature);
    c->caller = ws_connect(epoll, port, a.path, headers, &caller_owner);
    if (c->caller == NULL)
        return false;
    c->caller->call = c;
    return true;
}

static void send_text(call *c, const char *text, int n) { ws_send_text(c->caller, text, (size_t)n); }

/* Nothing acknowledges the start: audio follows at once. */
static void opened(ws_conn *ws, const char *path)
{
    call *c = ws->call;
    answer a;
    char sid[SID_CHARS + 1], text[MESSAGE_BYTES_MAX];
    (void)path;
    if (!read_answer(c, "", &a))
        return;
    stream_sid(c, sid);
    send_text(c, text,
              snprintf(text, sizeof text, "{\"event\":\"connected\",\"protocol\":\"Call\",\"version\":\"1.0.0\"}"));
    c->sequence = 1;
    int n = snprintf(text, sizeof text,
                     "{\"event\":\"start\",\"sequenceNumber\":\"1\",\"start\":{\"accountSid\":\"%s\",\"streamSid\":\"%s\","
                     "\"callSid\":\"%s\",\"tracks\":[\"inbound\"],\"mediaFormat\":{\"encoding\":\"audio/x-mulaw\","
                     "\"sampleRate\":8000,\"channels\":1},\"customParameters\":%s},\"streamSid\":\"%s\"}",
                     a.account_sid, sid, a.call_sid, a.parameters, sid);
    if (n >= (int)sizeof text) {
        call_fail(c, "the webhook's parameters are too long");
        return;
    }
    send_text(c, text, n);
    c->state = CALL_TALKING;
}

static void send_mark_back(call *c)
{
    char sid[SID_CHARS + 1], text[MARK_CHARS_MAX + 200];
    stream_sid(c, sid);
    const mark *m = &c->marks[c->first_mark];
    c->first_mark = (c->first_mark + 1) % MARKS_MAX;
    c->mark_count--;
    the_tally.marks_returned++;
    send_text(c, text,
              snprintf(text, sizeof text,
                       "{\"event\":\"mark\",\"sequenceNumber\":\"%llu\",\"streamSid\":\"%s\",\"mark\":{\"name\":\"%s\"}}",
                       (unsigned long long)++c->sequence, sid, m->name));
}

static void advance(call *c)
{
    if (c->state != CALL_TALKING || c->mark_count == 0)
        return;
    for (int64_t now = mono_ns(); c->mark_count > 0 && c->marks[c->first_mark].played_ns <= now;)
        send_mark_back(c);
}

static void media(call *c, const char *text, size_t n, int64_t arrived_ns)
{
    size_t chars;
    const char *audio = json_string(text, n, "payload", &chars);
    int64_t now = mono_ns();
    if (audio == NULL) {
        the_tally.orphan_chunks++;
        return;
    }
    if (!c->stream_open) {
        c->stream_open = true;
        c->streams_begun++;
    }
    if (c->plays_until_ns < now)
        c->plays_until_ns = now;
    c->plays_until_ns += (int64_t)(chars / 4 * 3) * NS_PER_MS / the_plan.format->bytes_per_ms;
    track_received(&c->down, c, 'D', audio, chars, arrived_ns, &the_tally.down);
}

static void mark_received(call *c, const char *text, size_t n)
{
    size_t chars;
    const char *name = json_string(text, n, "name", &chars);
    int64_t now = mono_ns();
    if (name == NULL || chars > MARK_CHARS_MAX || c->mark_count == MARKS_MAX) {
        call_fail(c, "a mark without a name, too long, or one too many");
        return;
    }
    mark *m = &c->marks[(c->first_mark + c->mark_count++) % MARKS_MAX];
    memcpy(m->name, name, chars);
    m->name[chars] = 0;
    m->played_ns = c->plays_until_ns > now ? c->plays_until_ns : now;
    c->stream_open = false;
    the_tally.marks++;
}

static void cleared(call *c)
{
    the_tally.cuts++; /* nobody speaks in this bench who could interrupt */
    c->plays_until_ns = 0;
    c->stream_open = false;
    while (c->mark_count > 0)
        send_mark_back(c);
}

static void message(ws_conn *ws, char *text, size_t n, int64_t arrived_ns)
{
    call *c = ws->call;
    char sid[SID_CHARS + 1];
    size_t length, sid_length;
    const char *event = json_string(text, n, "event", &length), *stream = json_string(text, n, "streamSid", &sid_length);
    if (c->state != CALL_TALKING)
        return;
    stream_sid(c, sid);
    if (event == NULL)
        the_tally.other_messages++;
    else if (stream == NULL || sid_length != SID_CHARS || memcmp(stream, sid, SID_CHARS) != 0)
        the_tally.orphan_chunks++;
    else if (length == 5 && memcmp(event, "media", 5) == 0)
        media(c, text, n, arrived_ns);
    else if (length == 4 && memcmp(event, "mark", 4) == 0)
        mark_received(c, text, n);
    else if (length == 5 && memcmp(event, "clear", 5) == 0)
        cleared(c);
    else
        the_tally.other_messages++;
}

static void closed(ws_conn *ws, const char *why)
{
    call *c = ws->call;
    if (c == NULL)
        return;
    if (c->state == CALL_ENDING)
        c->state = CALL_ENDED;
    else
        call_fail(c, why);
}

static const ws_owner caller_owner = {opened, message, closed};

static void send_chunk(call *c)
{
    static uint8_t frame[MESSAGE_BYTES_MAX];
    static const char *tone;
    static size_t tone_chars;
    char sid[SID_CHARS + 1], prefix[256];
    bool stamped = track_stamps(&c->up);
    if (tone == NULL)
        tone = tone_base64(the_plan.format, UP_CHUNK_MS, &tone_chars);
    advance(c);
    stream_sid(c, sid);
    unsigned long long chunk = c->up.sent + 1;
    size_t prefix_len = (size_t)snprintf(
        prefix, sizeof prefix,
        "{\"event\":\"media\",\"sequenceNumber\":\"%llu\",\"media\":{\"track\":\"inbound\",\"chunk\":\"%llu\","
        "\"timestamp\":\"%llu\",\"payload\":\"",
        (unsigned long long)++c->sequence, chunk, chunk * UP_CHUNK_MS);
    char suffix[SID_CHARS + 24];
    size_t suffix_len = (size_t)snprintf(suffix, sizeof suffix, "\"},\"streamSid\":\"%s\"}", sid);
    size_t n = prefix_len + tone_chars + suffix_len;
    size_t head_len = ws_frame_head(frame, n, MASK);
    uint8_t *p = frame + head_len;
    memcpy(p, prefix, prefix_len);
    memcpy(p + prefix_len, tone, tone_chars);
    if (stamped)
        stamp((char *)p + prefix_len, 'U', c->id, c->up.sent);
    memcpy(p + prefix_len + tone_chars, suffix, suffix_len);
    ws_mask(p, n, MASK);
    struct iovec part = {frame, head_len + n};
    the_tally.up_sent++;
    if (track_sent(&c->up, wall_ns(), stamped))
        ws_send_raw(c->caller, &part, 1);
}

/* The caller hangs up: `stop`, and then Twilio closes. */
static void end_call(call *c)
{
    answer a;
    char sid[SID_CHARS + 1], text[300];
    if (c->state != CALL_TALKING || !read_answer(c, "", &a))
        return;
    stream_sid(c, sid);
    c->state = CALL_ENDING;
    send_text(c, text,
              snprintf(text, sizeof text,
                       "{\"event\":\"stop\",\"sequenceNumber\":\"%llu\",\"streamSid\":\"%s\",\"stop\":{\"accountSid\":"
                       "\"%s\",\"callSid\":\"%s\"}}",
                       (unsigned long long)++c->sequence, sid, a.account_sid, a.call_sid));
    ws_send_close(c->caller, 1000);
}

static void bot_message(ws_conn *ws, call *c, char *text, size_t n, int64_t arrived_ns)
{
    size_t length, chars;
    const char *event = json_string(text, n, "event", &length), *audio;
    (void)ws;
    if (event == NULL)
        return;
    if (length == 5 && memcmp(event, "media", 5) == 0) {
        if ((audio = json_string(text, n, "payload", &chars)) != NULL)
            track_received(&c->up, c, 'U', audio, chars, arrived_ns, &the_tally.up);
    } else if (length == 5 && memcmp(event, "start", 5) == 0) {
        c->model_ready = true;
    }
}

static int bot_begins(const call *c, unsigned utterance, char *text, size_t size)
{
    (void)c, (void)utterance, (void)text, (void)size;
    return 0;
}

static int bot_audio(const call *c, unsigned utterance, char *text, size_t size)
{
    char sid[SID_CHARS + 1];
    (void)utterance;
    stream_sid(c, sid);
    return snprintf(text, size, "{\"event\":\"media\",\"streamSid\":\"%s\",\"media\":{\"payload\":\"", sid);
}

static int bot_ends(const call *c, unsigned utterance, char *text, size_t size)
{
    char sid[SID_CHARS + 1];
    stream_sid(c, sid);
    return snprintf(text, size, "{\"event\":\"mark\",\"streamSid\":\"%s\",\"mark\":{\"name\":\"g0-p%u\"}}", sid, utterance);
}

const carrier twilio = {
    .name = "twilio",
    .open = open_call,
    .send_chunk = send_chunk,
    .advance = advance,
    .end = end_call,
    .bot_message = bot_message,
    .bot_begins = bot_begins,
    .bot_audio = bot_audio,
    .bot_audio_end = "\"}}",
    .bot_ends = bot_ends,
};
