/* fastpool.h - native jobs on a fastpool.Pool, from C and from Cython's nogil code. No call here needs the GIL, except for the
 * two that say so.
 *
 *     static int block(void *arg) { ...; return 0; }             // a job: 0 is success
 *
 *     fastpool_group *group = fastpool_group_new(pool);          // jobs that are waited for together
 *     for (i = 0; i < n; i++)
 *         if ((result = fastpool_submit(group, block, &args[i])) != FASTPOOL_OK)
 *             break;
 *     waited = fastpool_wait(group, FASTPOOL_FOREVER);
 *     fastpool_group_free(group);
 *
 * Once for each C file that uses it, with the GIL, usually where the module is made: fastpool_import(). Then
 * fastpool_from_object() makes a fastpool_pool of a fastpool.Pool, good as long as that object lives; hold a reference to it.
 *
 * Threads    A pool may be used from any thread, Python's or not. A group belongs to one thread at a time, but for
 *            fastpool_cancel and fastpool_cancelled, which may be called from any.
 * Jobs       run on the pool's workers, detached from the interpreter; they may take the GIL, and then wait for it. A job
 *            may submit jobs and wait for them, to a group of its own: the waiting worker helps, so this never
 *            deadlocks, with one worker and a full queue neither. `arg` must live until the job has ended.
 * Order      Jobs of one group start in the order of their submits, but those that a full queue makes the caller run.
 * Places     Jobs of a group share places in the pool's queue: one for up to FASTPOOL_JOBS_A_PLACE jobs that are submitted
 *            one after the other, one for a batch or a range of any size. What a full queue does is the pool's `on_full`.
 * Counting   A group's jobs are counted as submitted by the worker that takes them.
 * Fork       In a child that was forked after the pool was made all calls return FASTPOOL_FORKED, and free leaks the group.
 */
#ifndef FASTPOOL_H
#define FASTPOOL_H

#include <Python.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Raised when something is taken away or changes its meaning. What is added goes to the end of fastpool_api. */
#define FASTPOOL_API_VERSION 1

#define FASTPOOL_FOREVER INT64_MAX

enum { FASTPOOL_JOBS_A_PLACE = 128 };

typedef struct fastpool_pool fastpool_pool;
typedef struct fastpool_group fastpool_group;

typedef int (*fastpool_job)(void *arg);                               /* 0: success */
typedef int (*fastpool_range)(int64_t begin, int64_t end, void *arg); /* the same, of begin <= i < end */

typedef enum fastpool_result {
    FASTPOOL_OK,
    FASTPOOL_FAILED,      /* waiting: a job returned non-zero; all have ended */
    FASTPOOL_CANCELLED,   /* waiting: jobs were cancelled, none failed; all have ended */
    FASTPOOL_TIMED_OUT,   /* waiting: not all have ended yet; submitting: the queue stayed full for `submit_timeout` */
    FASTPOOL_FULL,        /* submitting: the queue is full, and on_full is "raise" */
    FASTPOOL_CLOSED,      /* submitting: the pool was shut down */
    FASTPOOL_BROKEN,      /* submitting: a worker's initializer failed; what was queued is cancelled */
    FASTPOOL_FORKED,      /* the pool belongs to the parent process */
    FASTPOOL_NO_THREAD,   /* submitting: the first worker could not be started */
    FASTPOOL_NO_MEMORY,   /* submitting */
    FASTPOOL_INTERRUPTED, /* waiting, for room too, on the main thread: a signal handler raised, and its exception is set */
    FASTPOOL_INVALID,     /* an argument is NULL, or a number out of range; nothing was done */
} fastpool_result;

/* As fastpool.Metrics. */
typedef struct fastpool_metrics {
    uint64_t workers, active_workers, queue_depth, queue_capacity; /* capacity 0: unbounded */
    uint64_t jobs_submitted, jobs_processed, jobs_failed, jobs_cancelled, jobs_timed_out, jobs_rejected;
} fastpool_metrics;

/* What the extension module exports; the functions below call through it. */
typedef struct fastpool_api {
    uint32_t version; /* FASTPOOL_API_VERSION of the module */
    uint32_t bytes;   /* of this struct in the module */
    fastpool_pool *(*from_object)(PyObject *pool);
    fastpool_group *(*group_new)(fastpool_pool *pool);
    void (*group_free)(fastpool_group *group);
    fastpool_result (*submit)(fastpool_group *group, fastpool_job job, void *arg);
    fastpool_result (*submit_batch)(fastpool_group *group, fastpool_job job, void *args, ptrdiff_t stride, int64_t count);
    fastpool_result (*submit_range)(fastpool_group *group, fastpool_range range, int64_t n, void *arg, int64_t grain);
    fastpool_result (*parallel_for)(fastpool_pool *pool, fastpool_range range, int64_t n, void *arg, int64_t grain);
    fastpool_result (*wait)(fastpool_group *group, int64_t timeout_ns);
    void (*cancel)(fastpool_group *group);
    int (*cancelled)(fastpool_group *group);
    int (*status)(fastpool_group *group, int64_t *index);
    fastpool_result (*read_metrics)(fastpool_pool *pool, fastpool_metrics *metrics, size_t bytes);
    int (*should_stop)(void);
} fastpool_api;

