/* Log-linear histogram of durations in ns: 64 buckets per octave (error below 1.6 %), 1 ns to 137 s. */
#ifndef HISTOGRAM_H
#define HISTOGRAM_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define HISTOGRAM_SUB_BITS 6
#define HISTOGRAM_BUCKETS ((38 - HISTOGRAM_SUB_BITS) << HISTOGRAM_SUB_BITS)

typedef struct {
    uint64_t count;
    uint64_t max_ns;
    uint32_t bucket[HISTOGRAM_BUCKETS];
} histogram;

static inline void histogram_clear(histogram *h)
{
    memset(h, 0, sizeof *h);
}

static inline void histogram_add(histogram *h, int64_t value_ns)
{
    uint64_t v = value_ns < 1 ? 1 : (uint64_t)value_ns;
    uint64_t index = v;
    if (v >> HISTOGRAM_SUB_BITS) {
        int shift = 63 - __builtin_clzll(v) - HISTOGRAM_SUB_BITS;
        index = ((uint64_t)shift << HISTOGRAM_SUB_BITS) + (v >> shift);
    }
    if (index >= HISTOGRAM_BUCKETS)
        index = HISTOGRAM_BUCKETS - 1;
    h->bucket[index]++;
    h->count++;
    if (v > h->max_ns)
        h->max_ns = v;
}

/* The smallest value that `share` (0..1) of the values do not exceed, as the middle of its bucket. */
static inline uint64_t histogram_percentile(const histogram *h, double share)
{
    uint64_t wanted = (uint64_t)(share * (double)h->count + 0.999999), seen = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->bucket[i];
        if (seen >= wanted && seen > 0) {
            uint32_t shift = i >> HISTOGRAM_SUB_BITS;
            if (shift == 0)
                return i;
            shift--; /* the first octave is exact, so the second one starts at shift 0 */
            uint64_t low = (uint64_t)((1u << HISTOGRAM_SUB_BITS) + (i & ((1u << HISTOGRAM_SUB_BITS) - 1))) << shift;
            uint64_t middle = low + ((1ull << shift) >> 1);
            return middle < h->max_ns ? middle : h->max_ns;
        }
    }
    return 0;
}

/* {"n":…,"p50_us":…,…} */
static inline void histogram_print(FILE *out, const histogram *h)
{
    fprintf(out, "{\"n\":%llu,\"p50_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f}",
            (unsigned long long)h->count, (double)histogram_percentile(h, 0.50) / 1e3,
            (double)histogram_percentile(h, 0.90) / 1e3, (double)histogram_percentile(h, 0.99) / 1e3,
            (double)histogram_percentile(h, 0.999) / 1e3, (double)h->max_ns / 1e3);
}

#endif
