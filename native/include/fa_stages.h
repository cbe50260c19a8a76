/* Where the time of a frame goes: laps between the stages of the audio path, for some frames only.
 *
 * A frame begins, each stage that ends takes a lap, the frame ends; so the stages of a frame add up to its whole
 * time. While `every` is 0 nothing is timed, and a mark costs one branch that is foreseen. Otherwise one frame in
 * `every` is timed; the distance to the next is drawn anew each time, so that samples do not always meet the same
 * call of many that speak in turn.
 *
 * There is one set of counters a process, in the module `fastagent._native.stages`; whoever touches it holds the
 * GIL. Each module that links this body has a pointer of its own, which shows at a set that nobody reads until
 * the module is given the shared one. Calls hold no memory for any of it.
 */
#ifndef FA_STAGES_H
#define FA_STAGES_H

#include <stdint.h>

typedef enum {
    FA_STAGE_GUARD,    /* the rules of RFC 6455, UTF-8 */
    FA_STAGE_SCAN,     /* the JSON envelope */
    FA_STAGE_CHECK,    /* is this base64? */
    FA_STAGE_EARS,     /* taps: level, voice, barge-in, digits, recorder */
    FA_STAGE_COPY,     /* the text as it came, in another envelope */
    FA_STAGE_UNBASE64,
    FA_STAGE_DECODE,   /* G.711 or bytes to samples */
    FA_STAGE_RESAMPLE,
    FA_STAGE_ENCODE,   /* samples to G.711 or bytes */
    FA_STAGE_BASE64,   /* and the envelope around it */
    FA_STAGE_QUEUE,    /* the playout queue and its clock */
    FA_STAGE_SEND,     /* header, mask, system call */
    FA_STAGE_EVENTS,   /* Python: what is not media, what was heard */
    FA_STAGES
} fa_stage_name;

/* What a frame was. */
typedef enum {
    FA_WAY_UPLINK,   /* caller audio */
    FA_WAY_DOWNLINK, /* model audio */
    FA_WAY_TICK,     /* one look of the shared tick at one queue */
    FA_WAY_OTHER,    /* events, control frames */
    FA_WAYS
} fa_way_name;

/* Class k counts times of [2^k, 2^(k+1)) ticks. */
#define FA_STAGE_CLASSES 40

typedef struct {
    uint64_t frames;      /* in which the stage was met */
    uint64_t ticks;
    uint64_t classes[FA_STAGE_CLASSES];
} fa_stage_times;

typedef struct {
    uint64_t frames;      /* all of them, timed or not; counted also while nothing is timed */
    uint64_t timed;
    uint64_t allocations; /* of timed frames, while somebody counts them */
    fa_stage_times whole;
    fa_stage_times stages[FA_STAGES];
} fa_way_times;

typedef struct {
    uint32_t is_timing; /* the frame under way is timed */
    uint32_t every;     /* 0: no frame is */
    uint32_t countdown;
    uint32_t random;
    uint32_t met;                 /* bit k: stage k was met */
    uint64_t begun, last;         /* clock ticks */
    uint64_t spent[FA_STAGES];    /* by the frame under way */
    uint64_t allocations;         /* of the process, while they are counted */
    uint64_t allocations_before;  /* the frame */
    fa_way_times ways[FA_WAYS];
} fa_stages;

extern fa_stages *fa_stages_here;

/* Uses another set of counters from now on. */
void fa_stages_share(fa_stages *shared);

/* Times one frame in `every`; 0 ends it. */
void fa_stages_set_every(fa_stages *s, uint32_t every);

/* Ticks since some moment; of the processor's counter where that runs at one rate, else nanoseconds. */
uint64_t fa_stages_clock(void);

/* 1: the processor's counter, 0: clock_gettime(CLOCK_MONOTONIC). */
int fa_stages_uses_tsc(void);

void fa_stages_start(fa_stages *s);
void fa_stages_take_lap(fa_stages *s, int stage);
void fa_stages_finish(fa_stages *s, int way);

/* A frame of a socket begins. Returns 1 when it is timed. What an exception left open is forgotten. */
static inline int fa_stages_begin(void) {
    fa_stages *s = fa_stages_here;
    if (__builtin_expect(s->every == 0, 1))
        return 0;
    s->is_timing = 0;
    if (--s->countdown != 0)
        return 0;
    fa_stages_start(s);
    return 1;
}

/* The same for what may happen within a timed frame; then it is a part of that, and none itself: -1. */
static inline int fa_stages_begin_inner(void) {
    return __builtin_expect(fa_stages_here->is_timing, 0) ? -1 : fa_stages_begin();
}

/* A stage ended. */
static inline void fa_stages_lap(int stage) {
    fa_stages *s = fa_stages_here;
    if (__builtin_expect(s->is_timing, 0))
        fa_stages_take_lap(s, stage);
}

/* The frame ended; `is_timed` is what its beginning returned, `way` what it turned out to be. */
static inline void fa_stages_end(int is_timed, int way) {
    fa_stages *s = fa_stages_here;
    if (__builtin_expect(is_timed != 0, 0)) {
        if (is_timed < 0)
            return;
        fa_stages_finish(s, way);
    }
    s->ways[way].frames++;
}

#endif
