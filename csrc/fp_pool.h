/* fp_pool - the pool: it takes jobs in, keeps workers for them, and ends.
 *
 * Journey: [SUBMIT] -> ring -> worker -> completion. Submitting is: look at the state (S1), push (S2, fp_queue.h), see to it
 * that someone will look (S3, fp_pool_wake), look at the state again (S4).
 *
 * States     OPEN -> DRAINING -> CLOSED, or BROKEN when a worker could not be set up. DRAINING takes no new jobs; the last
 *            worker to find the queue empty makes it CLOSED and looks once more.
 * S4         A submitter that saw OPEN in S1 may push as the pool closes. If S4 sees CLOSED, no worker may ever look again,
 *            so the submitter runs what is queued itself; if it sees less, the last worker's second look comes after the
 *            push in the one order of seq_cst, and finds it. Either way an accepted job is run: nothing is withdrawn.
 *
 * Who looks  `searching` is 1 while someone awake has undertaken to look at the queue: a spinning worker, or one that has
 *            been woken or started and has not yet taken a job. A submitter that sees 1 wakes nobody. Proof that its
 *            job is seen: whoever set it clears it later (a worker that takes a job, or is about to park) and looks at
 *            the queue after that; all seq_cst. It owes that look for all jobs submitted while the flag was up, not for
 *            one: if it takes a job, and there is another, it wakes the next worker (found_work). A worker's own
 *            `searching` says that it has this debt; to believe so wrongly costs a look and is else harmless.
 *            So a burst of submits costs one wake-up, and workers come up one after the other while there is work.
 *            This is Go's spinning-M rule and rayon's; a thread that is descheduled while it holds `searching` delays
 *            the waking of others, which is why "lock-free" is said of the ring and not of the pool.
 *
 *            Who has set it in vain (nobody was woken, none started) clears it and looks again at who may be woken or
 *            started, for others may have relied on it meanwhile. tests/c/relacy/search.cpp has the whole of it.
 *
 * Places     A submitter that finds nobody parked and `running` at its most wakes nobody either, for all of those will look:
 *            a busy one when its job is done, one on its way out once more after it has given up its place; all seq_cst.
 *            `live` counts those who stay. It is raised when the thread is there and not before: neither a submitter nor
 *            a worker that would leave may count on one that then cannot be started.
 *
 *            The places are `max_workers`. Resize raises it (seq_cst) before it looks at the queue: so a submitter that still
 *            went by the lower number has pushed before that look, which finds its job and wakes. Where resize lowers it, more
 *            may run for a while than there are places; each of those looks at the last, like all who leave.
 *
 * Pausing    In a paused pool there is no work: whoever would start a queued job looks through fp_pool_has_work(). A job can be
 *            started from the later of two events on, its push and the end of the pause. Read that for the push, wherever
 *            it says "job" or "submit" above, and all of it holds, since whoever does the later one wakes after it:
 *            - A submitter that sees the pause after its push wakes nobody. The end of the pause is the later one then, all
 *              being seq_cst, and fp_pool_resume() looks whom to wake after that.
 *            - A worker that saw the pause at K3 has its token in (K1) when the pause ends, and is found by it; one that
 *              spins, or has been woken, clears `searching` and looks after that, as ever; one that is busy looks when it is
 *              done.
 *
 *            A pool that is not OPEN is not paused, for it has to drain. So a worker reads the state before it looks at the
 *            queue (K3): were it the other way round, a pause that a close ends in between would hide the jobs from the last
 *            worker.
 *
 * Surplus    Where `live` is more than `max_workers`, workers leave as they come free (leave_surplus). They count themselves
 *            out under the lock, as all do who are not needed, so that resize knows who stays; and one that is about to park
 *            looks after K1 whether it is to leave, so that resize, which wakes the parked ones, misses none. Such a worker
 *            may leave work behind, an open range for one, and it may hold `searching`. It clears that, and then is one of
 *            those who are on their way out: the others rely on its last look only, which comes after it has given up its
 *            place, finds what is queued, and wakes whoever may be woken or started.
 *
 * Locks      `lock` guards starting and ending workers, and their numbers, never the path of a job. `trace_lock` is fp_trace.h's.
 */
