/* Both ends of N telephone calls around a server under test: the callers and the model, in one thread.
 *
 *   swarm --mode relay|bridge --format raw/lpcm16_24 --stages 10:3,50:1,300:12 [--path P] [--settle-ms 500]
 *         [--talk-ms 5000] [--gap-ms 300] [--limit-s 120] [--forget-every N] [--carrier audiocodes|twilio] [--webhook 1]
 *
 * Prints {"event":"listening","port":M}; reads the server's port as a line on standard input; then one JSON
 * line per thing that happens. Each stage opens further calls until there are that many, settles, and measures
 * for that many seconds. Calls are set up one after another, so that the model's connection is known to be the
 * call's. Sending is open loop: chunks leave by the clock, whatever the server does. --forget-every proves that
 * a loss is seen: every Nth chunk of each direction is put in the books and not on the wire. With --webhook 1 a stage
 * begins with {"event":"ring","from":N,"calls":M}, and a line on standard input for each of these calls tells what
 * the carrier's webhook was answered (twilio.c).
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "calls.h"

#define NS_PER_MS 1000000ll
#define NS_PER_S 1000000000ll
#define STAGES_MAX 16
#define CALLS_MAX 5000
#define EVENTS 64
#define SETUP_LIMIT_NS (10 * NS_PER_S)
#define GRACE_NS (250 * NS_PER_MS)  /* a chunk of the window may still be under way at its end */
#define DRAIN_LIMIT_NS (3 * NS_PER_S)
#define END_LIMIT_NS (5 * NS_PER_S)
#define FAILURES_MAX 20
#define LINES_BYTES 65536

plan the_plan = {.carrier = &audiocodes, .talk_chunks = 50, .gap_chunks = 3, .seed = 0x7d0c2a34};
tally the_tally = {.window_from_ns = INT64_MAX};
call *call_being_opened;

typedef struct {
    int calls;
    double seconds;
} stage;

/* Calls in the order of their phase within one period: what is due next is found without a timer per call. */
typedef struct {
    int64_t period_ns, epoch_ns;
    int count, cursor;
    call **order;
    int64_t *phase_ns;
} schedule;

static call *calls;
static int epoll_fd, listener_fd;
static schedule uplink = {.period_ns = UP_CHUNK_MS * NS_PER_MS}, downlink = {.period_ns = DOWN_CHUNK_MS * NS_PER_MS};

static void schedule_add(schedule *s, call *c, int64_t phase_ns, int64_t now)
{
    int at = 0;
    if (s->count == 0)
        s->epoch_ns = now - now % s->period_ns;
    while (at < s->count && s->phase_ns[at] <= phase_ns)
        at++;
    memmove(s->order + at + 1, s->order + at, (size_t)(s->count - at) * sizeof *s->order);
    memmove(s->phase_ns + at + 1, s->phase_ns + at, (size_t)(s->count - at) * sizeof *s->phase_ns);
    s->order[at] = c;
    s->phase_ns[at] = phase_ns;
    s->count++;
    /* What is already behind the cursor in this period starts in the next one. */
    if (s->count > 1 && at <= s->cursor && s->epoch_ns + phase_ns <= now) {
        if (++s->cursor == s->count) {
            s->cursor = 0;
            s->epoch_ns += s->period_ns;
        }
    } else if (s->count == 1 && s->epoch_ns + phase_ns <= now) {
        s->epoch_ns += s->period_ns;
    }
}

static int64_t schedule_due(const schedule *s)
{
    return s->count == 0 ? INT64_MAX : s->epoch_ns + s->phase_ns[s->cursor];
}

static call *schedule_next(schedule *s)
{
    call *c = s->order[s->cursor];
    if (++s->cursor == s->count) {
        s->cursor = 0;
        s->epoch_ns += s->period_ns;
    }
    return c;
}

/* Phases by the golden ratio and its cubic cousin: evenly spread however many calls there are. */
static int64_t phase_of(int id, double step, int64_t period_ns)
{
    double share = id * step;
    return (int64_t)((share - (double)(int64_t)share) * (double)period_ns);
}

