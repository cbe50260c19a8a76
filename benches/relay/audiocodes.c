/* AudioCodes VoiceAI Connect: callers, one WebSocket per call, and a bot at the far end of a byte relay. */
#include <stdlib.h>
#include <string.h>

#include "calls.h"

static const ws_owner caller_owner;

static const uint8_t MASK[4] = {0x9d, 0x21, 0x74, 0xbe};

static void conversation_id(const call *c, char id[37])
{
    snprintf(id, 37, "%08x-51f7-4b1e-9a43-%012llx", (unsigned)(the_plan.seed & 0xffffffff), (unsigned long long)c->id);
}

/* The chunk message is made once per call; sending it again means writing 16 characters. */
static void make_chunk_frame(call *c)
{
    char id[37], prefix[160];
    size_t audio_len;
    conversation_id(c, id);
    const char *audio = tone_base64(the_plan.format, UP_CHUNK_MS, &audio_len);
    size_t prefix_len = (size_t)snprintf(
        prefix, sizeof prefix, "{\"type\":\"userStream.chunk\",\"conversationId\":\"%s\",\"audioChunk\":\"", id);
    size_t n = prefix_len + audio_len + 2;
    uint8_t head[14];
    size_t head_len = ws_frame_head(head, n, MASK);
    if ((c->up_frame = malloc(head_len + n)) == NULL)
        abort();
    uint8_t *p = c->up_frame + head_len;
    memcpy(c->up_frame, head, head_len);
    memcpy(p, prefix, prefix_len);
    memcpy(p + prefix_len, audio, audio_len);
    memcpy(p + prefix_len + audio_len, "\"}", 2);
    for (size_t i = 0; i < n; i++)
        p[i] ^= MASK[i & 3];
    c->up_frame_len = head_len + n;
    c->up_stamp_at = head_len + prefix_len;
    c->up_stamp_phase = prefix_len;
    free((void *)audio);
}

static bool open_call(call *c, int epoll, uint16_t port, const char *path)
{
    make_chunk_frame(c);
    c->caller = ws_connect(epoll, port, path, "", &caller_owner);
    if (c->caller == NULL)
        return false;
    c->caller->call = c;
    return true;
}

static void opened(ws_conn *ws, const char *path)
{
    call *c = ws->call;
    char id[37], text[400];
    (void)path;
    conversation_id(c, id);
    int n = snprintf(text, sizeof text,
                     "{\"type\":\"session.initiate\",\"conversationId\":\"%s\",\"botName\":\"bench\","
                     "\"caller\":\"+1555%07d\",\"expectAudioMessages\":true,\"supportedMediaFormats\":[\"%s\"]}",
                     id, c->id, the_plan.format->name);
    ws_send_text(ws, text, (size_t)n);
}

static void accepted(ws_conn *ws, call *c, const char *text, size_t n)
{
    char id[37], reply[500];
    size_t length;
    const char *format = json_string(text, n, "mediaFormat", &length);
    if (c->state != CALL_OPENING)
        return;
    if (format == NULL || length != strlen(the_plan.format->name) || memcmp(format, the_plan.format->name, length)) {
        call_fail(c, "session.accepted names another format");
        return;
    }
    c->state = CALL_ACCEPTED;
    conversation_id(c, id);
    int size = snprintf(reply, sizeof reply,
                        "{\"type\":\"activities\",\"conversationId\":\"%s\",\"activities\":[{\"type\":\"event\","
                        "\"name\":\"start\",\"id\":\"4c1d0000-0000-4000-8000-%012d\","
                        "\"timestamp\":\"2026-01-05T10:00:00.100Z\",\"language\":\"en-US\","
                        "\"parameters\":{\"locale\":\"en-US\",\"caller\":\"+1555%07d\",\"callee\":\"+15550100002\"}}]}",
                        id, c->id, c->id);
    ws_send_text(ws, reply, (size_t)size);
    size = snprintf(reply, sizeof reply, "{\"type\":\"userStream.start\",\"conversationId\":\"%s\"}", id);
    ws_send_text(ws, reply, (size_t)size);
}

static void play_chunk(call *c, const char *text, size_t n, int64_t arrived_ns)
{
    size_t chars;
    const char *audio = json_string(text, n, "audioChunk", &chars);
    if (audio == NULL || !c->stream_open) {
        the_tally.orphan_chunks++;
        return;
    }
    track_received(&c->down, c, 'D', audio, chars, arrived_ns, &the_tally.down);
    if (c->id < 4)
        level_check(c, &c->down, audio, chars);
}

/* A new play stream begins with an utterance, but with which one only the position tells: a server may go on
 * with an open stream when the next utterance comes soon, or cut one utterance into several streams. Where the
 * position fits the start of none, it runs on, and the end of the call settles what is missing. */
static void align_to_utterance(call *c)
{
    uint64_t position = c->down.position_bytes, chunk_bytes = c->down.chunk_bytes;
    uint64_t nearest_bytes = UINT64_MAX;
    uint32_t nearest = c->utterance_aligned, u = c->utterance_aligned;
    if (c->utterances_begun > UTTERANCE_RING && u < c->utterances_begun - UTTERANCE_RING)
        u = c->utterances_begun - UTTERANCE_RING;
    for (; u < c->utterances_begun; u++) {
        uint64_t start = c->utterance_start[u % UTTERANCE_RING] * chunk_bytes;
        uint64_t away_bytes = start > position ? start - position : position - start;
        if (away_bytes < nearest_bytes) {
            nearest_bytes = away_bytes;
            nearest = u;
        }
    }
    if (nearest == c->utterance_aligned)
        return;
    uint64_t first_chunk = c->utterance_start[nearest % UTTERANCE_RING];
    if (position > first_chunk * chunk_bytes && nearest_bytes >= chunk_bytes) /* no filter's tail is that long */
        return;
    track_align(&c->down, first_chunk);
    c->utterance_aligned = nearest;
}

