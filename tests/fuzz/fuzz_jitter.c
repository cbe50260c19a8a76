/* libFuzzer target: the jitter buffer under any numbering, timing, sizes and order of calls.
 *
 * The first bytes are a configuration; then acts. A payload tells its sequence number, so that what comes out is
 * what went in under that number; no packet comes out twice or out of order.
 */
#include "fuzz.h"

#include "fa_jitter.h"

static void fill(uint8_t *payload, size_t n, uint16_t seq)
{
    for (size_t i = 0; i < n; i++)
        payload[i] = (uint8_t)(seq * 31u + i);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    static const uint32_t CLOCKS[] = {8000, 16000, 48000, 192000, 7999};
    fa_jitter_config config = {
        .clock_hz = CLOCKS[fuzz_choice(&in, 5)],
        .slots = 1u << fuzz_choice(&in, 12),
        .slot_bytes = fuzz_byte(&in),
        .initial_ms = (uint32_t)fuzz_byte(&in) * 2,
        .min_ms = fuzz_byte(&in),
        .max_ms = (uint32_t)fuzz_byte(&in) * 9,
        .path_ms = fuzz_byte(&in),
    };
    config.frame = config.clock_hz / 1000 * fuzz_byte(&in) / 2;
    const size_t arena_bytes = fa_jitter_arena_bytes(&config);
    fa_jitter *jitter = fuzz_room(sizeof *jitter, 0);
    void *arena = fuzz_room(arena_bytes, 0);
    REQUIRE(arena_bytes == 0 || fa_jitter_init(jitter, &config, arena, arena_bytes - 1) == FA_JITTER_BAD_ARGUMENT);
    if (fa_jitter_init(jitter, &config, arena, arena_bytes) != 0) {
        REQUIRE(arena_bytes == 0);
        fuzz_drop(arena, 0);
        fuzz_drop(jitter, 0);
        return 0;
    }
    REQUIRE(arena_bytes > 0);
    const double frame_s = (double)config.frame / config.clock_hz;
    double now = 1000;
    uint16_t seq = (uint16_t)fuzz_sample(&in), last_seq = 0;
    uint32_t timestamp = (uint32_t)(uint16_t)fuzz_sample(&in) << 16;
    int has_last = 0;
    while (in.left > 0) {
        const uint8_t act = fuzz_byte(&in);
        const uint64_t resets = jitter->counters.resets;
        uint16_t number = seq;
        uint32_t stamp = timestamp, duration = 0;
        switch (act % 8) {
        case 5: /* anything */
            number = (uint16_t)fuzz_sample(&in);
            stamp = (uint32_t)(uint16_t)fuzz_sample(&in) << 8 | fuzz_byte(&in);
            duration = (uint16_t)fuzz_sample(&in);
            break;
        case 6: { /* near the present one */
            const int step = (int8_t)fuzz_byte(&in);
            number = (uint16_t)(seq + step);
            stamp = timestamp + (uint32_t)step * config.frame;
            break;
        }
        case 7:
            if (fuzz_byte(&in) < 16) {
                fa_jitter_reset(jitter);
                has_last = 0;
            }
            now = fuzz_later(&in, now);
            continue;
        default:
            seq++;
            timestamp += config.frame;
        }
        if (act & 8 || act % 8 >= 5) {
            const size_t n = act & 16 ? fuzz_byte(&in) : config.slot_bytes;
            uint8_t *payload = fuzz_room(n, 1);
            fill(payload, n, number);
            const int verdict = fa_jitter_put(jitter, number, stamp, payload, n, duration, now);
            REQUIRE(verdict >= FA_JITTER_NO_ROOM && verdict <= FA_JITTER_HELD);
            REQUIRE((verdict == FA_JITTER_NO_ROOM) == (n > config.slot_bytes));
            fuzz_drop(payload, 1);
        }
        if (act & 32) {
            const size_t room = act & 64 ? fuzz_byte(&in) : config.slot_bytes;
            uint8_t *out = fuzz_room(room, 1);
            fa_jitter_frame *frame = fuzz_room(sizeof *frame, 0);
            const int verdict = fa_jitter_get(jitter, now, act >> 7, out, room, frame);
            REQUIRE(verdict >= FA_JITTER_NO_ROOM && verdict <= FA_JITTER_PREFETCH);
            if (jitter->counters.resets != resets)
                has_last = 0; /* numbered anew, by this call or the put before it */
            if (verdict == FA_JITTER_FRAME) {
                REQUIRE(frame->bytes <= room);
                for (size_t i = 0; i < frame->bytes; i++)
                    REQUIRE(out[i] == (uint8_t)(frame->seq * 31u + i));
                REQUIRE(!has_last || (int16_t)(uint16_t)(frame->seq - last_seq) > 0);
                last_seq = frame->seq;
                has_last = 1;
            } else {
                REQUIRE(frame->bytes == 0);
            }
            REQUIRE((frame->duration > 0) == (verdict >= 0));
            fuzz_drop(out, 1);
            fuzz_drop(frame, 0);
            now += frame_s;
        }
        if (jitter->counters.resets != resets && !(act & 32))
            has_last = 0;
        REQUIRE(isfinite(fa_jitter_delay_ms(jitter)) && isfinite(fa_jitter_target_ms(jitter)));
        REQUIRE(jitter->count <= config.slots);
    }
    fuzz_drop(arena, 0);
    fuzz_drop(jitter, 0);
    return 0;
}
