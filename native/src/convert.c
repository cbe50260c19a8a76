#include "fa_convert.h"

#include <string.h>

#include "fa_g711.h"
#include "fa_stages.h"

enum { BLOCK = 480 }; /* samples handled at a time: bounds the stack, means nothing to the result */

static size_t sample_size(int encoding) { return encoding == FA_PCM16 ? 2 : 1; }

int fa_converter_init(fa_converter *c, int in_encoding, int in_rate, int out_encoding, int out_rate, int riff) {
    memset(c, 0, sizeof *c);
    c->in_encoding = (uint8_t)in_encoding;
    c->out_encoding = (uint8_t)out_encoding;
    c->riff = riff != 0;
    c->resamples = in_rate != out_rate;
    return c->resamples ? fa_resampler_init(&c->resampler, in_rate, out_rate) : 0;
}

void fa_converter_reset(fa_converter *c) {
    c->carry_size = 0;
    c->riff_seen = c->has_begun = c->is_audio = 0;
    c->header_size = 0;
    if (c->resamples)
        fa_resampler_reset(&c->resampler);
}

size_t fa_converter_room(const fa_converter *c, size_t n) {
    size_t samples = (n + 1 + c->header_size) / sample_size(c->in_encoding) + 1;
    if (c->resamples)
        samples = fa_resampler_room(&c->resampler, samples);
    return samples * sample_size(c->out_encoding);
}

/* Length of the RIFF header at the start of `bytes`: 0 = there is none, -1 = more bytes are needed to tell. */
static ptrdiff_t riff_header_size(const uint8_t *bytes, size_t n) {
    if (memcmp(bytes, "RIFF", n < 4 ? n : 4) != 0)
        return 0;
    if (n < 12)
        return -1;
    if (memcmp(bytes + 8, "WAVE", 4) != 0)
        return 0;
    size_t at = 12;
    while (at + 8 <= n) {
        uint32_t size = (uint32_t)bytes[at + 4] | (uint32_t)bytes[at + 5] << 8 | (uint32_t)bytes[at + 6] << 16 |
                        (uint32_t)bytes[at + 7] << 24;
        if (memcmp(bytes + at, "data", 4) == 0)
            return (ptrdiff_t)(at + 8);
        if (size > FA_RIFF_HEADER_MAX)
            return 0;
        at += 8 + size + (size & 1); /* chunks are padded to even sizes */
    }
    return -1;
}

static size_t convert_samples(fa_converter *c, const uint8_t *bytes, size_t samples, uint8_t *out) {
    int16_t linear[BLOCK];
    int16_t resampled[3 * BLOCK + 8];
    uint8_t *start = out;
    c->samples_in += samples;
    if (!c->resamples && c->in_encoding == c->out_encoding) {
        /* Decoding and encoding again would change mu-law's second zero. */
        size_t n = samples * sample_size(c->in_encoding);
        memcpy(out, bytes, n);
        return n;
    }
    while (samples > 0) {
        size_t n = samples < BLOCK ? samples : BLOCK;
        const int16_t *pcm = linear;
        if (c->in_encoding == FA_PCM16)
            memcpy(linear, bytes, n * 2);
        else if (c->in_encoding == FA_ULAW)
            fa_ulaw_decode(bytes, n, linear);
        else
            fa_alaw_decode(bytes, n, linear);
        fa_stages_lap(FA_STAGE_DECODE);
        bytes += n * sample_size(c->in_encoding);
        samples -= n;
        if (c->resamples) {
            n = fa_resampler_process(&c->resampler, linear, n, resampled);
            pcm = resampled;
            fa_stages_lap(FA_STAGE_RESAMPLE);
        }
        if (c->out_encoding == FA_PCM16) {
            memcpy(out, pcm, n * 2);
            out += n * 2;
        } else {
            (c->out_encoding == FA_ULAW ? fa_ulaw_encode : fa_alaw_encode)(pcm, n, out);
            out += n;
        }
        fa_stages_lap(FA_STAGE_ENCODE);
    }
    return (size_t)(out - start);
}

/* Audio bytes after headers: joins the byte kept from before, keeps the one left over. */
static size_t convert_bytes(fa_converter *c, const uint8_t *bytes, size_t n, uint8_t *out) {
    size_t written = 0;
    if (c->in_encoding == FA_PCM16) {
        if (c->carry_size && n > 0) {
            uint8_t sample[2] = {c->carry, bytes[0]};
            c->carry_size = 0;
            written = convert_samples(c, sample, 1, out);
            bytes++;
            n--;
        }
        if (n & 1) {
            c->carry = bytes[n - 1];
            c->carry_size = 1;
        }
        n /= 2;
    }
    return written + convert_samples(c, bytes, n, out + written);
}

void fa_converter_begin_chunk(fa_converter *c) {
    if (c->header_size == 0)
        c->riff_seen = 0;
    else if (c->has_begun && c->header_size < 4)
        c->is_audio = 1; /* too short to say that a header comes; at the stream's start more is waited for */
}

size_t fa_converter_process(fa_converter *c, const uint8_t *bytes, size_t n, uint8_t *out) {
    if (!c->riff || c->riff_seen)
        return convert_bytes(c, bytes, n, out);
    size_t written = 0;
    if (c->is_audio) {
        written = convert_bytes(c, c->header, c->header_size, out);
        c->is_audio = 0;
        c->header_size = 0;
    }
    if (c->header_size == 0 && n > 0) {
        /* No more is looked at than a header that comes in pieces may have, so that chunking means nothing. */
        ptrdiff_t size = riff_header_size(bytes, n < FA_RIFF_HEADER_MAX ? n : FA_RIFF_HEADER_MAX);
        if (size >= 0) {
            c->riff_seen = c->has_begun = 1;
            return written + convert_bytes(c, bytes + size, n - (size_t)size, out + written);
        }
    }
    while (n > 0 && !c->riff_seen) {
        c->header[c->header_size++] = *bytes++;
        n--;
        ptrdiff_t size = riff_header_size(c->header, c->header_size);
        if (size >= 0 || c->header_size == FA_RIFF_HEADER_MAX) {
            size_t kept = c->header_size;
            size_t skip = size > 0 ? (size_t)size : size == 0 ? 0 : kept;
            c->riff_seen = c->has_begun = 1;
            c->header_size = 0;
            written += convert_bytes(c, c->header + skip, kept - skip, out + written);
        }
    }
    return written + convert_bytes(c, bytes, n, out + written);
}

size_t fa_converter_flush(fa_converter *c, uint8_t *out) {
    int16_t tail[FA_RESAMPLE_FLUSH_ROOM];
    size_t n = c->resamples ? fa_resampler_flush(&c->resampler, tail) : 0;
    c->carry_size = 0;
    c->riff_seen = c->has_begun = c->is_audio = 0;
    c->header_size = 0;
    if (c->out_encoding == FA_PCM16) {
        memcpy(out, tail, n * 2);
        return n * 2;
    }
    (c->out_encoding == FA_ULAW ? fa_ulaw_encode : fa_alaw_encode)(tail, n, out);
    return n;
}
