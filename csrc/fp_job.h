/* fp_job - one job's record, and who owns it at each stage.
 *
 *   stage                         the record                       what ctx points to
 *   taken from the free ring      the submitter's, to fill         the submitter's
 *   enqueued (E3)                 the queue's, read-only           the queue's
 *   started (D3: take)            copied out, back to the free     the worker's: run() or discard() is called on it
 *                                 ring at once                     exactly once, and ends it
 *
 * A range is one record that stands for many jobs (fp_range.h). It stays at the head of the queue while workers join it,
 * and is taken when its last job has started.
 */
#ifndef FP_JOB_H
#define FP_JOB_H

#include "fp_atomic.h"

struct fp_worker;

/* Kind bits of a ring value: what a worker must know before it claims the head. */
enum {
    FP_JOB_ATTACHED = 1, /* runs attached to the interpreter (fp_pool.h, fp_host) */
    FP_JOB_RANGE = 2,    /* ctx is a fp_range */
    FP_JOB_KIND_BITS = 2,
};

/* Which jobs start first, as fp_queue.h says. Within a lane they start in the order of their submits. */
typedef enum fp_lane {
    FP_LANE_HIGH,
    FP_LANE_NORMAL, /* FP_NORMAL is math.h's */
    FP_LANE_LOW,
    FP_LANES,
} fp_lane;

/* How a job ended: which counter of the metrics it goes to. */
typedef enum fp_outcome {
    FP_DONE,
    FP_FAILED,
    FP_CANCELLED,
    FP_TIMED_OUT,
    FP_OUTCOMES,
    FP_COUNTED_ELSEWHERE = FP_OUTCOMES, /* whoever ended it early (a waiter that helped) has counted it too */
} fp_outcome;

typedef enum fp_discard_reason {
    FP_DISCARD_CANCELLED, /* shutdown with cancel, or pushed out by "discard_oldest" */
    FP_DISCARD_BROKEN,    /* a worker could not be set up */
    FP_DISCARD_TIMED_OUT, /* its deadline has passed */
} fp_discard_reason;

/* What the queue's user supplies for each sort of job. */
typedef struct fp_job_class {
    unsigned kind; /* FP_JOB_ATTACHED or 0 */
    /* Runs the job and publishes its result. Never called under a lock. Of a range: runs chunks until none is left to
     * start, or fp_worker_should_yield() says so, whenever a worker joins, and counts them itself (fp_worker_note); its
     * outcome is not looked at. */
    fp_outcome (*run)(void *ctx, struct fp_worker *worker);
    /* Ends the job without running it (cancelled, discarded, pool broken). Attached if `kind` says so. Of a range: its
     * jobs that have not started; how many those were. */
    int64_t (*discard)(void *ctx, fp_discard_reason reason);
    /* Ranges only: all workers have left; publish the result and let go of ctx. */
    void (*end)(void *ctx, struct fp_worker *worker);
    /* Ranges only, called inside: true when no job is left to start, nor will be. NULL: not known, and then run() never
     * yields. */
    bool (*all_started)(void *ctx);
} fp_job_class;

typedef struct fp_job {
    fp_plain(const fp_job_class *) job_class;
    fp_plain(void *) ctx;
    fp_plain(uint64_t) submitted_ticks; /* fp_clock.h; 0 when nobody measures */
    fp_atomic(uint32_t) join;           /* ranges: FP_JOIN_OPEN | workers inside; see fp_queue_join */
    fp_plain(bool) beyond;              /* past the queue's bound: see fp_queue_push_beyond */
} fp_job;

#endif
