/* fp_running - what the calling thread runs just now, so that a long job can ask whether it should stop.
 *
 * Journey: ring -> worker -> [KERNEL OR CALLABLE] -> completion. Whoever is about to run a job puts a fp_running on its own stack
 * (fp_running_enter), and takes it off after it; a job that runs another one while it waits for it has both, the inner one on top.
 * Only the thread itself reads it. What is asked are atomics of whoever can cancel: a group's stop word, a range's
 * `discarded`, a future's task.
 */
#ifndef FP_RUNNING_H
#define FP_RUNNING_H

#include "fp_atomic.h"

struct fp_pool;

typedef struct fp_running {
    struct fp_running *outer;
    const struct fp_pool *pool;
    bool (*should_stop)(struct fp_running *running); /* cancelled, or past its deadline. Needs no interpreter */
} fp_running;

extern _Thread_local fp_running *fp_running_now;

static inline void fp_running_enter(fp_running *running)
{
    running->outer = fp_running_now;
    fp_running_now = running;
}

static inline void fp_running_leave(fp_running *running)
{
    fp_running_now = running->outer;
}

/* Whether a job of that pool runs, or one that waits for another which runs now. Such a job must not wait for the pool's end. */
static inline bool fp_running_is_of(const struct fp_pool *pool)
{
    const fp_running *running = fp_running_now;
    while (running != NULL && running->pool != pool)
        running = running->outer;
    return running != NULL;
}

/* False where nothing runs. */
static inline bool fp_running_should_stop(void)
{
    fp_running *running = fp_running_now;
    return running != NULL && running->should_stop(running);
}

#endif
