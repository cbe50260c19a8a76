/* libFuzzer target: the level meter on any sound, in any chunking, at any times. */
#include "fuzz.h"

#include "fa_level.h"

static void check_figures(const fa_level_figures *f)
{
    REQUIRE(f->clipped_samples <= f->samples && f->peak >= 0 && f->peak <= 32768);
    REQUIRE(f->peak_dbfs >= FA_LEVEL_FLOOR_DB && f->peak_dbfs <= 0.001);
    REQUIRE(f->rms_dbfs >= FA_LEVEL_FLOOR_DB && f->rms_dbfs <= 0.001);
    REQUIRE(f->recent_rms_dbfs >= FA_LEVEL_FLOOR_DB && f->recent_rms_dbfs <= 0.001);
    REQUIRE(isfinite(f->rms_dbm0) && isfinite(f->recent_rms_dbm0));
    REQUIRE(f->dc_offset >= -32768 && f->dc_offset <= 32767);
    REQUIRE(f->silence_share >= 0 && f->silence_share <= 1);
    REQUIRE(f->silence_s >= 0 && f->silence_max_s >= f->silence_s);
    REQUIRE(isfinite(f->age_s) && isfinite(f->gap_max_s) && f->gap_max_s >= 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    static const int RATES[] = {8000, 16000, 24000, 48000, 8050, 8001, 7950, 0, -8000, 48050};
    const int rate = RATES[fuzz_choice(&in, 10)];
    const unsigned encoding = fuzz_choice(&in, 4);
    const size_t piece = 1 + fuzz_byte(&in);
    fa_level *whole = fuzz_room(sizeof *whole, 0), *parts = fuzz_room(sizeof *parts, 0);
    const int code = fa_level_init(whole, rate, (fa_level_encoding)encoding);
    REQUIRE(code == (encoding < 3 && rate >= 8000 && rate <= 48000 && rate % 50 == 0 ? 0 : -1));
    if (code == 0) {
        fa_level_init(parts, rate, (fa_level_encoding)encoding);
        int16_t pcm[FUZZ_FRAME] = {0};
        double now_s = 0;
        while (in.left > 0) {
            fuzz_frame(&in, pcm);
            const size_t n = fuzz_byte(&in) % 2 ? FUZZ_FRAME : fuzz_byte(&in) % (FUZZ_FRAME + 1u);
            int16_t *chunk = fuzz_copy(pcm, 2 * n, 2);
            fa_level_process(whole, chunk, n, now_s);
            for (size_t at = 0; at < n; at += piece)
                fa_level_process(parts, chunk + at, n - at < piece ? n - at : piece, now_s);
            fuzz_drop(chunk, 2);
            fa_level_figures a, b;
            fa_level_snapshot(whole, now_s, &a);
            fa_level_snapshot(parts, now_s, &b);
            check_figures(&a);
            REQUIRE(a.samples == b.samples && a.clipped_samples == b.clipped_samples && a.clip_runs == b.clip_runs);
            REQUIRE(a.peak == b.peak && a.rms_dbfs == b.rms_dbfs && a.recent_rms_dbfs == b.recent_rms_dbfs);
            REQUIRE(a.silence_s == b.silence_s && a.silence_share == b.silence_share && a.dc_offset == b.dc_offset);
            const double later_s = fuzz_later(&in, now_s);
            now_s = later_s;
        }
    }
    fuzz_drop(whole, 0);
    fuzz_drop(parts, 0);
    return 0;
}
