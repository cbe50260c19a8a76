#include "fa_envelope.h"

#include <string.h>

/* SSE2 is part of x86-64: nothing to dispatch. FA_SCALAR leaves it out; the fuzz target compares the two. */
#if defined(__SSE2__) && !defined(FA_SCALAR)
#include <emmintrin.h>
#endif

/* Paths are told apart by a bit: the discriminator, the audio, then the fields in their order. */
enum { DISCRIMINATOR = 0, AUDIO = 1, FIELD = 2 };

#define ONES UINT64_C(0x0101010101010101)
#define TOPS UINT64_C(0x8080808080808080)

typedef struct {
    const fa_envelope_spec *spec;
    fa_envelope_match *match;
    /* By level, the top object being level 0; only objects on a wanted path use them. */
    uint32_t ending[FA_ENVELOPE_PATH_MAX]; /* paths whose last key stands at this level */
    uint32_t seen[FA_ENVELOPE_PATH_MAX];   /* paths whose key of this level has been met */
    uint32_t duplicated;                   /* paths with a key that was met again */
} scan_state;

/* ---- strings ---- */

#if defined(__SSE2__) && !defined(FA_SCALAR)
/* Flipping bit 1 moves the quote (0x22) to 0x20 and leaves the controls below it: one comparison for both. */
static inline __m128i flipped(__m128i v)
{
    return _mm_xor_si128(v, _mm_set1_epi8(0x02));
}

static inline __m128i at_most_0x20(__m128i v)
{
    return _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(0x20)), v);
}

static inline __m128i is_backslash(__m128i v)
{
    return _mm_cmpeq_epi8(v, _mm_set1_epi8('\\'));
}
#endif

/* The first byte in [p, end) that is a quote, a backslash or a control character; end if there is none. */
static inline const char *skip_plain(const char *p, const char *end)
{
#if defined(__SSE2__) && !defined(FA_SCALAR)
    while (end - p >= 16) {
        const __m128i v = _mm_loadu_si128((const __m128i *)p);
        const __m128i special = _mm_or_si128(at_most_0x20(flipped(v)), is_backslash(v));
        const unsigned hits = (unsigned)_mm_movemask_epi8(special);
        if (hits != 0)
            return p + __builtin_ctz(hits);
        p += 16;
        /* Longer than one step is likely audio: four steps for one branch until something turns up. */
        while (end - p >= 64) {
            const __m128i a = _mm_loadu_si128((const __m128i *)p);
            const __m128i b = _mm_loadu_si128((const __m128i *)(p + 16));
            const __m128i c = _mm_loadu_si128((const __m128i *)(p + 32));
            const __m128i d = _mm_loadu_si128((const __m128i *)(p + 48));
            const __m128i least = _mm_min_epu8(_mm_min_epu8(flipped(a), flipped(b)),
                                               _mm_min_epu8(flipped(c), flipped(d)));
            const __m128i escapes = _mm_or_si128(_mm_or_si128(is_backslash(a), is_backslash(b)),
                                                 _mm_or_si128(is_backslash(c), is_backslash(d)));
            if (_mm_movemask_epi8(_mm_or_si128(at_most_0x20(least), escapes)) != 0)
                break;
            p += 64;
        }
    }
#endif
    while (end - p >= 8) {
        uint64_t w;
        memcpy(&w, p, sizeof w);
        const uint64_t quote = w ^ (ONES * '"'), backslash = w ^ (ONES * '\\');
        /* Each term has a top bit set if and only if some byte hits; which one is for the loop below. */
        const uint64_t hits = ((w - ONES * 0x20) & ~w) | ((quote - ONES) & ~quote) |
                              ((backslash - ONES) & ~backslash);
        if (hits & TOPS)
            break;
        p += 8;
    }
    while (p < end && (unsigned char)*p >= 0x20 && *p != '"' && *p != '\\')
        p++;
    return p;
}

static inline int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    const char letter = (char)(c | 0x20);
    return letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : -1;
}

/* The UTF-16 code unit of the four hex digits at p, or -1. */
static int32_t code_unit(const char *p, const char *end)
{
    if (end - p < 4)
        return -1;
    int32_t unit = 0;
    for (int i = 0; i < 4; i++) {
        const int digit = hex_digit(p[i]);
        if (digit < 0)
            return -1;
        unit = unit << 4 | digit;
    }
    return unit;
}

