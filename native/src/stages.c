#include "fa_stages.h"

#include <string.h>
#include <time.h>

#if defined(__x86_64__) && !defined(FA_SCALAR)
#include <cpuid.h>
#include <x86intrin.h>
#endif

static fa_stages nobodys;
fa_stages *fa_stages_here = &nobodys;

static int uses_tsc;

/* The counter must run at one rate in every state of the processor (CPUID 8000_0007, EDX bit 8). */
__attribute__((constructor)) static void choose_clock(void) {
#if defined(__x86_64__) && !defined(FA_SCALAR)
    unsigned a, b, c, d;
    uses_tsc = __get_cpuid(0x80000007, &a, &b, &c, &d) && (d >> 8 & 1);
#endif
}

int fa_stages_uses_tsc(void) { return uses_tsc; }

uint64_t fa_stages_clock(void) {
#if defined(__x86_64__) && !defined(FA_SCALAR)
    if (uses_tsc)
        return __rdtsc();
#endif
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void fa_stages_share(fa_stages *shared) { fa_stages_here = shared; }

/* The distance to the next timed frame: `every` on average. */
static uint32_t draw_distance(fa_stages *s) {
    uint32_t x = s->random ? s->random : 2463534242u; /* xorshift32, Marsaglia 2003 */
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    s->random = x;
    return 1 + x % (2 * s->every - 1);
}

void fa_stages_set_every(fa_stages *s, uint32_t every) {
    s->every = every;
    s->is_timing = 0;
    s->countdown = every ? draw_distance(s) : 0;
}

void fa_stages_start(fa_stages *s) {
    s->countdown = draw_distance(s);
    s->met = 0;
    memset(s->spent, 0, sizeof s->spent);
    s->allocations_before = s->allocations;
    s->is_timing = 1;
    s->begun = s->last = fa_stages_clock();
}

void fa_stages_take_lap(fa_stages *s, int stage) {
    uint64_t now = fa_stages_clock();
    /* Another processor's counter may be behind by a little. */
    s->spent[stage] += now > s->last ? now - s->last : 0;
    s->met |= 1u << stage;
    s->last = now;
}

static void note(fa_stage_times *times, uint64_t ticks) {
    int k = ticks > 1 ? 63 - __builtin_clzll(ticks) : 0;
    times->frames++;
    times->ticks += ticks;
    times->classes[k < FA_STAGE_CLASSES ? k : FA_STAGE_CLASSES - 1]++;
}

void fa_stages_finish(fa_stages *s, int name) {
    fa_way_times *way = &s->ways[name];
    uint64_t whole = 0;
    /* Cleared by whoever changed `every` within the frame. */
    if (!s->is_timing)
        return;
    s->is_timing = 0;
    way->timed++;
    way->allocations += s->allocations - s->allocations_before;
    for (int k = 0; k < FA_STAGES; k++)
        if (s->met >> k & 1) {
            note(&way->stages[k], s->spent[k]);
            whole += s->spent[k];
        }
    note(&way->whole, whole);
}
