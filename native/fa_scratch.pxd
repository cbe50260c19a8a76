cdef extern from "fa_scratch.h" nogil:
    char *fa_scratch(size_t size)
