/* DTMF detector and generator.
 *
 * Every 5 ms the detector looks at the last 20 ms through a Hann window: the energies of the four low and
 * the four high frequencies against all there is. Where a pair dominates, the turn of its phases from look to
 * look tells both frequencies within a few hertz, far finer than the window's own lines, and the pair so
 * measured is laid over the last 40 ms: the stretch in which it is more likely there than not is the tone so
 * far. If that is too short, the next look asks again; if pair and audio do not agree over the whole of it,
 * it was speech or music that passed by.
 */
#include "fa_dtmf.h"

#include <string.h>

#include "fa_dtmf_tables.h"

_Static_assert(FA_DTMF_HISTORY >= FA_DTMF_WINDOW, "a look needs a window");
_Static_assert(FA_DTMF_LINE >= FA_DTMF_HISTORY + FA_DTMF_HOP, "a hop must fit behind the history");

#define RATE 8000.0f
#define LINE_HZ (RATE / FA_DTMF_WINDOW) /* of the window's spectrum */

/* 0 dBm0 is a sine of peak 22303 (G.711: mu-law's full scale, 32124, is +3.17 dBm0). */
#define LEVEL_MIN 1.33e7f       /* energy of a tone of -30.5 dBm0 */
#define POWER_MIN 138000u       /* of half a window of two such tones, in units of 16 squared */
#define TWIST_MAX 7.94f         /* low over high: 9 dB */
#define REVERSE_TWIST_MAX 3.89f /* high over low: 5.9 dB; an echo 10 dB down can make 5.7 dB of none */
#define OFFSET_MAX 0.022f       /* of a frequency: between the 1.5 % to take and the 3.5 % to refuse */
#define PURITY_MIN 0.70f        /* the pair's share of all energy */
#define LOOK_PURITY_MIN 0.30f   /* the same before frequencies are known: 2.2 % off, 1633 Hz shows 0.5 */
#define CLEAN 0.93f             /* purity above which nobody asks for dial tone */
#define DIAL_MIN 0.03f          /* of all energy, for dial tone to be taken out of the past */
#define LONE_MIN 0.02f          /* of all energy, dial tone included, that a low tone must have */
#define TONE_MIN 252            /* samples, 31.5 ms: amid the 23 ms to refuse and the 40 ms to take */
#define TAIL_MAX 24             /* samples the tone may already be over */
#define FIT_MIN 0.79f           /* squared correlation with the pair; at an SNR of 9 dB 0.80 to 0.92 */
#define DIALLED_FIT_MIN 0.85f   /* the same where dial tone was taken out: a first formant looks alike */
#define DIAL_SEAM 120           /* samples: 15 ms */
#define HALF_LEVEL 0.25f        /* half the amplitude, as power */
#define AWAY_MAX 5              /* looks, 25 ms: amid the drop-out of 10 ms and the pause of 40 ms */

static const char KEYS[4][5] = {"123A", "456B", "789C", "*0#D"};

typedef struct {
    float re, im;
} phasor;

