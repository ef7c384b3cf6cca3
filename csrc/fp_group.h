/* fp_group - jobs that are waited for together: what C and Cython programs submit to.
 *
 * Journey: [SUBMIT] -> ring -> [WORKER -> KERNEL -> COMPLETION -> WAITER]. A group has parts, each a record of the queue: bursts of
 * single jobs (fp_burst.h), batches and ranges (fp_parallel.h). It belongs to one thread at a time, but for `stop`.
 *
 * Waiting     C1 a part has ended: outstanding -= 1   C2 that was the last, and WAITING was set: wake
 *             The waiter sets WAITING and sleeps on the word while parts are outstanding. One word, so no wake-up is lost. A
 *             worker of the pool runs first what of the group nobody has begun, so all cannot wait for each other.
 * Ownership   A part is held by the group and by the queue, the group by its owner and by its parts: the queue may let go of a
 *             record long after its last job has ended.
 * Failing     as in fp_parallel.h: the first to fail, in time, leaves its status.
 * Order pair  C1 -> the waiter (acq_rel, acquire): what the jobs have written.
 */
#ifndef FP_GROUP_H
#define FP_GROUP_H

#include "fp_burst.h"
#include "fp_parallel.h"

#define FP_GROUP_WAITING UINT32_C(0x80000000)

typedef int (*fp_range_function)(int64_t begin, int64_t end, void *arg); /* 0: success */

struct fp_group;

typedef struct fp_part {
    struct fp_group *group;
    struct fp_part *next; /* the group's, in the order of submits */
    fp_atomic(uint32_t) references;
    fp_atomic(bool) ended;
    bool is_burst;
} fp_part;

typedef struct fp_group {
    fp_pool *pool;
    struct fp_group_burst *open; /* takes further jobs, `filled` being in it; NULL: none does */
    uint32_t filled;
    bool settled;                /* has been waited for: the next submit forgets what came of it */
    fp_part *first, *last;       /* parts that had not ended when last looked at */
    struct fp_group_burst *spare;
    fp_aligned fp_atomic(uint32_t) outstanding; /* parts that have not ended, and FP_GROUP_WAITING */
    fp_atomic(uint32_t) stop;
    fp_atomic(bool) cancelled;   /* some jobs never started */
    fp_atomic(bool) failed;
    int status;
    int64_t failed_at;           /* -1: a single job */
    fp_atomic(uint32_t) references;
} fp_group;

typedef struct fp_group_burst {
    fp_part part;
    fp_burst burst;
    fp_plain(int) first_outcome; /* of the job that the record is counted for */
} fp_group_burst;

/* NULL when memory is short. It holds the pool. */
fp_group *fp_group_create(fp_pool *pool);

/* All parts have ended. */
void fp_group_release(fp_group *group);

/* Where jobs go. */
typedef enum fp_group_place {
    FP_QUEUED, /* the queue, if there is room */
    FP_BEYOND, /* the queue, past its bound: see fp_pool_submit_beyond */
    FP_HERE,   /* none: the calling thread runs them */
} fp_group_place;

/* The job in a burst of its own. Any result but FP_SUBMIT_OK: it was not accepted. Never waits for room. */
fp_submit_result fp_group_submit_new(fp_group *group, fp_job_function function, void *arg, fp_group_place place);

/* Seals the burst that is full. */
void fp_group_filled(fp_group *group);

static inline fp_submit_result fp_group_submit(fp_group *group, fp_job_function function, void *arg)
{
    if (group->open == NULL || !fp_pool_is_open(group->pool) ||
        !fp_burst_append(&group->open->burst, group->filled, function, arg))
        return fp_group_submit_new(group, function, arg, FP_QUEUED);
    if (++group->filled == FP_BURST_JOBS)
        fp_group_filled(group);
    return FP_SUBMIT_OK;
}

/* `count` jobs, job(args + i * stride) each; or range(begin, end, arg) over 0 .. n. */
fp_submit_result fp_group_submit_batch(fp_group *group, fp_job_function function, void *args, ptrdiff_t stride, int64_t count,
                                       fp_group_place place);
fp_submit_result fp_group_submit_range(fp_group *group, fp_range_function range, int64_t n, void *arg, int64_t grain,
                                       fp_group_place place);

/* The same, to be waited for at once: the calling thread may begin by itself, and then nothing is refused any more; and go on
 * until then. */
fp_submit_result fp_group_begin_range(fp_group *group, fp_range_function range, int64_t n, void *arg, int64_t grain,
                                      int64_t until_ns);

/* Before sleeping: seals what is open, cancels the rest if that was asked for, and runs of it what this thread may until then. */
void fp_group_help(fp_group *group, int64_t deadline_ns);

/* True when all parts have ended; the group is settled then. */
bool fp_group_wait(fp_group *group, int64_t deadline_ns);

#endif
