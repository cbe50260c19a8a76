/* libFuzzer target: loss concealment over any sound and any pattern of losses, cut into calls in two ways. */
#include "fuzz.h"

#include "fa_conceal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    static const int RATES[] = {8000, 16000, 24000, 11025};
    const int rate = RATES[fuzz_choice(&in, 4)];
    const size_t piece = 1 + fuzz_byte(&in);
    fa_conceal *whole = fuzz_room(FA_CONCEAL_BYTES(rate), 0), *parts = fuzz_room(FA_CONCEAL_BYTES(rate), 0);
    const int code = fa_conceal_init(whole, rate);
    REQUIRE(code == (rate == 11025 ? -1 : 0) && fa_conceal_init(parts, rate) == code);
    int16_t frame[FUZZ_FRAME] = {0};
    while (code == 0 && in.left > 0) {
        const uint8_t act = fuzz_byte(&in);
        const size_t n = act & 8 ? FUZZ_FRAME : fuzz_byte(&in) % (FUZZ_FRAME + 1u);
        if (act % 8 == 7) {
            fa_conceal_reset(whole);
            fa_conceal_reset(parts);
        } else if (act & 1) {
            fuzz_frame(&in, frame);
            int16_t *a = fuzz_copy(frame, 2 * n, 0), *b = fuzz_copy(frame, 2 * n, 2);
            fa_conceal_good(whole, a, n);
            for (size_t at = 0; at < n; at += piece)
                fa_conceal_good(parts, b + at, n - at < piece ? n - at : piece);
            REQUIRE(fuzz_same(a, b, 2 * n));
            fuzz_drop(a, 0);
            fuzz_drop(b, 2);
        } else {
            int16_t *a = fuzz_room(2 * n, 0), *b = fuzz_room(2 * n, 2);
            fa_conceal_lost(whole, a, n);
            for (size_t at = 0; at < n; at += piece)
                fa_conceal_lost(parts, b + at, n - at < piece ? n - at : piece);
            REQUIRE(fuzz_same(a, b, 2 * n));
            fuzz_drop(a, 0);
            fuzz_drop(b, 2);
        }
    }
    fuzz_drop(whole, 0);
    fuzz_drop(parts, 0);
    return 0;
}
