#include "fa_tap.h"

#include <math.h>
#include <string.h>

enum { FOLLOWED_PAUSE = FA_REFERENCE_HZ }; /* samples: words after a longer pause are counted from their own start */
static const double SLOT_S = (double)FA_SLOT_SAMPLES / FA_REFERENCE_HZ;

_Static_assert(FA_FRAME_SAMPLES == FA_SLOT_SAMPLES, "one clock for both directions");

static fa_level_encoding level_encoding(int encoding) {
    return encoding == FA_ULAW ? FA_LEVEL_MULAW : encoding == FA_ALAW ? FA_LEVEL_ALAW : FA_LEVEL_PCM16;
}

int fa_tap_init(fa_tap *t, int encoding, int sample_rate, int riff) {
    memset(t, 0, sizeof *t);
    t->sample_rate = sample_rate;
    if (fa_converter_init(&t->caller, encoding, sample_rate, FA_PCM16, sample_rate, riff) < 0 ||
        fa_converter_init(&t->bot, encoding, sample_rate, FA_PCM16, sample_rate, 0) < 0 ||
        fa_level_init(&t->caller_level, sample_rate, level_encoding(encoding)) < 0 ||
        fa_level_init(&t->bot_level, sample_rate, level_encoding(encoding)) < 0)
        return -1;
    return 0;
}

int fa_tap_open_ears(fa_tap *t, fa_ears *e, int wants, const fa_speech_options *speech, double now_s) {
    memset(e, 0, sizeof *e);
    if (t->sample_rate != FA_REFERENCE_HZ &&
        (fa_resampler_init(&e->caller_down, t->sample_rate, FA_REFERENCE_HZ) < 0 ||
         fa_resampler_init(&e->bot_down, t->sample_rate, FA_REFERENCE_HZ) < 0))
        return -1;
    if (fa_speech_init(&e->speech, speech) < 0)
        return -1;
    fa_bands_init(&e->caller_bands);
    fa_bands_init(&e->bot_bands);
    fa_vad_init(&e->vad);
    fa_bargein_init(&e->gate);
    fa_dtmf_init(&e->dtmf);
    fa_stream_clock_init(&e->stream);
    fa_reference_init(&e->reference, now_s);
    for (int i = 0; i < FA_TAP_SLOTS; i++)
        e->slots[i].power = -1;
    e->wants = (uint8_t)wants;
    t->ears = e;
    return 0;
}

void fa_tap_close_ears(fa_tap *t) {
    if (t->ears != NULL)
        fa_reference_clear(&t->ears->reference);
    t->ears = NULL;
}

static void tell(fa_tap *t, fa_tap_kind kind, int64_t position, char digit) {
    if (t->events_waiting == FA_TAP_EVENTS) {
        t->events_dropped++;
        return;
    }
    t->events[t->events_waiting++] = (fa_tap_event){position < 0 ? 0 : position, (uint8_t)kind, digit};
}

/* Takes the slots that are over: the bot as the caller hears it. */
static void drain(fa_ears *e, double now_s) {
    int16_t pcm[FA_SLOT_SAMPLES];
    int audible;
    while (fa_reference_next(&e->reference, now_s, pcm, &audible)) {
        int64_t slot = e->reference.slots - 1;
        fa_tap_slot *s = &e->slots[slot % FA_TAP_SLOTS];
        if (audible && e->played_sink != NULL)
            e->played_sink(e->sink_context, pcm, slot);
        if (!(e->wants & (FA_TAP_OVERLAP | FA_TAP_SPEECH)) || (!audible && !e->bot_rings)) {
            s->power = -1;
            continue;
        }
        fa_band_frame f;
        fa_bands_process(&e->bot_bands, pcm, &f);
        memcpy(s->band, f.band, sizeof s->band);
        s->power = f.power;
        e->bot_rings = audible != 0;
    }
}

static int64_t slot_at(const fa_ears *e, double captured_s) {
    return (int64_t)floor((captured_s - e->reference.begun_s) / SLOT_S) - 1;
}

/* What was played while a frame of the caller's was captured; NULL for nothing. */
static const fa_band_frame *played_at(const fa_ears *e, int64_t slot, fa_band_frame *frame) {
    if (slot < 0 || slot >= e->reference.slots)
        return NULL;
    const fa_tap_slot *s = &e->slots[slot % FA_TAP_SLOTS];
    if (s->power < 0)
        return NULL;
    memset(frame, 0, sizeof *frame);
    memcpy(frame->band, s->band, sizeof frame->band);
    frame->power = s->power;
    return frame;
}

