/* One pass over one JSON object: is it the media message that a wire declares, and where is its audio?
 *
 * The scanner knows no vendor. A spec names the path and the accepted values of a discriminator, the path of
 * the audio string and the paths of a few small fields; paths are object keys from the top, at most
 * FA_ENVELOPE_PATH_MAX deep. Keys are compared by their raw bytes first and, where the text holds escapes,
 * by their unescaped meaning. All spans point into the scanned text.
 */
#ifndef FA_ENVELOPE_H
#define FA_ENVELOPE_H

#include <stddef.h>
#include <stdint.h>

enum {
    FA_ENVELOPE_DEPTH_MAX = 32,  /* nested objects and arrays; deeper is refused */
    FA_ENVELOPE_PATH_MAX = 4,    /* keys in one path */
    FA_ENVELOPE_VALUES_MAX = 4,  /* accepted values of the discriminator */
    FA_ENVELOPE_FIELDS_MAX = 8,  /* small fields wanted */
};

enum {
    FA_ENVELOPE_MEDIA = 1,           /* the discriminator has an accepted value and the audio string is there */
    FA_ENVELOPE_OTHER = 0,           /* a JSON object, but not the declared message; the rest may be unchecked */
    FA_ENVELOPE_MALFORMED = -1,      /* not one well-formed JSON object (RFC 8259) with nothing after it */
    FA_ENVELOPE_TOO_DEEP = -2,       /* deeper than FA_ENVELOPE_DEPTH_MAX */
    FA_ENVELOPE_DUPLICATE = -3,      /* a wanted key appears twice: which one would count is anyone's guess */
    FA_ENVELOPE_NO_AUDIO = -4,       /* the declared message, but its audio is missing or not a string */
};

enum {
    FA_JSON_ABSENT = 0, FA_JSON_STRING, FA_JSON_NUMBER, FA_JSON_TRUE, FA_JSON_FALSE, FA_JSON_NULL,
    FA_JSON_OBJECT, FA_JSON_ARRAY,
};

typedef struct {
    const char *start;  /* first byte of the value; for a string the byte after the opening quote */
    size_t size;        /* bytes; for a string without its quotes */
    uint8_t kind;       /* FA_JSON_* */
    uint8_t escaped;    /* a string that holds at least one backslash */
} fa_span;

typedef struct {
    const char *key[FA_ENVELOPE_PATH_MAX];
    size_t size[FA_ENVELOPE_PATH_MAX];
    int depth;          /* keys used; 0 = not wanted */
} fa_path;

typedef struct {
    fa_path discriminator;
    const char *value[FA_ENVELOPE_VALUES_MAX];
    size_t value_size[FA_ENVELOPE_VALUES_MAX];
    int values;
    fa_path audio;
    fa_path field[FA_ENVELOPE_FIELDS_MAX];
    int fields;
} fa_envelope_spec;

typedef struct {
    int value;          /* which accepted value the discriminator has, or -1 */
    fa_span audio;
    fa_span field[FA_ENVELOPE_FIELDS_MAX];
} fa_envelope_match;

/* Scans n bytes. Returns one FA_ENVELOPE_* code; `match` is filled on FA_ENVELOPE_MEDIA only.
 * A discriminator with another value ends the scan at once with FA_ENVELOPE_OTHER. */
int fa_envelope_scan(const fa_envelope_spec *spec, const char *text, size_t n, fa_envelope_match *match);

/* Undoes JSON escapes of a string span; writes UTF-8, at most span->size bytes. Returns the count, or
 * FA_ENVELOPE_MALFORMED for a broken escape or a lone surrogate. */
ptrdiff_t fa_envelope_unescape(const fa_span *span, char *out);

#endif
