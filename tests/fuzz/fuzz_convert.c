/* libFuzzer target: the converter, RIFF headers included, in any chunking.
 *
 * The first bytes pick encodings, rates and whether headers may come. The rest is cut into the peer's chunks:
 * a length byte (its value times four) and as many bytes. Each chunk is fed at once to one converter and in
 * pieces to another; both must give the same, within the room they asked for.
 */
#include "fuzz.h"

#include "fa_convert.h"

static const int RATES[][2] = {
    {8000, 8000},  {16000, 16000}, {24000, 24000}, {8000, 16000},  {16000, 8000},
    {8000, 24000}, {24000, 8000},  {16000, 24000}, {24000, 16000},
};

typedef struct {
    fa_converter converter;
    uint8_t out[1 << 16];
    size_t written;
} stream;

static void feed(stream *s, const uint8_t *bytes, size_t n, size_t shift)
{
    uint8_t *chunk = fuzz_copy(bytes, n, shift);
    const size_t room = fa_converter_room(&s->converter, n);
    /* A kernel writes PCM16 as int16_t: its buffer is aligned as malloc aligns. */
    uint8_t *out = fuzz_room(room, 0);
    const size_t written = fa_converter_process(&s->converter, chunk, n, out);
    REQUIRE(written <= room && s->written + written <= sizeof s->out);
    if (written > 0)
        memcpy(s->out + s->written, out, written);
    s->written += written;
    fuzz_drop(chunk, shift);
    fuzz_drop(out, 0);
}

static void finish(stream *s)
{
    uint8_t *tail = fuzz_room(2 * FA_RESAMPLE_FLUSH_ROOM, 0);
    const size_t written = fa_converter_flush(&s->converter, tail);
    REQUIRE(written <= 2 * FA_RESAMPLE_FLUSH_ROOM && s->written + written <= sizeof s->out);
    if (written > 0)
        memcpy(s->out + s->written, tail, written);
    s->written += written;
    fuzz_drop(tail, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 4096)
        return 0; /* what the output has room for, six bytes for one */
    fuzz_input in = {data, size};
    const int in_encoding = (int)fuzz_choice(&in, 3), out_encoding = (int)fuzz_choice(&in, 3);
    const int *rates = RATES[fuzz_choice(&in, sizeof RATES / sizeof RATES[0])];
    const int riff = fuzz_byte(&in) & 1;
    const size_t piece = 1 + fuzz_byte(&in);
    const size_t shift = in_encoding == FA_PCM16 ? 0 : piece & 7;

    static stream whole, parts;
    whole.written = parts.written = 0;
    REQUIRE(fa_converter_init(&whole.converter, in_encoding, rates[0], out_encoding, rates[1], riff) == 0);
    REQUIRE(fa_converter_init(&parts.converter, in_encoding, rates[0], out_encoding, rates[1], riff) == 0);
    while (in.left > 0) {
        size_t n = (size_t)fuzz_byte(&in) * 4;
        if (n > in.left)
            n = in.left;
        fa_converter_begin_chunk(&whole.converter);
        fa_converter_begin_chunk(&parts.converter);
        feed(&whole, in.at, n, shift);
        for (size_t at = 0; at < n; at += piece)
            feed(&parts, in.at + at, n - at < piece ? n - at : piece, shift);
        REQUIRE(whole.written == parts.written);
        REQUIRE(whole.converter.samples_in == parts.converter.samples_in);
        in.at += n;
        in.left -= n;
    }
    finish(&whole);
    finish(&parts);
    REQUIRE(whole.written == parts.written && fuzz_same(whole.out, parts.out, whole.written));
    return 0;
}
