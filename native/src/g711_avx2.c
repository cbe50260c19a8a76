/* G.711, 32 samples at a time; bit-equal to g711.c.
 *
 * AVX2 has no shift of 16-bit lanes by a vector. The segment number comes from two nibble look-ups, and a
 * power of two looked up from it multiplies instead of shifting: the high half of x * 2^(16 - s) is x >> s.
 */
#include "fa_simd.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))
#define BLOCK FA_G711_AVX2_MIN

/* Both 128-bit halves hold the same look-up table. */
AVX2 static inline __m256i table(const uint8_t values[16])
{
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)values));
}

/* The segments of 32 magnitudes from their leading bits, a byte each: the larger of two nibbles' answers. */
AVX2 static inline __m256i segments(__m256i leading, const uint8_t of_low[16], const uint8_t of_high[16])
{
    const __m256i nibble = _mm256_set1_epi8(0x0F);
    __m256i low = _mm256_and_si256(leading, nibble);
    __m256i high = _mm256_and_si256(_mm256_srli_epi16(leading, 4), nibble);
    low = _mm256_shuffle_epi8(table(of_low), low);
    high = _mm256_shuffle_epi8(table(of_high), high);
    return _mm256_max_epu8(low, high);
}

/* segment << 4 | mantissa for 32 magnitudes, `first` and `second`; the mantissa is x >> s with 2^(8 - s)
 * looked up as a byte. Inverts what is given in `toggle` for a negative sample, and the sign bit too for
 * the others. */
AVX2 static inline void store_codes(__m256i first, __m256i second, __m256i segment, const uint8_t powers[16],
                                    __m256i negative, int toggle, uint8_t *out)
{
    const __m256i zero = _mm256_setzero_si256();
    __m256i power = _mm256_shuffle_epi8(table(powers), segment);
    first = _mm256_mulhi_epu16(first, _mm256_unpacklo_epi8(zero, power));
    second = _mm256_mulhi_epu16(second, _mm256_unpackhi_epi8(zero, power));
    __m256i mantissa = _mm256_and_si256(_mm256_packus_epi16(first, second), _mm256_set1_epi8(0x0F));
    __m256i code = _mm256_or_si256(_mm256_slli_epi16(segment, 4), mantissa);
    __m256i sign = _mm256_and_si256(negative, _mm256_set1_epi8((char)0x80));
    code = _mm256_xor_si256(code, _mm256_xor_si256(sign, _mm256_set1_epi8((char)(toggle | 0x80))));
    /* Packing works within halves, which leaves the four quarters in the order 0 2 1 3. */
    _mm256_storeu_si256((__m256i *)out, _mm256_permute4x64_epi64(code, 0xD8));
}

AVX2 static inline void ulaw_encode_block(const char *pcm, uint8_t *out)
{
    static const uint8_t of_low[16] = {0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3};
    static const uint8_t of_high[16] = {0, 4, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7, 7, 7, 7, 7};
    static const uint8_t powers[16] = {128, 64, 32, 16, 8, 4, 2, 1};
    const __m256i bias = _mm256_set1_epi16(33), top = _mm256_set1_epi16(0x1FFF);
    __m256i x = _mm256_loadu_si256((const __m256i *)pcm);
    __m256i y = _mm256_loadu_si256((const __m256i *)(pcm + 32));
    __m256i x_sign = _mm256_srai_epi16(x, 15), y_sign = _mm256_srai_epi16(y, 15);
    x = _mm256_srli_epi16(_mm256_xor_si256(x, x_sign), 2);
    y = _mm256_srli_epi16(_mm256_xor_si256(y, y_sign), 2);
    x = _mm256_min_epi16(_mm256_add_epi16(x, bias), top);
    y = _mm256_min_epi16(_mm256_add_epi16(y, bias), top);
    __m256i leading = _mm256_packus_epi16(_mm256_srli_epi16(x, 5), _mm256_srli_epi16(y, 5));
    __m256i segment = segments(leading, of_low, of_high);
    store_codes(x, y, segment, powers, _mm256_packs_epi16(x_sign, y_sign), 0x7F, out);
}

AVX2 static inline void alaw_encode_block(const char *pcm, uint8_t *out)
{
    static const uint8_t of_low[16] = {0, 1, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 4};
    static const uint8_t of_high[16] = {0, 5, 6, 6, 7, 7, 7, 7};
    static const uint8_t powers[16] = {128, 128, 64, 32, 16, 8, 4, 2};
    __m256i x = _mm256_loadu_si256((const __m256i *)pcm);
    __m256i y = _mm256_loadu_si256((const __m256i *)(pcm + 32));
    __m256i x_sign = _mm256_srai_epi16(x, 15), y_sign = _mm256_srai_epi16(y, 15);
    x = _mm256_xor_si256(x, x_sign);
    y = _mm256_xor_si256(y, y_sign);
    __m256i leading = _mm256_packus_epi16(_mm256_srli_epi16(x, 8), _mm256_srli_epi16(y, 8));
    __m256i segment = segments(leading, of_low, of_high);
    /* One bit more than the 12 of the law, so that even a shift of none has a power that fits a byte. */
    x = _mm256_srli_epi16(x, 3);
    y = _mm256_srli_epi16(y, 3);
    store_codes(x, y, segment, powers, _mm256_packs_epi16(x_sign, y_sign), 0x55, out);
}

