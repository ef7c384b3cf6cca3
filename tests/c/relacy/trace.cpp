/* trace.cpp - a trace's ring (fp_trace_ring.h): an event that is read while it is overwritten is left out, and what has been
 * written is whole.
 */
#include "model.hpp"

/* Once for the values that the labels have in csrc, and once with the labels, for the functions are the header's. */
namespace as_in_csrc
{
#include "fp_trace_ring.h"
}
LABEL(FP_TRACE_WRITTEN)
LABEL(FP_TRACE_END)
LABEL(FP_TRACE_WORD)
LABEL(FP_TRACE_LOOK)
#undef FP_TRACE_RING_H
#undef FP_TRACE_WRITTEN
#undef FP_TRACE_END
#undef FP_TRACE_WORD
#undef FP_TRACE_LOOK
#define FP_TRACE_WRITTEN order_FP_TRACE_WRITTEN
#define FP_TRACE_END order_FP_TRACE_END
#define FP_TRACE_WORD order_FP_TRACE_WORD
#define FP_TRACE_LOOK order_FP_TRACE_LOOK
#include "fp_trace_ring.h"

struct trace_model : rl::test_suite<trace_model, 2> {
    enum { CAPACITY = 2, EVENTS = 5 };
    fp_trace_slot slots[CAPACITY];
    fp_trace_ring ring;

    void before()
    {
        for (int i = 0; i < CAPACITY; i++)
            for (int k = 0; k < FP_TRACE_WORDS; k++)
                slots[i].words[k].store(0, rl::mo_relaxed, $);
        ring.capacity = CAPACITY;
        ring.slots = slots;
        ring.begun.store(0, rl::mo_relaxed, $);
        ring.written.store(0, rl::mo_relaxed, $);
    }

    /* Every word of event i says i + 1, so a mixture shows, and so does a word that was never written. */
    void write()
    {
        for (uint64_t i = 0; i < EVENTS; i++) {
            uint64_t it = i + 1;
            fp_trace_event event = {(const char *)it, it, it, (int64_t)it, (uint32_t)it, 0};
            fp_trace_put(&ring, &event);
        }
    }

    void read()
    {
        fp_trace_event event;
        for (int round = 0; round < 2; round++) {
            uint64_t end = fp_trace_end(&ring);
            for (uint64_t i = end > CAPACITY ? end - CAPACITY : 0; i < end; i++)
                if (fp_trace_get(&ring, i, &event)) {
                    RL_ASSERT((uint64_t)event.name == i + 1 && event.start_ticks == i + 1 && event.end_ticks == i + 1);
                    RL_ASSERT((uint64_t)event.jobs == i + 1 && event.depth == i + 1);
                }
        }
    }

    void thread(unsigned index)
    {
        if (index == 0)
            write();
        else
            read();
    }

    void after()
    {
        fp_trace_event event;
        RL_ASSERT(fp_trace_end(&ring) == EVENTS);
        for (uint64_t i = EVENTS - CAPACITY; i < EVENTS; i++)
            RL_ASSERT(fp_trace_get(&ring, i, &event) && event.depth == i + 1);
    }
};

int main(int argc, char **argv)
{
    return run_model<trace_model>(argc, argv);
}
