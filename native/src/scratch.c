#include "fa_scratch.h"

#include <stdlib.h>

static _Thread_local char *buffer;
static _Thread_local size_t capacity;

char *fa_scratch(size_t size) {
    if (size <= capacity && (capacity <= FA_SCRATCH_KEPT || size > FA_SCRATCH_KEPT))
        return buffer;
    size_t wanted = size < FA_SCRATCH_KEPT ? FA_SCRATCH_KEPT : size;
    free(buffer);
    buffer = malloc(wanted);
    capacity = buffer != NULL ? wanted : 0;
    return buffer;
}
