/* G.711 in plain C: what the codes mean, and the choice of a faster body.
 *
 * The arithmetic follows ITU-T G.711, tables 1a-2b, with the rounding of the G.191 reference program: a
 * negative sample is complemented, not negated, so that -1 is coded as the smallest negative value. The
 * loops are free of branches and tables; compilers turn them into vector code where the processor has
 * lane-wise shifts.
 */
#include "fa_g711.h"

#include <string.h>

#include "fa_simd.h"

FA_CHOOSE_AVX2

/* Any alignment is allowed, so samples are moved as bytes. */
static inline int load_sample(const int16_t *pcm, size_t i)
{
    int16_t sample;
    memcpy(&sample, (const char *)pcm + i * sizeof sample, sizeof sample);
    return sample;
}

static inline void store_sample(int16_t *out, size_t i, int value)
{
    int16_t sample = (int16_t)value;
    memcpy((char *)out + i * sizeof sample, &sample, sizeof sample);
}

static void ulaw_encode_scalar(const int16_t *pcm, size_t n, uint8_t *out)
{
    for (size_t i = 0; i < n; i++) {
        int sample = load_sample(pcm, i);
        int sign = sample >> 15;
        int magnitude = ((sample ^ sign) >> 2) + 33; /* 14 bits and the bias of table 2a */
        magnitude = magnitude > 0x1FFF ? 0x1FFF : magnitude;
        int segment = 26 - __builtin_clz((unsigned)magnitude);
        int mantissa = (magnitude >> (segment + 1)) & 0x0F;
        out[i] = (uint8_t)((segment << 4 | mantissa) ^ (0xFF ^ (sign & 0x80)));
    }
}

static void ulaw_decode_scalar(const uint8_t *codes, size_t n, int16_t *out)
{
    for (size_t i = 0; i < n; i++) {
        int code = codes[i] ^ 0xFF;
        int magnitude = ((((code & 0x0F) << 3) + 132) << ((code >> 4) & 7)) - 132;
        store_sample(out, i, code & 0x80 ? -magnitude : magnitude);
    }
}

static void alaw_encode_scalar(const int16_t *pcm, size_t n, uint8_t *out)
{
    for (size_t i = 0; i < n; i++) {
        int sample = load_sample(pcm, i);
        int sign = sample >> 15;
        int magnitude = (sample ^ sign) >> 4; /* 12 bits; segments 0 and 1 share a step */
        int segment = 28 - __builtin_clz((unsigned)magnitude | 0x0F);
        int shift = segment - (segment > 0);
        int mantissa = (magnitude >> shift) & 0x0F;
        out[i] = (uint8_t)((segment << 4 | mantissa) ^ (0xD5 ^ (sign & 0x80)));
    }
}

static void alaw_decode_scalar(const uint8_t *codes, size_t n, int16_t *out)
{
    for (size_t i = 0; i < n; i++) {
        int code = codes[i] ^ 0x55;
        int segment = (code >> 4) & 7;
        int above = segment > 0;
        int magnitude = (((code & 0x0F) << 4) + 8 + (above << 8)) << (segment - above);
        store_sample(out, i, code & 0x80 ? magnitude : -magnitude);
    }
}

void fa_ulaw_encode(const int16_t *pcm, size_t n, uint8_t *out)
{
    if (use_avx2 && n >= FA_G711_AVX2_MIN)
        fa_ulaw_encode_avx2(pcm, n, out);
    else
        ulaw_encode_scalar(pcm, n, out);
}

void fa_ulaw_decode(const uint8_t *codes, size_t n, int16_t *out)
{
    if (use_avx2 && n >= FA_G711_AVX2_MIN)
        fa_ulaw_decode_avx2(codes, n, out);
    else
        ulaw_decode_scalar(codes, n, out);
}

void fa_alaw_encode(const int16_t *pcm, size_t n, uint8_t *out)
{
    if (use_avx2 && n >= FA_G711_AVX2_MIN)
        fa_alaw_encode_avx2(pcm, n, out);
    else
        alaw_encode_scalar(pcm, n, out);
}

void fa_alaw_decode(const uint8_t *codes, size_t n, int16_t *out)
{
    if (use_avx2 && n >= FA_G711_AVX2_MIN)
        fa_alaw_decode_avx2(codes, n, out);
    else
        alaw_decode_scalar(codes, n, out);
}

const char *fa_g711_variant(void) { return FA_VARIANT_NAME; }
