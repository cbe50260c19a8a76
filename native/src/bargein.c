/* Contract and method: fa_bargein.h. All levels are in dB over a mean square of one int16 unit. */
#include "fa_bargein.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

/* Levels below these carry nothing: a band of the output, of the line, and the whole of an audible frame. */
#define PLAYED_LEAST_DB 30.0f
#define HEARD_LEAST_DB 10.0f
#define AUDIBLE_DB 38.0f
#define STEPS_PER_DB 4.0f

/* For so many frames after an echo the voice detector may still be sure of having heard speech. */
#define AFTERGLOW 10

/* Frames of silence within which the bot is still taken to be in the same utterance. */
#define PAUSE 16

/* An echo may be this late or early beside the learnt lag, in frames: parts of frames, and its tail. */
#define EARLY 1
#define LATE 3
#define WHOLE_RUN (FA_BARGEIN_LAGS + LATE)

/* A band is somebody else's when it is this far above the echo expected and above the line's noise. */
#define ECHO_MARGIN_DB 5.0f
#define NOISE_MARGIN_DB 6.0f
#define BANDS_NEEDED 2
#define FAINT_DB 10.0f
/* The voice detector is slower than the gate: a frame counts from the lower probability on, but a confirmation
 * needs one of the higher in the same utterance. */
#define MAYBE_SPEECH 0.2f
#define SURELY_SPEECH 0.5f

/* An utterance may have begun so many frames before the first that is called speech; a frame within it that is
 * none costs so much evidence. */
#define EARLIEST 3
#define LOST_MS 10

/* The noise floor is the least of a smoothed level over 1 to 2 s; so far below their mean minima lie. */
#define FLOOR_STRETCH 50
#define FLOOR_BIAS_DB 3.0f
#define FLOOR_START_DB 25.0f
#define SMOOTHING 0.4f

/* Leak: taken as this before it is learnt, from stretches of frames in which echo could have been seen. */
#define LEAK_START_DB (-2.0f)
#define LEAK_LEAST_DB (-60.0f)
#define LEAK_MOST_DB 6.0f
#define LEAK_STRETCH 32
#define LEAK_CREEP_DB 3.0f
#define LEARN_HOLD 10
#define NOTHING_DB (-200.0f)

/* Likeness: memories of 0.1 s and 2 s, the weight of a frame that the prediction explains, the least spread
 * (dB) that has a shape at all, and from where on a likeness counts. */
#define NEAR_KEEP 0.75f
#define FAR_KEEP 0.99f
#define EXPLAINED_WEIGHT 0.15f
#define LEAST_SPREAD_DB 3.0f
#define ALIKE 0.65f
#define ALIKE_AT_LAG 0.72f
#define ALIKE_UNLEARNT 0.7f
#define QUIETEST_DB (-20.0f) /* beside a band's mean: all silence is alike and has no shape */
#define ALIKE_RUN 7
#define LAG_ALIKE 0.35f
#define LAG_CLEAR 0.08f
#define LAG_FRAMES 15.0f
#define MEAN_FRAMES 150

static float decibels(float power) {
    return power > 1.0f ? 10.0f * log10f(power) : 0.0f;
}

void fa_bargein_init(fa_bargein *g) {
    memset(g, 0, sizeof *g);
    for (int b = 0; b < FA_BANDS; b++) {
        for (int age = 0; age < FA_BARGEIN_LAGS; age++) {
            g->shape[b][age] = QUIETEST_DB;
        }
        g->smooth[b] = FLOOR_START_DB;
        g->floor_now[b] = FLOOR_START_DB;
        g->floor_before[b] = FLOOR_START_DB;
        g->leak[b] = LEAK_START_DB;
        g->peak[b] = g->runner_up[b] = NOTHING_DB;
        g->peak_before[b] = LEAK_START_DB;
    }
    for (int age = 0; age < FA_BARGEIN_LAGS; age++) {
        g->shape_sum[age] = FA_BANDS * QUIETEST_DB;
        g->shape_square[age] = FA_BANDS * QUIETEST_DB * QUIETEST_DB;
    }
    g->since_audible = UINT16_MAX;
    g->lag = g->alike_lag = -1;
    g->confirm_ms = FA_BARGEIN_CONFIRM_MS;
}

int fa_bargein_set_confirm_ms(fa_bargein *g, int confirm_ms) {
    if (confirm_ms < FA_BARGEIN_FRAME_MS || confirm_ms > FA_BARGEIN_CONFIRM_MAX_MS) {
        return -1;
    }
    g->confirm_ms = (uint16_t)confirm_ms;
    return 0;
}

