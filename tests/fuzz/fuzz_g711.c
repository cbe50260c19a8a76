/* libFuzzer target: G.711 on any samples and codes at any alignment, the vector bodies against the scalar one. */
#include "fuzz.h"

#include "fa_g711.h"

void scalar_ulaw_encode(const int16_t *pcm, size_t n, uint8_t *out);
void scalar_ulaw_decode(const uint8_t *codes, size_t n, int16_t *out);
void scalar_alaw_encode(const int16_t *pcm, size_t n, uint8_t *out);
void scalar_alaw_decode(const uint8_t *codes, size_t n, int16_t *out);

typedef struct {
    void (*encode)(const int16_t *, size_t, uint8_t *);
    void (*decode)(const uint8_t *, size_t, int16_t *);
    void (*scalar_encode)(const int16_t *, size_t, uint8_t *);
    void (*scalar_decode)(const uint8_t *, size_t, int16_t *);
} law;

static const law LAWS[] = {
    {fa_ulaw_encode, fa_ulaw_decode, scalar_ulaw_encode, scalar_ulaw_decode},
    {fa_alaw_encode, fa_alaw_decode, scalar_alaw_encode, scalar_alaw_decode},
};

static void check(const law *l, const int16_t *pcm, size_t n, size_t shift)
{
    uint8_t *codes = fuzz_room(n, shift), *again = fuzz_room(n, 0);
    l->encode(pcm, n, codes);
    l->scalar_encode(pcm, n, again);
    REQUIRE(fuzz_same(codes, again, n));
    int16_t *heard = fuzz_room(2 * n, 2), *twice = fuzz_room(2 * n, 0);
    l->decode(codes, n, heard);
    l->scalar_decode(codes, n, twice);
    REQUIRE(fuzz_same(heard, twice, 2 * n));
    /* A decoded sample is one that encoding and decoding leave alone. */
    l->encode(heard, n, again);
    l->decode(again, n, twice);
    REQUIRE(fuzz_same(heard, twice, 2 * n));
    fuzz_drop(codes, shift);
    fuzz_drop(again, 0);
    fuzz_drop(heard, 2);
    fuzz_drop(twice, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    const unsigned choice = fuzz_byte(&in);
    const law *l = &LAWS[choice & 1];
    const size_t shift = choice >> 1 & 31;
    /* The bytes as codes, and then as samples. */
    int16_t *heard = fuzz_room(2 * in.left, 0), *twice = fuzz_room(2 * in.left, 0);
    uint8_t *codes = fuzz_copy(in.at, in.left, shift);
    l->decode(codes, in.left, heard);
    l->scalar_decode(codes, in.left, twice);
    REQUIRE(fuzz_same(heard, twice, 2 * in.left));
    fuzz_drop(codes, shift);
    fuzz_drop(heard, 0);
    fuzz_drop(twice, 0);
    size_t n;
    int16_t *pcm = fuzz_samples(&in, &n);
    check(l, pcm, n, shift);
    fuzz_drop(pcm, 0);
    return 0;
}
