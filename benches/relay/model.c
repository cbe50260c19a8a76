/* The model's port. A connection whose path begins with /relay is a byte relay's other end: there the carrier's bot
 * talks. Any other is an OpenAI Realtime session (GA). Both talk on and never listen. */
#include <string.h>

#include "calls.h"

#define LONG_PAUSE_CHUNKS 5 /* 500 ms: nobody whose callers still talk with him is that far behind */

enum { ROLE_REALTIME, ROLE_RELAY };

static void reply(ws_conn *ws, const char *text, int n) { ws_send_text(ws, text, (size_t)n); }

static void opened(ws_conn *ws, const char *path)
{
    call *c = call_being_opened;
    if (c == NULL || c->model != NULL) { /* a reconnect, or one socket too many: nobody's audio */
        ws->call = NULL;
        ws_drop(ws, "no call is being set up");
        return;
    }
    ws->call = c;
    ws->role = strncmp(path, "/relay", 6) == 0 ? ROLE_RELAY : ROLE_REALTIME;
    c->model = ws;
    if (ws->role == ROLE_REALTIME) {
        char text[700];
        int n = snprintf(text, sizeof text,
                         "{\"type\":\"session.created\",\"event_id\":\"event_%d\",\"session\":{\"type\":\"realtime\","
                         "\"object\":\"realtime.session\",\"id\":\"sess_%d\",\"model\":\"bench\",\"expires_at\":4102444800,"
                         "\"output_modalities\":[\"audio\"],\"instructions\":\"\",\"tools\":[],\"tool_choice\":\"auto\","
                         "\"max_output_tokens\":\"inf\",\"audio\":{\"input\":{\"format\":{\"type\":\"audio/pcm\","
                         "\"rate\":24000}},\"output\":{\"format\":{\"type\":\"audio/pcm\",\"rate\":24000},"
                         "\"voice\":\"marin\",\"speed\":1.0}}}}",
                         c->id, c->id);
        reply(ws, text, n);
    }
}

/* The format named by session.audio.<side>.format.type, or NULL when the update does not touch it. */
static const audio_format *format_of(char *text, const char *side)
{
    char *at = strstr(text, "\"audio\"");
    while (at != NULL && strncmp(at + 7 + strspn(at + 7, " :"), "{", 1) != 0)
        at = strstr(at + 7, "\"audio\"");
    size_t length;
    if (at == NULL || (at = strstr(at, side)) == NULL || (at = strstr(at, "\"format\"")) == NULL)
        return NULL;
    const char *type = json_string(at, strlen(at), "type", &length);
    return type == NULL || strncmp(type, "audio/", 6) != 0 ? NULL : format_of_model(type);
}

static void session_update(ws_conn *ws, call *c, char *text)
{
    const audio_format *in = format_of(text, "\"input\""), *out = format_of(text, "\"output\"");
    if (in != NULL && c->up.position_bytes == 0)
        track_begin(&c->up, the_plan.format, in, UP_CHUNK_MS);
    if (out != NULL && c->down.sent == 0)
        track_begin(&c->down, out, the_plan.format, DOWN_CHUNK_MS);
    char answer[500];
    int n = snprintf(answer, sizeof answer,
                     "{\"type\":\"session.updated\",\"event_id\":\"event_u%d\",\"session\":{\"type\":\"realtime\","
                     "\"object\":\"realtime.session\",\"id\":\"sess_%d\",\"model\":\"bench\",\"expires_at\":4102444800,"
                     "\"output_modalities\":[\"audio\"]}}",
                     c->id, c->id);
    reply(ws, answer, n);
    c->model_ready = true;
}

static void realtime_message(ws_conn *ws, call *c, char *text, size_t n, int64_t arrived_ns)
{
    size_t length, chars;
    const char *type = json_string(text, n, "type", &length), *audio;
    if (type == NULL)
        return;
    if (length == 8 && memcmp(type, "realtime", 8) == 0) /* the session's own: a client may write the event's last */
        for (const char *at = type; (at = strstr(at, "\"type\"")) != NULL; at++)
            type = json_string(at, n - (size_t)(at - text), "type", &length);
    if (type == NULL)
        return;
    if (length == 25 && memcmp(type, "input_audio_buffer.append", 25) == 0) {
        if ((audio = json_string(text, n, "audio", &chars)) == NULL)
            return;
        track_received(&c->up, c, 'U', audio, chars, arrived_ns, &the_tally.up);
        if (c->id < 4)
            level_check(c, &c->up, audio, chars);
    } else if (length == 14 && memcmp(type, "session.update", 14) == 0) {
        session_update(ws, c, text);
    } else if (length == 15 && memcmp(type, "response.create", 15) == 0) {
        if (c->is_in_utterance) {
            static const char busy[] =
                "{\"type\":\"error\",\"event_id\":\"event_b\",\"error\":{\"type\":\"invalid_request_error\","
                "\"code\":\"conversation_already_has_active_response\",\"message\":\"one response at a time\","
                "\"param\":null,\"event_id\":null}}";
            reply(ws, busy, sizeof busy - 1);
        } else {
            c->gap_chunks_left = 0;
        }
    } else if (length == 26 && memcmp(type, "conversation.item.truncate", 26) == 0) {
        the_tally.cuts++;
    } else if (length == 15 && memcmp(type, "response.cancel", 15) == 0) {
        the_tally.cuts++;
    }
}