static phasor times(phasor a, phasor b)
{
    return (phasor){a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

static phasor scaled(phasor a, float by) { return (phasor){a.re * by, a.im * by}; }

static phasor conjugate(phasor a) { return (phasor){a.re, -a.im}; }

static phasor from(const float pair[2]) { return (phasor){pair[0], pair[1]}; }

/* exp(i * angle), for |angle| < 0.1. */
static phasor small_turn(float angle)
{
    float square = angle * angle;
    return (phasor){1.0f - square * (0.5f - square / 24.0f), angle * (1.0f - square / 6.0f)};
}

static phasor power(phasor base, unsigned exponent)
{
    phasor result = {1.0f, 0.0f};
    for (; exponent > 0; exponent >>= 1) {
        if (exponent & 1)
            result = times(result, base);
        base = times(base, base);
    }
    return result;
}

/* atan(t) within 1e-5 for |t| <= 1 (minimax, odd, degree 11), and by its mirror beyond. */
static float arctangent(float t)
{
    float size = t < 0.0f ? -t : t;
    float u = size > 1.0f ? 1.0f / size : size, s = u * u;
    float a = u * (0.99997726f +
                   s * (-0.33262347f +
                        s * (0.19354346f + s * (-0.11643287f + s * (0.05265332f - s * 0.01172120f)))));
    a = size > 1.0f ? 1.57079633f - a : a;
    return t < 0.0f ? -a : a;
}

/* What the window shows of the amplitude of a tone that is `offset_hz` beside the line looked at. */
static float window_gain(float offset_hz)
{
    float x = offset_hz / LINE_HZ, s = x * x;
    return 1.0f + s * (-0.644934f + s * (0.166808f + s * (-0.023943f + s * 0.002205f)));
}

static int32_t dot(const int16_t *a, const int16_t *b)
{
    int32_t sum = 0;
    for (size_t n = 0; n < FA_DTMF_HALF; n++)
        sum += a[n] * b[n];
    return sum;
}

static int strongest(const float share[4])
{
    int best = 0;
    for (int f = 1; f < 4; f++)
        best = share[f] > share[best] ? f : best;
    return best;
}

/* The energy of 350 and 440 Hz together under the window; `dial` becomes the weights of their cosines and
 * sines about the window's middle. */
static float dial_energy(const int16_t *even, const int16_t *odd, float dial[4])
{
    float sum[4];
    for (size_t k = 0; k < 4; k++)
        sum[k] = FA_DTMF_TAP * (float)dot(k < 2 ? even : odd, fa_dtmf_dial[k]);
    float energy = 0.0f;
    for (size_t part = 0; part < 4; part += 2) {
        const float *gram = fa_dtmf_dial_gram[part / 2], a = sum[part], b = sum[part + 1];
        dial[part] = gram[0] * a + gram[2] * b;
        dial[part + 1] = gram[1] * b + gram[2] * a;
        energy += dial[part] * a + dial[part + 1] * b;
    }
    return energy;
}

/* Fills in one group's four frequencies from the sums and the differences of mirrored samples. */
static void group(fa_dtmf_look *look, size_t first, const int16_t *even, const int16_t *odd)
{
    for (size_t f = first; f < first + 4; f++) {
        look->re[f] = FA_DTMF_UNIT * (float)dot(even, fa_dtmf_cosines[f]);
        look->im[f] = -FA_DTMF_UNIT * (float)dot(odd, fa_dtmf_sines[f]);
        look->share[f] = look->re[f] * look->re[f] + look->im[f] * look->im[f];
    }
}

/* Looks at the window; `whole` asks for both groups in any case. low = high = -1 when no digit is seen. */
static void inspect(fa_dtmf_look *look, const int16_t *window, int whole)
{
    int16_t even[FA_DTMF_HALF], odd[FA_DTMF_HALF];
    for (size_t n = 0; n < FA_DTMF_HALF; n++) {
        int later = window[FA_DTMF_HALF + n] >> 1, earlier = window[FA_DTMF_HALF - 1 - n] >> 1;
        even[n] = (int16_t)(later + earlier);
        odd[n] = (int16_t)(later - earlier);
    }
    /* Windowed, then in units of 16, so that 160 squares fit 31 bits. */
    int32_t squares = 0;
    for (size_t n = 0; n < FA_DTMF_HALF; n++) {
        int16_t a = (int16_t)((even[n] * fa_dtmf_hann[n]) >> 19);
        int16_t b = (int16_t)((odd[n] * fa_dtmf_hann[n]) >> 19);
        squares += a * a + b * b;
    }
    float energy = 512.0f * (float)squares;

    look->low = look->high = -1;
    look->is_dialled = 0;
    group(look, 0, even, odd);
    int low = strongest(look->share);
    int is_hopeful = look->share[low] > LONE_MIN * energy && look->share[low] > 0.3f * LEVEL_MIN;
    if (!is_hopeful && !whole)
        return;
    group(look, 4, even, odd);
    int high = strongest(look->share + 4);
    if (!is_hopeful || look->share[4 + high] < 0.3f * LEVEL_MIN)
        return;
    float pair = look->share[low] + look->share[4 + high];
    if (pair < CLEAN * energy) {
        float dial = dial_energy(even, odd, look->dial);
        look->is_dialled = dial > DIAL_MIN * energy;
        energy -= dial;
        if (pair < LOOK_PURITY_MIN * energy)
            return;
    }
    look->energy = energy;
    look->low = (int8_t)low;
    look->high = (int8_t)high;
}

static const fa_dtmf_look *look_back(const fa_dtmf *d, uint32_t looks)
{
    return &d->looks[(d->latest + FA_DTMF_LOOKS - looks) % FA_DTMF_LOOKS];
}

/* How far a tone lies beside frequency f, in Hz, from its turn over the last three looks. Returns 0, or -1
 * when it is so far that it does not matter how far. */
static int offset_hz(const fa_dtmf *d, size_t f, float *offset)
{
    phasor turned = {0.0f, 0.0f};
    for (uint32_t back = 0; back < 2; back++) {
        const fa_dtmf_look *later = look_back(d, back), *earlier = look_back(d, back + 1);
        phasor step = times((phasor){later->re[f], later->im[f]}, (phasor){earlier->re[f], -earlier->im[f]});
        turned = (phasor){turned.re + step.re, turned.im + step.im};
    }
    turned = times(turned, conjugate(from(fa_dtmf_hop_turn[f])));
    /* A quarter turn per hop is 50 Hz. */
    if (!(turned.re > 0.0f))
        return -1;
    *offset = arctangent(turned.im / turned.re) * (RATE / FA_DTMF_HOP / 6.28318531f);
    return 0;
}

/* A pair of tones as measured, one sample at a time, backwards from the window's last. */
typedef struct {
    phasor now, back;
} oscillator;

static oscillator tone_of(const fa_dtmf_look *look, size_t f, float offset, float gain)
{
    float angle = offset * (6.28318531f / RATE);
    phasor turn = times(from(fa_dtmf_sample_turn[f]), small_turn(angle));
    phasor half = times(from(fa_dtmf_half_turn[f]), small_turn(0.5f * angle));
    /* The window's middle is half a sample before sample HALF, and the last sample is HALF - 1 further. */
    phasor last = times(times((phasor){look->re[f], look->im[f]}, half), power(turn, FA_DTMF_HALF - 1));
    /* A tone of peak 1 has the energy 30 under the window, and 0.18257419 is 1 / sqrt(30). */
    return (oscillator){scaled(last, 0.18257419f / gain), conjugate(turn)};
}

/* The history, newest sample first, without the dial tone that the looks found. */
static void undialled(const fa_dtmf *d, float *past)
{
    const int16_t *end = d->line + d->filled;
    for (int i = 0; i < FA_DTMF_HISTORY; i++)
        past[i] = (float)end[-1 - i];
    /* Each stretch from the look whose middle is nearest: the latest for 15 ms, the last but one before. */
    for (uint32_t back = 0; back < FA_DTMF_LOOKS; back += 2) {
        const fa_dtmf_look *look = look_back(d, back);
        if (!look->is_dialled)
            continue;
        int from_back = back == 0 ? 0 : DIAL_SEAM, until = back == 0 ? DIAL_SEAM : FA_DTMF_HISTORY;
        for (size_t k = 0; k < 2; k++) {
            phasor turn = from(fa_dtmf_dial_turn[k]);
            /* Half a sample behind the middle of its window, and on to `from_back`. */
            int ahead = FA_DTMF_HALF - 1 + (int)back * FA_DTMF_HOP - from_back;
            phasor now = times((phasor){look->dial[k], -look->dial[2 + k]}, from(fa_dtmf_dial_half_turn[k]));
            now = times(now, power(turn, (unsigned)ahead));
            for (int i = from_back; i < until; i++) {
                past[i] -= now.re;
                now = times(now, conjugate(turn));
            }
        }
    }
}

/* Where the pair lies in the last 40 ms. */
typedef struct {
    int tail;   /* how many samples ago it ended */
    int length; /* of the stretch, samples */
    float fit;  /* squared correlation of pair and audio over the last TONE_MIN samples */
} stretch;

/* Lays the pair over the past. Each sample x speaks for a tone s by s * (x - s / 2), the logarithm of a
 * likelihood ratio but for a factor; the stretch with the largest sum is where the tone is. */
static stretch lay(const float *past, oscillator low, oscillator high)
{
    stretch found = {0, 0, 0.0f};
    float sum = 0.0f, best = 0.0f, both = 0.0f, audio = 0.0f, tone = 0.0f;
    int from_back = 0;
    for (int i = 0; i < FA_DTMF_HISTORY; i++) {
        float x = past[i], s = low.now.re + high.now.re;
        sum += s * (x - 0.5f * s);
        if (sum <= 0.0f) {
            sum = 0.0f;
            from_back = i + 1;
        } else if (sum > best) {
            best = sum;
            found.length = i + 1 - from_back;
            found.tail = from_back;
        }
        if (i < TONE_MIN) {
            both += x * s;
            audio += x * x;
            tone += s * s;
        }
        low.now = times(low.now, low.back);
        high.now = times(high.now, high.back);
    }
    found.fit = both > 0.0f && audio > 0.0f && tone > 0.0f ? both / audio * (both / tone) : 0.0f;
    return found;
}

/* Whether the digit the last looks agree on is one; fills in where its tone began. */
static int is_digit(const fa_dtmf *d, int64_t *start)
{
    const fa_dtmf_look *look = look_back(d, 0), *before = look_back(d, 1);
    size_t f[2] = {(size_t)look->low, 4 + (size_t)look->high};
    float offset[2], gain[2], share[2], earlier = 0.0f;
    for (size_t k = 0; k < 2; k++) {
        if (offset_hz(d, f[k], &offset[k]) != 0)
            return 0;
        float limit = OFFSET_MAX * fa_dtmf_hz[f[k]];
        if (offset[k] > limit || offset[k] < -limit)
            return 0;
        gain[k] = window_gain(offset[k]);
        share[k] = look->share[f[k]] / (gain[k] * gain[k]);
        earlier += before->share[f[k]] / (gain[k] * gain[k]);
        if (share[k] < LEVEL_MIN)
            return 0;
    }
    if (share[0] > TWIST_MAX * share[1] || share[1] > REVERSE_TWIST_MAX * share[0])
        return 0;
    if (share[0] + share[1] < PURITY_MIN * look->energy || earlier < PURITY_MIN * before->energy)
        return 0;
    float past[FA_DTMF_HISTORY];
    undialled(d, past);
    oscillator low = tone_of(look, f[0], offset[0], gain[0]), high = tone_of(look, f[1], offset[1], gain[1]);
    stretch found = lay(past, low, high);
    float fit_min = look->is_dialled || look_back(d, 2)->is_dialled ? DIALLED_FIT_MIN : FIT_MIN;
    if (found.length < TONE_MIN || found.tail > TAIL_MAX || found.fit < fit_min)
        return 0;
    *start = d->position - found.tail - found.length;
    *start = *start < 0 ? 0 : *start;
    return 1;
}

/* Follows the digit that sounds; returns 1 when it is over. */
static int is_over(fa_dtmf *d, const fa_dtmf_look *look, const size_t f[2])
{
    float low = look->share[f[0]] / d->held[0], high = look->share[f[1]] / d->held[1];
    float level = low < high ? low : high;
    if (level >= HALF_LEVEL) {
        d->away = 0;
        for (size_t k = 0; k < 2; k++)
            d->held[k] += 0.25f * (look->share[f[k]] - d->held[k]);
    } else if (d->away++ == 0) {
        /* The window shows half the level when the end is in its middle: when was that? */
        float before = d->last_level < 1.0f ? d->last_level : 1.0f;
        float ago = FA_DTMF_HOP * (HALF_LEVEL - level) / (before - level);
        d->faded = d->position - FA_DTMF_HALF - (int64_t)ago;
    }
    d->last_level = level;
    return d->away >= AWAY_MAX;
}

static fa_dtmf_event ended(fa_dtmf *d, int64_t end)
{
    fa_dtmf_event event = {d->start, end > d->start ? end - d->start : 0, d->digit, 1};
    d->digit = 0;
    return event;
}

static void frequencies(char digit, size_t f[2])
{
    f[0] = f[1] = 0;
    for (size_t row = 0; row < 4; row++)
        for (size_t column = 0; column < 4; column++)
            if (KEYS[row][column] == digit) {
                f[0] = row;
                f[1] = 4 + column;
            }
}

/* A hop is complete: looks, and returns how many events (0 or 1) were written. */
static int hop(fa_dtmf *d, fa_dtmf_event *out)
{
    const int16_t *end = d->line + d->filled;
    uint32_t sum = 0;
    for (size_t i = 0; i < FA_DTMF_HOP; i++) {
        int coarse = end[(ptrdiff_t)i - FA_DTMF_HOP] >> 4;
        sum += (uint32_t)(coarse * coarse);
    }
    memmove(d->powers, d->powers + 1, 3 * sizeof *d->powers);
    d->powers[3] = sum;

    fa_dtmf_look seen = d->looks[d->latest];
    d->latest = (d->latest + 1) % FA_DTMF_LOOKS;
    fa_dtmf_look *look = &d->looks[d->latest];
    if (d->powers[0] + d->powers[1] + d->powers[2] + d->powers[3] >= POWER_MIN)
        inspect(look, end - FA_DTMF_WINDOW, d->digit != 0);
    else
        *look = (fa_dtmf_look){.low = -1, .high = -1};
    if (look->low < 0)
        d->alike = 0;
    else
        d->alike = look->low == seen.low && look->high == seen.high && d->alike > 0 ? d->alike + 1 : 1;

    if (d->digit != 0) {
        size_t f[2];
        frequencies(d->digit, f);
        if (!is_over(d, look, f))
            return 0;
        *out = ended(d, d->faded);
        return 1;
    }
    if (d->alike < FA_DTMF_LOOKS || !is_digit(d, &d->start))
        return 0;
    d->digit = KEYS[look->low][look->high];
    d->held[0] = look->share[look->low];
    d->held[1] = look->share[4 + look->high];
    d->last_level = 1.0f;
    d->away = 0;
    *out = (fa_dtmf_event){d->start, d->position - d->start, d->digit, 0};
    return 1;
}

void fa_dtmf_init(fa_dtmf *d)
{
    memset(d, 0, sizeof *d);
    for (size_t i = 0; i < FA_DTMF_LOOKS; i++)
        d->looks[i].low = d->looks[i].high = -1;
    d->filled = FA_DTMF_HISTORY;
}

void fa_dtmf_reset(fa_dtmf *d) { fa_dtmf_init(d); }

int fa_dtmf_process(fa_dtmf *d, const int16_t *pcm, size_t n, fa_dtmf_event *out, size_t room)
{
    if (room < FA_DTMF_ROOM(n))
        return -1;
    int count = 0;
    while (n > 0) {
        size_t taken = FA_DTMF_HOP - d->fresh;
        taken = taken < n ? taken : n;
        memcpy(d->line + d->filled, pcm, taken * sizeof *pcm);
        d->filled += (uint32_t)taken;
        d->fresh += (uint32_t)taken;
        d->position += (int64_t)taken;
        pcm += taken;
        n -= taken;
        if (d->fresh < FA_DTMF_HOP)
            continue;
        d->fresh = 0;
        count += hop(d, out + count);
        if (d->filled + FA_DTMF_HOP > FA_DTMF_LINE) {
            memmove(d->line, d->line + d->filled - FA_DTMF_HISTORY, FA_DTMF_HISTORY * sizeof *d->line);
            d->filled = FA_DTMF_HISTORY;
        }
    }
    return count;
}

int fa_dtmf_flush(fa_dtmf *d, fa_dtmf_event *out)
{
    int count = d->digit != 0;
    if (count)
        *out = ended(d, d->away > 0 ? d->faded : d->position);
    fa_dtmf_init(d);
    return count;
}

char fa_dtmf_digit(const fa_dtmf *d) { return d->digit; }

/* sin and cos of an angle in [0, pi/2] by their series, exact to double precision. */
static void turn_of(double angle, double *cosine, double *sine)
{
    double term = 1.0;
    *cosine = *sine = 0.0;
    for (int k = 0; k < 24; k++) {
        double *sum = k & 1 ? sine : cosine;
        *sum += k & 2 ? -term : term;
        term *= angle / (k + 1);
    }
}

/* A tone and the silence behind it, both frequencies beginning at phase 0. */
static void sound_digit(const fa_dtmf_sound *sound, const size_t f[2], int16_t *out)
{
    const double pi = 3.14159265358979323846;
    double turn_re[2], turn_im[2], re[2], im[2] = {0.0, 0.0};
    for (size_t k = 0; k < 2; k++) {
        turn_of(2.0 * pi * (double)fa_dtmf_hz[f[k]] / sound->sample_rate, &turn_re[k], &turn_im[k]);
        re[k] = k == 0 ? sound->low_peak : sound->high_peak;
    }
    for (size_t i = 0; i < sound->tone; i++) {
        size_t edge = i < sound->tone - 1 - i ? i : sound->tone - 1 - i;
        double level = edge < sound->ramp ? ((double)edge + 0.5) / (double)sound->ramp : 1.0;
        double value = (im[0] + im[1]) * level;
        value += value < 0.0 ? -0.5 : 0.5;
        out[i] = (int16_t)(value > INT16_MAX ? INT16_MAX : value < INT16_MIN ? INT16_MIN : value);
        for (size_t k = 0; k < 2; k++) {
            double turned = re[k] * turn_re[k] - im[k] * turn_im[k];
            im[k] = re[k] * turn_im[k] + im[k] * turn_re[k];
            re[k] = turned;
        }
    }
    memset(out + sound->tone, 0, sound->pause * sizeof *out);
}

int64_t fa_dtmf_generate(const fa_dtmf_sound *sound, const char *digits, size_t count, int16_t *out)
{
    static const char keys[] = "123A456B789C*0#D";
    for (size_t i = 0; i < count; i++)
        if (digits[i] == 0 || memchr(keys, digits[i], sizeof keys - 1) == NULL)
            return -1;
    size_t step = sound->tone + sound->pause;
    for (size_t i = 0; i < count; i++) {
        size_t f[2];
        frequencies(digits[i], f);
        sound_digit(sound, f, out + i * step);
    }
    return (int64_t)(count * step);
}
