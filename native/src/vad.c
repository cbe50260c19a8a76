/* The voice activity detector: measures of a frame, a gated recurrent layer, and utterances.
 *
 * No call into the mathematics library: logarithms and sigmoids are short formulas that compilers vectorise.
 */
#include "fa_vad.h"

#include <string.h>

#include "fa_vad_weights.h"

#define FRAME_MS 20
#define GATES (3 * FA_VAD_UNITS)

/* Periodicity, at 4 kHz: a window of 24 ms against itself 2.5 to 16.5 ms earlier (60 to 400 Hz). */
#define SLOW_SAMPLES (FA_FRAME_SAMPLES / 2)
#define LAG_MIN 10
#define LAG_MAX 66
#define LAGS (LAG_MAX - LAG_MIN + 3) /* a neighbour on each side, to see a peak */
#define PITCH_WINDOW 96
#define PITCH_SAMPLES (FA_VAD_PITCH_HISTORY + SLOW_SAMPLES)
#define PITCH_MAGNITUDE 4096 /* sums of PITCH_WINDOW squares stay below 2^31 */
#define PITCH_POWER_MIN 400  /* mean square at 4 kHz below which periodicity is rounding */

#define FIRST_BIN 6 /* 188 Hz: below it telephones carry hum, not speech */
#define LAST_BIN 121
/* Each bin over the mean of itself and its neighbours, in eighths of a log2 unit. */
#define AROUND 3
#define LINE_SCALE 8.0f
#define LINE_MAX 127.0f

#define LINE_BINS 2 /* a steady tone reaches this far to both sides under the window */

/* Two lines that hold this share of the power are probably a tone; how much less likely speech then is. */
#define TONE_SHARE 0.95f
#define TONE_LOG_ODDS 1.5f
#define FIRST_LINE (2 * FA_BANDS + 6) /* places among the measures */
#define SECOND_LINE (2 * FA_BANDS + 7)

#define SUBFRAMES 4
#define SUBFRAME_SAMPLES (FA_FRAME_SAMPLES / SUBFRAMES)
#define LANES 8 /* independent sums: float addition may not be reordered by the compiler */

/* The floor follows a quieter frame within 3 frames and a louder one by 1.5 dB a second, in log2 units;
 * during the first second it is still learning and climbs ten times as fast. */
#define FLOOR_FALL 0.3f
#define FLOOR_RISE 0.01f
#define FLOOR_RISE_EARLY 0.1f
#define EARLY_FRAMES 50

_Static_assert(FA_VAD_PITCH_HISTORY >= PITCH_WINDOW + LAG_MAX + 1 - SLOW_SAMPLES, "room for the longest lag");
_Static_assert(FIRST_BIN >= AROUND && LAST_BIN + AROUND < FA_SPECTRUM_BINS, "every line has neighbours");
_Static_assert(FA_VAD_LINES == LAST_BIN - FIRST_BIN + 1, "a place for every line");
_Static_assert((int64_t)PITCH_WINDOW * PITCH_MAGNITUDE * PITCH_MAGNITUDE < INT32_MAX, "sums fit");

/* log2 of a normal positive number, within 1e-5: exponent, and a polynomial of the mantissa. */
static inline float fast_log2(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    int32_t exponent = (int32_t)(bits >> 23) - 127;
    bits = (bits & 0x007fffffu) | 0x3f800000u;
    float m;
    memcpy(&m, &bits, sizeof m);
    float t = m - 1.0f;
    float y = t * (1.44254494f +
                   t * (-0.71814525f +
                        t * (0.45754915f + t * (-0.27790524f + t * (0.12179782f + t * -0.02584142f)))));
    return (float)exponent + y;
}

/* tanh within 1e-4, by Lambert's continued fraction. */
static inline float fast_tanh(float x)
{
    x = x > 4.9f ? 4.9f : x < -4.9f ? -4.9f : x;
    float s = x * x;
    float y = x * (135135.0f + s * (17325.0f + s * (378.0f + s))) /
              (135135.0f + s * (62370.0f + s * (3150.0f + s * 28.0f)));
    return y > 1.0f ? 1.0f : y < -1.0f ? -1.0f : y;
}

