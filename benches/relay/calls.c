#include "calls.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const audio_format FORMATS[] = {
    {"raw/mulaw", 8, false}, {"raw/lpcm16_8", 16, true}, {"raw/lpcm16", 32, true}, {"raw/lpcm16_24", 48, true}};

/* 400 Hz at a quarter of full scale: whole periods in every chunk, and in the pass band of any telephone filter. */
#define TONE_HZ 400.0
#define TONE_PEAK 8000.0

static const char BASE64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

const audio_format *format_named(const char *name)
{
    for (size_t i = 0; i < sizeof FORMATS / sizeof *FORMATS; i++)
        if (strcmp(FORMATS[i].name, name) == 0)
            return &FORMATS[i];
    return NULL;
}

const audio_format *format_of_model(const char *type)
{
    /* A-law has the size of mu-law; no caller here offers it, so it never counts as passthrough. */
    static const audio_format alaw = {"audio/pcma", 8, false};
    if (strncmp(type, "audio/pcma", 10) == 0)
        return &alaw;
    return format_named(strncmp(type, "audio/pcmu", 10) == 0 ? "raw/mulaw" : "raw/lpcm16_24");
}

static uint8_t mulaw(int sample)
{
    int sign = sample < 0 ? 0x80 : 0, magnitude = (sample < 0 ? -sample : sample) + 132, exponent = 7;
    for (int bit = 0x4000; exponent > 0 && !(magnitude & bit); bit >>= 1)
        exponent--;
    return (uint8_t)~(sign | exponent << 4 | (magnitude >> (exponent + 3) & 15));
}

const char *tone_base64(const audio_format *format, int duration_ms, size_t *chars)
{
    size_t n = (size_t)(format->bytes_per_ms * duration_ms);
    int width = format->is_pcm16 ? 2 : 1;
    uint8_t *raw = calloc(1, n + 3);
    char *text = malloc((n + 2) / 3 * 4 + 1), *p = text;
    if (raw == NULL || text == NULL)
        abort();
    for (size_t i = 0; i < n / (size_t)width; i++) {
        double t = (double)i / (format->bytes_per_ms * 1000.0 / width);
        int sample = (int)lrint(TONE_PEAK * sin(2 * M_PI * TONE_HZ * t));
        if (width == 1) {
            raw[i] = mulaw(sample);
        } else {
            raw[2 * i] = (uint8_t)sample;
            raw[2 * i + 1] = (uint8_t)((unsigned)sample >> 8);
        }
    }
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)raw[i] << 16 | (uint32_t)raw[i + 1] << 8 | raw[i + 2];
        for (int shift = 18; shift >= 0; shift -= 6)
            *p++ = BASE64[v >> shift & 63];
    }
    for (size_t pad = (3 - n % 3) % 3; pad > 0; pad--)
        p[-(ptrdiff_t)pad] = '=';
    *p = 0;
    *chars = (size_t)(p - text);
    free(raw);
    return text;
}

static size_t decoded_bytes(const char *audio, size_t chars)
{
    size_t pad = 0;
    while (pad < 2 && pad < chars && audio[chars - 1 - pad] == '=')
        pad++;
    return chars / 4 * 3 - (chars >= 4 ? pad : 0);
}

void track_begin(track *t, const audio_format *from, const audio_format *to, uint32_t chunk_ms)
{
    t->from = from;
    t->to = to;
    t->chunk_ms = chunk_ms;
    t->chunk_bytes = (uint32_t)to->bytes_per_ms * chunk_ms;
}

bool track_stamps(const track *t) { return t->from == t->to; }

void stamp(char out[STAMP_CHARS], char direction, int call_id, uint64_t number)
{
    out[0] = direction;
    for (int i = 1; i < 4; i++)
        out[i] = BASE64[call_id >> (6 * (i - 1)) & 63];
    for (int i = 4; i < 10; i++)
        out[i] = BASE64[number >> (6 * (i - 4)) & 63];
    memcpy(out + 10, "Stamp+", 6);
}

bool track_sent(track *t, int64_t now_ns, bool is_stamped)
{
    t->sent_ns[t->sent % RING_CHUNKS] = is_stamped ? -now_ns : now_ns;
    t->sent++;
    return the_plan.forget_every == 0 || t->sent % the_plan.forget_every != 0;
}

