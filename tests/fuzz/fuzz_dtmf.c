/* libFuzzer target: DTMF detection in any chunking, and generation with any settings.
 *
 * The first bytes are chunk lengths and a sound; the rest makes frames, some of them digits of that sound.
 */
#include "fuzz.h"

#include "fa_dtmf.h"

enum { FRAMES = 400, CHUNKS = 4 };

static void check_event(const fa_dtmf_event *event, int64_t heard, char *sounding, int64_t *last)
{
    REQUIRE(event->digit != 0 && strchr("0123456789*#ABCD", event->digit) != NULL);
    REQUIRE(event->position >= 0 && event->duration >= 0 && event->position + event->duration <= heard);
    REQUIRE(event->is_end == (*sounding != 0));
    REQUIRE(event->position >= *last);
    if (event->is_end)
        REQUIRE(event->digit == *sounding);
    *last = event->position;
    *sounding = event->is_end ? 0 : event->digit;
}

static size_t generate(fuzz_input *in, int16_t *pcm, size_t room)
{
    fa_dtmf_sound sound = {
        .sample_rate = 8000,
        .tone = (size_t)fuzz_byte(in) * 4,
        .pause = (size_t)fuzz_byte(in) * 4,
        .low_peak = fuzz_sample(in),
        .high_peak = fuzz_sample(in),
    };
    sound.ramp = (size_t)fuzz_byte(in) * sound.tone / 512;
    char digits[3];
    for (int i = 0; i < 3; i++)
        digits[i] = (char)fuzz_byte(in);
    const size_t size = 3 * (sound.tone + sound.pause);
    if (size > room)
        return 0;
    int16_t *out = fuzz_room(2 * size, 0);
    const int64_t written = fa_dtmf_generate(&sound, digits, 3, out);
    REQUIRE(written == -1 || written == (int64_t)size);
    if (written > 0)
        memcpy(pcm, out, 2 * size);
    fuzz_drop(out, 0);
    return written > 0 ? size : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    size_t lengths[CHUNKS];
    for (int i = 0; i < CHUNKS; i++)
        lengths[i] = 1 + (size_t)fuzz_byte(&in) * 3;
    static int16_t pcm[FRAMES * FUZZ_FRAME];
    memset(pcm, 0, 2 * FUZZ_FRAME);
    size_t n = 0;
    while (in.left > 0 && n + FUZZ_FRAME <= sizeof pcm / 2) {
        if (fuzz_byte(&in) % 4 == 0) {
            n += generate(&in, pcm + n, sizeof pcm / 2 - n);
        } else {
            if (n >= FUZZ_FRAME)
                memcpy(pcm + n, pcm + n - FUZZ_FRAME, 2 * FUZZ_FRAME);
            fuzz_frame(&in, pcm + n);
            n += FUZZ_FRAME;
        }
    }

    fa_dtmf *whole = fuzz_room(sizeof *whole, 0), *parts = fuzz_room(sizeof *parts, 0);
    fa_dtmf_init(whole);
    fa_dtmf_init(parts);
    const size_t room = FA_DTMF_ROOM(n);
    fa_dtmf_event *expected = fuzz_room((room + 1) * sizeof *expected, 0);
    memset(expected, 0, (room + 1) * sizeof *expected);
    int16_t *exact = fuzz_copy(pcm, 2 * n, 0);
    REQUIRE(fa_dtmf_process(whole, exact, n, expected, room - 1) == -1);
    const int total = fa_dtmf_process(whole, exact, n, expected, room);
    fuzz_drop(exact, 0);
    REQUIRE(total >= 0 && (size_t)total <= room);
    char sounding = 0;
    int64_t last = 0;
    for (int i = 0; i < total; i++)
        check_event(&expected[i], (int64_t)n, &sounding, &last);
    REQUIRE(fa_dtmf_digit(whole) == sounding);
    const int rest = fa_dtmf_flush(whole, &expected[total]);
    REQUIRE(rest == (sounding != 0));
    if (rest)
        check_event(&expected[total], (int64_t)n, &sounding, &last);

    int came = 0;
    for (size_t fed = 0, i = 0; fed < n; i++) {
        const size_t length = lengths[i % CHUNKS] < n - fed ? lengths[i % CHUNKS] : n - fed;
        int16_t *chunk = fuzz_copy(pcm + fed, 2 * length, 2);
        fa_dtmf_event *events = fuzz_room(FA_DTMF_ROOM(length) * sizeof *events, 0);
        const int count = fa_dtmf_process(parts, chunk, length, events, FA_DTMF_ROOM(length));
        REQUIRE(count >= 0 && came + count <= total);
        for (int k = 0; k < count; k++) {
            const fa_dtmf_event *a = &events[k], *b = &expected[came + k];
            REQUIRE(a->position == b->position && a->duration == b->duration);
            REQUIRE(a->digit == b->digit && a->is_end == b->is_end);
        }
        came += count;
        fed += length;
        fuzz_drop(chunk, 2);
        fuzz_drop(events, 0);
    }
    REQUIRE(came == total);
    fuzz_drop(expected, 0);
    fuzz_drop(whole, 0);
    fuzz_drop(parts, 0);
    return 0;
}
