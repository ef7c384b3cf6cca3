/* sleeping.hpp - fp_os_wait and fp_os_wake for the models: what fp_os.h promises and nothing more.
 *
 * The word is compared under the lock that a waker takes too, with the weakest load there is. Wakes go to sleepers in their
 * order, and are no fence: a sleeper learns of its wake by a relaxed load. A wait with a deadline may time out at once or
 * sleep; the scheduler chooses. A sleeper whom nobody wakes looks on and on, which Relacy reports as a livelock: that is
 * what a lost wake-up looks like.
 */
#ifndef FP_SLEEPING_HPP
#define FP_SLEEPING_HPP

#include "model.hpp"

#include "fp_os.h"

struct sleeping {
    rl::mutex lock;
    int came, woken; /* tickets; under the lock */
    fp_atomic(int) called; /* tickets below this one are woken */

    void reset()
    {
        came = woken = 0;
        called.store(0, rl::mo_relaxed, $);
    }
};
static sleeping *the_os; /* set in before() of each schedule */

fp_wait_result fp_os_wait(fp_atomic(uint32_t) *word, uint32_t expected, int64_t deadline_ns)
{
    the_os->lock.lock($);
    bool sleeps = word->load(rl::mo_relaxed, $) == expected;
    bool times_out = sleeps && deadline_ns != FP_FOREVER && rl::rand(2) == 0;
    int ticket = sleeps && !times_out ? the_os->came++ : -1;
    the_os->lock.unlock($);
    while (ticket >= the_os->called.load(rl::mo_relaxed, $))
        rl::yield(1, $);
    return times_out ? FP_WAIT_TIMED_OUT : FP_WAIT_WOKEN;
}

int fp_os_wake(fp_atomic(uint32_t) *word, int count)
{
    (void)word; /* each model sleeps on one */
    the_os->lock.lock($);
    int asleep = the_os->came - the_os->woken, now = asleep < count ? asleep : count;
    the_os->woken += now;
    the_os->called.store(the_os->woken, rl::mo_relaxed, $);
    the_os->lock.unlock($);
    return now;
}

#endif