static void send_what_is_due(int64_t now)
{
    while (schedule_due(&uplink) <= now) {
        int64_t due = schedule_due(&uplink);
        call *c = schedule_next(&uplink);
        if (c->state != CALL_TALKING)
            continue;
        if (the_tally.window_to_ns == INT64_MAX && the_tally.window_from_ns != INT64_MAX)
            histogram_add(&the_tally.lateness, mono_ns() - due);
        the_plan.carrier->send_chunk(c);
    }
    while (schedule_due(&downlink) <= now) {
        call *c = schedule_next(&downlink);
        if (c->state == CALL_TALKING && c->model != NULL && !c->model->is_dead)
            model_talk(c);
    }
}

static void begin_call(int id, uint16_t port, const char *path)
{
    call *c = &calls[id];
    static const char pcm_24k[] = "audio/pcm";
    c->id = id;
    const audio_format *model = the_plan.is_relay ? the_plan.format : format_of_model(pcm_24k);
    track_begin(&c->up, the_plan.format, model, UP_CHUNK_MS);
    track_begin(&c->down, model, the_plan.format, DOWN_CHUNK_MS);
    call_being_opened = c;
    c->state = CALL_OPENING;
    c->setup_began_ns = mono_ns();
    if (!the_plan.carrier->open(c, epoll_fd, port, path))
        call_fail(c, "cannot connect");
}

/* Uplink begins the moment the server says so, also when its own model connection is not ready yet. */
static bool advance_setup(bool *streaming)
{
    call *c = call_being_opened;
    int64_t now = mono_ns();
    if (c->state == CALL_TALKING && !*streaming) {
        *streaming = true;
        schedule_add(&uplink, c, phase_of(c->id, 0.6180339887498949, uplink.period_ns), now);
    }
    if (call_is_set_up(c)) {
        histogram_add(&the_tally.setup, now - c->setup_began_ns);
        schedule_add(&downlink, c, phase_of(c->id, 0.7548776662466927, downlink.period_ns), now);
        return true;
    }
    if (c->state != CALL_FAILED && now - c->setup_began_ns > SETUP_LIMIT_NS)
        call_fail(c, c->state == CALL_TALKING ? "model connection not set up in time" : "call not set up in time");
    return c->state == CALL_FAILED;
}