void track_received(track *t, const call *c, char direction, const char *audio, size_t chars, int64_t arrived_ns,
                    histogram *latency)
{
    size_t n = decoded_bytes(audio, chars);
    if (t->chunk_bytes == 0) /* audio before any format is agreed */
        return;
    if (n == t->chunk_bytes && t->completed < t->sent && t->sent_ns[t->completed % RING_CHUNKS] < 0 &&
        t->position_bytes == t->completed * t->chunk_bytes) {
        char expected[STAMP_CHARS];
        stamp(expected, direction, c->id, t->completed);
        if (memcmp(expected, audio, STAMP_CHARS) == 0)
            t->stamps_right++;
        else
            t->stamps_wrong++;
    }
    t->received_bytes += n;
    t->position_bytes += n;
    while (t->completed < t->sent && t->position_bytes >= (t->completed + 1) * t->chunk_bytes) {
        int64_t sent_ns = t->sent_ns[t->completed % RING_CHUNKS];
        if (sent_ns < 0)
            sent_ns = -sent_ns;
        if (sent_ns >= the_tally.window_from_ns && sent_ns < the_tally.window_to_ns)
            histogram_add(latency, arrived_ns - sent_ns);
        t->completed++;
    }
}

/* Chunk `chunk` begins with the very next byte: what is missing before it is lost, what is more is the tail of
 * the filter, or of several utterances that came in one stream. */
void track_align(track *t, uint64_t chunk)
{
    uint64_t start = chunk * t->chunk_bytes;
    if (t->position_bytes < start) {
        t->lost_bytes += start - t->position_bytes;
        t->completed = chunk;
    } else {
        t->surplus_bytes += t->position_bytes - start;
    }
    t->position_bytes = start;
}

uint64_t track_missing_bytes(const track *t)
{
    uint64_t due = t->sent * t->chunk_bytes;
    return t->lost_bytes + (due > t->position_bytes ? due - t->position_bytes : 0);
}

/* How far a transcoded message's loudness is from the tone's. The first and the last of an utterance hold the
 * filter's rise and tail, and are short of it by design: 1 dB is allowed for by the reader of the report. */
void level_check(call *c, const track *t, const char *audio, size_t chars)
{
    static int8_t value[256];
    if (!t->to->is_pcm16 || track_stamps(t) || t->completed < 2 || chars < 16)
        return;
    if (value['B'] == 0)
        for (int i = 0; i < 64; i++)
            value[(uint8_t)BASE64[i]] = (int8_t)i;
    double sum = 0;
    size_t n = decoded_bytes(audio, chars) / 2, samples = 0;
    uint8_t raw[3 * CHUNK_CHARS_MAX / 4];
    if (chars > CHUNK_CHARS_MAX || n < (size_t)t->to->bytes_per_ms * UP_CHUNK_MS / 2)
        return;
    for (size_t i = 0, at = 0; i + 4 <= chars; i += 4) {
        uint32_t v = 0;
        for (size_t k = 0; k < 4; k++)
            v = v << 6 | (uint32_t)value[(uint8_t)audio[i + k]];
        raw[at++] = (uint8_t)(v >> 16);
        raw[at++] = (uint8_t)(v >> 8);
        raw[at++] = (uint8_t)v;
    }
    for (; samples < n; samples++) {
        int16_t s = (int16_t)(raw[2 * samples] | raw[2 * samples + 1] << 8);
        sum += (double)s * s;
    }
    double db = fabs(10 * log10((sum / (double)samples + 1e-9) / (TONE_PEAK * TONE_PEAK / 2)));
    if (db > c->level_worst_db)
        c->level_worst_db = db;
}

void call_fail(call *c, const char *why)
{
    if (c->state == CALL_FAILED || c->state == CALL_ENDED)
        return;
    c->state = CALL_FAILED;
    if (the_tally.failed++ == 0)
        snprintf(the_tally.first_failure, sizeof the_tally.first_failure, "%s", why);
    if (c->caller != NULL)
        ws_drop(c->caller, "call failed");
    if (c->model != NULL)
        ws_drop(c->model, "call failed");
}

bool call_is_set_up(const call *c) { return c->state == CALL_TALKING && c->model != NULL && c->model_ready; }
