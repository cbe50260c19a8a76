/* What the targets share: claims that must hold, and a reader of the input.
 *
 * A target takes its choices (rates, cuts, alignment) from the front of the input and audio or text from the
 * rest. Every buffer handed to a kernel is a block of just its size, so that ASan sees one byte too many.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define REQUIRE(claim)  \
    do {                \
        if (!(claim))   \
            abort();    \
    } while (0)

typedef struct {
    const uint8_t *at;
    size_t left;
} fuzz_input;

/* The next byte, or 0 when the input is used up. */
static inline uint8_t fuzz_byte(fuzz_input *in)
{
    if (in->left == 0)
        return 0;
    in->left--;
    return *in->at++;
}

/* A choice from 0 to count - 1. */
static inline unsigned fuzz_choice(fuzz_input *in, unsigned count) { return fuzz_byte(in) % count; }

/* The next 16 bits as a sample; 0 when the input is used up. */
static inline int16_t fuzz_sample(fuzz_input *in)
{
    const unsigned low = fuzz_byte(in), high = fuzz_byte(in);
    return (int16_t)(uint16_t)(low | high << 8);
}

/* Room for n bytes with no byte behind it; `shift` bytes off the allocator's alignment. Give it to fuzz_drop. */
static inline void *fuzz_room(size_t n, size_t shift)
{
    uint8_t *block = malloc(n + shift > 0 ? n + shift : 1);
    REQUIRE(block != NULL);
    memset(block, 0x55, n + shift);
    return block + shift;
}

static inline void fuzz_drop(void *room, size_t shift) { free((uint8_t *)room - shift); }

/* The n bytes copied to room of their own. */
static inline void *fuzz_copy(const void *bytes, size_t n, size_t shift)
{
    void *room = fuzz_room(n, shift);
    if (n > 0)
        memcpy(room, bytes, n);
    return room;
}

/* The rest of the input as whole samples; `count` says how many. */
static inline int16_t *fuzz_samples(fuzz_input *in, size_t *count)
{
    *count = in->left / 2;
    int16_t *pcm = fuzz_room(*count * 2, 0);
    for (size_t i = 0; i < *count; i++)
        pcm[i] = fuzz_sample(in);
    return pcm;
}

/* One frame of 160 samples: silence, DC, a square wave, noise, two tones, samples of the input, or the last frame
 * again. Short inputs thereby reach what takes seconds of sound. */
#define FUZZ_FRAME 160
static inline void fuzz_frame(fuzz_input *in, int16_t *frame)
{
    const unsigned kind = fuzz_choice(in, 7);
    const int16_t peak = kind == 1 || kind == 2 || kind == 4 ? fuzz_sample(in) : 0;
    const unsigned period = kind == 2 ? 1 + fuzz_byte(in) : 1;
    uint32_t noise = kind == 3 ? fuzz_byte(in) : 0;
    const unsigned shift = noise & 15;
    const double low = kind == 4 ? fuzz_byte(in) * 0.012 : 0, high = kind == 4 ? fuzz_byte(in) * 0.012 : 0;
    for (int i = 0; i < FUZZ_FRAME; i++) {
        if (kind == 0)
            frame[i] = 0;
        else if (kind == 1)
            frame[i] = peak;
        else if (kind == 2)
            frame[i] = (int16_t)((unsigned)i / period % 2 ? peak : -(peak + 1));
        else if (kind == 3) {
            noise = noise * 1664525u + 1013904223u;
            frame[i] = (int16_t)((int16_t)(noise >> 16) >> shift);
        } else if (kind == 4)
            frame[i] = (int16_t)(peak * (sin(low * i) + sin(high * i)) / 2);
        else if (kind == 5)
            frame[i] = fuzz_sample(in);
    }
}

/* A moment after `now_s`: mostly the next 20 ms, else some other time, now and then an hour. */
static inline double fuzz_later(fuzz_input *in, double now_s)
{
    const uint8_t step = fuzz_byte(in);
    return now_s + (step < 128 ? 0.02 : step < 250 ? (step - 128) * 0.003 : step == 250 ? 3600 : 0);
}

/* Same bytes; n may be 0 and the pointers anything then. */
static inline int fuzz_same(const void *a, const void *b, size_t n) { return n == 0 || memcmp(a, b, n) == 0; }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