static inline float fast_sigmoid(float x) { return 0.5f + 0.5f * fast_tanh(0.5f * x); }

static inline float magnitude(float x) { return x < 0 ? -x : x; }

void fa_vad_init(fa_vad *v) { memset(v, 0, sizeof *v); }

void fa_vad_reset(fa_vad *v) { fa_vad_init(v); }

/* Moves the 4 kHz history on by a frame and gives all of it, centred and scaled for int32 sums. Returns the
 * mean square of the window, unscaled. */
static float slow_samples(fa_vad *v, const int16_t *line, int16_t *out)
{
    int16_t slow[PITCH_SAMPLES];
    memcpy(slow, v->pitch, sizeof v->pitch);
    for (int i = 0; i < SLOW_SAMPLES; i++) {
        const int16_t *x = line + 2 * i + 1;
        slow[FA_VAD_PITCH_HISTORY + i] =
            (int16_t)((x[0] + x[4] + 4 * (x[1] + x[3]) + 6 * x[2] + 8) >> 4);
    }
    memcpy(v->pitch, slow + SLOW_SAMPLES, sizeof v->pitch);

    int32_t sum = 0, low = INT16_MAX, high = INT16_MIN;
    for (int i = 0; i < PITCH_SAMPLES; i++) {
        sum += slow[i];
        low = slow[i] < low ? slow[i] : low;
        high = slow[i] > high ? slow[i] : high;
    }
    int32_t mean = sum / PITCH_SAMPLES;
    int32_t largest = high - mean > mean - low ? high - mean : mean - low;
    int shift = 0;
    while ((largest >> shift) >= PITCH_MAGNITUDE) {
        shift++;
    }
    for (int i = 0; i < PITCH_SAMPLES; i++) {
        out[i] = (int16_t)((slow[i] - mean) >> shift);
    }
    return (float)(1 << (2 * shift));
}