/* Magnitude (8 * mantissa + offset) * power - bias; `negative` has bit 7 set where a sample is below zero. */
AVX2 static inline void store_samples(__m256i code, __m256i offset, const uint8_t powers[16], int bias,
                                      __m256i negative, char *out)
{
    const __m256i zero = _mm256_setzero_si256(), one = _mm256_set1_epi8(1);
    const __m256i below = _mm256_set1_epi16((short)bias);
    __m256i segment = _mm256_and_si256(_mm256_srli_epi16(code, 4), _mm256_set1_epi8(7));
    __m256i power = _mm256_shuffle_epi8(table(powers), segment);
    __m256i step = _mm256_slli_epi16(_mm256_and_si256(code, _mm256_set1_epi8(0x0F)), 3);
    step = _mm256_add_epi8(step, offset);
    __m256i x = _mm256_mullo_epi16(_mm256_unpacklo_epi8(step, zero), _mm256_unpacklo_epi8(power, zero));
    __m256i y = _mm256_mullo_epi16(_mm256_unpackhi_epi8(step, zero), _mm256_unpackhi_epi8(power, zero));
    x = _mm256_sign_epi16(_mm256_sub_epi16(x, below), _mm256_unpacklo_epi8(one, negative));
    y = _mm256_sign_epi16(_mm256_sub_epi16(y, below), _mm256_unpackhi_epi8(one, negative));
    _mm256_storeu_si256((__m256i *)out, x);
    _mm256_storeu_si256((__m256i *)(out + 32), y);
}

AVX2 static inline void ulaw_decode_block(const uint8_t *codes, char *out)
{
    static const uint8_t powers[16] = {1, 2, 4, 8, 16, 32, 64, 128};
    __m256i code = _mm256_permute4x64_epi64(_mm256_loadu_si256((const __m256i *)codes), 0xD8);
    code = _mm256_xor_si256(code, _mm256_set1_epi8((char)0xFF));
    store_samples(code, _mm256_set1_epi8((char)132), powers, 132, code, out);
}

AVX2 static inline void alaw_decode_block(const uint8_t *codes, char *out)
{
    /* Half of the law's steps times twice its powers: both fit a byte. */
    static const uint8_t powers[16] = {2, 2, 4, 8, 16, 32, 64, 128};
    const __m256i segment_bits = _mm256_set1_epi8(0x70);
    __m256i code = _mm256_permute4x64_epi64(_mm256_loadu_si256((const __m256i *)codes), 0xD8);
    code = _mm256_xor_si256(code, _mm256_set1_epi8(0x55));
    __m256i lowest = _mm256_cmpeq_epi8(_mm256_and_si256(code, segment_bits), _mm256_setzero_si256());
    __m256i offset = _mm256_andnot_si256(lowest, _mm256_set1_epi8((char)0x80));
    offset = _mm256_or_si256(offset, _mm256_set1_epi8(4));
    store_samples(code, offset, powers, 0, _mm256_xor_si256(code, _mm256_set1_epi8((char)0xFF)), out);
}

/* The last block overlaps the one before it: writing the same codes twice is cheaper than a scalar rest. */
#define EACH_BLOCK(i, n, work)                      \
    do {                                            \
        size_t i = 0;                               \
        for (; i + BLOCK <= (n); i += BLOCK) {      \
            work;                                   \
        }                                           \
        if (i < (n)) {                              \
            i = (n) - BLOCK;                        \
            work;                                   \
        }                                           \
    } while (0)

AVX2 void fa_ulaw_encode_avx2(const int16_t *pcm, size_t n, uint8_t *out)
{
    EACH_BLOCK(i, n, ulaw_encode_block((const char *)pcm + 2 * i, out + i));
}

AVX2 void fa_ulaw_decode_avx2(const uint8_t *codes, size_t n, int16_t *out)
{
    EACH_BLOCK(i, n, ulaw_decode_block(codes + i, (char *)out + 2 * i));
}

AVX2 void fa_alaw_encode_avx2(const int16_t *pcm, size_t n, uint8_t *out)
{
    EACH_BLOCK(i, n, alaw_encode_block((const char *)pcm + 2 * i, out + i));
}

AVX2 void fa_alaw_decode_avx2(const uint8_t *codes, size_t n, int16_t *out)
{
    EACH_BLOCK(i, n, alaw_decode_block(codes + i, (char *)out + 2 * i));
}

#else

/* ISO C wants a declaration in every file. */
typedef int fa_g711_avx2_absent;

#endif
