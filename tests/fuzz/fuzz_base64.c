/* libFuzzer target: base64 on any text and any bytes, the vector bodies against the scalar one.
 *
 * The first byte picks the alignment and whether the rest is a text to decode, bytes to encode, or bytes whose
 * text is damaged at one place and decoded: so that long texts are right up to the place that counts.
 */
#include "fuzz.h"

#include "fa_base64.h"

size_t scalar_base64_encode(const uint8_t *bytes, size_t n, char *out);
ptrdiff_t scalar_base64_decode(const char *text, size_t n, uint8_t *out);
ptrdiff_t scalar_base64_validate(const char *text, size_t n);

static void check_decode(const char *text, size_t n, size_t shift)
{
    const size_t room = fa_base64_decoded_room(n);
    uint8_t *out = fuzz_room(room, shift), *again = fuzz_room(room, 0);
    const ptrdiff_t size = fa_base64_decode(text, n, out);
    REQUIRE(size == scalar_base64_decode(text, n, again));
    REQUIRE(size == fa_base64_validate(text, n) && size == scalar_base64_validate(text, n));
    REQUIRE(size >= FA_BASE64_BAD_PADDING && size <= (ptrdiff_t)room);
    if (size >= 0) {
        REQUIRE(fuzz_same(out, again, (size_t)size));
        /* Strict: a text that passes is the only text of its bytes. */
        REQUIRE(fa_base64_encoded_size((size_t)size) == n);
        char *canonical = fuzz_room(n, 0);
        REQUIRE(fa_base64_encode(out, (size_t)size, canonical) == n && fuzz_same(canonical, text, n));
        fuzz_drop(canonical, 0);
    }
    fuzz_drop(out, shift);
    fuzz_drop(again, 0);
}

static char *check_encode(const uint8_t *bytes, size_t n, size_t shift)
{
    const size_t size = fa_base64_encoded_size(n);
    char *text = fuzz_room(size, shift), *again = fuzz_room(size, 0);
    REQUIRE(fa_base64_encode(bytes, n, text) == size && scalar_base64_encode(bytes, n, again) == size);
    REQUIRE(fuzz_same(text, again, size));
    REQUIRE(fa_base64_validate(text, size) == (ptrdiff_t)n);
    fuzz_drop(again, 0);
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    const unsigned choice = fuzz_byte(&in);
    const size_t shift = choice / 3 % 32;
    if (choice % 3 == 0) {
        char *text = fuzz_copy(in.at, in.left, shift);
        check_decode(text, in.left, shift);
        fuzz_drop(text, shift);
        return 0;
    }
    const uint8_t damage = choice % 3 == 2 ? fuzz_byte(&in) : 0;
    const size_t place = choice % 3 == 2 ? fuzz_byte(&in) | (size_t)fuzz_byte(&in) << 8 : 0;
    uint8_t *bytes = fuzz_copy(in.at, in.left, shift);
    char *text = check_encode(bytes, in.left, shift);
    const size_t n = fa_base64_encoded_size(in.left);
    if (damage != 0 && n > 0)
        text[place % n] = (char)damage;
    check_decode(text, n, 0);
    fuzz_drop(text, shift);
    fuzz_drop(bytes, shift);
    return 0;
}