#ifndef FP_POOL_H
#define FP_POOL_H

#include "fp_eventcount.h"
#include "fp_metrics.h"
#include "fp_overflow.h"
#include "fp_queue.h"

struct fp_trace;
struct fp_worker;

typedef enum fp_pool_state {
    FP_POOL_OPEN,
    FP_POOL_DRAINING,
    FP_POOL_CLOSED,
    FP_POOL_BROKEN,
} fp_pool_state;

/* What the program round the pool supplies; plain C programs leave all of it NULL. Called on worker threads. */
typedef struct fp_host {
    void *arg;
    /* A worker's thread is about to be started, +1; or could not be, or has called worker_stop, -1. From any thread. */
    void (*worker_count)(void *arg, int change);
    /* A worker's first act, not attached: non-zero breaks the pool. */
    int (*worker_start)(void *arg, struct fp_worker *worker);
    /* Its last, not attached. */
    void (*worker_stop)(void *arg, struct fp_worker *worker);
    /* Round a run of jobs of kind FP_JOB_ATTACHED. `warm`: the worker has not slept since the job was submitted. */
    void (*attach)(void *arg, struct fp_worker *worker, bool warm);
    void (*detach)(void *arg, struct fp_worker *worker);
    /* Attached, every FP_PULSE_NS or so between jobs: let others have the interpreter if they wait for it. */
    void (*pulse)(void *arg, struct fp_worker *worker);
    /* Not attached: the worker found nothing to do, and may sleep for long. */
    void (*idle)(void *arg, struct fp_worker *worker);
    /* A thread that is no worker, or runs a job while it waits for another, is about to run native jobs: if it is attached,
     * it lets go, and after them takes back what it had, as the token says. */
    void *(*let_go)(void *arg);
    void (*take_back)(void *arg, void *token);
    /* A thread that is no worker, attached or not, is about to run or discard what is queued: it attaches. */
    void *(*enter)(void *arg);
    void (*leave)(void *arg, void *token);
    /* The pool's last reference is gone. From any thread, not attached. */
    void (*free)(void *arg);
} fp_host;

typedef struct fp_pool_options {
    uint32_t max_workers;    /* 1 .. FP_MOST_WORKERS; to begin with: see fp_pool_resize */
    uint32_t min_workers;    /* 1 .. max_workers: more than these leave after idle_ns without work */
    uint32_t queue_capacity; /* 1 .. FP_QUEUE_MOST; 0: unbounded */
    int64_t idle_ns;
    int64_t spin_ns; /* how long one idle worker may spin; 0: never */
    bool unmeasured; /* no histograms: neither submitting nor running a job reads the clock */
} fp_pool_options;

enum { FP_MOST_WORKERS = 4096, FP_PACES = 64 };

/* What may make a worker stop between two pieces of a range: bits of `unsettled`. */
enum {
    FP_PAUSED = 1,
    FP_LANED = 2,   /* other lanes than the normal one are in use */
    FP_SURPLUS = 4, /* `live` may be more than `max_workers`; changed under the lock */
};