/* The character that a one-letter escape stands for, or -1. */
static int simple_escape(char letter)
{
    switch (letter) {
    case '"': return '"';
    case '\\': return '\\';
    case '/': return '/';
    case 'b': return '\b';
    case 'f': return '\f';
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    default: return -1;
    }
}

/* From just behind an opening quote to the closing one, or NULL. */
static inline const char *string_end(const char *p, const char *end, uint8_t *escaped)
{
    *escaped = 0;
    for (;;) {
        p = skip_plain(p, end);
        if (p == end)
            return NULL;
        if (*p == '"')
            return p;
        if (*p != '\\' || end - p < 2)
            return NULL;
        *escaped = 1;
        if (p[1] == 'u') {
            /* RFC 8259 section 8.2: a lone surrogate is grammatical; unescaping refuses it. */
            if (code_unit(p + 2, end) < 0)
                return NULL;
            p += 6;
        } else {
            if (simple_escape(p[1]) < 0)
                return NULL;
            p += 2;
        }
    }
}

/* Steps over the escape at *p and writes it as UTF-8; 1 to 4 bytes, or -1 where it has no meaning. */
static int read_escape(const char **p, const char *end, char out[4])
{
    const char *at = *p;
    if (end - at < 2)
        return -1;
    if (at[1] != 'u') {
        const int c = simple_escape(at[1]);
        if (c < 0)
            return -1;
        out[0] = (char)c;
        *p = at + 2;
        return 1;
    }
    int32_t c = code_unit(at + 2, end);
    if (c < 0 || (c >= 0xDC00 && c <= 0xDFFF))
        return -1;
    at += 6;
    if (c >= 0xD800 && c <= 0xDBFF) {
        if (end - at < 6 || at[0] != '\\' || at[1] != 'u')
            return -1;
        const int32_t low = code_unit(at + 2, end);
        if (low < 0xDC00 || low > 0xDFFF)
            return -1;
        c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
        at += 6;
    }
    *p = at;
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xC0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xE0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3F));
        out[2] = (char)(0x80 | (c & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3F));
    out[2] = (char)(0x80 | (c >> 6 & 0x3F));
    out[3] = (char)(0x80 | (c & 0x3F));
    return 4;
}

static int escaped_equals(const fa_span *span, const char *wanted, size_t size)
{
    const char *p = span->start, *end = span->start + span->size;
    while (p < end) {
        char utf8[4];
        int count = 1;
        if (*p != '\\')
            utf8[0] = *p++;
        else if ((count = read_escape(&p, end, utf8)) < 0)
            return 0;
        if (size < (size_t)count || memcmp(wanted, utf8, (size_t)count) != 0)
            return 0;
        wanted += count;
        size -= (size_t)count;
    }
    return size == 0;
}

static inline int text_equals(const fa_span *span, const char *wanted, size_t size)
{
    if (!span->escaped)
        return span->size == size && memcmp(span->start, wanted, size) == 0;
    return escaped_equals(span, wanted, size);
}

/* ---- scalars ---- */

static inline const char *skip_space(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
        p++;
    return p;
}

static inline int is_digit(const char *p, const char *end)
{
    return p < end && *p >= '0' && *p <= '9';
}

static const char *skip_digits(const char *p, const char *end)
{
    while (is_digit(p, end))
        p++;
    return p;
}

/* RFC 8259 section 6: [minus] int [frac] [exp]. The byte behind the number, or NULL. */
static const char *number_end(const char *p, const char *end)
{
    if (*p == '-')
        p++;
    if (!is_digit(p, end))
        return NULL;
    p = *p == '0' ? p + 1 : skip_digits(p, end);
    if (p < end && *p == '.') {
        if (!is_digit(++p, end))
            return NULL;
        p = skip_digits(p, end);
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < end && (*p == '+' || *p == '-'))
            p++;
        if (!is_digit(p, end))
            return NULL;
        p = skip_digits(p, end);
    }
    return p;
}

static const char *literal_end(const char *p, const char *end, const char *word, ptrdiff_t size)
{
    return end - p >= size && memcmp(p, word, (size_t)size) == 0 ? p + size : NULL;
}

