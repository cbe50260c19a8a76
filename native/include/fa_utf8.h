/* Incremental UTF-8 validation (RFC 3629): no overlong forms, no surrogates, nothing past U+10FFFF. */
#ifndef FA_UTF8_H
#define FA_UTF8_H

#include <stddef.h>
#include <stdint.h>

enum {
    FA_UTF8_ACCEPT = 0, /* so far valid and between two characters */
    FA_UTF8_REJECT = 1, /* invalid, and stays so */
};                      /* any other state: inside a character */

/* Feeds n bytes to a validator in `state` (start with FA_UTF8_ACCEPT); returns the new state.
 * ASCII runs are skipped many bytes at a time. */
uint32_t fa_utf8_advance(uint32_t state, const char *text, size_t n);

#endif