/* Keeps when the caller's words over the bot began and when they were last heard. */
static void follow_overlap(fa_tap *t, fa_ears *e, int is_confirmed) {
    if (is_confirmed) {
        int64_t begin = e->position - (int64_t)fa_bargein_onset_frames(&e->gate) * FA_FRAME_SAMPLES;
        int is_anew = !e->was_confirmed && e->position - e->over_end > FOLLOWED_PAUSE;
        if (!e->is_followed || is_anew)
            e->over_begin = begin > 0 ? begin : 0;
        e->over_end = e->position - (int64_t)fa_bargein_pause_ms(&e->gate) * FA_REFERENCE_HZ / 1000;
        e->is_followed = 1;
        if (!e->was_confirmed && e->wants & FA_TAP_OVERLAP)
            tell(t, FA_TAP_OVERLAP_CONFIRMED, begin, 0);
    }
    e->was_confirmed = (uint8_t)is_confirmed;
}

static void listen_for_speech(fa_tap *t, fa_ears *e, double captured_s) {
    fa_band_frame caller, bot;
    fa_bands_process(&e->caller_bands, e->frame, &caller);
    float probability = e->detector != NULL ? e->detector(e->detector_context, e->frame)
                                            : fa_vad_process(&e->vad, e->frame, &caller);
    if (!(probability >= 0)) /* a detector of somebody else's may say anything */
        probability = 0;
    if (fa_dtmf_digit(&e->dtmf)) {
        /* A key is pressed: whatever the detector makes of the tone's edges, nobody speaks. */
        probability = 0;
        fa_tap_rearm(t);
    }
    int64_t slot = slot_at(e, captured_s);
    if (e->stream.is_in_doubt || slot < e->reference.slots - FA_TAP_SLOTS) {
        /* It is not known what was played meanwhile: this may be echo, and is no proof of anything. */
        if (fa_bargein_bot_audible(&e->gate))
            probability = 0;
    } else {
        int verdict = fa_bargein_process(&e->gate, &caller, played_at(e, slot, &bot), probability);
        follow_overlap(t, e, verdict == FA_BARGEIN_CONFIRMED);
        /* While the bot is heard, only what is surely somebody else's begins an utterance. */
        if (verdict != FA_BARGEIN_CONFIRMED && fa_bargein_bot_audible(&e->gate))
            probability = 0;
    }
    if (e->wants & FA_TAP_SPEECH) {
        int64_t position = 0;
        switch (fa_speech_process(&e->speech, probability, &position)) {
        case FA_SPEECH_STARTED:
            tell(t, FA_TAP_SPEECH_STARTED, position, 0);
            break;
        case FA_SPEECH_STOPPED:
            tell(t, FA_TAP_SPEECH_STOPPED, position, 0);
            break;
        case FA_SPEECH_NONE:
            break;
        }
    }
}

static void listen_for_digits(fa_tap *t, fa_ears *e) {
    fa_dtmf_event found[FA_DTMF_ROOM(FA_FRAME_SAMPLES)];
    int n = fa_dtmf_process(&e->dtmf, e->frame, FA_FRAME_SAMPLES, found, FA_DTMF_ROOM(FA_FRAME_SAMPLES));
    for (int i = 0; i < n; i++)
        if (!found[i].is_end && e->wants & FA_TAP_DTMF)
            tell(t, FA_TAP_DIGIT, found[i].position, found[i].digit);
}

static void hear(fa_tap *t, fa_ears *e, const int16_t *pcm, size_t n, double now_s) {
    if (e->wants & (FA_TAP_PLAYED | FA_TAP_OVERLAP | FA_TAP_SPEECH))
        drain(e, now_s);
    if (e->caller_sink != NULL)
        e->caller_sink(e->sink_context, pcm, n, now_s);
    if (!(e->wants & (FA_TAP_SPEECH | FA_TAP_OVERLAP | FA_TAP_DTMF)))
        return;
    double captured_s = fa_stream_clock_take(&e->stream, (int)n, now_s);
    while (n) {
        size_t room = FA_FRAME_SAMPLES - e->fill;
        size_t piece = n < room ? n : room;
        memcpy(e->frame + e->fill, pcm, piece * sizeof *pcm);
        e->fill = (uint16_t)(e->fill + piece);
        pcm += piece;
        n -= piece;
        if (e->fill < FA_FRAME_SAMPLES)
            return;
        e->fill = 0;
        e->position += FA_FRAME_SAMPLES;
        listen_for_digits(t, e);
        if (e->wants & (FA_TAP_SPEECH | FA_TAP_OVERLAP))
            listen_for_speech(t, e, captured_s - (double)n / FA_REFERENCE_HZ);
    }
}

/* At 8 kHz the samples stay where they are. */
static const int16_t *down(fa_resampler *r, int sample_rate, const int16_t *pcm, size_t *n, int16_t *room) {
    if (sample_rate == FA_REFERENCE_HZ)
        return pcm;
    *n = fa_resampler_process(r, pcm, *n, room);
    return room;
}