/* Reads the string, number or literal at p into `value`; the byte behind it, or NULL. */
static inline const char *read_scalar(const char *p, const char *end, fa_span *value)
{
    const char *behind;
    value->start = p;
    value->escaped = 0;
    switch (*p) {
    case '"': {
        const char *close = string_end(p + 1, end, &value->escaped);
        if (close == NULL)
            return NULL;
        value->kind = FA_JSON_STRING;
        value->start = p + 1;
        value->size = (size_t)(close - (p + 1));
        return close + 1;
    }
    case 't':
        value->kind = FA_JSON_TRUE;
        behind = literal_end(p, end, "true", 4);
        break;
    case 'f':
        value->kind = FA_JSON_FALSE;
        behind = literal_end(p, end, "false", 5);
        break;
    case 'n':
        value->kind = FA_JSON_NULL;
        behind = literal_end(p, end, "null", 4);
        break;
    default:
        value->kind = FA_JSON_NUMBER;
        behind = number_end(p, end);
        break;
    }
    if (behind != NULL)
        value->size = (size_t)(behind - p);
    return behind;
}

/* ---- paths ---- */

static inline const fa_path *path_of(const fa_envelope_spec *spec, int path)
{
    if (path >= FIELD)
        return &spec->field[path - FIELD];
    return path == AUDIO ? &spec->audio : &spec->discriminator;
}

static void start_state(scan_state *s, const fa_envelope_spec *spec, fa_envelope_match *match)
{
    s->spec = spec;
    s->match = match;
    s->duplicated = 0;
    memset(s->ending, 0, sizeof s->ending);
    memset(s->seen, 0, sizeof s->seen);
    for (int path = 0; path < FIELD + spec->fields; path++) {
        const int depth = path_of(spec, path)->depth;
        if (depth > 0)
            s->ending[depth - 1] |= UINT32_C(1) << path;
    }
    match->value = -1;
    memset(&match->audio, 0, sizeof match->audio);
    memset(match->field, 0, sizeof match->field[0] * (size_t)spec->fields);
}

/* Which of the `active` paths go on through this key of an object at `level`. */
static inline uint32_t follow_key(scan_state *s, uint32_t active, unsigned level, const fa_span *key)
{
    uint32_t reached = 0;
    for (uint32_t rest = active; rest != 0; rest &= rest - 1) {
        const fa_path *path = path_of(s->spec, __builtin_ctz(rest));
        if (text_equals(key, path->key[level], path->size[level]))
            reached |= rest & -rest;
    }
    /* The second of two equal keys is noted, not followed: the first stays what it was. */
    const uint32_t again = reached & s->seen[level];
    s->duplicated |= again;
    s->seen[level] |= reached;
    return reached & ~again;
}

/* Keeps a value for the `ending` paths. Returns 0 when it shows that this is not the declared message. */
static int keep_value(scan_state *s, uint32_t ending, const fa_span *value)
{
    const fa_envelope_spec *spec = s->spec;
    for (uint32_t rest = ending; rest != 0; rest &= rest - 1) {
        const int path = __builtin_ctz(rest);
        if (path >= FIELD) {
            s->match->field[path - FIELD] = *value;
        } else if (path == AUDIO) {
            s->match->audio = *value;
        } else {
            if (value->kind != FA_JSON_STRING)
                return 0;
            int i = 0;
            while (i < spec->values && !text_equals(value, spec->value[i], spec->value_size[i]))
                i++;
            if (i == spec->values)
                return 0;
            s->match->value = i;
        }
    }
    return 1;
}

/* Gives the kept object or array its size, now that its end is known. */
static void close_kept(scan_state *s, uint32_t kept, const char *behind)
{
    for (uint32_t rest = kept; rest != 0; rest &= rest - 1) {
        const int path = __builtin_ctz(rest);
        fa_span *span = path == AUDIO ? &s->match->audio : &s->match->field[path - FIELD];
        span->size = (size_t)(behind - span->start);
    }
}

static int verdict(const scan_state *s)
{
    const fa_envelope_spec *spec = s->spec;
    if (s->duplicated & (UINT32_C(1) << DISCRIMINATOR))
        return FA_ENVELOPE_DUPLICATE;
    if (spec->discriminator.depth > 0 && s->match->value < 0)
        return FA_ENVELOPE_OTHER;
    if (s->duplicated != 0)
        return FA_ENVELOPE_DUPLICATE;
    if (spec->audio.depth > 0 && s->match->audio.kind != FA_JSON_STRING)
        return FA_ENVELOPE_NO_AUDIO;
    return FA_ENVELOPE_MEDIA;
}

