/* Base64 in plain C: what is canonical (RFC 4648, sections 3.5 and 4), and the choice of a faster body.
 *
 * All groups but the last are free of padding and go to a body that only knows symbols; the last group is
 * looked at here. When several things are wrong the first in the text is the one reported. Decoding writes
 * no byte beyond those that the text stands for, which is less than the contract allows: the binding relies
 * on it.
 */
#include "fa_base64.h"

#include "fa_simd.h"

FA_CHOOSE_AVX2

static const char SYMBOLS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Value of a symbol; NONE, which has bits that no value has, for anything else. */
enum { NONE = 0xFF };
static const uint8_t VALUES[256] = {
#define NONE16 NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE
    NONE16, NONE16,
    NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, 62,   NONE, NONE, NONE, 63,
    52,   53,   54,   55,   56,   57,   58,   59,   60,   61,   NONE, NONE, NONE, NONE, NONE, NONE,
    NONE, 0,    1,    2,    3,    4,    5,    6,    7,    8,    9,    10,   11,   12,   13,   14,
    15,   16,   17,   18,   19,   20,   21,   22,   23,   24,   25,   NONE, NONE, NONE, NONE, NONE,
    NONE, 26,   27,   28,   29,   30,   31,   32,   33,   34,   35,   36,   37,   38,   39,   40,
    41,   42,   43,   44,   45,   46,   47,   48,   49,   50,   51,   NONE, NONE, NONE, NONE, NONE,
    NONE16, NONE16, NONE16, NONE16, NONE16, NONE16, NONE16, NONE16,
#undef NONE16
};

static inline unsigned value_of(char symbol) { return VALUES[(uint8_t)symbol]; }

static void encode_groups_scalar(const uint8_t *bytes, size_t n, char *out)
{
    for (size_t i = 0; i < n; i += 3, out += 4) {
        unsigned group = (unsigned)bytes[i] << 16 | (unsigned)bytes[i + 1] << 8 | bytes[i + 2];
        out[0] = SYMBOLS[group >> 18];
        out[1] = SYMBOLS[(group >> 12) & 63];
        out[2] = SYMBOLS[(group >> 6) & 63];
        out[3] = SYMBOLS[group & 63];
    }
}

/* As fa_base64_decode_avx2, for any number of groups. */
static int decode_groups_scalar(const char *text, size_t n, uint8_t *out)
{
    unsigned seen = 0; /* every value or-ed together: only NONE sets the top bits */
    for (size_t i = 0; i < n; i += 4) {
        unsigned a = value_of(text[i]), b = value_of(text[i + 1]);
        unsigned c = value_of(text[i + 2]), d = value_of(text[i + 3]);
        seen |= a | b | c | d;
        if (out != NULL) {
            out[0] = (uint8_t)(a << 2 | b >> 4);
            out[1] = (uint8_t)(b << 4 | c >> 2);
            out[2] = (uint8_t)(c << 6 | d);
            out += 3;
        }
    }
    return seen > 63 ? -1 : 0;
}

static void encode_groups(const uint8_t *bytes, size_t n, char *out)
{
    if (use_avx2 && n >= FA_BASE64_ENCODE_AVX2_MIN)
        fa_base64_encode_avx2(bytes, n, out);
    else
        encode_groups_scalar(bytes, n, out);
}

static int decode_groups(const char *text, size_t n, uint8_t *out)
{
    if (use_avx2 && n >= FA_BASE64_DECODE_AVX2_MIN)
        return fa_base64_decode_avx2(text, n, out);
    return decode_groups_scalar(text, n, out);
}

static ptrdiff_t fault_of(char offender)
{
    return offender == '=' ? FA_BASE64_BAD_PADDING : FA_BASE64_BAD_SYMBOL;
}

static ptrdiff_t first_fault(const char *text)
{
    while (value_of(*text) != NONE)
        text++;
    return fault_of(*text);
}

/* The last four characters: one to three bytes, or a negative code. */
static ptrdiff_t decode_last(const char *text, uint8_t *out)
{
    unsigned a = value_of(text[0]), b = value_of(text[1]), c = value_of(text[2]), d = value_of(text[3]);
    if (a == NONE)
        return fault_of(text[0]);
    if (b == NONE)
        return fault_of(text[1]);
    ptrdiff_t count = 3;
    if (c == NONE) {
        if (text[2] != '=' || text[3] != '=')
            return fault_of(text[2]);
        count = 1;
        c = d = 0;
    } else if (d == NONE) {
        if (text[3] != '=')
            return FA_BASE64_BAD_SYMBOL;
        count = 2;
        d = 0;
    }
    uint8_t group[3] = {(uint8_t)(a << 2 | b >> 4), (uint8_t)(b << 4 | c >> 2), (uint8_t)(c << 6 | d)};
    if (count < 3 && group[count] != 0) /* two texts would stand for the same bytes */
        return FA_BASE64_BAD_PADDING;
    if (out != NULL)
        memcpy(out, group, (size_t)count);
    return count;
}

static ptrdiff_t decode_or_validate(const char *text, size_t n, uint8_t *out)
{
    if (n % 4 != 0)
        return FA_BASE64_BAD_LENGTH;
    if (n == 0)
        return 0;
    size_t body = n - 4;
    if (decode_groups(text, body, out) != 0)
        return first_fault(text);
    ptrdiff_t rest = decode_last(text + body, out == NULL ? NULL : out + body / 4 * 3);
    return rest < 0 ? rest : (ptrdiff_t)(body / 4 * 3) + rest;
}

size_t fa_base64_encode(const uint8_t *bytes, size_t n, char *out)
{
    size_t body = n - n % 3;
    encode_groups(bytes, body, out);
    if (n > body) {
        char *last = out + body / 3 * 4;
        unsigned group = (unsigned)bytes[body] << 8 | (n - body == 2 ? bytes[body + 1] : 0U);
        last[0] = SYMBOLS[group >> 10];
        last[1] = SYMBOLS[(group >> 4) & 63];
        last[2] = n - body == 2 ? SYMBOLS[(group << 2) & 63] : '=';
        last[3] = '=';
    }
    return fa_base64_encoded_size(n);
}

ptrdiff_t fa_base64_decode(const char *text, size_t n, uint8_t *out)
{
    return decode_or_validate(text, n, out);
}

ptrdiff_t fa_base64_validate(const char *text, size_t n)
{
    return decode_or_validate(text, n, NULL);
}

const char *fa_base64_variant(void) { return FA_VARIANT_NAME; }