/* The samples of some bytes. Linear ones that lie well are taken where they are. */
static const int16_t *samples_of(fa_converter *c, const uint8_t *bytes, size_t *n, int16_t *room) {
    if (c->in_encoding == FA_PCM16 && !c->riff && !c->carry_size && !((*n | (uintptr_t)bytes) & 1)) {
        *n /= sizeof *room;
        return (const int16_t *)bytes;
    }
    *n = fa_converter_process(c, bytes, *n, (uint8_t *)room) / sizeof *room;
    return room;
}

static int wants(const fa_tap *t, uint8_t *passed, fa_level *level, double now_s) {
    if (t->ears != NULL)
        return 1;
    int is_wanted = *passed == 0;
    *passed = (uint8_t)((*passed + 1) % FA_TAP_MEASURED_EVERY);
    if (!is_wanted)
        fa_level_arrived(level, now_s);
    return is_wanted;
}

int fa_tap_wants_caller(fa_tap *t, double now_s) {
    return wants(t, &t->caller_passed, &t->caller_level, now_s);
}

int fa_tap_wants_bot(fa_tap *t, double now_s) {
    return wants(t, &t->bot_passed, &t->bot_level, now_s);
}

void fa_tap_caller(fa_tap *t, const uint8_t *bytes, size_t n, int begins, double now_s) {
    int16_t room[FA_TAP_BLOCK_BYTES + FA_RIFF_HEADER_MAX], slow[FA_TAP_BLOCK_BYTES + FA_RIFF_HEADER_MAX];
    if (n > FA_TAP_BLOCK_BYTES)
        n = FA_TAP_BLOCK_BYTES;
    if (begins)
        fa_converter_begin_chunk(&t->caller);
    size_t samples = n;
    const int16_t *pcm = samples_of(&t->caller, bytes, &samples, room);
    fa_level_process(&t->caller_level, pcm, samples, now_s);
    if (t->ears != NULL && samples) {
        const int16_t *heard = down(&t->ears->caller_down, t->sample_rate, pcm, &samples, slow);
        hear(t, t->ears, heard, samples, now_s);
    }
}

void fa_tap_caller_reset(fa_tap *t) {
    fa_converter_reset(&t->caller);
    if (t->ears == NULL)
        return;
    fa_ears *e = t->ears;
    if (t->sample_rate != FA_REFERENCE_HZ)
        fa_resampler_reset(&e->caller_down);
    e->fill = 0;
    fa_stream_clock_init(&e->stream);
    fa_dtmf_reset(&e->dtmf);
    fa_bands_init(&e->caller_bands);
    fa_vad_reset(&e->vad);
    fa_speech_reset(&e->speech);
    e->position = 0;
    fa_tap_rearm(t);
}

uint32_t fa_tap_spoken_ms(const fa_tap *t) {
    const fa_ears *e = t->ears;
    return e != NULL && e->is_followed ? (uint32_t)((e->over_end - e->over_begin) * 1000 / FA_REFERENCE_HZ) : 0;
}

uint32_t fa_tap_quiet_ms(const fa_tap *t) {
    const fa_ears *e = t->ears;
    if (e == NULL || !e->is_followed)
        return FA_TAP_LONG_MS;
    int64_t quiet = (e->position - e->over_end) * 1000 / FA_REFERENCE_HZ;
    return quiet < FA_TAP_LONG_MS ? (uint32_t)quiet : FA_TAP_LONG_MS;
}

void fa_tap_rearm(fa_tap *t) {
    if (t->ears == NULL)
        return;
    fa_bargein_rearm(&t->ears->gate);
    t->ears->is_followed = t->ears->was_confirmed = 0;
}

int fa_tap_bot(fa_tap *t, const uint8_t *bytes, size_t n, double now_s) {
    int16_t room[FA_TAP_BLOCK_BYTES + 1], slow[FA_TAP_BLOCK_BYTES + 1];
    while (n) {
        size_t piece = n < FA_TAP_BLOCK_BYTES ? n : FA_TAP_BLOCK_BYTES;
        size_t samples = piece;
        const int16_t *pcm = samples_of(&t->bot, bytes, &samples, room);
        bytes += piece;
        n -= piece;
        fa_level_process(&t->bot_level, pcm, samples, now_s);
        if (t->ears == NULL || !(t->ears->wants & (FA_TAP_OVERLAP | FA_TAP_SPEECH | FA_TAP_PLAYED)))
            continue;
        fa_ears *e = t->ears;
        const int16_t *said = down(&e->bot_down, t->sample_rate, pcm, &samples, slow);
        drain(e, now_s);
        if (fa_reference_sent(&e->reference, said, samples, now_s) < 0)
            return -1;
    }
    return 0;
}

void fa_tap_cut(fa_tap *t, double now_s) {
    if (t->ears == NULL)
        return;
    drain(t->ears, now_s);
    fa_reference_cut(&t->ears->reference, now_s);
    if (t->sample_rate != FA_REFERENCE_HZ)
        fa_resampler_reset(&t->ears->bot_down);
}

void fa_tap_settle(fa_tap *t, double now_s) {
    if (t->ears != NULL)
        drain(t->ears, now_s);
}
