/* G.711 mu-law and A-law, bit-exact to ITU-T G.711 as the reference program of G.191 computes it.
 *
 * Every function reads n items from its first argument and writes n items to `out`; the two may not
 * overlap. No state, no allocation, any n (0 included), any alignment.
 */
#ifndef FA_G711_H
#define FA_G711_H

#include <stddef.h>
#include <stdint.h>

void fa_ulaw_encode(const int16_t *pcm, size_t n, uint8_t *out);
void fa_ulaw_decode(const uint8_t *codes, size_t n, int16_t *out);
void fa_alaw_encode(const int16_t *pcm, size_t n, uint8_t *out);
void fa_alaw_decode(const uint8_t *codes, size_t n, int16_t *out);

/* The variant chosen for this processor: "avx2" or "scalar". */
const char *fa_g711_variant(void);

#endif
