/* burst.cpp - bursts: jobs go in while workers take them, seal, and end; each job once, seen whole, and one end for each burst.
 *
 * One submitter and two workers. Bursts of two places and four jobs, so a burst may be full, or sealed by a worker early. The
 * queue is the counter of bursts that were pushed; it publishes what a burst was begun with and no more, so all that comes
 * later is the burst's own to publish.
 */
#include "model.hpp"

#define FP_BURST_JOBS 2

/* Once for the values that the labels have in csrc, and once with the labels, for the functions are the header's. */
namespace as_in_csrc
{
#include "fp_burst.h"
}
LABEL(FP_BURST_FILL)
LABEL(FP_BURST_TAKE)
LABEL(FP_BURST_END)
#undef FP_BURST_H
#undef FP_BURST_FILL
#undef FP_BURST_TAKE
#undef FP_BURST_END
#define FP_BURST_FILL order_FP_BURST_FILL
#define FP_BURST_TAKE order_FP_BURST_TAKE
#define FP_BURST_END order_FP_BURST_END
#include "fp_burst.h"

static int job_function(void *)
{
    return 0;
}

struct burst_model : rl::test_suite<burst_model, 3> {
    enum { JOBS = 4 };
    struct job {
        fp_plain(int) input; /* written by the submitter before it puts the job in */
        fp_plain(int) result; /* by the worker that runs it */
    };
    job jobs[JOBS];
    fp_burst bursts[JOBS];
    int first_job[JOBS]; /* of a burst; read when it has ended only */
    int ends[JOBS];
    fp_atomic(int) pushed;
    fp_atomic(int) all_in;
    int ended; /* jobs of bursts that have ended */

    void before()
    {
        pushed.store(0, rl::mo_relaxed, $);
        all_in.store(0, rl::mo_relaxed, $);
        ended = 0;
        for (int i = 0; i < JOBS; i++) {
            ends[i] = 0;
            jobs[i].result($) = 0;
        }
    }

    uint32_t jobs_in(int b)
    {
        return fp_load(&bursts[b].filled, fp_relaxed) & ~FP_BURST_SEALED;
    }

    /* Who ends a burst sees what its jobs have written. */
    void end(int b)
    {
        RL_ASSERT(fp_load(&bursts[b].filled, fp_relaxed) & FP_BURST_SEALED);
        for (uint32_t i = 0; i < jobs_in(b); i++)
            RL_ASSERT(jobs[first_job[b] + i].result($) == 1);
        ends[b]++;
        ended += jobs_in(b);
    }

    void seal(int b, uint32_t n)
    {
        if (fp_burst_seal(&bursts[b], n) && fp_burst_settle(&bursts[b], n))
            end(b);
    }

    void push(int b, int i)
    {
        first_job[b] = i;
        fp_burst_init(&bursts[b], job_function, &jobs[i]);
        fp_store(&pushed, b + 1, fp_release);
    }

    /* As fp_group_submit does. */
    void submit()
    {
        int b = -1;
        uint32_t filled = FP_BURST_JOBS;
        for (int i = 0; i < JOBS; i++) {
            jobs[i].input($) = 1;
            if (filled == FP_BURST_JOBS || !fp_burst_append(&bursts[b], filled, job_function, &jobs[i])) {
                push(++b, i);
                filled = 1;
            } else if (++filled == FP_BURST_JOBS) {
                seal(b, filled);
            }
        }
        if (filled < FP_BURST_JOBS && rl::rand(2)) /* as who waits for the group does; or the workers have to */
            seal(b, filled);
        fp_store(&all_in, 1, fp_release);
    }

    void run(int b, uint32_t i)
    {
        RL_ASSERT(fp_get(&bursts[b].jobs[i].function) == job_function);
        job *it = (job *)(void *)fp_get(&bursts[b].jobs[i].arg);
        RL_ASSERT(it->input($) == 1);
        it->result($) = it->result($) + 1;
    }

    /* As run_burst does. */
    void work_on(int b)
    {
        uint32_t begin, end_, filled;
        for (;;) {
            if (fp_burst_take(&bursts[b], 1 + rl::rand(2), &begin, &end_, &filled)) {
                for (uint32_t i = begin; i < end_; i++)
                    run(b, i);
                if (fp_burst_settle(&bursts[b], -(int32_t)(end_ - begin)))
                    end(b);
            } else if (filled & FP_BURST_SEALED) {
                return;
            } else if (rl::rand(2)) {
                seal(b, filled);
            } else {
                rl::yield(1, $); /* await_more */
            }
        }
    }

    void work()
    {
        int b = 0;
        for (;;) {
            bool last = fp_load(&all_in, fp_acquire);
            if (b < fp_load(&pushed, fp_acquire))
                work_on(b++);
            else if (last)
                return;
            else
                rl::yield(1, $);
        }
    }

    void thread(unsigned index)
    {
        if (index == 0)
            submit();
        else
            work();
    }

    void after()
    {
        int bursts_in = fp_load(&pushed, fp_relaxed);
        RL_ASSERT(ended == JOBS);
        for (int b = 0; b < bursts_in; b++)
            RL_ASSERT(ends[b] == 1);
        for (int i = 0; i < JOBS; i++)
            RL_ASSERT(jobs[i].result($) == 1);
    }
};

int main(int argc, char **argv)
{
    return run_model<burst_model>(argc, argv);
}