static void message(ws_conn *ws, char *text, size_t n, int64_t arrived_ns)
{
    if (ws->call == NULL)
        return;
    if (ws->role == ROLE_RELAY)
        the_plan.carrier->bot_message(ws, ws->call, text, n, arrived_ns);
    else
        realtime_message(ws, ws->call, text, n, arrived_ns);
}

static void closed(ws_conn *ws, const char *why)
{
    call *c = ws->call;
    if (c == NULL || c->model != ws || c->state == CALL_ENDING || c->state == CALL_ENDED)
        return;
    char text[96];
    snprintf(text, sizeof text, "model's side: %s", why);
    call_fail(c, text);
}

const ws_owner model_owner = {opened, message, closed};

static void send_json(call *c, const char *text, int n)
{
    if (n > 0)
        ws_send_text(c->model, text, (size_t)n);
}

/* What every event of an utterance carries. */
#define IDS "\"response_id\":\"resp_%d_%u\",\"item_id\":\"item_%d_%u\",\"output_index\":0,\"content_index\":0"

static void begin_utterance(call *c)
{
    char text[700];
    unsigned u = c->utterances_begun;
    c->is_in_utterance = true;
    /* A carrier without play streams does not tell where an utterance begins. What came beyond the last one, once
     * all of it had come, is a converter's tail; what is still missing after a long pause is lost. */
    uint64_t due_bytes = c->down.sent * c->down.chunk_bytes;
    if (the_plan.carrier == &twilio &&
        (c->down.position_bytes > due_bytes ||
         (c->down.position_bytes < due_bytes && the_plan.gap_chunks >= LONG_PAUSE_CHUNKS)))
        track_align(&c->down, c->down.sent);
    c->utterance_start[u % UTTERANCE_RING] = c->down.sent;
    c->utterances_begun++;
    if (c->model->role == ROLE_RELAY) {
        send_json(c, text, the_plan.carrier->bot_begins(c, u, text, sizeof text));
        return;
    }
    send_json(c, text,
              snprintf(text, sizeof text,
                       "{\"type\":\"response.created\",\"event_id\":\"event_c%u\",\"response\":{\"object\":"
                       "\"realtime.response\",\"id\":\"resp_%d_%u\",\"status\":\"in_progress\",\"status_details\":null,"
                       "\"output\":[],\"conversation_id\":\"conv_%d\",\"output_modalities\":[\"audio\"],"
                       "\"max_output_tokens\":\"inf\",\"usage\":null,\"metadata\":null}}",
                       u, c->id, u, c->id));
    static const char *added[2] = {"response.output_item.added", "conversation.item.added"};
    for (int i = 0; i < 2; i++)
        send_json(c, text,
                  snprintf(text, sizeof text,
                           "{\"type\":\"%s\",\"event_id\":\"event_i%u\",%s\"response_id\":\"resp_%d_%u\","
                           "\"output_index\":0,\"item\":{\"id\":\"item_%d_%u\",\"object\":\"realtime.item\","
                           "\"type\":\"message\",\"status\":\"in_progress\",\"role\":\"assistant\",\"content\":[]}}",
                           added[i], u, i ? "\"previous_item_id\":null," : "", c->id, u, c->id, u));
    send_json(c, text,
              snprintf(text, sizeof text,
                       "{\"type\":\"response.content_part.added\",\"event_id\":\"event_p%u\"," IDS
                       ",\"part\":{\"type\":\"audio\",\"transcript\":\"\"}}",
                       u, c->id, u, c->id, u));
}

