from cython cimport final

from fa_envelope cimport fa_envelope_spec


@final
cdef class EnvelopeSpec:
    # Points into the bytes of `keepalive`: valid as long as this object lives.
    cdef fa_envelope_spec spec
    cdef tuple keepalive