static void end_utterance(fa_bargein *g) {
    g->onset = 0;
    g->last_active = 0;
    g->evidence_ms = 0;
    g->pause = 0;
    g->sure = 0;
    g->confirmed = 0;
}

void fa_bargein_rearm(fa_bargein *g) {
    end_utterance(g);
    g->rising = 0;
}

static float floor_db(const fa_bargein *g, int b) {
    float least = g->floor_now[b] < g->floor_before[b] ? g->floor_now[b] : g->floor_before[b];
    return least + FLOOR_BIAS_DB;
}

static void follow_floor(fa_bargein *g, const float heard[FA_BANDS]) {
    int renew = ++g->floor_age >= FLOOR_STRETCH;
    for (int b = 0; b < FA_BANDS; b++) {
        g->smooth[b] += SMOOTHING * (heard[b] - g->smooth[b]);
        float level = g->smooth[b] > HEARD_LEAST_DB ? g->smooth[b] : HEARD_LEAST_DB;
        if (level < g->floor_now[b]) {
            g->floor_now[b] = level;
        }
        if (renew) {
            g->floor_before[b] = g->floor_now[b];
            g->floor_now[b] = level;
        }
    }
    if (renew) {
        g->floor_age = 0;
    }
}

/* Takes in what is played now. A frame of silence takes part: pauses are what an echo has in common with it. */
static void remember(fa_bargein *g, const fa_band_frame *bot) {
    float now[FA_BANDS], total = 0.0f;
    for (int b = 0; b < FA_BANDS; b++) {
        float power = bot != NULL ? bot->band[b] : 0.0f;
        total += power;
        now[b] = decibels(power);
        now[b] = now[b] > PLAYED_LEAST_DB ? now[b] : PLAYED_LEAST_DB;
    }
    if (decibels(total) >= AUDIBLE_DB) {
        g->since_audible = 0;
        g->played_frames += g->played_frames < UINT16_MAX;
        float rate = 1.0f / (float)(g->played_frames < MEAN_FRAMES ? g->played_frames : MEAN_FRAMES);
        for (int b = 0; b < FA_BANDS; b++) {
            g->played_mean[b] += rate * (now[b] - g->played_mean[b]);
        }
    } else {
        g->since_audible += g->since_audible < UINT16_MAX;
    }
    if (g->since_audible > PAUSE) {
        g->audible_run = 0;
    } else {
        g->audible_run += g->audible_run < UINT16_MAX;
    }
    float sum = 0.0f, square = 0.0f;
    for (int b = 0; b < FA_BANDS; b++) {
        float steps = (now[b] - PLAYED_LEAST_DB) * STEPS_PER_DB;
        memmove(g->played[b] + 1, g->played[b], FA_BARGEIN_HISTORY - 1);
        g->played[b][0] = steps < UINT8_MAX ? (uint8_t)steps : UINT8_MAX;
        float shape = now[b] - g->played_mean[b];
        shape = shape > QUIETEST_DB && g->played_frames > 0 ? shape : QUIETEST_DB;
        memmove(g->shape[b] + 1, g->shape[b], (FA_BARGEIN_LAGS - 1) * sizeof(float));
        g->shape[b][0] = shape;
        sum += shape;
        square += shape * shape;
    }
    memmove(g->shape_sum + 1, g->shape_sum, (FA_BARGEIN_LAGS - 1) * sizeof(float));
    memmove(g->shape_square + 1, g->shape_square, (FA_BARGEIN_LAGS - 1) * sizeof(float));
    g->shape_sum[0] = sum;
    g->shape_square[0] = square;
}

typedef struct {
    float best;   /* correlation at the best lag of all */
    float at_lag; /* the best around the learnt lag */
    int lag;
} likeness;

/* How alike the last frames heard are with what was played, at every lag: a correlation over time and bands
 * of levels in dB, blind to the echo's own level. */