static const fastpool_api *fastpool_api_table;

/* With the GIL. 0, or -1 with ImportError: fastpool is not there, or an older one than this header. */
static inline int fastpool_import(void)
{
    const fastpool_api *found = (const fastpool_api *)PyCapsule_Import("fastpool._core._c_api", 0);
    if (found == NULL)
        return -1;
    if (found->version != FASTPOOL_API_VERSION || found->bytes < sizeof(fastpool_api)) {
        PyErr_Format(PyExc_ImportError, "compiled for fastpool's C API %d of %zu bytes, but the one installed is %u of %u bytes",
                     FASTPOOL_API_VERSION, sizeof(fastpool_api), (unsigned)found->version, (unsigned)found->bytes);
        return -1;
    }
    fastpool_api_table = found;
    return 0;
}

/* With the GIL. NULL with TypeError for what is no fastpool.Pool. */
static inline fastpool_pool *fastpool_from_object(PyObject *pool)
{
    return fastpool_api_table->from_object(pool);
}

/* NULL when memory is short. */
static inline fastpool_group *fastpool_group_new(fastpool_pool *pool)
{
    return fastpool_api_table->group_new(pool);
}

/* Cancels what has not started, waits for what runs, and frees the group. NULL is nothing to do. */
static inline void fastpool_group_free(fastpool_group *group)
{
    fastpool_api_table->group_free(group);
}

/* One job: job(arg). Any result but FASTPOOL_OK: it will not run. */
static inline fastpool_result fastpool_submit(fastpool_group *group, fastpool_job job, void *arg)
{
    return fastpool_api_table->submit(group, job, arg);
}

/* `count` jobs at once: job(args), job(args + stride), ... `stride` is in bytes. All or none. */
static inline fastpool_result fastpool_submit_batch(fastpool_group *group, fastpool_job job, void *args, ptrdiff_t stride,
                                                    int64_t count)
{
    return fastpool_api_table->submit_batch(group, job, args, stride, count);
}

/* range(begin, end, arg) over pieces of 0 .. n, each once; pieces of `grain`, or 0: by measurement. Not waiting. */
static inline fastpool_result fastpool_submit_range(fastpool_group *group, fastpool_range range, int64_t n, void *arg,
                                                    int64_t grain)
{
    return fastpool_api_table->submit_range(group, range, n, arg, grain);
}

/* The same, waiting; the calling thread takes part. What fastpool_submit_range and fastpool_wait return. */
static inline fastpool_result fastpool_parallel_for(fastpool_pool *pool, fastpool_range range, int64_t n, void *arg,
                                                    int64_t grain)
{
    return fastpool_api_table->parallel_for(pool, range, n, arg, grain);
}

/* Until all jobs of the group have ended, or `timeout_ns` from now. The group can be used again then; failures and
 * cancellations that were returned are forgotten with the next submit. Meanwhile a worker of the pool runs jobs of the
 * group, at least some in each call; other threads may, where a CPU is to spare. The time and Ctrl-C are looked at between
 * two jobs; Ctrl-C interrupts no wait of a job, only that of the thread that runs it. */
static inline fastpool_result fastpool_wait(fastpool_group *group, int64_t timeout_ns)
{
    return fastpool_api_table->wait(group, timeout_ns);
}

/* Jobs of the group that have not started never will, ranges end at the next piece; jobs submitted later are cancelled too,
 * until the group has been waited for. From any thread. */
static inline void fastpool_cancel(fastpool_group *group)
{
    fastpool_api_table->cancel(group);
}

/* Non-zero from when the group was cancelled until it has been waited for: for long jobs to look at. From any thread. */
static inline int fastpool_cancelled(fastpool_group *group)
{
    return fastpool_api_table->cancelled(group);
}

/* Within a kernel or a job, whoever submitted it: non-zero when it should stop, for it was cancelled, its deadline has passed, or
 * its pool is asked to stop (shutdown(timeout=...)). Costs a few nanoseconds, and some tens where there is a deadline. A job that then
 * returns non-zero ends as cancelled, or timed out. Zero outside of jobs. */
static inline int fastpool_should_stop(void)
{
    return fastpool_api_table->should_stop();
}

/* After FASTPOOL_FAILED: what a failed job returned, the first of the group to fail; and, in *index unless that is NULL, its
 * place in its batch, or the begin of its piece of a range, or -1 for a job that was submitted by itself. */
static inline int fastpool_status(fastpool_group *group, int64_t *index)
{
    return fastpool_api_table->status(group, index);
}

static inline fastpool_result fastpool_read_metrics(fastpool_pool *pool, fastpool_metrics *metrics)
{
    return fastpool_api_table->read_metrics(pool, metrics, sizeof *metrics);
}

#ifdef __cplusplus
}
#endif

#endif
