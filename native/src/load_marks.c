/* The account of the audio: which frame, and which mark, of those sent is the one that arrived. */
#include "fa_load_engine.h"

#include <stdlib.h>
#include <string.h>

#include "fa_base64.h"

static void match_frame(fa_load *e, const connection *c, connection *from, const char *audio, size_t chars, int64_t at_ns)
{
    for (uint32_t i = 0; i < from->sent_count; i++) {
        const sent_frame *s = &from->sent[(from->sent_first + i) % FA_LOAD_SENT_MAX];
        if (s->chars != chars || memcmp(s->text, audio, chars) != 0)
            continue;
        e->counters[FA_LOAD_FRAMES_LOST] += i;
        e->counters[FA_LOAD_VERBATIM]++;
        load_record(e, c->is_up ? FA_LOAD_DOWN_FRAME : FA_LOAD_UP_FRAME, at_ns - s->due_ns);
        from->sent_first += i + 1;
        from->sent_count -= i + 1;
        return;
    }
}

/* A mark was found at `sample`: which of those sent is it? */
static void match_mark(fa_load *e, connection *c, connection *from, uint64_t sample, int64_t at_ns)
{
    int64_t slack_us = FA_LOAD_MARK_SLACK_MS * 1000;
    if (!from->is_accounted)
        return;
    while (from->marks_count > 0 &&
           at_ns - from->marks[from->marks_first % FA_LOAD_MARKS_MAX].due_ns > FA_LOAD_MARK_LIMIT_MS * NS_PER_MS) {
        from->marks_first++;
        from->marks_count--;
        e->counters[FA_LOAD_MARKS_LOST]++;
    }
    int64_t since_match_us = ((int64_t)sample - c->matched_sample) * 1000000 / c->sample_rate;
    int64_t since_last_us = (int64_t)(sample - c->last_mark) * 1000000 / c->sample_rate;
    int found = -1;
    for (uint32_t i = 0; i < from->marks_count && found < 0; i++) {
        const sent_mark *m = &from->marks[(from->marks_first + i) % FA_LOAD_MARKS_MAX];
        if (!c->has_match || llabs(m->position_us - c->matched_us - since_match_us) <= slack_us)
            found = (int)i;
    }
    /* Audio was lost, or added, since the last one that was recognised: two marks in a row tell where we are. */
    for (uint32_t i = 1; i < from->marks_count && found < 0 && c->has_last_mark; i++) {
        const sent_mark *m = &from->marks[(from->marks_first + i) % FA_LOAD_MARKS_MAX];
        const sent_mark *before = &from->marks[(from->marks_first + i - 1) % FA_LOAD_MARKS_MAX];
        if (llabs(m->position_us - before->position_us - since_last_us) <= slack_us)
            found = (int)i;
    }
    c->last_mark = sample;
    c->has_last_mark = true;
    if (found < 0) {
        e->counters[FA_LOAD_MARKS_UNKNOWN]++;
        return;
    }
    const sent_mark m = from->marks[(from->marks_first + (uint32_t)found) % FA_LOAD_MARKS_MAX];
    from->marks_first += (uint32_t)found + 1;
    from->marks_count -= (uint32_t)found + 1;
    e->counters[FA_LOAD_MARKS_LOST] += (uint64_t)found;
    e->counters[FA_LOAD_MARKS_HEARD]++;
    c->matched_us = m.position_us;
    c->matched_sample = (int64_t)sample;
    c->has_match = true;
    load_record(e, c->is_up ? FA_LOAD_DOWN_MARK : FA_LOAD_UP_MARK, at_ns - m.due_ns);
}

static void loud_sample(fa_load *e, connection *c, uint64_t sample, uint64_t quiet_ms, bool was_gap, int64_t at_ns)
{
    if (quiet_ms < FA_LOAD_QUIET_MS && !was_gap)
        return;
    if (c->is_expecting || !c->is_speech) {
        c->is_expecting = false;
        c->is_speech = true;
        load_tell(e, c, FA_LOAD_ONSET, at_ns, 0, NULL, 0);
    }
    /* After a gap, too: an answer that was cut in the midst of a word leaves no quiet behind. */
    if (c->peer >= 0)
        match_mark(e, c, e->connections[c->peer], sample, at_ns);
}

void load_take_audio(fa_load *e, connection *c, const char *text, size_t chars, int64_t at_ns)
{
    e->counters[FA_LOAD_FRAMES_RECEIVED]++;
    if (c->peer >= 0)
        match_frame(e, c, e->connections[c->peer], text, chars, at_ns);
    if (c->sample_rate == 0)
        return;
    uint64_t per_ms = (uint64_t)c->sample_rate / 1000;
    bool was_gap = at_ns - c->played_ns > FA_LOAD_QUIET_MS * NS_PER_MS;
    uint64_t before = c->samples;
    /* Pieces of whole groups of four characters, so that any size of message fits. */
    size_t piece_max = sizeof e->audio / 3 * 4 / 16 * 16;
    for (size_t at = 0; at < chars; at += piece_max) {
        size_t piece = chars - at < piece_max ? chars - at : piece_max;
        ptrdiff_t bytes = fa_base64_decode(text + at, piece, e->audio);
        if (bytes < 0) {
            e->counters[FA_LOAD_AUDIO_UNREADABLE]++;
            return;
        }
        size_t n = c->encoding == 'l' ? (size_t)bytes / 2 : (size_t)bytes;
        const int16_t *of_code = c->encoding == 'u' ? e->mulaw : e->alaw;
        for (size_t i = 0; i < n; i++) {
            int16_t s;
            if (c->encoding == 'l')
                memcpy(&s, e->audio + 2 * i, 2);
            else
                s = of_code[e->audio[i]];
            if (c->is_nameless && (s >= FA_SIGN_LEVEL || s <= -FA_SIGN_LEVEL)) {
                int number = fa_sign_read(&c->sign, c->samples + i, c->sample_rate);
                if (number >= 0)
                    load_tell(e, c, FA_LOAD_SIGN, at_ns, number, NULL, 0);
            }
            if (s < FA_LOAD_LOUD && s > -FA_LOAD_LOUD) {
                c->quiet++;
                continue;
            }
            if (c->quiet >= FA_LOAD_QUIET_MS * per_ms || was_gap || c->is_expecting) {
                loud_sample(e, c, c->samples + i, c->quiet / per_ms, was_gap, at_ns);
                was_gap = false;
            }
            c->quiet = 0;
        }
        c->samples += n;
        if (c->is_speech && c->end_quiet_ms > 0 && c->quiet >= (uint64_t)c->end_quiet_ms * per_ms) {
            c->is_speech = false;
            load_tell(e, c, FA_LOAD_QUIET, at_ns, (int64_t)(c->quiet / per_ms), NULL, 0);
        }
    }
    c->last_audio_ns = at_ns;
    c->played_ns = (c->played_ns > at_ns ? c->played_ns : at_ns) +
                   (int64_t)(c->samples - before) * 1000000000 / c->sample_rate;
}