static likeness compare(fa_bargein *g, const float heard[FA_BANDS], float frame_weight,
                        float score[FA_BARGEIN_LAGS]) {
    float centred[FA_BANDS], sum = 0.0f, square = 0.0f;
    for (int b = 0; b < FA_BANDS; b++) {
        float least = floor_db(g, b) + 3.0f;
        centred[b] = (heard[b] > least ? heard[b] : least) - g->heard_mean[b];
        sum += centred[b];
        square += centred[b] * centred[b];
    }
    float product[FA_BARGEIN_LAGS] = {0.0f};
    for (int b = 0; b < FA_BANDS; b++) {
        for (int d = 0; d < FA_BARGEIN_LAGS; d++) {
            product[d] += centred[b] * g->shape[b][d];
        }
    }
    g->near_heard = NEAR_KEEP * g->near_heard + frame_weight * sum;
    g->near_heard_square = NEAR_KEEP * g->near_heard_square + frame_weight * square;
    g->near_weight = NEAR_KEEP * g->near_weight + frame_weight * FA_BANDS;
    float share = 1.0f / g->near_weight;
    float least_spread = LEAST_SPREAD_DB * LEAST_SPREAD_DB * g->near_weight;
    float heard_spread = g->near_heard_square - g->near_heard * g->near_heard * share;
    heard_spread = heard_spread > least_spread ? heard_spread : least_spread;
    for (int d = 0; d < FA_BARGEIN_LAGS; d++) {
        float shape = g->near_shape[d] = NEAR_KEEP * g->near_shape[d] + frame_weight * g->shape_sum[d];
        float square_of_shape = g->near_shape_square[d] =
            NEAR_KEEP * g->near_shape_square[d] + frame_weight * g->shape_square[d];
        g->near_product[d] = NEAR_KEEP * g->near_product[d] + frame_weight * product[d];
        float together = g->near_product[d] - shape * g->near_heard * share;
        float spread = square_of_shape - shape * shape * share;
        spread = spread > least_spread ? spread : least_spread;
        score[d] = together / sqrtf(spread * heard_spread);
    }
    likeness like = {0.0f, 0.0f, -1};
    for (int d = 0; d < FA_BARGEIN_LAGS; d++) {
        if (score[d] > like.best) {
            like.best = score[d];
            like.lag = d;
        }
        if (g->lag >= 0 && d >= g->lag - EARLY && d <= g->lag + EARLY && score[d] > like.at_lag) {
            like.at_lag = score[d];
        }
    }
    return like;
}

/* The lag at which seconds of both agree best, if it stands out from all that are not its neighbours. */
static void learn_lag(fa_bargein *g, const float score[FA_BARGEIN_LAGS]) {
    g->far_weight = FAR_KEEP * g->far_weight + 1.0f;
    float rate = 1.0f / g->far_weight;
    int best = 0;
    for (int d = 0; d < FA_BARGEIN_LAGS; d++) {
        g->far_likeness[d] += rate * (score[d] - g->far_likeness[d]);
        best = g->far_likeness[d] > g->far_likeness[best] ? d : best;
    }
    float rival = 0.0f;
    for (int d = 0; d < FA_BARGEIN_LAGS; d++) {
        int apart = d < best - LATE || d > best + LATE;
        rival = apart && g->far_likeness[d] > rival ? g->far_likeness[d] : rival;
    }
    float found = g->far_likeness[best];
    if (best == g->lag || g->far_weight < LAG_FRAMES || found < LAG_ALIKE || found < rival + LAG_CLEAR) {
        return;
    }
    if (g->lag < 0 || best < g->lag - EARLY || best > g->lag + EARLY) {
        /* The leak was learnt from other frames of the output. */
        for (int b = 0; b < FA_BANDS; b++) {
            g->leak[b] = g->leak[b] + LEAK_CREEP_DB < LEAK_START_DB ? g->leak[b] + LEAK_CREEP_DB : LEAK_START_DB;
            g->peak[b] = g->runner_up[b] = NOTHING_DB;
            g->peak_before[b] = g->leak[b];
            g->informed[b] = 0;
        }
    }
    g->lag = (int8_t)best;
}

/* The loudest output of each band that can be coming back now. */
static void loudest(const fa_bargein *g, int from, int to, float out[FA_BANDS]) {
    for (int b = 0; b < FA_BANDS; b++) {
        uint8_t most = 0;
        for (int age = from; age <= to; age++) {
            most = g->played[b][age] > most ? g->played[b][age] : most;
        }
        out[b] = PLAYED_LEAST_DB + (float)most / STEPS_PER_DB;
    }
}

