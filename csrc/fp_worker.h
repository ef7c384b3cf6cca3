/* fp_worker - a thread that starts jobs, one after the other, and sleeps when there are none.
 *
 * Journey: ring -> [WORKER] -> kernel or callable -> completion.
 *
 * States     SEARCHING (looks at the queue) -> ACTIVE (runs jobs) -> SEARCHING -> PARKED (asleep on pool->work) -> ... ->
 *            EXITED. A worker that has run dry spins, if it gets `searching` and CPUs are to spare; then it parks:
 *              K1 prepare (its token is in)   K2 clear `searching`   K3 look at state and queue   K4 sleep
 *            The proof that no job is missed is in fp_pool.h ("Who looks") and fp_eventcount.h.
 *
 * Yielding   Each start is a turn, by which the worker knows at which lane to look first (fp_queue.h, "Turns"), and so is each
 *            piece of a range. After a piece it asks whether to go on: not in a paused pool, nor as one too many, nor where the
 *            next turn brings a job of another lane. It has run one piece at least, so lanes get their turns with ranges too.
 *            The range stays open at the head of its lane, for this worker and for others; it is closed when all its jobs
 *            have started. While nothing of this is the case, asking is one load.
 *
 * Attaching  Before it claims a job that needs the interpreter, a worker attaches to it, and stays attached from job to job:
 *            between claim and call there is no wait, so jobs start in the order of the queue. It detaches before a
 *            native job and before it sleeps.
 */
#ifndef FP_WORKER_H
#define FP_WORKER_H

#include "fp_metrics.h"
#include "fp_os.h"
#include "fp_queue.h"

struct fp_pool;

enum { FP_PULSE_NS = 100 * 1000 };

typedef struct fp_worker {
    struct fp_pool *pool;
    uint32_t id;
    fp_thread thread;
    bool joinable;            /* under pool->lock: the thread ran and nobody has joined it */
    fp_atomic(bool) running_loop; /* false once the thread will touch the pool no more than to release it */
    bool attached;
    bool warm;                /* has not slept since it last looked */
    bool searching;           /* holds pool->searching */
    uint32_t lull;            /* pauses before it looks again at a queue that it has found empty */
    bool unneeded;            /* leaves since the pool keeps fewer workers; set before host.worker_stop */
    uint32_t turn;            /* jobs, and pieces of ranges, that it has started */
    bool yields;              /* fp_worker_should_yield has said so, of the range that it runs */
    bool range_open;          /* runs the range at `range_head`, which it has not closed */
    fp_queue_head range_head;
    uint32_t laps;
    uint64_t now_ticks;       /* when the last job ended, or the worker woke */
    uint64_t pulse_ticks;     /* when the host's pulse was last called */
    fp_worker_metrics *metrics;
    struct fp_trace_row *row; /* of the trace number `session`, or NULL (fp_trace.h) */
    uint32_t session;
} fp_worker;

/* NULL when memory is short. */
fp_worker *fp_worker_create(struct fp_pool *pool, uint32_t id);
void fp_worker_free(fp_worker *worker);

/* 0, or the errno of a thread that could not be started. */
int fp_worker_start(fp_worker *worker);

/* The worker that the calling thread is; NULL on other threads. */
fp_worker *fp_worker_current(void);

/* For ranges: `jobs` jobs ended so, taking `ticks` together. */
void fp_worker_note(fp_worker *worker, fp_outcome outcome, int64_t jobs, uint64_t ticks);

/* A job has ended: the ticks that it took since the last one. Where nobody measures, 0, and the clock is read only now and then, for
 * the pulse. */
uint64_t fp_worker_lap(fp_worker *worker);

/* For bursts: so many jobs count as submitted from now on. */
void fp_worker_note_taken(fp_worker *worker, uint32_t jobs);

/* For ranges: all jobs of the one that this worker runs have started, so it holds no place in the queue any more. Before the
 * last chunk is run, for that may take long. */
void fp_worker_range_started(fp_worker *worker);

/* For ranges whose class has all_started(), after a chunk: true when the worker is to take no further one now, but to return
 * from run(). */
bool fp_worker_should_yield(fp_worker *worker);

/* For ranges, between chunks: true when the host wants to be called back. Also moves the worker's clock. */
void fp_worker_pulse(fp_worker *worker);

#endif
