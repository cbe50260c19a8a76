#include "fa_utf8.h"

#include <string.h>

/* SSE2 is part of x86-64: nothing to dispatch. FA_SCALAR leaves it out; the fuzz target compares the two. */
#if defined(__SSE2__) && !defined(FA_SCALAR)
#include <emmintrin.h>
#endif

/* Inside a character: how many continuation bytes are due, and what the next one is limited to.
 * RFC 3629 section 4; the limits keep out overlong forms, surrogates and what lies past U+10FFFF. */
enum {
    DUE_1 = 2,      /* 80..BF */
    DUE_2 = 3,      /* 80..BF, then DUE_1 */
    DUE_3 = 4,      /* 80..BF, then DUE_2 */
    DUE_2_E0 = 5,   /* A0..BF, then DUE_1 */
    DUE_2_ED = 6,   /* 80..9F, then DUE_1 */
    DUE_3_F0 = 7,   /* 90..BF, then DUE_2 */
    DUE_3_F4 = 8,   /* 80..8F, then DUE_2 */
    STATES = 9,
};

static const struct {
    uint8_t low, high, next;
} CONTINUATION[STATES] = {
    [DUE_1] = {0x80, 0xBF, FA_UTF8_ACCEPT},
    [DUE_2] = {0x80, 0xBF, DUE_1},
    [DUE_3] = {0x80, 0xBF, DUE_2},
    [DUE_2_E0] = {0xA0, 0xBF, DUE_1},
    [DUE_2_ED] = {0x80, 0x9F, DUE_1},
    [DUE_3_F0] = {0x90, 0xBF, DUE_2},
    [DUE_3_F4] = {0x80, 0x8F, DUE_2},
};

static inline uint32_t after_lead(uint8_t lead)
{
    if (lead < 0x80)
        return FA_UTF8_ACCEPT;
    if (lead < 0xC2) /* a continuation byte, or the lead of an overlong pair */
        return FA_UTF8_REJECT;
    if (lead < 0xE0)
        return DUE_1;
    if (lead < 0xF0)
        return lead == 0xE0 ? DUE_2_E0 : lead == 0xED ? DUE_2_ED : DUE_2;
    if (lead < 0xF5)
        return lead == 0xF0 ? DUE_3_F0 : lead == 0xF4 ? DUE_3_F4 : DUE_3;
    return FA_UTF8_REJECT;
}

static inline const char *skip_ascii(const char *p, const char *end)
{
#if defined(__SSE2__) && !defined(FA_SCALAR)
    while (end - p >= 64) {
        const __m128i a = _mm_loadu_si128((const __m128i *)p);
        const __m128i b = _mm_loadu_si128((const __m128i *)(p + 16));
        const __m128i c = _mm_loadu_si128((const __m128i *)(p + 32));
        const __m128i d = _mm_loadu_si128((const __m128i *)(p + 48));
        if (_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(a, b), _mm_or_si128(c, d))) != 0)
            break;
        p += 64;
    }
    while (end - p >= 16) {
        const unsigned hits = (unsigned)_mm_movemask_epi8(_mm_loadu_si128((const __m128i *)p));
        if (hits != 0)
            return p + __builtin_ctz(hits);
        p += 16;
    }
#endif
    while (end - p >= 8) {
        uint64_t w;
        memcpy(&w, p, sizeof w);
        if (w & UINT64_C(0x8080808080808080))
            break;
        p += 8;
    }
    while (p < end && (uint8_t)*p < 0x80)
        p++;
    return p;
}

uint32_t fa_utf8_advance(uint32_t state, const char *text, size_t n)
{
    if (state == FA_UTF8_REJECT || state >= STATES)
        return FA_UTF8_REJECT;
    if (n == 0)
        return state;
    const char *p = text, *const end = text + n;
    while (p < end) {
        if (state == FA_UTF8_ACCEPT) {
            if ((uint8_t)*p < 0x80) {
                p = skip_ascii(p, end);
                continue;
            }
            state = after_lead((uint8_t)*p++);
            if (state == FA_UTF8_REJECT)
                return FA_UTF8_REJECT;
        } else {
            const uint8_t byte = (uint8_t)*p++;
            if (byte < CONTINUATION[state].low || byte > CONTINUATION[state].high)
                return FA_UTF8_REJECT;
            state = CONTINUATION[state].next;
        }
    }
    return state;
}