typedef struct fp_pool {
    fp_queue queue;
    fp_overflow overflow;
    fp_pool_options options;
    fp_host host;

    fp_aligned fp_atomic(uint32_t) state; /* fp_pool_state */
    fp_atomic(uint32_t) live;             /* workers started and not yet leaving */
    fp_atomic(uint32_t) running;          /* workers started and not yet come to their last look at the queue */
    fp_atomic(uint32_t) stop;             /* running jobs are asked to stop: a shutdown's time is over */
    fp_atomic(uint32_t) min_workers;      /* written under the lock */
    fp_atomic(uint32_t) max_workers;      /* the same */
    fp_atomic(uint32_t) unsettled;        /* 0 most of the time */
    fp_atomic(uint32_t) tracing;          /* the session's number; 0: nobody traces (fp_trace.h) */
    uint32_t fork_generation;             /* fp_os_fork_generation() of the process that the workers live in */

    fp_aligned fp_atomic(uint32_t) searching; /* see "Who looks" */
    fp_eventcount work;                       /* parked workers */

    fp_aligned fp_eventcount room;         /* submitters that wait for a place in the queue */
    fp_eventcount idle;                    /* callers of wait_idle */
    fp_eventcount ended;                   /* callers that wait for the last worker to leave */
    fp_atomic(uint32_t) idle_rounds;       /* raised when something may have become idle: the data of `idle` */
    fp_atomic(uint32_t) awake;             /* workers not parked */
    fp_atomic(uint32_t) assisting;         /* threads that are no workers and run pieces of ranges meanwhile (fp_parallel.h) */
    fp_atomic(uint32_t) setting_up;        /* workers in host.worker_start */
    fp_atomic(uint32_t) references;        /* the owner's, and one a worker */
    uint32_t usable_cpus;

    /* Counted by other threads than workers. */
    fp_aligned fp_atomic(uint64_t) submitted_extra; /* beyond one for each record: a range's further jobs */
    fp_atomic(uint64_t) ended_extra[FP_OUTCOMES];
    fp_atomic(uint64_t) rejected;
    fp_histogram duration_extra;
    struct {
        fp_atomic(uintptr_t) function; /* the last one that came to this entry */
        fp_atomic(int64_t) job_ps;     /* see fp_parallel.h */
    } paces[FP_PACES];

    fp_mutex lock;
    struct fp_worker **workers; /* under the lock: [0, made) of `places` are filled, and not emptied before the end */
    uint32_t made, places;
    fp_atomic(uint32_t) serving; /* workers in their loop */

    fp_mutex trace_lock;
    struct fp_trace *trace;  /* the open one, or NULL */
    uint32_t trace_sessions; /* the last one's number */
} fp_pool;

typedef enum fp_submit_result {
    FP_SUBMIT_OK,
    FP_SUBMIT_FULL,
    FP_SUBMIT_CLOSED,
    FP_SUBMIT_BROKEN,
    FP_SUBMIT_FORKED,    /* this is a child of the process that made the pool: its workers are not here */
    FP_SUBMIT_NO_THREAD, /* the first worker could not be started */
    FP_SUBMIT_NO_MEMORY,
} fp_submit_result;

/* A pool of no workers yet: they start as jobs come. NULL when memory is short. The caller holds one reference. */
fp_pool *fp_pool_create(const fp_pool_options *options, const fp_host *host);
void fp_pool_retain(fp_pool *pool);
void fp_pool_release(fp_pool *pool);

/* Queues a job of `jobs` jobs (more than 1: a range). Any result but FP_SUBMIT_OK: it was not queued and ctx is still the
 * caller's. Never blocks. */
fp_submit_result fp_pool_submit(fp_pool *pool, const fp_job_class *job_class, void *ctx, bool is_range, int64_t jobs,
                                fp_lane lane);

/* The same, past the bound of a full queue: for a job that submits to its own pool and can neither wait nor nest deeper. */
fp_submit_result fp_pool_submit_beyond(fp_pool *pool, const fp_job_class *job_class, void *ctx, bool is_range, int64_t jobs,
                                       fp_lane lane);

/* Sleeps until the queue may have room or the pool is no longer open. */
fp_wait_result fp_pool_wait_for_room(fp_pool *pool, int64_t deadline_ns);

/* The same in two halves, for one who looks at more than the queue in between: sleeps until that may have changed, too. */
uint32_t fp_pool_room_key(fp_pool *pool);
fp_wait_result fp_pool_wait_for_room_since(fp_pool *pool, uint32_t key, int64_t deadline_ns);

/* Wakes all who wait for room, to look again. */
void fp_pool_tell_of_room(fp_pool *pool);

/* Ends the oldest queued job of the lowest lane that holds any, without running it; of those that have a place in the queue: it
 * is to make room. False when nothing was queued. Paused or not. */
bool fp_pool_discard_oldest(fp_pool *pool);

/* Runs the oldest queued job of the highest lane that holds any on the calling thread. False when nothing was queued. */
bool fp_pool_run_oldest(fp_pool *pool);

