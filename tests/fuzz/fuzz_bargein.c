/* libFuzzer target: the barge-in gate on any pair of sounds, any word of the voice detector and any settings. */
#include "fuzz.h"

#include "fa_bargein.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    fa_bargein *gate = fuzz_room(sizeof *gate, 0);
    fa_bands *ears = fuzz_room(sizeof *ears, 0), *mouth = fuzz_room(sizeof *mouth, 0);
    fa_band_frame *heard = fuzz_room(sizeof *heard, 0), *played = fuzz_room(sizeof *played, 0);
    int16_t *caller = fuzz_room(2 * FUZZ_FRAME, 0), *bot = fuzz_room(2 * FUZZ_FRAME, 0);
    memset(caller, 0, 2 * FUZZ_FRAME);
    memset(bot, 0, 2 * FUZZ_FRAME);
    fa_bargein_init(gate);
    fa_bands_init(ears);
    fa_bands_init(mouth);
    const int confirm_ms = fuzz_sample(&in);
    const int is_in_range = confirm_ms >= FA_BARGEIN_FRAME_MS && confirm_ms <= FA_BARGEIN_CONFIRM_MAX_MS;
    REQUIRE(fa_bargein_set_confirm_ms(gate, confirm_ms) == (is_in_range ? 0 : -1));
    while (in.left > 0) {
        const uint8_t act = fuzz_byte(&in);
        if (act % 16 == 15)
            fa_bargein_rearm(gate);
        if (act & 1)
            fuzz_frame(&in, bot);
        if (act & 2)
            memcpy(caller, bot, 2 * FUZZ_FRAME);
        else
            fuzz_frame(&in, caller);
        fa_bands_process(ears, caller, heard);
        fa_bands_process(mouth, bot, played);
        const float probability = (float)fuzz_byte(&in) / 255;
        const int verdict = fa_bargein_process(gate, heard, act & 4 ? NULL : played, probability);
        REQUIRE(verdict >= FA_BARGEIN_QUIET && verdict <= FA_BARGEIN_CONFIRMED);
        const int lag_ms = fa_bargein_lag_ms(gate);
        REQUIRE(lag_ms >= -1 && lag_ms < FA_BARGEIN_LAGS * FA_BARGEIN_FRAME_MS);
        float leak_db[FA_BANDS];
        fa_bargein_leak_db(gate, leak_db);
        for (int i = 0; i < FA_BANDS; i++)
            REQUIRE(isfinite(leak_db[i]));
        const uint32_t onset = fa_bargein_onset_frames(gate);
        REQUIRE(fa_bargein_speech_ms(gate) <= onset * FA_BARGEIN_FRAME_MS);
        REQUIRE(fa_bargein_pause_ms(gate) <= onset * FA_BARGEIN_FRAME_MS);
        REQUIRE(verdict < FA_BARGEIN_SPEECH || onset > 0);
        const int audible = fa_bargein_bot_audible(gate);
        REQUIRE(audible == 0 || audible == 1);
    }
    fuzz_drop(gate, 0);
    fuzz_drop(ears, 0);
    fuzz_drop(mouth, 0);
    fuzz_drop(heard, 0);
    fuzz_drop(played, 0);
    fuzz_drop(caller, 0);
    fuzz_drop(bot, 0);
    return 0;
}
