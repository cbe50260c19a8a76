/* libFuzzer target: bands, voice detector and utterances on any sound. Every output is finite and in its range,
 * and a reset is as good as new.
 */
#include "fuzz.h"

#include "fa_vad.h"

static void check_bands(const fa_band_frame *f)
{
    for (int i = 0; i < FA_BANDS; i++)
        REQUIRE(isfinite(f->band[i]) && f->band[i] >= 0);
    for (int i = 0; i < FA_SPECTRUM_BINS; i++)
        REQUIRE(isfinite(f->spectrum[i]) && f->spectrum[i] >= 0);
    REQUIRE(isfinite(f->power) && f->power >= 0);
}

static void take_options(fuzz_input *in, fa_speech *speech)
{
    static const char *const NAMES[] = {"sensitive", "balanced", "strict"};
    fa_speech_options options;
    const unsigned choice = fuzz_byte(in);
    REQUIRE(fa_speech_preset("no such setting", &options) == -1);
    REQUIRE(fa_speech_preset(NAMES[choice % 3], &options) == 0);
    REQUIRE(fa_speech_init(speech, &options) == 0);
    if (choice < 128)
        return;
    options.start_probability = (float)((int8_t)fuzz_byte(in)) / 100;
    options.stop_probability = (float)((int8_t)fuzz_byte(in)) / 100;
    options.min_speech_ms = fuzz_sample(in);
    options.hangover_ms = fuzz_sample(in);
    options.prefix_ms = fuzz_sample(in);
    const int is_in_range = options.stop_probability >= 0 && options.stop_probability <= options.start_probability &&
                            options.start_probability > 0 && options.start_probability <= 1 &&
                            options.min_speech_ms >= 0 && options.hangover_ms >= 0 && options.prefix_ms >= 0;
    fa_speech *other = fuzz_room(sizeof *other, 0);
    const int code = fa_speech_init(other, &options);
    REQUIRE(code == (is_in_range ? 0 : -1));
    if (code == 0)
        *speech = *other;
    fuzz_drop(other, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    fa_bands *bands = fuzz_room(sizeof *bands, 0);
    fa_vad *vad = fuzz_room(sizeof *vad, 0);
    fa_speech *speech = fuzz_room(sizeof *speech, 0);
    fa_band_frame *seen = fuzz_room(sizeof *seen, 0);
    int16_t *pcm = fuzz_room(2 * FUZZ_FRAME, 0), *first = fuzz_room(2 * FUZZ_FRAME, 0);
    memset(pcm, 0, 2 * FUZZ_FRAME);
    fa_bands_init(bands);
    fa_vad_init(vad);
    take_options(&in, speech);

    int is_speaking = 0;
    int64_t last = 0, samples = 0;
    float first_probability = 0;
    while (in.left > 0) {
        fuzz_frame(&in, pcm);
        fa_bands_process(bands, pcm, seen);
        check_bands(seen);
        const float probability = fa_vad_process(vad, pcm, seen);
        REQUIRE(probability >= 0 && probability <= 1);
        if (samples == 0) {
            first_probability = probability;
            memcpy(first, pcm, 2 * FUZZ_FRAME);
        }
        samples += FUZZ_FRAME;
        int64_t position = -1;
        const fa_speech_event event = fa_speech_process(speech, probability, &position);
        REQUIRE(event != (is_speaking ? FA_SPEECH_STARTED : FA_SPEECH_STOPPED));
        if (event == FA_SPEECH_NONE) {
            REQUIRE(position == -1);
            continue;
        }
        is_speaking = event == FA_SPEECH_STARTED;
        REQUIRE(position >= last && position <= samples);
        last = position;
    }
    if (samples > 0) {
        fa_bands_init(bands);
        fa_vad_reset(vad);
        fa_bands_process(bands, first, seen);
        REQUIRE(fa_vad_process(vad, first, seen) == first_probability);
    }
    fuzz_drop(bands, 0);
    fuzz_drop(vad, 0);
    fuzz_drop(speech, 0);
    fuzz_drop(seen, 0);
    fuzz_drop(pcm, 0);
    fuzz_drop(first, 0);
    return 0;
}
