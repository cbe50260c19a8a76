/* libFuzzer target: the playout queue against a plain array, and the playout clock against what it promises.
 *
 * The input is a list of acts, three bytes each: which, and a 16-bit amount.
 */
#include "fuzz.h"

#include "fa_playout.h"

enum { PUSH, POP, DROP, CLEAR, PREPEND, SEND, WAIT, SETTLE, ACTS };

static uint8_t model[1 << 20];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    fa_fifo *fifo = fuzz_room(sizeof *fifo, 0);
    memset(fifo, 0, sizeof *fifo);
    fa_playout_clock *clock = fuzz_room(sizeof *clock, 0);
    memset(clock, 0, sizeof *clock);
    clock->sample_rate = 8000;
    size_t head = 0, tail = 0;
    double now_s = 1000;
    int64_t heard = 0;
    uint8_t next = 0;
    while (in.left > 0) {
        const unsigned act = fuzz_choice(&in, ACTS);
        const size_t amount = (uint16_t)fuzz_sample(&in);
        switch (act) {
        case PUSH: {
            if (tail + amount > sizeof model)
                break;
            for (size_t i = 0; i < amount; i++)
                model[tail + i] = next++;
            uint8_t *bytes = fuzz_copy(model + tail, amount, 0);
            REQUIRE(fa_fifo_push(fifo, bytes, amount) == 0);
            fuzz_drop(bytes, 0);
            tail += amount;
            break;
        }
        case POP: {
            uint8_t *out = fuzz_room(amount, 0);
            const size_t taken = fa_fifo_pop(fifo, out, amount);
            REQUIRE(taken == (amount < tail - head ? amount : tail - head));
            REQUIRE(fuzz_same(out, model + head, taken));
            head += taken;
            fuzz_drop(out, 0);
            break;
        }
        case DROP:
            fa_fifo_drop(fifo, amount);
            head = amount < tail - head ? head + amount : tail;
            break;
        case CLEAR:
            fa_fifo_clear(fifo);
            head = tail;
            break;
        case PREPEND: {
            if (amount > head)
                break;
            for (size_t i = 0; i < amount; i++)
                model[head - amount + i] = next++;
            fa_fifo front = {0};
            REQUIRE(fa_fifo_push(&front, model + head - amount, amount) == 0);
            REQUIRE(fa_fifo_prepend(fifo, &front) == 0 && front.bytes == NULL && front.size == 0);
            head -= amount;
            break;
        }
        case SEND:
            fa_playout_sent(clock, (int64_t)amount, now_s);
            break;
        case WAIT:
            now_s += (double)amount / 10000;
            break;
        case SETTLE:
            fa_playout_settle(clock, now_s);
            REQUIRE(fa_playout_played(clock, now_s) == clock->sent);
            break;
        }
        REQUIRE(fifo->size == tail - head && fifo->size <= fifo->capacity);
        const int64_t played = fa_playout_played(clock, now_s);
        REQUIRE(played >= heard && played <= clock->sent);
        REQUIRE(fa_playout_played(clock, now_s - 0.5) <= played);
        heard = played;
    }
    REQUIRE(fa_playout_played(clock, now_s + 1e6) == clock->sent);
    fa_fifo_clear(fifo);
    fuzz_drop(fifo, 0);
    fuzz_drop(clock, 0);
    return 0;
}