static void learn_leak(fa_bargein *g, const float heard[FA_BANDS], const float most[FA_BANDS], int alike) {
    for (int b = 0; b < FA_BANDS; b++) {
        float floor = floor_db(g, b);
        /* Where an echo of the present leak would drown in noise, a quiet band says nothing. */
        if (most[b] <= PLAYED_LEAST_DB + 6.0f || (most[b] + g->leak[b] < floor + 3.0f && heard[b] < floor + 6.0f)) {
            continue;
        }
        float ratio = (heard[b] > floor ? heard[b] : floor) - most[b];
        ratio = ratio < LEAK_MOST_DB ? ratio : LEAK_MOST_DB;
        if (!alike && ratio > g->leak[b] + LEAK_CREEP_DB) {
            ratio = g->leak[b] + LEAK_CREEP_DB;
        }
        if (ratio > g->peak[b]) {
            g->runner_up[b] = g->peak[b];
            g->peak[b] = ratio;
        } else if (ratio > g->runner_up[b]) {
            g->runner_up[b] = ratio;
        }
        /* Upwards at once, downwards at the end of a stretch. */
        if (g->runner_up[b] > g->leak[b]) {
            g->leak[b] = g->runner_up[b];
        }
        if (++g->informed[b] >= LEAK_STRETCH) {
            float leak = g->runner_up[b] > g->peak_before[b] ? g->runner_up[b] : g->peak_before[b];
            g->peak_before[b] = g->runner_up[b];
            if (g->stretches[b] == 0) {
                leak = g->runner_up[b] + LEAK_CREEP_DB;
            }
            g->stretches[b] += g->stretches[b] < UINT8_MAX;
            leak = leak > LEAK_LEAST_DB ? leak : LEAK_LEAST_DB;
            g->leak[b] = leak < LEAK_MOST_DB ? leak : LEAK_MOST_DB;
            g->peak[b] = g->runner_up[b] = NOTHING_DB;
            g->informed[b] = 0;
        }
    }
}

static void learn_heard_mean(fa_bargein *g, const float heard[FA_BANDS]) {
    g->heard_frames += g->heard_frames < UINT16_MAX;
    float rate = 1.0f / (float)(g->heard_frames < MEAN_FRAMES ? g->heard_frames + 8 : MEAN_FRAMES + 8);
    for (int b = 0; b < FA_BANDS; b++) {
        float least = floor_db(g, b) + 3.0f;
        g->heard_mean[b] += rate * ((heard[b] > least ? heard[b] : least) - g->heard_mean[b]);
    }
}

int fa_bargein_bot_audible(const fa_bargein *g) {
    int reach = g->lag >= 0 ? g->lag + LATE : WHOLE_RUN;
    return g->since_audible <= reach + AFTERGLOW;
}

/* Keeps the utterance: its onset, its pauses, its confirmation. Returns the verdict it asks for. */
static int follow_utterance(fa_bargein *g, int speech, int sounding, float probability) {
    g->rising = (uint8_t)(sounding ? g->rising + (g->rising < EARLIEST) : 0);
    g->onset += g->onset > 0 && g->onset < UINT32_MAX;
    if (speech) {
        if (g->onset == 0) {
            /* The first frames of a sound are too few to be called speech; it began with them. */
            g->onset = g->rising > 1 ? g->rising : 1;
        }
        g->pause = 0;
        g->last_active = g->onset;
        g->sure |= probability >= SURELY_SPEECH;
        g->evidence_ms += g->evidence_ms < g->confirm_ms ? FA_BARGEIN_FRAME_MS : 0;
        g->confirmed |= g->sure && g->evidence_ms >= g->confirm_ms;
    } else if (g->onset > 0) {
        g->pause++;
        g->evidence_ms -= g->evidence_ms > LOST_MS ? LOST_MS : g->evidence_ms;
        if (g->pause * FA_BARGEIN_FRAME_MS > FA_BARGEIN_BRIDGE_MS) {
            end_utterance(g);
        }
    }
    if (g->confirmed) {
        return FA_BARGEIN_CONFIRMED;
    }
    return speech ? FA_BARGEIN_SPEECH : FA_BARGEIN_QUIET;
}

/* Bands of the frame that neither noise nor the output explains: that of around the lag, and, as far as a
 * faint echo goes, that of any lag: faint echoes say too little to notice that their lag has changed. */
static int unexplained(const fa_bargein *g, const float heard[FA_BANDS], const float around[FA_BANDS],
                       const float widest[FA_BANDS]) {
    int count = 0;
    for (int b = 0; b < FA_BANDS; b++) {
        float noise = floor_db(g, b);
        float faint = widest[b] + g->leak[b];
        faint = faint < noise + FAINT_DB ? faint : noise + FAINT_DB;
        float echo = around[b] + g->leak[b];
        echo = (echo > faint ? echo : faint) + ECHO_MARGIN_DB;
        noise += NOISE_MARGIN_DB;
        count += heard[b] > (echo > noise ? echo : noise);
    }
    return count;
}