int fa_envelope_scan(const fa_envelope_spec *spec, const char *text, size_t n, fa_envelope_match *match)
{
    if (n == 0)
        return FA_ENVELOPE_MALFORMED;
    const char *p = text, *const end = text + n;
    scan_state state;
    start_state(&state, spec, match);

    /* One entry per open object or array. */
    uint32_t active[FA_ENVELOPE_DEPTH_MAX]; /* paths that lead into it */
    uint32_t kept[FA_ENVELOPE_DEPTH_MAX];   /* paths that end in it */
    uint8_t is_object[FA_ENVELOPE_DEPTH_MAX];
    unsigned level = 0;
    uint32_t reached; /* paths that go through the key before the value being read */

    p = skip_space(p, end);
    if (p == end || *p != '{')
        return FA_ENVELOPE_MALFORMED;
    p++;
    active[0] = 0;
    for (int depth = 0; depth < FA_ENVELOPE_PATH_MAX; depth++)
        active[0] |= state.ending[depth];
    kept[0] = 0;
    is_object[0] = 1;

first_member:
    p = skip_space(p, end);
    if (p < end && *p == '}')
        goto close;

member: {
    fa_span key;
    p = skip_space(p, end);
    if (p == end || *p != '"')
        return FA_ENVELOPE_MALFORMED;
    key.start = ++p;
    p = string_end(p, end, &key.escaped);
    if (p == NULL)
        return FA_ENVELOPE_MALFORMED;
    key.size = (size_t)(p - key.start);
    p = skip_space(p + 1, end);
    if (p == end || *p != ':')
        return FA_ENVELOPE_MALFORMED;
    p++;
    reached = active[level] != 0 ? follow_key(&state, active[level], level, &key) : 0;
}

value:
    p = skip_space(p, end);
    if (p == end)
        return FA_ENVELOPE_MALFORMED;
    {
        /* `reached` holds nothing below the last level that a path can have, nor in an array. */
        const uint32_t ending = reached != 0 ? reached & state.ending[level] : 0;
        fa_span found;
        if (*p == '{' || *p == '[') {
            if (level + 1 == FA_ENVELOPE_DEPTH_MAX)
                return FA_ENVELOPE_TOO_DEEP;
            const int object = *p == '{';
            if (ending != 0) {
                found.start = p;
                found.size = 0;
                found.kind = object ? FA_JSON_OBJECT : FA_JSON_ARRAY;
                found.escaped = 0;
                if (!keep_value(&state, ending, &found))
                    return FA_ENVELOPE_OTHER;
            }
            p++;
            level++;
            active[level] = reached & ~ending;
            kept[level] = ending;
            is_object[level] = (uint8_t)object;
            if (object)
                goto first_member;
            reached = 0;
            p = skip_space(p, end);
            if (p < end && *p == ']')
                goto close;
            goto value;
        }
        p = read_scalar(p, end, &found);
        if (p == NULL)
            return FA_ENVELOPE_MALFORMED;
        if (ending != 0 && !keep_value(&state, ending, &found))
            return FA_ENVELOPE_OTHER;
    }

behind_value:
    p = skip_space(p, end);
    if (p == end)
        return FA_ENVELOPE_MALFORMED;
    if (*p == ',') {
        p++;
        if (is_object[level])
            goto member;
        reached = 0;
        goto value;
    }
    if (*p != (is_object[level] ? '}' : ']'))
        return FA_ENVELOPE_MALFORMED;

close:
    p++;
    if (kept[level] != 0)
        close_kept(&state, kept[level], p);
    if (level-- > 0)
        goto behind_value;

    if (skip_space(p, end) != end)
        return FA_ENVELOPE_MALFORMED;
    return verdict(&state);
}

ptrdiff_t fa_envelope_unescape(const fa_span *span, char *out)
{
    const char *p = span->start, *const end = span->start + span->size;
    char *to = out;
    while (p < end) {
        const char *escape = span->escaped ? memchr(p, '\\', (size_t)(end - p)) : NULL;
        const size_t plain = (size_t)((escape != NULL ? escape : end) - p);
        memcpy(to, p, plain);
        to += plain;
        p += plain;
        if (escape == NULL)
            break;
        /* Runs of escapes are common where a peer writes every slash of base64 as \/. */
        char utf8[4];
        const int count = read_escape(&p, end, utf8);
        if (count < 0)
            return FA_ENVELOPE_MALFORMED;
        memcpy(to, utf8, (size_t)count);
        to += count;
    }
    return to - out;
}