static void play_start(call *c)
{
    if (c->stream_open)
        the_tally.unknown_streams++;
    c->stream_open = true;
    c->streams_begun++;
    align_to_utterance(c);
}

static void message(ws_conn *ws, char *text, size_t n, int64_t arrived_ns)
{
    call *c = ws->call;
    size_t length;
    const char *type = json_string(text, n, "type", &length);
#define IS(name) (length == sizeof name - 1 && memcmp(type, name, length) == 0)
    if (type == NULL)
        the_tally.other_messages++;
    else if (IS("playStream.chunk"))
        play_chunk(c, text, n, arrived_ns);
    else if (IS("playStream.start"))
        play_start(c);
    else if (IS("playStream.stop"))
        c->stream_open = false;
    else if (IS("session.accepted"))
        accepted(ws, c, text, n);
    else if (IS("userStream.started") && c->state == CALL_ACCEPTED)
        c->state = CALL_TALKING;
    else if (IS("session.error"))
        call_fail(c, "session.error");
    else if (IS("activities") && memmem(text, n, "\"hangup\"", 8) != NULL)
        the_tally.hangups++;
    else
        the_tally.other_messages++;
#undef IS
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
    bool stamped = track_stamps(&c->up);
    if (stamped) {
        char text[STAMP_CHARS];
        stamp(text, 'U', c->id, c->up.sent);
        for (size_t i = 0; i < STAMP_CHARS; i++)
            c->up_frame[c->up_stamp_at + i] = (uint8_t)text[i] ^ MASK[(c->up_stamp_phase + i) & 3];
    }
    struct iovec part = {c->up_frame, c->up_frame_len};
    the_tally.up_sent++;
    if (track_sent(&c->up, wall_ns(), stamped))
        ws_send_raw(c->caller, &part, 1);
}

static void end_call(call *c)
{
    char id[37], text[200];
    if (c->state != CALL_TALKING)
        return;
    conversation_id(c, id);
    c->state = CALL_ENDING;
    int n = snprintf(text, sizeof text, "{\"type\":\"userStream.stop\",\"conversationId\":\"%s\"}", id);
    ws_send_text(c->caller, text, (size_t)n);
    n = snprintf(text, sizeof text,
                 "{\"type\":\"session.end\",\"conversationId\":\"%s\",\"reasonCode\":\"client-disconnected\","
                 "\"reason\":\"Client Side\"}", id);
    ws_send_text(c->caller, text, (size_t)n);
}

static void advance(call *c) { (void)c; }

static void bot_message(ws_conn *ws, call *c, char *text, size_t n, int64_t arrived_ns)
{
    char answer[200];
    size_t length, chars;
    const char *type = json_string(text, n, "type", &length), *audio;
    int size = 0;
    if (type == NULL)
        return;
    if (length == 16 && memcmp(type, "userStream.chunk", 16) == 0) {
        if ((audio = json_string(text, n, "audioChunk", &chars)) != NULL)
            track_received(&c->up, c, 'U', audio, chars, arrived_ns, &the_tally.up);
    } else if (length == 16 && memcmp(type, "session.initiate", 16) == 0) {
        size = snprintf(answer, sizeof answer, "{\"type\":\"session.accepted\",\"mediaFormat\":\"%s\"}",
                        the_plan.format->name);
    } else if (length == 16 && memcmp(type, "userStream.start", 16) == 0) {
        size = snprintf(answer, sizeof answer, "{\"type\":\"userStream.started\"}");
        c->model_ready = true;
    } else if (length == 11 && memcmp(type, "session.end", 11) == 0) {
        ws_send_close(ws, 1000);
    }
    if (size > 0)
        ws_send_text(ws, answer, (size_t)size);
}

static int bot_begins(const call *c, unsigned utterance, char *text, size_t size)
{
    (void)c;
    return snprintf(text, size, "{\"type\":\"playStream.start\",\"streamId\":\"s-%u\",\"mediaFormat\":\"%s\"}",
                    utterance, the_plan.format->name);
}

static int bot_audio(const call *c, unsigned utterance, char *text, size_t size)
{
    (void)c;
    return snprintf(text, size, "{\"type\":\"playStream.chunk\",\"streamId\":\"s-%u\",\"audioChunk\":\"", utterance);
}

static int bot_ends(const call *c, unsigned utterance, char *text, size_t size)
{
    (void)c;
    return snprintf(text, size, "{\"type\":\"playStream.stop\",\"streamId\":\"s-%u\"}", utterance);
}

const carrier audiocodes = {
    .name = "audiocodes",
    .open = open_call,
    .send_chunk = send_chunk,
    .advance = advance,
    .end = end_call,
    .bot_message = bot_message,
    .bot_begins = bot_begins,
    .bot_audio = bot_audio,
    .bot_audio_end = "\"}",
    .bot_ends = bot_ends,
};
