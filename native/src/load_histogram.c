/* The histograms of a load test: log-linear classes, as fa_load.h says. */
#include "fa_load_engine.h"

#include <string.h>

int64_t fa_load_class_ns(uint32_t index)
{
    uint32_t shift = index >> FA_LOAD_CLASS_BITS;
    if (shift == 0)
        return index;
    return (int64_t)((1u << FA_LOAD_CLASS_BITS) + (index & ((1u << FA_LOAD_CLASS_BITS) - 1))) << (shift - 1);
}

void load_record(fa_load *e, fa_load_histogram which, int64_t value_ns)
{
    uint64_t v = value_ns < 1 ? 1 : (uint64_t)value_ns, index = v;
    if (v >> FA_LOAD_CLASS_BITS) {
        int shift = 63 - __builtin_clzll(v) - FA_LOAD_CLASS_BITS;
        index = ((uint64_t)shift << FA_LOAD_CLASS_BITS) + (v >> shift);
    }
    e->histogram[which][index < FA_LOAD_CLASSES ? index : FA_LOAD_CLASSES - 1]++;
    if ((int64_t)v > e->largest[which])
        e->largest[which] = (int64_t)v;
}

int64_t fa_load_take_histogram(fa_load *e, fa_load_histogram which, uint32_t *counts)
{
    load_enter(e);
    memcpy(counts, e->histogram[which], sizeof e->histogram[which]);
    memset(e->histogram[which], 0, sizeof e->histogram[which]);
    int64_t largest = e->largest[which];
    e->largest[which] = 0;
    load_leave(e);
    return largest;
}