void model_finish_utterance(call *c)
{
    char text[900];
    unsigned u = c->utterances_begun - 1;
    if (!c->is_in_utterance || c->model == NULL || c->model->is_dead)
        return;
    c->is_in_utterance = false;
    if (c->model->role == ROLE_RELAY) {
        send_json(c, text, the_plan.carrier->bot_ends(c, u, text, sizeof text));
        return;
    }
    send_json(c, text,
              snprintf(text, sizeof text, "{\"type\":\"response.output_audio.done\",\"event_id\":\"event_a%u\"," IDS "}", u,
                       c->id, u, c->id, u));
    send_json(c, text,
              snprintf(text, sizeof text,
                       "{\"type\":\"response.content_part.done\",\"event_id\":\"event_q%u\"," IDS
                       ",\"part\":{\"type\":\"audio\",\"transcript\":\"tone\"}}",
                       u, c->id, u, c->id, u));
    send_json(c, text,
              snprintf(text, sizeof text,
                       "{\"type\":\"response.output_item.done\",\"event_id\":\"event_j%u\",\"response_id\":\"resp_%d_%u\","
                       "\"output_index\":0,\"item\":{\"id\":\"item_%d_%u\",\"object\":\"realtime.item\",\"type\":"
                       "\"message\",\"status\":\"completed\",\"role\":\"assistant\",\"content\":[{\"type\":"
                       "\"output_audio\",\"transcript\":\"tone\"}]}}",
                       u, c->id, u, c->id, u));
    send_json(c, text,
              snprintf(text, sizeof text,
                       "{\"type\":\"response.done\",\"event_id\":\"event_d%u\",\"response\":{\"object\":"
                       "\"realtime.response\",\"id\":\"resp_%d_%u\",\"status\":\"completed\",\"status_details\":null,"
                       "\"output\":[{\"id\":\"item_%d_%u\",\"object\":\"realtime.item\",\"type\":\"message\",\"status\":"
                       "\"completed\",\"role\":\"assistant\",\"content\":[{\"type\":\"output_audio\",\"transcript\":"
                       "\"tone\"}]}],\"conversation_id\":\"conv_%d\",\"output_modalities\":[\"audio\"],"
                       "\"max_output_tokens\":\"inf\",\"usage\":null,\"metadata\":null}}",
                       u, c->id, u, c->id, u, c->id));
}

static void send_delta(call *c)
{
    static const char *tone;
    static const audio_format *tone_format;
    static size_t tone_chars;
    char prefix[320], first[STAMP_CHARS];
    bool is_relay = c->model->role == ROLE_RELAY, stamped = track_stamps(&c->down);
    unsigned u = c->utterances_begun - 1;
    if (tone_format != c->down.from) { /* one run has one format */
        tone_format = c->down.from;
        tone = tone_base64(tone_format, DOWN_CHUNK_MS, &tone_chars);
    }
    const char *suffix = is_relay ? the_plan.carrier->bot_audio_end : "\"}";
    int prefix_len =
        is_relay
            ? the_plan.carrier->bot_audio(c, u, prefix, sizeof prefix)
            : snprintf(prefix, sizeof prefix,
                       "{\"type\":\"response.output_audio.delta\",\"event_id\":\"event_%08llx\"," IDS ",\"delta\":\"",
                       (unsigned long long)c->down.sent, c->id, u, c->id, u);
    if (stamped)
        stamp(first, 'D', c->id, c->down.sent);
    else
        memcpy(first, tone, STAMP_CHARS);
    uint8_t frame_head[14];
    size_t frame_head_len = ws_frame_head(frame_head, (size_t)prefix_len + tone_chars + strlen(suffix), NULL);
    struct iovec parts[5] = {{frame_head, frame_head_len},
                             {prefix, (size_t)prefix_len},
                             {first, STAMP_CHARS},
                             {(char *)tone + STAMP_CHARS, tone_chars - STAMP_CHARS},
                             {(char *)suffix, strlen(suffix)}};
    the_tally.down_sent++;
    if (track_sent(&c->down, wall_ns(), stamped))
        ws_send_raw(c->model, parts, 5);
}

void model_talk(call *c)
{
    if (!c->is_in_utterance) {
        if (c->gap_chunks_left > 0) {
            c->gap_chunks_left--;
            return;
        }
        begin_utterance(c);
        /* The first utterances differ in length, so that calls do not pause together. */
        c->talk_chunks_left = c->utterances_begun == 1 ? c->id * 7 % the_plan.talk_chunks + 1 : the_plan.talk_chunks;
    }
    send_delta(c);
    if (--c->talk_chunks_left == 0) {
        c->gap_chunks_left = the_plan.gap_chunks;
        model_finish_utterance(c);
    }
}
