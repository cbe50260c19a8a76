/* libFuzzer target: the recorder's timeline under any order of calls and any times.
 *
 * What is taken is whole samples of both channels, never beyond the wall, and after the flush exactly up to it.
 */
#include "fuzz.h"

#include "fa_record.h"

enum { CALLER, BOT, ADVANCE, PAUSE, RESUME, TAKE, FLUSH, ACTS };

enum { UNTIL_EMPTY = 1 << 30 };

static size_t take(fa_recorder *r, int encoding, size_t room, int times)
{
    size_t total = 0;
    while (times-- > 0) {
        const size_t due = fa_record_due(r);
        REQUIRE(due <= FA_RECORD_RING_BYTES(encoding));
        uint8_t *out = fuzz_room(room, 1);
        const size_t written = fa_record_take(r, out, room);
        fuzz_drop(out, 1);
        REQUIRE(written <= room && written <= due && written % (encoding == FA_RECORD_MULAW ? 2 : 4) == 0);
        total += written;
        if (written == 0)
            break;
    }
    return total;
}

static size_t take_all(fa_recorder *r, int encoding)
{
    return take(r, encoding, FA_RECORD_RING_BYTES(encoding), UNTIL_EMPTY);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 1024)
        return 0; /* an hour of silence is written for one byte of it */
    fuzz_input in = {data, size};
    const int encoding = (int)fuzz_choice(&in, 3);
    uint8_t *ring = fuzz_room(FA_RECORD_RING_BYTES(encoding), 0);
    fa_recorder *r = fuzz_room(sizeof *r, 0);
    double now = 1000;
    const int code = fa_record_init(r, encoding, ring, now);
    REQUIRE(code == (encoding <= FA_RECORD_MULAW ? 0 : -1));
    size_t bytes = 0;
    const size_t block = encoding == FA_RECORD_MULAW ? 2 : 4;
    int hours = 0, is_over = 0;
    while (code == 0 && in.left > 0) {
        const unsigned act = fuzz_byte(&in);
        int16_t frame[FUZZ_FRAME] = {0};
        switch (act % ACTS) {
        case CALLER: {
            fuzz_frame(&in, frame);
            const size_t n = act & 128 ? fuzz_byte(&in) % (FUZZ_FRAME + 1u) : FUZZ_FRAME;
            int16_t *pcm = fuzz_copy(frame, 2 * n, 1 & act >> 6);
            size_t fed = fa_record_caller(r, pcm, n, now);
            REQUIRE(fed <= n);
            bytes += take_all(r, encoding);
            REQUIRE(fed == n || fa_record_caller(r, pcm + fed, n - fed, now) == n - fed);
            bytes += take_all(r, encoding);
            fuzz_drop(pcm, 1 & act >> 6);
            break;
        }
        case BOT: {
            fuzz_frame(&in, frame);
            int16_t *pcm = fuzz_copy(frame, sizeof frame, 0);
            fa_record_bot(r, pcm, FUZZ_FRAME, fa_record_position(r, now) + fuzz_sample(&in));
            fuzz_drop(pcm, 0);
            break;
        }
        case ADVANCE:
            fa_record_advance(r, now);
            bytes += take_all(r, encoding);
            break;
        case PAUSE:
            REQUIRE(fa_record_pause(r, now) >= 0);
            bytes += take_all(r, encoding);
            break;
        case RESUME:
            REQUIRE(fa_record_resume(r, now) >= 0);
            bytes += take_all(r, encoding);
            break;
        case TAKE:
            bytes += take(r, encoding, fuzz_byte(&in), 4);
            break;
        case FLUSH:
            if (act < 8)
                is_over = 1;
            if (is_over) {
                fa_record_flush(r, now);
                bytes += take_all(r, encoding);
            }
            break;
        }
        REQUIRE((int64_t)(bytes / block) == r->origin && (is_over || r->origin <= r->wall));
        REQUIRE(r->padded >= 0 && r->dropped >= 0 && r->misplaced >= 0);
        const double later = fuzz_later(&in, now);
        if (later - now > 600 && ++hours > 1)
            continue;
        now = later;
    }
    if (code == 0) {
        fa_record_flush(r, now);
        bytes += take_all(r, encoding);
        REQUIRE((int64_t)(bytes / block) == r->origin && fa_record_due(r) == 0);
    }
    fuzz_drop(ring, 0);
    fuzz_drop(r, 0);
    return 0;
}
