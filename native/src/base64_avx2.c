/* Base64, 24 bytes or 32 characters at a time; equal to base64.c in every byte and verdict.
 *
 * The method is the one of Mula and Lemire, "Faster Base64 Encoding and Decoding using AVX2 Instructions"
 * (2018). Nothing is read or written outside the given range: the last block overlaps the one before it.
 */
#include "fa_simd.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))

#define BOTH_HALVES(...) _mm256_setr_epi8(__VA_ARGS__, __VA_ARGS__)

AVX2 static inline void encode_block(const uint8_t *bytes, char *out)
{
    /* Twelve bytes to each half; the second load starts early so as to end with the block. */
    __m128i head = _mm_loadu_si128((const __m128i *)bytes);
    __m128i tail = _mm_loadu_si128((const __m128i *)(bytes + 8));
    __m256i x = _mm256_inserti128_si256(_mm256_castsi128_si256(head), tail, 1);
    x = _mm256_shuffle_epi8(x, _mm256_setr_epi8(1, 0, 2, 1, 4, 3, 5, 4, 7, 6, 8, 7, 10, 9, 11, 10,
                                                5, 4, 6, 5, 8, 7, 9, 8, 11, 10, 12, 11, 14, 13, 15, 14));
    /* Four values of six bits, moved to bytes of their own by multiplications that stand for shifts. */
    __m256i odd = _mm256_and_si256(x, _mm256_set1_epi32(0x0FC0FC00));
    __m256i even = _mm256_and_si256(x, _mm256_set1_epi32(0x003F03F0));
    odd = _mm256_mulhi_epu16(odd, _mm256_set1_epi32(0x04000040));
    even = _mm256_mullo_epi16(even, _mm256_set1_epi32(0x01000010));
    __m256i value = _mm256_or_si256(odd, even);
    /* Distance from a value to its symbol: class 0 is a-z, 1-10 the digits, 11 '+', 12 '/', 13 A-Z. */
    const __m256i distance =
        BOTH_HALVES('a' - 26, '0' - 52, '0' - 52, '0' - 52, '0' - 52, '0' - 52, '0' - 52, '0' - 52, '0' - 52,
                    '0' - 52, '0' - 52, '+' - 62, '/' - 63, 'A', 0, 0);
    __m256i class = _mm256_subs_epu8(value, _mm256_set1_epi8(51));
    __m256i capital = _mm256_cmpgt_epi8(_mm256_set1_epi8(26), value);
    class = _mm256_or_si256(class, _mm256_and_si256(capital, _mm256_set1_epi8(13)));
    _mm256_storeu_si256((__m256i *)out, _mm256_add_epi8(_mm256_shuffle_epi8(distance, class), value));
}

AVX2 void fa_base64_encode_avx2(const uint8_t *bytes, size_t n, char *out)
{
    size_t i = 0;
    for (; i + 24 <= n; i += 24)
        encode_block(bytes + i, out + i / 3 * 4);
    if (i < n)
        encode_block(bytes + n - 24, out + (n - 24) / 3 * 4);
}

/* Non-zero bits in a byte of the answer where a character is no symbol. */
AVX2 static inline __m256i faults(__m256i x, __m256i high)
{
    const __m256i of_low = BOTH_HALVES(0x15, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x13, 0x1A,
                                       0x1B, 0x1B, 0x1B, 0x1A);
    const __m256i of_high = BOTH_HALVES(0x10, 0x10, 0x01, 0x02, 0x04, 0x08, 0x04, 0x08, 0x10, 0x10, 0x10,
                                        0x10, 0x10, 0x10, 0x10, 0x10);
    __m256i low = _mm256_and_si256(x, _mm256_set1_epi8(0x0F));
    return _mm256_and_si256(_mm256_shuffle_epi8(of_low, low), _mm256_shuffle_epi8(of_high, high));
}

AVX2 static inline __m256i high_nibbles(__m256i x)
{
    return _mm256_and_si256(_mm256_srli_epi16(x, 4), _mm256_set1_epi8(0x0F));
}

/* Returns the faults; the bytes written mean nothing when there are any. */
AVX2 static inline __m256i decode_block(const char *text, uint8_t *out)
{
    /* Distance from a symbol to its value, by high nibble; '/' borrows the entry below its own. */
    const __m256i distance = BOTH_HALVES(0, 63 - '/', 62 - '+', 52 - '0', -'A', -'A', 26 - 'a', 26 - 'a', 0,
                                         0, 0, 0, 0, 0, 0, 0);
    __m256i x = _mm256_loadu_si256((const __m256i *)text);
    __m256i high = high_nibbles(x);
    __m256i fault = faults(x, high);
    __m256i slash = _mm256_cmpeq_epi8(x, _mm256_set1_epi8('/'));
    x = _mm256_add_epi8(x, _mm256_shuffle_epi8(distance, _mm256_add_epi8(high, slash)));
    /* 4 x 6 bits -> 2 x 12 -> 24, most significant first. */
    x = _mm256_maddubs_epi16(x, _mm256_set1_epi32(0x01400140));
    x = _mm256_madd_epi16(x, _mm256_set1_epi32(0x00011000));
    x = _mm256_shuffle_epi8(x, BOTH_HALVES(2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, -1, -1, -1, -1));
    x = _mm256_permutevar8x32_epi32(x, _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 3, 7));
    _mm_storeu_si128((__m128i *)out, _mm256_castsi256_si128(x));
    _mm_storel_epi64((__m128i *)(out + 16), _mm256_extracti128_si256(x, 1));
    return fault;
}

AVX2 static inline __m256i check_block(const char *text)
{
    __m256i x = _mm256_loadu_si256((const __m256i *)text);
    return faults(x, high_nibbles(x));
}

AVX2 int fa_base64_decode_avx2(const char *text, size_t n, uint8_t *out)
{
    __m256i fault = _mm256_setzero_si256();
    size_t i = 0;
    if (out != NULL) {
        for (; i + 32 <= n; i += 32)
            fault = _mm256_or_si256(fault, decode_block(text + i, out + i / 4 * 3));
        if (i < n)
            fault = _mm256_or_si256(fault, decode_block(text + n - 32, out + (n - 32) / 4 * 3));
    } else {
        for (; i + 32 <= n; i += 32)
            fault = _mm256_or_si256(fault, check_block(text + i));
        if (i < n)
            fault = _mm256_or_si256(fault, check_block(text + n - 32));
    }
    return _mm256_testz_si256(fault, fault) ? 0 : -1;
}

#else

/* ISO C wants a declaration in every file. */
typedef int fa_base64_avx2_absent;

#endif