static double cpu_s(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void clear_window(void)
{
    histogram_clear(&the_tally.up);
    histogram_clear(&the_tally.down);
    histogram_clear(&the_tally.lateness);
    the_tally.up_sent = the_tally.down_sent = 0;
}

static void report_stage(int n, double seconds, double own_cpu_s)
{
    printf("{\"event\":\"stage\",\"calls\":%d,\"seconds\":%.4f,\"swarm_cpu_percent\":%.1f,\"up_sent\":%llu,"
           "\"down_sent\":%llu,\"up\":",
           n, seconds, 100 * own_cpu_s / seconds, (unsigned long long)the_tally.up_sent,
           (unsigned long long)the_tally.down_sent);
    histogram_print(stdout, &the_tally.up);
    printf(",\"down\":");
    histogram_print(stdout, &the_tally.down);
    printf(",\"send_lateness\":");
    histogram_print(stdout, &the_tally.lateness);
    printf("}\n");
}

static void report_end(int n)
{
    double up_lost_ms = 0, down_lost_ms = 0, up_extra_ms = 0, down_extra_ms = 0, worst_db = 0, up_ms = 0, down_ms = 0;
    unsigned long long right = 0, wrong = 0, up_sent = 0, down_sent = 0;
    int with_loss = 0, ended = 0, up_same = 0, down_same = 0;
    unsigned utterances = 0, streams = 0;
    for (int i = 0; i < n; i++) {
        const call *c = &calls[i];
        double up_rate = c->up.to->bytes_per_ms, down_rate = c->down.to->bytes_per_ms;
        double up_missing = (double)track_missing_bytes(&c->up) / up_rate;
        double down_missing = (double)track_missing_bytes(&c->down) / down_rate;
        up_lost_ms += up_missing;
        down_lost_ms += down_missing;
        with_loss += up_missing > 0 || down_missing > 0;
        up_ms += (double)c->up.received_bytes / up_rate;
        down_ms += (double)c->down.received_bytes / down_rate;
        up_extra_ms += (double)c->up.surplus_bytes / up_rate;
        down_extra_ms += (double)c->down.surplus_bytes / down_rate;
        if (c->up.position_bytes > c->up.sent * c->up.chunk_bytes)
            up_extra_ms += (double)(c->up.position_bytes - c->up.sent * c->up.chunk_bytes) / up_rate;
        if (c->down.position_bytes > c->down.sent * c->down.chunk_bytes)
            down_extra_ms += (double)(c->down.position_bytes - c->down.sent * c->down.chunk_bytes) / down_rate;
        right += c->up.stamps_right + c->down.stamps_right;
        wrong += c->up.stamps_wrong + c->down.stamps_wrong;
        up_sent += c->up.sent;
        down_sent += c->down.sent;
        worst_db = c->level_worst_db > worst_db ? c->level_worst_db : worst_db;
        streams += c->streams_begun;
        utterances += c->utterances_begun;
        up_same += track_stamps(&c->up);
        down_same += track_stamps(&c->down);
        ended += c->state == CALL_ENDED;
    }
    printf("{\"event\":\"end\",\"calls\":%d,\"failed\":%llu,\"first_failure\":\"%s\",\"ended_well\":%d,"
           "\"up_chunks\":%llu,\"down_chunks\":%llu,\"up_received_ms\":%.3f,\"down_received_ms\":%.3f,"
           "\"utterances\":%u,\"play_streams\":%u,\"up_lost_ms\":%.3f,\"down_lost_ms\":%.3f,\"calls_with_loss\":%d,\"up_surplus_ms\":%.3f,"
           "\"down_surplus_ms\":%.3f,\"stamps_right\":%llu,\"stamps_wrong\":%llu,\"level_worst_db\":%.3f,"
           "\"calls_up_passthrough\":%d,\"calls_down_passthrough\":%d,"
           "\"orphan_chunks\":%llu,\"overlapping_streams\":%llu,\"hangups\":%llu,\"cuts\":%llu,"
           "\"other_messages\":%llu,\"marks\":%llu,\"marks_returned\":%llu,\"setup\":",
           n, (unsigned long long)the_tally.failed, the_tally.first_failure, ended, up_sent, down_sent, up_ms, down_ms,
           utterances, streams, up_lost_ms, down_lost_ms, with_loss, up_extra_ms, down_extra_ms, right, wrong, worst_db,
           up_same, down_same, (unsigned long long)the_tally.orphan_chunks, (unsigned long long)the_tally.unknown_streams,
           (unsigned long long)the_tally.hangups, (unsigned long long)the_tally.cuts,
           (unsigned long long)the_tally.other_messages, (unsigned long long)the_tally.marks,
           (unsigned long long)the_tally.marks_returned);
    histogram_print(stdout, &the_tally.setup);
    printf("}\n");
}

/* All that was sent has arrived and was heard, for every call still alive. */
static bool all_arrived(int n)
{
    for (int i = 0; i < n; i++)
        if (calls[i].state == CALL_TALKING &&
            (calls[i].up.completed < calls[i].up.sent || calls[i].down.completed < calls[i].down.sent ||
             calls[i].mark_count > 0))
            return false;
    return true;
}

static bool all_gone(int n)
{
    for (int i = 0; i < n; i++)
        if (calls[i].state != CALL_ENDED && calls[i].state != CALL_FAILED)
            return false;
    return true;
}

/* Runs sockets and schedules until `until_ns`, or for one round when something may have changed earlier. */
static void turn(int64_t until_ns)
{
    struct epoll_event events[EVENTS];
    int64_t now = mono_ns();
    send_what_is_due(now);
    int64_t next = until_ns;
    if (schedule_due(&uplink) < next)
        next = schedule_due(&uplink);
    if (schedule_due(&downlink) < next)
        next = schedule_due(&downlink);
    int64_t wait_ns = next - mono_ns();
    struct timespec wait = {wait_ns > 0 ? wait_ns / NS_PER_S : 0, wait_ns > 0 ? wait_ns % NS_PER_S : 0};
    long n = syscall(SYS_epoll_pwait2, epoll_fd, events, EVENTS, &wait, NULL, 0);
    if (n < 0 && errno == ENOSYS) /* Linux before 5.11 waits in whole ms */
        n = epoll_wait(epoll_fd, events, EVENTS, wait_ns > 0 ? (int)(wait_ns / NS_PER_MS) : 0);
    for (long i = 0; i < n; i++) {
        if (events[i].data.ptr == NULL) {
            while (ws_accept(epoll_fd, listener_fd, &model_owner) != NULL)
                ;
        } else {
            ws_ready(events[i].data.ptr, events[i].events);
        }
    }
}

/* Where no chunk is due that would look at the clock of what is heard. */
static void turn_and_play(int n)
{
    turn(mono_ns() + 20 * NS_PER_MS);
    for (int i = 0; i < n; i++)
        the_plan.carrier->advance(&calls[i]);
}

static void run_for(int64_t ns)
{
    int64_t end = mono_ns() + ns;
    while (mono_ns() < end)
        turn(end);
}

/* One line of our parent's; NULL at its end. Calls go on while it is waited for. */
static const char *next_line(void)
{
    static char buffer[LINES_BYTES], line[LINES_BYTES];
    static size_t have;
    char *end;
    while ((end = memchr(buffer, '\n', have)) == NULL) {
        struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
        if (poll(&input, 1, 0) == 0) {
            turn(mono_ns() + 2 * NS_PER_MS);
            continue;
        }
        ssize_t n = read(STDIN_FILENO, buffer + have, sizeof buffer - have);
        if (n <= 0)
            return NULL;
        have += (size_t)n;
    }
    size_t length = (size_t)(end - buffer);
    memcpy(line, buffer, length);
    line[length] = 0;
    have -= length + 1;
    memmove(buffer, end + 1, have);
    return line;
}

/* Has the webhook asked for calls `from` to `to`; false when it was not. */
static bool ring(int from, int to)
{
    printf("{\"event\":\"ring\",\"from\":%d,\"calls\":%d}\n", from, to);
    for (int i = from; i < to; i++) {
        const char *line = next_line();
        if (line == NULL)
            return false;
        calls[i].answered = strdup(line);
    }
    return true;
}

static void measure(int n, double seconds)
{
    clear_window();
    printf("{\"event\":\"window_start\",\"calls\":%d}\n", n);
    int64_t from_ns = mono_ns();
    double cpu_from_s = cpu_s();
    the_tally.window_from_ns = wall_ns();
    the_tally.window_to_ns = INT64_MAX;
    run_for((int64_t)(seconds * (double)NS_PER_S));
    the_tally.window_to_ns = wall_ns();
    double own_cpu_s = cpu_s() - cpu_from_s, took_s = (double)(mono_ns() - from_ns) / (double)NS_PER_S;
    printf("{\"event\":\"window_end\",\"calls\":%d}\n", n);
    uint64_t up_sent = the_tally.up_sent, down_sent = the_tally.down_sent;
    run_for(GRACE_NS);
    the_tally.up_sent = up_sent;
    the_tally.down_sent = down_sent;
    report_stage(n, took_s, own_cpu_s);
    the_tally.window_from_ns = INT64_MAX;
}

static int usage(const char *what)
{
    fprintf(stderr, "swarm: %s\n", what);
    return 2;
}

int main(int argc, char **argv)
{
    stage stages[STAGES_MAX];
    int stage_count = 0, most = 0, opened = 0;
    int64_t settle_ns = 500 * NS_PER_MS;
    unsigned limit_s = 120;
    const char *path = "/audiocodes/webhook", *mode = "relay";
    bool asks_webhook = false;
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        if (!strcmp(name, "--mode")) mode = value;
        else if (!strcmp(name, "--format")) the_plan.format = format_named(value);
        else if (!strcmp(name, "--carrier")) the_plan.carrier = strcmp(value, twilio.name) ? &audiocodes : &twilio;
        else if (!strcmp(name, "--webhook")) asks_webhook = atoi(value) != 0;
        else if (!strcmp(name, "--path")) path = value;
        else if (!strcmp(name, "--settle-ms")) settle_ns = atoll(value) * NS_PER_MS;
        else if (!strcmp(name, "--talk-ms")) the_plan.talk_chunks = atoi(value) / DOWN_CHUNK_MS;
        else if (!strcmp(name, "--gap-ms")) the_plan.gap_chunks = atoi(value) / DOWN_CHUNK_MS;
        else if (!strcmp(name, "--forget-every")) the_plan.forget_every = (unsigned)atoi(value);
        else if (!strcmp(name, "--limit-s")) limit_s = (unsigned)atoi(value);
        else if (!strcmp(name, "--stages")) {
            for (const char *p = value; p != NULL && *p && stage_count < STAGES_MAX; p = strchr(p, ',')) {
                p += *p == ',';
                stage *s = &stages[stage_count++];
                if (sscanf(p, "%d:%lf", &s->calls, &s->seconds) != 2 || s->calls < most || s->calls > CALLS_MAX)
                    return usage("--stages takes rising CALLS:SECONDS pairs, at most 5000 calls");
                most = s->calls;
            }
        } else return usage("unknown option");
    }
    the_plan.is_relay = strcmp(mode, "relay") == 0;
    if (the_plan.format == NULL || stage_count == 0 || the_plan.talk_chunks < 1 || the_plan.gap_chunks < 0)
        return usage("--format and --stages are needed, --talk-ms at least 100");

    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    prctl(PR_SET_TIMERSLACK, 1000ul); /* the default of 50 us would show in every send */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    alarm(limit_s); /* never outlives its run */
    setvbuf(stdout, NULL, _IOLBF, 0);

    uint16_t port = 0;
    unsigned server_port = 0;
    const char *line;
    calls = calloc((size_t)most, sizeof *calls);
    uplink.order = calloc((size_t)most, sizeof(call *));
    downlink.order = calloc((size_t)most, sizeof(call *));
    uplink.phase_ns = calloc((size_t)most, sizeof(int64_t));
    downlink.phase_ns = calloc((size_t)most, sizeof(int64_t));
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    listener_fd = ws_listen(&port);
    if (!calls || !uplink.order || !downlink.order || !uplink.phase_ns || !downlink.phase_ns || listener_fd < 0)
        return usage("cannot listen, or out of memory");
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener_fd, &event);
    printf("{\"event\":\"listening\",\"port\":%u}\n", port);
    if ((line = next_line()) == NULL || sscanf(line, "%u", &server_port) != 1 || server_port == 0 || server_port > 65535)
        return usage("expected the server's port on standard input");

    for (int s = 0; s < stage_count; s++) {
        if (asks_webhook && !ring(opened, stages[s].calls))
            return usage("expected what the webhook answered on standard input");
        while (opened < stages[s].calls && the_tally.failed < FAILURES_MAX) {
            bool streaming = false;
            begin_call(opened++, (uint16_t)server_port, path);
            while (!advance_setup(&streaming))
                turn(mono_ns() + 50 * NS_PER_MS);
            call_being_opened = NULL;
        }
        run_for(settle_ns);
        measure(opened, stages[s].seconds);
    }

    /* Both sides stop together; what is under way must still arrive, then the callers hang up. */
    uplink.count = downlink.count = 0;
    for (int i = 0; i < opened; i++)
        if (calls[i].state == CALL_TALKING)
            model_finish_utterance(&calls[i]);
    for (int64_t limit = mono_ns() + DRAIN_LIMIT_NS; !all_arrived(opened) && mono_ns() < limit;)
        turn_and_play(opened);
    for (int64_t end = mono_ns() + 200 * NS_PER_MS; mono_ns() < end;)
        turn_and_play(opened); /* time for what nobody expects: audio sent twice, a call that ends by itself */
    uint64_t lost_in_calls = the_tally.failed;
    for (int i = 0; i < opened; i++)
        the_plan.carrier->end(&calls[i]);
    for (int64_t limit = mono_ns() + END_LIMIT_NS; !all_gone(opened) && mono_ns() < limit;)
        turn(mono_ns() + 20 * NS_PER_MS);
    report_end(opened);
    return lost_in_calls == 0 ? 0 : 1;
}
