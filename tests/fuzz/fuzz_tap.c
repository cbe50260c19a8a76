/* libFuzzer target: everything that listens beside the path, together: any audio of both directions, any times,
 * cuts and resets.
 */
#include "fuzz.h"

#include "fa_tap.h"

typedef struct {
    int64_t slot;
    double now_s;
} sinks;

static void caller_sink(void *context, const int16_t *pcm, size_t n, double now_s)
{
    const sinks *s = context;
    REQUIRE(now_s <= s->now_s);
    for (size_t i = 0; i < n; i++)
        REQUIRE(pcm[i] >= -32768);
}

static void played_sink(void *context, const int16_t *pcm, int64_t slot)
{
    sinks *s = context;
    REQUIRE(slot > s->slot && pcm != NULL);
    s->slot = slot;
}

static float other_detector(void *context, const int16_t *frame)
{
    (void)context;
    return frame[0] > 0 ? 1.0f : 0.0f;
}

static void check_events(fa_tap *tap)
{
    REQUIRE(tap->events_waiting <= FA_TAP_EVENTS);
    for (int i = 0; i < tap->events_waiting; i++) {
        const fa_tap_event *event = &tap->events[i];
        REQUIRE(event->kind >= FA_TAP_SPEECH_STARTED && event->kind <= FA_TAP_DIGIT);
        REQUIRE(event->position >= 0);
        REQUIRE((event->kind == FA_TAP_DIGIT) == (event->digit != 0));
    }
    tap->events_waiting = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    static const int FORMATS[][2] = {
        {FA_PCM16, 8000}, {FA_PCM16, 16000}, {FA_PCM16, 24000}, {FA_ULAW, 8000}, {FA_ALAW, 8000}, {FA_PCM16, 11025},
    };
    const int *form = FORMATS[fuzz_choice(&in, 6)];
    const unsigned options = fuzz_byte(&in);
    double now_s = 1000;
    sinks told = {.slot = -1, .now_s = now_s};
    fa_tap *tap = fuzz_room(sizeof *tap, 0);
    fa_ears *ears = fuzz_room(sizeof *ears, 0);
    fa_speech_options speech;
    REQUIRE(fa_speech_preset("balanced", &speech) == 0);
    int code = fa_tap_init(tap, form[0], form[1], options & 1);
    int has_ears = 0;
    if (code == 0 && options & 2) {
        has_ears = fa_tap_open_ears(tap, ears, (int)(options >> 2 & 31), &speech, now_s) == 0;
        if (has_ears) {
            ears->sink_context = &told;
            ears->caller_sink = caller_sink;
            ears->played_sink = played_sink;
            if (options & 128)
                ears->detector = other_detector;
        }
    }
    while (code == 0 && in.left > 0) {
        const uint8_t act = fuzz_byte(&in);
        int16_t pcm[FUZZ_FRAME] = {0};
        const size_t n = act & 64 ? fuzz_byte(&in) % (sizeof pcm + 1) : sizeof pcm;
        told.now_s = now_s;
        switch (act % 8) {
        case 0:
            fa_tap_cut(tap, now_s);
            break;
        case 1:
            fa_tap_caller_reset(tap);
            break;
        case 2:
            fa_tap_settle(tap, now_s);
            break;
        case 3:
        case 4: {
            fuzz_frame(&in, pcm);
            uint8_t *bytes = fuzz_copy(pcm, n, act & 128 ? 1 : 0);
            REQUIRE(fa_tap_bot(tap, bytes, n, now_s) == 0);
            fuzz_drop(bytes, act & 128 ? 1 : 0);
            break;
        }
        default: {
            fuzz_frame(&in, pcm);
            uint8_t *bytes = fuzz_copy(pcm, n, act & 128 ? 1 : 0);
            fa_tap_caller(tap, bytes, n, act & 32, now_s);
            fuzz_drop(bytes, act & 128 ? 1 : 0);
            now_s = fuzz_later(&in, now_s);
        }
        }
        check_events(tap);
    }
    if (has_ears)
        fa_tap_close_ears(tap);
    fuzz_drop(tap, 0);
    fuzz_drop(ears, 0);
    return 0;
}
