/* libFuzzer target: the envelope scanner, its unescaping and the UTF-8 validator on any bytes.
 *
 * The scalar bodies must agree with the vector ones in all. The first input byte picks a spec and where the
 * UTF-8 text is cut.
 */
#include "fuzz.h"

#include "fa_envelope.h"
#include "fa_utf8.h"

int scalar_envelope_scan(const fa_envelope_spec *spec, const char *text, size_t n, fa_envelope_match *match);
ptrdiff_t scalar_envelope_unescape(const fa_span *span, char *out);
uint32_t scalar_utf8_advance(uint32_t state, const char *text, size_t n);

#define PATH1(a) {.key = {a}, .size = {sizeof(a) - 1}, .depth = 1}
#define PATH2(a, b) {.key = {a, b}, .size = {sizeof(a) - 1, sizeof(b) - 1}, .depth = 2}

static const fa_envelope_spec SPECS[] = {
    {
        .discriminator = PATH1("type"),
        .value = {"userStream.chunk"}, .value_size = {16}, .values = 1,
        .audio = PATH1("audioChunk"),
        .field = {PATH1("participant")}, .fields = 1,
    },
    {
        .discriminator = PATH1("event"),
        .value = {"media"}, .value_size = {5}, .values = 1,
        .audio = PATH2("media", "payload"),
        .field = {PATH2("media", "timestamp"), PATH1("media")}, .fields = 2,
    },
    {
        /* One-letter names: reached by mutation without a dictionary. */
        .discriminator = PATH1("t"),
        .value = {"m", "\xc3\xa9"}, .value_size = {1, 2}, .values = 2,
        .audio = PATH1("a"),
        .field = {PATH1("f"), PATH2("f", "g"), PATH1("t")}, .fields = 3,
    },
};

static void check_span(const fa_span *a, const fa_span *b, const char *text, size_t n)
{
    REQUIRE(a->kind == b->kind && a->escaped == b->escaped && a->size == b->size && a->start == b->start);
    if (a->kind == FA_JSON_ABSENT)
        return;
    REQUIRE(a->start >= text && a->start + a->size <= text + n);
    if (a->kind != FA_JSON_STRING)
        return;
    REQUIRE(a->start > text && a->start[-1] == '"');
    REQUIRE(a->start + a->size < text + n && a->start[a->size] == '"');
    REQUIRE(a->escaped == (a->size > 0 && memchr(a->start, '\\', a->size) != NULL));

    char *out = malloc(a->size + 1), *again = malloc(a->size + 1);
    REQUIRE(out != NULL && again != NULL);
    out[a->size] = again[a->size] = 0x55;
    const ptrdiff_t written = fa_envelope_unescape(a, out);
    REQUIRE(scalar_envelope_unescape(a, again) == written);
    REQUIRE(written == FA_ENVELOPE_MALFORMED || (written >= 0 && (size_t)written <= a->size));
    REQUIRE(out[a->size] == 0x55);
    if (written > 0)
        REQUIRE(memcmp(out, again, (size_t)written) == 0);
    /* What an escape writes is valid UTF-8, so unescaping never spoils valid text. */
    if (written >= 0 && fa_utf8_advance(FA_UTF8_ACCEPT, a->start, a->size) == FA_UTF8_ACCEPT)
        REQUIRE(fa_utf8_advance(FA_UTF8_ACCEPT, out, (size_t)written) == FA_UTF8_ACCEPT);
    free(out);
    free(again);
}

static void check_scan(const fa_envelope_spec *spec, const char *text, size_t n)
{
    fa_envelope_match match, again;
    const int code = fa_envelope_scan(spec, text, n, &match);
    REQUIRE(code == scalar_envelope_scan(spec, text, n, &again));
    REQUIRE(code <= FA_ENVELOPE_MEDIA && code >= FA_ENVELOPE_NO_AUDIO);
    if (code != FA_ENVELOPE_MEDIA)
        return;
    REQUIRE(match.value == again.value && match.value >= 0 && match.value < spec->values);
    REQUIRE(match.audio.kind == FA_JSON_STRING);
    check_span(&match.audio, &again.audio, text, n);
    for (int i = 0; i < spec->fields; i++)
        check_span(&match.field[i], &again.field[i], text, n);
    /* A media message was read to its end, so no shorter text is one, but for white space behind it. */
    const char last = text[n - 1];
    const int is_space = last == ' ' || last == '\t' || last == '\n' || last == '\r';
    REQUIRE((fa_envelope_scan(spec, text, n - 1, &again) == FA_ENVELOPE_MEDIA) == is_space);
}

static void check_utf8(const char *text, size_t n, size_t cut)
{
    const uint32_t whole = fa_utf8_advance(FA_UTF8_ACCEPT, text, n);
    REQUIRE(whole == scalar_utf8_advance(FA_UTF8_ACCEPT, text, n));
    if (cut > n)
        cut = n;
    REQUIRE(whole == fa_utf8_advance(fa_utf8_advance(FA_UTF8_ACCEPT, text, cut), text + cut, n - cut));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const size_t n = size - 1;
    char *text = fuzz_copy(data + 1, n, 0);
    check_scan(&SPECS[data[0] % (sizeof SPECS / sizeof SPECS[0])], text, n);
    check_utf8(text, n, data[0]);
    fuzz_drop(text, 0);
    return 0;
}
