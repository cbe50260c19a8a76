/* libFuzzer target: the resampler in any chunking gives the samples it promises, and the same ones.
 *
 * The first byte picks the pair of rates; then come the lengths of up to eight chunks (the last one is repeated),
 * then samples.
 */
#include "fuzz.h"

#include "fa_resample.h"

int scalar_resampler_init(fa_resampler *r, int in_rate, int out_rate);
size_t scalar_resampler_process(fa_resampler *r, const int16_t *pcm, size_t n, int16_t *out);
size_t scalar_resampler_flush(fa_resampler *r, int16_t *out);

static const int RATES[][2] = {
    {8000, 16000}, {16000, 8000}, {8000, 24000}, {24000, 8000}, {16000, 24000}, {24000, 16000},
};

enum { CHUNKS = 8 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    const int *rates = RATES[fuzz_choice(&in, sizeof RATES / sizeof RATES[0])];
    size_t lengths[CHUNKS];
    for (int i = 0; i < CHUNKS; i++)
        lengths[i] = fuzz_byte(&in);
    size_t n;
    int16_t *pcm = fuzz_samples(&in, &n);
    fa_resampler *whole = fuzz_room(sizeof *whole, 0), *parts = fuzz_room(sizeof *parts, 0);
    REQUIRE(fa_resampler_init(parts, rates[0], rates[0] + 1) == -1);
    REQUIRE(fa_resampler_init(parts, rates[0], rates[1]) == 0);
    REQUIRE(scalar_resampler_init(whole, rates[0], rates[1]) == 0);

    const size_t room = fa_resampler_room(whole, n);
    int16_t *expected = fuzz_room(2 * room, 0);
    const size_t total = scalar_resampler_process(whole, pcm, n, expected);
    REQUIRE(total <= room);
    REQUIRE(total == (n * (size_t)rates[1] + (size_t)rates[0] - 1) / (size_t)rates[0]);

    size_t fed = 0, came = 0;
    for (int i = 0; fed < n; i++) {
        size_t length = lengths[i < CHUNKS ? i : CHUNKS - 1];
        if (i >= CHUNKS && length == 0)
            length = 1;
        if (length > n - fed)
            length = n - fed;
        int16_t *chunk = fuzz_copy(pcm + fed, 2 * length, 2);
        const size_t chunk_room = fa_resampler_room(parts, length);
        int16_t *out = fuzz_room(2 * chunk_room, 2);
        const size_t written = fa_resampler_process(parts, chunk, length, out);
        REQUIRE(written <= chunk_room && came + written <= total);
        REQUIRE(fuzz_same(out, expected + came, 2 * written));
        came += written;
        fed += length;
        fuzz_drop(chunk, 2);
        fuzz_drop(out, 2);
    }
    REQUIRE(came == total);

    int16_t *tail = fuzz_room(2 * FA_RESAMPLE_FLUSH_ROOM, 0), *again = fuzz_room(2 * FA_RESAMPLE_FLUSH_ROOM, 0);
    const size_t held = fa_resampler_flush(parts, tail);
    REQUIRE(held <= FA_RESAMPLE_FLUSH_ROOM && held == scalar_resampler_flush(whole, again));
    REQUIRE(fuzz_same(tail, again, 2 * held));
    /* Flushed is as new. */
    const size_t fresh = fa_resampler_process(parts, pcm, n, expected);
    REQUIRE(fresh == total && scalar_resampler_init(whole, rates[0], rates[1]) == 0);
    int16_t *first = fuzz_room(2 * room, 0);
    scalar_resampler_process(whole, pcm, n, first);
    REQUIRE(fuzz_same(first, expected, 2 * total));

    fuzz_drop(first, 0);
    fuzz_drop(tail, 0);
    fuzz_drop(again, 0);
    fuzz_drop(expected, 0);
    fuzz_drop(whole, 0);
    fuzz_drop(parts, 0);
    fuzz_drop(pcm, 0);
    return 0;
}
