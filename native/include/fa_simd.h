/* Which bodies a kernel may use on this processor, and the entry points of the AVX2 ones.
 *
 * The environment variable FASTAGENT_SIMD=scalar, read when the module is loaded, forbids all but scalar C;
 * FA_SCALAR leaves the choice out when compiling (the fuzz targets hold both against each other).
 */
#ifndef FA_SIMD_H
#define FA_SIMD_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && !defined(FA_SCALAR)

/* A kernel asks once, when it is loaded: FA_CHOOSE_AVX2 defines the answer as `use_avx2`. */
static inline int fa_simd_has_avx2(void)
{
    const char *wanted = getenv("FASTAGENT_SIMD");
    if (wanted != NULL && strcmp(wanted, "scalar") == 0)
        return 0;
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") != 0;
}

#define FA_CHOOSE_AVX2                                                      \
    static int use_avx2;                                                    \
    __attribute__((constructor)) static void choose_avx2(void)              \
    {                                                                       \
        use_avx2 = fa_simd_has_avx2();                                      \
    }

#else

#define FA_CHOOSE_AVX2 enum { use_avx2 = 0 };

#endif

#define FA_VARIANT_NAME (use_avx2 ? "avx2" : "scalar")

/* G.711: as in fa_g711.h, but n must be at least FA_G711_AVX2_MIN. */
#define FA_G711_AVX2_MIN 32
void fa_ulaw_encode_avx2(const int16_t *pcm, size_t n, uint8_t *out);
void fa_ulaw_decode_avx2(const uint8_t *codes, size_t n, int16_t *out);
void fa_alaw_encode_avx2(const int16_t *pcm, size_t n, uint8_t *out);
void fa_alaw_decode_avx2(const uint8_t *codes, size_t n, int16_t *out);

/* Base64 encoding: n is a multiple of 3 and at least FA_BASE64_ENCODE_AVX2_MIN. Writes n / 3 * 4
 * characters. */
#define FA_BASE64_ENCODE_AVX2_MIN 24
void fa_base64_encode_avx2(const uint8_t *bytes, size_t n, char *out);

/* Base64 decoding of full groups: n is a multiple of 4 and at least FA_BASE64_DECODE_AVX2_MIN. Writes
 * n / 4 * 3 bytes, or none when `out` is NULL; returns 0 when all n characters are symbols, else -1. */
#define FA_BASE64_DECODE_AVX2_MIN 32
int fa_base64_decode_avx2(const char *text, size_t n, uint8_t *out);

/* Filters `count` outputs; see the same arguments in resample.c. */
struct fa_resample_plan;
void fa_resample_run_avx2(const struct fa_resample_plan *plan, uint32_t phase, const int16_t *newest,
                          size_t count, int16_t *out);

#endif
