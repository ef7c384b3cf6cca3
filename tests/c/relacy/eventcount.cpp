/* eventcount.cpp - the eventcount by itself: whoever changes the data after a waiter has looked, wakes it.
 *
 * The data is a number of items, with the seq_cst that the recipe asks for. As many takers as items: one that sleeps beside
 * an item is a deadlock.
 */
#include "sleeping.hpp"

#include "fp_eventcount.h"

LABEL(FP_EC_REGISTER)
LABEL(FP_EC_LOOK)
#undef FP_EC_REGISTER
#undef FP_EC_LOOK
#define FP_EC_REGISTER order_FP_EC_REGISTER
#define FP_EC_LOOK order_FP_EC_LOOK
#include "fp_eventcount.c"

struct eventcount_model : rl::test_suite<eventcount_model, 4> {
    enum { GIVERS = 2, TAKERS = 2 };
    sleeping os;
    fp_eventcount ec;
    fp_atomic(uint32_t) items;

    void before()
    {
        the_os = &os;
        os.reset();
        fp_eventcount_init(&ec);
        items.store(0, rl::mo_relaxed, $);
    }

    bool take()
    {
        uint32_t seen = fp_load(&items, fp_seq_cst);
        while (seen > 0)
            if (fp_cas(&items, &seen, seen - 1, fp_seq_cst, fp_seq_cst))
                return true;
        return false;
    }

    void take_or_sleep()
    {
        while (!take()) {
            uint32_t key = fp_eventcount_prepare(&ec);
            if (take())
                return; /* and its token stays */
            fp_eventcount_wait(&ec, key, rl::rand(2) ? FP_FOREVER : 0);
        }
    }

    /* One item, and word of it to one or to all. */
    void give()
    {
        bool to_all = rl::rand(3) == 0;
        fp_fetch_add(&items, 1, fp_seq_cst);
        if (to_all)
            fp_eventcount_notify_all(&ec);
        else
            fp_eventcount_notify_one(&ec);
    }

    void thread(unsigned index)
    {
        if (index < GIVERS)
            give();
        else
            take_or_sleep();
    }

    void after()
    {
        RL_ASSERT(fp_load(&items, fp_relaxed) == 0);
    }
};

int main(int argc, char **argv)
{
    return run_model<eventcount_model>(argc, argv);
}