/* Takes ranges off the head of the queue whose jobs have all started. A worker that runs jobs while it waits for them does it,
 * for as long as no worker comes by, their records are places taken. */
void fp_pool_drop_started(fp_pool *pool);

/* From now on no queued job is started, nor the next piece of a range, until it is resumed or closed. What has started goes on,
 * and a job that waits for others of the pool still runs those itself. Jobs are accepted. Idempotent; from any thread. */
void fp_pool_pause(fp_pool *pool);
void fp_pool_resume(fp_pool *pool);

/* Other numbers of workers, 1 <= min_workers <= max_workers <= FP_MOST_WORKERS. There are `min_workers` at once, if the pool
 * has started any yet; more where jobs wait; and those that are too many leave as they come free. A thread that cannot be had
 * now is tried for again at the next occasion. False: memory is short, and nothing has changed. */
bool fp_pool_resize(fp_pool *pool, uint32_t min_workers, uint32_t max_workers);

/* Accepts no more jobs. Idempotent. */
void fp_pool_close(fp_pool *pool);

/* True when every worker has left. */
bool fp_pool_has_ended(fp_pool *pool);

/* The same, waiting for it and joining their threads. */
bool fp_pool_wait_ended(fp_pool *pool, int64_t deadline_ns, fp_wait_result *why);

/* True when nothing is queued or running, at one instant of the call. */
bool fp_pool_is_idle(fp_pool *pool);
fp_wait_result fp_pool_wait_idle(fp_pool *pool, int64_t deadline_ns);

void fp_pool_read_metrics(fp_pool *pool, fp_metrics *metrics);

/* True in a child that was forked after the pool was made. Nothing but release may be called on the pool there. */
static inline bool fp_pool_is_forked(const fp_pool *pool)
{
    return pool->fork_generation != fp_os_fork_generation;
}

/* True while it takes jobs. */
static inline bool fp_pool_is_open(fp_pool *pool)
{
    return !fp_pool_is_forked(pool) && fp_load(&pool->state, fp_relaxed) == FP_POOL_OPEN;
}

/* True while no queued job may be started. */
static inline bool fp_pool_is_paused(fp_pool *pool)
{
    return (fp_load(&pool->unsettled, fp_seq_cst) & FP_PAUSED) && fp_load(&pool->state, fp_seq_cst) == FP_POOL_OPEN;
}

/* Records that are queued; a range is one. */
static inline uint64_t fp_pool_queued(fp_pool *pool)
{
    return fp_queue_size(&pool->queue) + fp_overflow_count(&pool->overflow);
}

/* What a submit would come to, were there room: FP_SUBMIT_OK, _CLOSED, _BROKEN or _FORKED. */
fp_submit_result fp_pool_look(fp_pool *pool);

static inline void *fp_pool_let_go(fp_pool *pool)
{
    return pool->host.let_go != NULL ? pool->host.let_go(pool->host.arg) : NULL;
}

static inline void fp_pool_take_back(fp_pool *pool, void *token)
{
    if (pool->host.take_back != NULL)
        pool->host.take_back(pool->host.arg, token);
}

/* Counts jobs that ended on a thread that is no worker. */
void fp_pool_note(fp_pool *pool, fp_outcome outcome, uint64_t jobs);

/* The same, with the duration of those that ran there, `ticks` each. */
void fp_pool_note_run(fp_pool *pool, fp_outcome outcome, uint64_t jobs, uint64_t ticks);

/* Of workers (fp_worker.c). */
void fp_pool_close_range(fp_pool *pool, fp_queue_head head);
void fp_pool_leave_range(fp_pool *pool, fp_queue_head head, const fp_started *job, struct fp_worker *worker);
void fp_pool_wake(fp_pool *pool);
void fp_pool_replenish(fp_pool *pool);
bool fp_pool_is_empty(fp_pool *pool);   /* nothing is queued */
bool fp_pool_has_work(fp_pool *pool);   /* something is queued, and may be started */
bool fp_pool_holds_more(fp_pool *pool); /* than the one at the head */
void fp_pool_break(fp_pool *pool);
void fp_pool_told_idle(fp_pool *pool);

#endif