static int learnt(const fa_bargein *g) {
    int bands = 0;
    for (int b = 0; b < FA_BANDS; b++) {
        bands += g->stretches[b] > 1;
    }
    return bands > FA_BANDS / 2;
}

int fa_bargein_process(fa_bargein *g, const fa_band_frame *caller, const fa_band_frame *bot,
                       float speech_probability) {
    float heard[FA_BANDS], most[FA_BANDS], widest[FA_BANDS];
    for (int b = 0; b < FA_BANDS; b++) {
        heard[b] = decibels(caller->band[b]);
    }
    follow_floor(g, heard);
    remember(g, bot);
    int voiced = speech_probability >= MAYBE_SPEECH;
    int above_floor = 0;
    for (int b = 0; b < FA_BANDS; b++) {
        above_floor += heard[b] > floor_db(g, b) + NOISE_MARGIN_DB;
    }
    if (!fa_bargein_bot_audible(g)) {
        g->alike_run = 0;
        int speech = voiced && (g->sure || speech_probability >= SURELY_SPEECH);
        return follow_utterance(g, speech, above_floor >= BANDS_NEEDED, speech_probability);
    }
    if (g->heard_frames == 0) {
        memcpy(g->heard_mean, g->played_mean, sizeof g->heard_mean);
    }
    int known = g->lag >= 0;
    loudest(g, known && g->lag > EARLY ? g->lag - EARLY : 0, known ? g->lag + LATE : WHOLE_RUN - 1, most);
    loudest(g, 0, WHOLE_RUN - 1, widest);
    int above = unexplained(g, heard, most, widest);
    float score[FA_BARGEIN_LAGS];
    likeness like = compare(g, heard, above > 0 ? 1.0f : EXPLAINED_WEIGHT, score);
    int alike = like.at_lag >= ALIKE_AT_LAG;
    if (!alike && above >= BANDS_NEEDED && like.best >= ALIKE) {
        if (known && learnt(g)) {
            /* Has the echo's lag changed? Not if it is louder than all recent output could come back. */
            alike = unexplained(g, heard, widest, widest) < BANDS_NEEDED;
        } else {
            alike = like.best >= ALIKE_UNLEARNT;
        }
    }
    int visible = above_floor >= BANDS_NEEDED;
    if (visible && like.best >= ALIKE && like.lag >= g->alike_lag - EARLY && like.lag <= g->alike_lag + EARLY) {
        g->alike_run += g->alike_run < UINT8_MAX;
    } else if (visible || like.best < ALIKE) {
        g->alike_run = 0;
    }
    if (like.lag >= 0) {
        g->alike_lag = (int8_t)like.lag;
    }
    int speech = above >= BANDS_NEEDED && voiced && !alike;
    int verdict = follow_utterance(g, speech, above > 0, speech_probability);
    int echo_surely = g->alike_run >= ALIKE_RUN;
    if (above >= BANDS_NEEDED && !echo_surely) {
        g->learn_hold = LEARN_HOLD;
    } else if (g->learn_hold > 0) {
        g->learn_hold--;
    }
    if (echo_surely || g->learn_hold == 0) {
        if (visible) {
            learn_heard_mean(g, heard);
            learn_lag(g, score);
        }
        if (echo_surely || known || g->audible_run > WHOLE_RUN) {
            learn_leak(g, heard, most, echo_surely);
        }
    }
    if (verdict == FA_BARGEIN_QUIET && visible) {
        return FA_BARGEIN_ECHO;
    }
    return verdict;
}

int fa_bargein_lag_ms(const fa_bargein *g) {
    return g->lag >= 0 ? g->lag * FA_BARGEIN_FRAME_MS : -1;
}

void fa_bargein_leak_db(const fa_bargein *g, float leak_db[FA_BANDS]) {
    memcpy(leak_db, g->leak, sizeof g->leak);
}

uint32_t fa_bargein_onset_frames(const fa_bargein *g) {
    return g->onset;
}

uint32_t fa_bargein_speech_ms(const fa_bargein *g) {
    return g->last_active * FA_BARGEIN_FRAME_MS;
}

uint32_t fa_bargein_pause_ms(const fa_bargein *g) {
    return g->pause * FA_BARGEIN_FRAME_MS;
}
