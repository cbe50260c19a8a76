/* Base64, standard alphabet with padding (RFC 4648, section 4), strict: what is not canonical is an error.
 *
 * Pointers and counts in, a count or a negative FA_BASE64_* code out. No state, no allocation.
 */
#ifndef FA_BASE64_H
#define FA_BASE64_H

#include <stddef.h>
#include <stdint.h>

enum {
    FA_BASE64_BAD_LENGTH = -1,  /* not a multiple of four */
    FA_BASE64_BAD_SYMBOL = -2,  /* a character outside the alphabet, white space included */
    FA_BASE64_BAD_PADDING = -3, /* '=' anywhere but in the last one or two places, or non-zero bits below it */
};

/* Characters that n bytes encode to: 4 * ceil(n / 3). */
static inline size_t fa_base64_encoded_size(size_t n) { return (n + 2) / 3 * 4; }

/* Bytes that decode may write for n characters: 3 * n / 4. */
static inline size_t fa_base64_decoded_room(size_t n) { return n / 4 * 3; }

/* Writes fa_base64_encoded_size(n) characters, no terminator; returns that count. */
size_t fa_base64_encode(const uint8_t *bytes, size_t n, char *out);

/* Writes at most fa_base64_decoded_room(n) bytes; returns how many the text stands for, or a negative code.
 * On an error the contents of `out` are undefined. */
ptrdiff_t fa_base64_decode(const char *text, size_t n, uint8_t *out);

/* What fa_base64_decode would return, without writing. */
ptrdiff_t fa_base64_validate(const char *text, size_t n);

/* The variant chosen for this processor: "avx2" or "scalar". */
const char *fa_base64_variant(void);

#endif