static int32_t product(const int16_t *a, const int16_t *b)
{
    int32_t sum = 0;
    for (int i = 0; i < PITCH_WINDOW; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

/* The best squared correlation of the newest window with an earlier one, 0 for none, and its lag. */
static float periodicity(fa_vad *v, const int16_t *line, int *best_lag)
{
    int16_t slow[PITCH_SAMPLES];
    float scale = slow_samples(v, line, slow);
    const int16_t *window = slow + PITCH_SAMPLES - PITCH_WINDOW;
    int32_t energy = product(window, window);
    *best_lag = 0;
    if ((float)energy * scale < (float)PITCH_POWER_MIN * PITCH_WINDOW) {
        return 0;
    }
    int32_t correlation[LAGS];
    for (int i = 0; i < LAGS; i++) {
        correlation[i] = product(window, window - (LAG_MIN - 1 + i));
    }
    const int16_t *first = window - (LAG_MIN - 1);
    int32_t lagged = product(first, first);
    float best = 0;
    for (int i = 1; i < LAGS - 1; i++) {
        first--;
        lagged += first[0] * first[0] - first[PITCH_WINDOW] * first[PITCH_WINDOW];
        int32_t r = correlation[i];
        if (r > 0 && r > correlation[i - 1] && r >= correlation[i + 1] && lagged > 0) {
            float share = (float)r * (float)r / ((float)energy * (float)lagged);
            /* A longer lag must be clearly better: multiples of a period correlate as well as itself. */
            if (share > best * 1.1f) {
                best = share;
                *best_lag = LAG_MIN - 1 + i;
            }
        }
    }
    return best > 1.0f ? 1.0f : best;
}

/* Power of the line around a bin, taken out of the spectrum. */
static float take_line(float *spectrum, int peak)
{
    float sum = 0;
    int begin = peak - LINE_BINS < 0 ? 0 : peak - LINE_BINS;
    int end = peak + LINE_BINS >= FA_SPECTRUM_BINS ? FA_SPECTRUM_BINS - 1 : peak + LINE_BINS;
    for (int k = begin; k <= end; k++) {
        sum += spectrum[k];
        spectrum[k] = 0;
    }
    return sum;
}

static int strongest(const float *spectrum)
{
    int peak = FIRST_BIN;
    for (int k = FIRST_BIN + 1; k <= LAST_BIN; k++) {
        peak = spectrum[k] > spectrum[peak] ? k : peak;
    }
    return peak;
}

/* The fine structure of a spectrum: where its lines and gaps are, whatever its level and shape. */
static void fine_structure(const float *logs, int8_t *lines)
{
    for (int i = 0; i < FA_VAD_LINES; i++) {
        const float *x = logs + FIRST_BIN + i;
        float sum = ((x[-3] + x[3]) + (x[-2] + x[2])) + ((x[-1] + x[1]) + x[0]);
        float over = LINE_SCALE * (x[0] - sum * (1.0f / (2 * AROUND + 1)));
        over = over > LINE_MAX ? LINE_MAX : over < -LINE_MAX ? -LINE_MAX : over;
        lines[i] = (int8_t)over;
    }
}

static int32_t lines_product(const int8_t *a, const int8_t *b)
{
    int32_t sum = 0;
    for (int i = 0; i < FA_VAD_LINES; i++) {
        sum += (int16_t)(a[i] * b[i]);
    }
    return sum;
}

/* How alike two fine structures are, from -1 to 1: the correlation, squared, with its sign. Lines that stay
 * where they are are an instrument's; a voice's move. */
static float likeness(const int8_t *a, const int8_t *b)
{
    float both = (float)lines_product(a, b);
    float powers = (float)lines_product(a, a) * (float)lines_product(b, b);
    return both * magnitude(both) / (powers + 1.0f);
}

static float follow(float floor, float level, uint32_t frames)
{
    if (frames == 0) {
        return level;
    }
    float difference = level - floor;
    if (difference < 0) {
        return floor + FLOOR_FALL * difference;
    }
    float rise = frames < EARLY_FRAMES ? FLOOR_RISE_EARLY : FLOOR_RISE;
    return floor + (difference < rise ? difference : rise);
}

void fa_vad_measure(fa_vad *v, const int16_t *pcm, const fa_band_frame *f, float *measures)
{
    int16_t line[4 + FA_FRAME_SAMPLES];
    memcpy(line, v->tail, sizeof v->tail);
    memcpy(line + 4, pcm, FA_FRAME_SAMPLES * sizeof *line);
    memcpy(v->tail, line + FA_FRAME_SAMPLES, sizeof v->tail);

    /* Levels are log2 of mean squares: one unit is 3 dB. */
    float level[FA_BANDS], logs[FA_SPECTRUM_BINS], spectrum[FA_SPECTRUM_BINS];
    float mean_level = 0, in_band = 0;
    for (int i = 0; i < FA_BANDS; i++) {
        level[i] = fast_log2(f->band[i] + 1.0f);
        mean_level += level[i] * (1.0f / FA_BANDS);
        in_band += f->band[i];
    }
    float total = fast_log2(in_band + 1.0f);
    const float *earlier = v->past[v->frames % FA_VAD_PAST];
    const float *last = v->past[(v->frames + FA_VAD_PAST - 1) % FA_VAD_PAST];
    float change = 0, slow_change = 0;
    for (int i = 0; i < FA_BANDS; i++) {
        v->floor[i] = follow(v->floor[i], level[i], v->frames);
        measures[i] = 0.25f * (level[i] - v->floor[i]);
        measures[FA_BANDS + i] = 0.25f * (level[i] - mean_level);
        change += magnitude(level[i] - last[i]);
        slow_change += magnitude(level[i] - earlier[i]);
    }
    v->total_floor = follow(v->total_floor, total, v->frames);

    int lag;
    float periodic = periodicity(v, line, &lag);
    float lag_change = 0;
    if (lag > 0 && v->lag > 0) {
        lag_change = magnitude((float)lag - v->lag) / (float)lag;
        lag_change = lag_change > 1.0f ? 1.0f : lag_change;
    }
    v->lag = (float)lag;

    float log_sum = 0;
    for (int k = 0; k < FA_SPECTRUM_BINS; k++) {
        spectrum[k] = f->spectrum[k];
        logs[k] = fast_log2(spectrum[k] + 0.01f);
    }
    for (int k = FIRST_BIN; k <= LAST_BIN; k++) {
        log_sum += logs[k];
    }
    const float bins = LAST_BIN - FIRST_BIN + 1;
    float flatness = log_sum / bins - fast_log2(in_band / bins + 0.01f);

    int8_t lines[FA_VAD_LINES];
    fine_structure(logs, lines);
    float like_40_ms = likeness(lines, v->lines[(v->frames + FA_VAD_PAST - 2) % FA_VAD_PAST]);
    float like_80_ms = likeness(lines, v->lines[v->frames % FA_VAD_PAST]);
    memcpy(v->lines[v->frames % FA_VAD_PAST], lines, sizeof lines); /* the oldest one's place */

    float share = 1.0f / (in_band + 1.0f);
    int peak = strongest(spectrum);
    float first_line = take_line(spectrum, peak) * share;
    float second_line = take_line(spectrum, strongest(spectrum)) * share;
    int moved = peak > v->peak ? peak - v->peak : v->peak - peak;
    v->peak = peak;

    float below = 0;
    for (int k = 0; k < FIRST_BIN; k++) {
        below += f->spectrum[k];
    }

    float loudest = 0;
    int crossings = 0;
    for (int part = 0; part < SUBFRAMES; part++) {
        const int16_t *x = line + 4 + part * SUBFRAME_SAMPLES;
        float sums[LANES] = {0};
        for (int i = 0; i < SUBFRAME_SAMPLES; i += LANES) {
            for (int lane = 0; lane < LANES; lane++) {
                sums[lane] += (float)x[i + lane] * (float)x[i + lane];
            }
        }
        float energy = ((sums[0] + sums[1]) + (sums[2] + sums[3])) +
                       ((sums[4] + sums[5]) + (sums[6] + sums[7]));
        loudest = energy > loudest ? energy : loudest;
    }
    for (int i = 0; i < FA_FRAME_SAMPLES; i++) {
        crossings += (line[3 + i] < 0) != (line[4 + i] < 0);
    }

    float *rest = measures + 2 * FA_BANDS;
    rest[0] = 0.25f * total;
    rest[1] = 0.25f * (total - v->total_floor);
    rest[2] = periodic;
    rest[3] = periodic * (float)lag * (1.0f / LAG_MAX);
    rest[4] = periodic * lag_change;
    rest[5] = 0.25f * flatness;
    measures[FIRST_LINE] = first_line > 1.5f ? 1.5f : first_line;
    measures[SECOND_LINE] = second_line > 1.5f ? 1.5f : second_line;
    rest[8] = (float)(moved > 16 ? 16 : moved) * (1.0f / 16);
    rest[9] = change * (0.25f / FA_BANDS);
    rest[10] = slow_change * (0.25f / FA_BANDS);
    rest[11] = 0.25f * (fast_log2(loudest * (1.0f / SUBFRAME_SAMPLES) + 1.0f) - fast_log2(f->power + 1.0f));
    rest[12] = 0.25f * (fast_log2(below + 1.0f) - total);
    rest[13] = (float)crossings * (1.0f / FA_FRAME_SAMPLES);
    rest[14] = like_40_ms;
    rest[15] = like_80_ms;

    memcpy(v->past[v->frames % FA_VAD_PAST], level, sizeof level);
    if (v->frames < UINT32_MAX - FA_VAD_PAST) {
        v->frames++;
    } else {
        v->frames -= FA_VAD_PAST - 1; /* keeps the ring's place */
    }
}

/* One gate's sums over `count` inputs. Few enough of them that they stay in registers. */
static inline void weigh(const float *restrict inputs, int count, const float *restrict weights,
                         const float *restrict bias, float *restrict out)
{
    float sums[FA_VAD_UNITS];
    memcpy(sums, bias, sizeof sums);
    for (int i = 0; i < count; i++, weights += GATES) {
        for (int j = 0; j < FA_VAD_UNITS; j++) {
            sums[j] += inputs[i] * weights[j];
        }
    }
    memcpy(out, sums, sizeof sums);
}

float fa_vad_process(fa_vad *v, const int16_t *pcm, const fa_band_frame *f)
{
    float x[FA_VAD_MEASURES];
    fa_vad_measure(v, pcm, f, x);

    /* Columns: update, reset and candidate of every unit. The candidate's own past stays apart, because the
     * reset gate scales it. */
    float now[GATES], past[GATES];
    for (int gate = 0; gate < GATES; gate += FA_VAD_UNITS) {
        weigh(x, FA_VAD_MEASURES, &INPUT_WEIGHTS[0][gate], BIAS + gate, now + gate);
        weigh(v->unit, FA_VAD_UNITS, &PAST_WEIGHTS[0][gate], PAST_BIAS + gate, past + gate);
    }
    float odds = OUTPUT_BIAS;
    for (int j = 0; j < FA_VAD_UNITS; j++) {
        float update = fast_sigmoid(now[j] + past[j]);
        float reset = fast_sigmoid(now[FA_VAD_UNITS + j] + past[FA_VAD_UNITS + j]);
        float candidate = fast_tanh(now[2 * FA_VAD_UNITS + j] + reset * past[2 * FA_VAD_UNITS + j]);
        v->unit[j] = candidate + update * (v->unit[j] - candidate);
    }
    for (int j = 0; j < FA_VAD_UNITS; j++) {
        odds += v->unit[j] * OUTPUT_WEIGHTS[j];
    }
    /* The first frame of a tone is all the net has when it must decide; a line or two and nothing else
     * makes speech less likely there. Voices that are so pure for a frame have odds to spare. */
    if (x[FIRST_LINE] + x[SECOND_LINE] > TONE_SHARE) {
        odds -= TONE_LOG_ODDS;
    }
    return fast_sigmoid(odds);
}

/* ---- utterances ---- */

static const struct {
    const char *name;
    fa_speech_options options;
} PRESETS[] = {
    {"sensitive", {0.35f, 0.20f, 20, 400, 60}},
    {"balanced", {0.50f, 0.35f, 60, 300, 40}},
    {"strict", {0.75f, 0.50f, 120, 240, 20}},
};

int fa_speech_preset(const char *name, fa_speech_options *options)
{
    for (size_t i = 0; i < sizeof PRESETS / sizeof *PRESETS; i++) {
        if (strcmp(PRESETS[i].name, name) == 0) {
            *options = PRESETS[i].options;
            return 0;
        }
    }
    return -1;
}

static int is_time(int ms) { return ms >= 0 && ms <= FA_SPEECH_MS_MAX; }

int fa_speech_init(fa_speech *s, const fa_speech_options *options)
{
    /* Written so that a value which is not a number fails too. */
    if (!(options->start_probability > 0 && options->start_probability <= 1 &&
          options->stop_probability >= 0 && options->stop_probability <= options->start_probability) ||
        !is_time(options->min_speech_ms) || !is_time(options->hangover_ms) || !is_time(options->prefix_ms)) {
        return -1;
    }
    s->options = *options;
    fa_speech_reset(s);
    return 0;
}

void fa_speech_reset(fa_speech *s)
{
    s->samples = s->begin = s->last_stop = 0;
    s->run_ms = 0;
    s->is_speaking = 0;
}

fa_speech_event fa_speech_process(fa_speech *s, float probability, int64_t *position)
{
    const fa_speech_options *o = &s->options;
    int64_t at = s->samples;
    s->samples += FA_FRAME_SAMPLES;
    /* A run towards speech needs the start's probability once; then it may dip as low as running speech. */
    float needed = s->run_ms > 0 ? o->stop_probability : o->start_probability;
    int is_towards_change = s->is_speaking ? probability < o->stop_probability : probability >= needed;
    if (!is_towards_change) {
        s->run_ms = 0;
        return FA_SPEECH_NONE;
    }
    if (s->run_ms == 0) {
        s->begin = at;
    }
    s->run_ms += FRAME_MS;
    if (s->run_ms < (s->is_speaking ? o->hangover_ms : o->min_speech_ms)) {
        return FA_SPEECH_NONE;
    }
    s->run_ms = 0;
    s->is_speaking = !s->is_speaking;
    if (s->is_speaking) {
        int64_t from = s->begin - (int64_t)o->prefix_ms * (FA_FRAME_SAMPLES / FRAME_MS);
        *position = from > s->last_stop ? from : s->last_stop;
        return FA_SPEECH_STARTED;
    }
    *position = s->last_stop = s->begin;
    return FA_SPEECH_STOPPED;
}
