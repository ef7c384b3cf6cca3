/* park.cpp - the ring and the eventcount together: a worker that parks misses no job.
 *
 * This is where the ring's publication and the worker's last look need seq_cst: each by itself is innocent with less.
 */
#include "sleeping.hpp"

#include "ring_labels.hpp"

#include "fp_eventcount.h"

LABEL(FP_EC_REGISTER)
LABEL(FP_EC_LOOK)
#undef FP_EC_REGISTER
#undef FP_EC_LOOK
#define FP_EC_REGISTER order_FP_EC_REGISTER
#define FP_EC_LOOK order_FP_EC_LOOK
#include "fp_eventcount.c"

/* As many workers as jobs, and each takes one: a worker that sleeps beside a job is a deadlock. */
struct park_model : rl::test_suite<park_model, 4> {
    enum { ORDER = 1, PLACES = 1 << ORDER, PRODUCERS = 2 };
    sleeping os;
    fp_eventcount ec;
    fp_atomic(uint64_t) slots[PLACES];
    fp_ring ring;
    fp_plain(int) jobs[PRODUCERS];

    void before()
    {
        the_os = &os;
        os.reset();
        fp_eventcount_init(&ec);
        for (int i = 0; i < PLACES; i++)
            slots[i].store(0, rl::mo_relaxed, $);
        fp_ring_init_empty(&ring, slots, ORDER);
    }

    void produce(unsigned number)
    {
        jobs[number]($) = 1;
        fp_ring_enqueue(&ring, number);
        fp_eventcount_notify_one(&ec);
    }

    bool take(uint32_t *job)
    {
        fp_ring_head head;
        do
            if (!fp_ring_peek(&ring, &head))
                return false;
        while (!fp_ring_take(&ring, head));
        *job = head.value;
        return true;
    }

    void work()
    {
        uint32_t job;
        fp_ring_head head;
        while (!take(&job)) {
            uint32_t key = fp_eventcount_prepare(&ec);
            if (!fp_ring_peek(&ring, &head))
                fp_eventcount_wait(&ec, key, rl::rand(2) ? FP_FOREVER : 0);
        }
        RL_ASSERT(jobs[job]($) == 1);
        jobs[job]($) = 2;
    }

    void thread(unsigned index)
    {
        if (index < PRODUCERS)
            produce(index);
        else
            work();
    }

    void after()
    {
        for (int i = 0; i < PRODUCERS; i++)
            RL_ASSERT(jobs[i]($) == 2);
    }
};

int main(int argc, char **argv)
{
    return run_model<park_model>(argc, argv);
}
