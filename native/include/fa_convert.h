/* From one stored form of audio to another: decode, resample, encode, over any chunking of the bytes.
 *
 * Bytes of an unfinished PCM16 sample are kept for the next chunk. With `riff` set, RIFF/WAVE headers at the
 * start of the stream (split over chunks or not) or at the start of any later chunk of four bytes and more are
 * skipped.
 */
#ifndef FA_CONVERT_H
#define FA_CONVERT_H

#include <stddef.h>
#include <stdint.h>

#include "fa_resample.h"

enum { FA_PCM16 = 0, FA_ULAW = 1, FA_ALAW = 2 };

/* A RIFF header longer than this is given up: as many bytes are skipped, the rest is taken as audio. */
#define FA_RIFF_HEADER_MAX 512

typedef struct {
    uint8_t in_encoding, out_encoding;
    uint8_t resamples;          /* the rates differ */
    uint8_t riff;               /* headers may come */
    uint8_t carry_size;         /* 0 or 1 byte of an unfinished sample */
    uint8_t carry;
    uint8_t riff_seen;          /* the chunk's header was read, or there was none */
    uint8_t has_begun;          /* the stream's start is known to be a header, or not */
    uint8_t is_audio;           /* what is held as a header's beginning was none */
    uint16_t header_size;       /* bytes of a header that is not whole yet */
    uint8_t header[FA_RIFF_HEADER_MAX];
    uint64_t samples_in;        /* whole samples converted since init, headers left out */
    fa_resampler resampler;
} fa_converter;

/* Returns 0, or -1 when the rates are neither equal nor a pair of fa_resampler_init. */
int fa_converter_init(fa_converter *c, int in_encoding, int in_rate, int out_encoding, int out_rate, int riff);

/* Forgets everything heard, as after init. */
void fa_converter_reset(fa_converter *c);

/* Most bytes that n further input bytes can give. */
size_t fa_converter_room(const fa_converter *c, size_t n);

/* Begins a new chunk as the peer sent it: only here a RIFF header may stand. */
void fa_converter_begin_chunk(fa_converter *c);

/* Converts n bytes; returns the bytes written to `out`, which may not overlap. */
size_t fa_converter_process(fa_converter *c, const uint8_t *bytes, size_t n, uint8_t *out);

/* Writes what the resampler still holds, at most 2 * FA_RESAMPLE_FLUSH_ROOM bytes, and resets. */
size_t fa_converter_flush(fa_converter *c, uint8_t *out);

#endif
