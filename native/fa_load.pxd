from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from fa_envelope cimport fa_envelope_spec


cdef extern from "fa_load.h" nogil:
    enum:
        FA_LOAD_QUIET_MS
        FA_LOAD_LOUD
        FA_LOAD_CLASSES
        FA_LOAD_HISTOGRAMS
        FA_LOAD_COUNTERS
        FA_LOAD_TEMPLATE_BYTES_MAX
        FA_LOAD_MESSAGE
        FA_LOAD_CLOSED
        FA_LOAD_ONSET
        FA_LOAD_QUIET
        FA_LOAD_SAID
        FA_LOAD_SIGN

    ctypedef int fa_load_histogram

    ctypedef struct fa_load_event:
        int32_t connection
        int32_t kind
        int64_t at_ns
        int64_t value
        char *text
        size_t size

    ctypedef struct fa_load:
        pass

    fa_load *fa_load_new()
    void fa_load_free(fa_load *e)
    void fa_load_run(fa_load *e)
    void fa_load_stop(fa_load *e)
    int fa_load_event_fd(const fa_load *e)
    size_t fa_load_take_events(fa_load *e, fa_load_event **events)
    int fa_load_add_spec(fa_load *e, const fa_envelope_spec *spec)
    int fa_load_add_clip(fa_load *e, const char *text, uint32_t frames, uint32_t frame_chars, uint32_t frame_us,
                         const uint8_t *flags, const uint32_t *mark_us)
    int fa_load_add(fa_load *e, int fd, bint is_client, bint is_up, int spec, const char *media_template,
                    size_t template_size, int end_quiet_ms, const char *first, size_t first_size)
    int fa_load_format(fa_load *e, int connection, char encoding, int sample_rate)
    int fa_load_media(fa_load *e, int connection, const char *text, size_t size)
    int fa_load_pair(fa_load *e, int one, int other)
    int fa_load_unpair(fa_load *e, int one)
    int fa_load_send(fa_load *e, int connection, const char *text, size_t size)
    int fa_load_idle(fa_load *e, int connection, int clip)
    int fa_load_say(fa_load *e, int connection, int clip)
    int fa_load_hush(fa_load *e, int connection)
    int fa_load_mute(fa_load *e, int connection)
    int fa_load_expect(fa_load *e, int connection)
    int fa_load_cut(fa_load *e, int connection)
    int fa_load_times(fa_load *e, int connection, int64_t *last_audio_ns, int64_t *spoke_ns, int64_t *played_ns)
    int fa_load_close(fa_load *e, int connection, int code, bint is_abrupt)
    int64_t fa_load_take_histogram(fa_load *e, fa_load_histogram which, uint32_t *counts)
    void fa_load_counters(fa_load *e, uint64_t *counters)
    int64_t fa_load_class_ns(uint32_t index)
