/* fp_pool.c - submit (S1-S4), waking, closing, and the pool's own life. */
#include "fp_pool.h"

#include <limits.h>
#include <stdlib.h>

#include "fp_clock.h"
#include "fp_trace.h"
#include "fp_worker.h"

/* An unbounded pool keeps this many jobs in the ring; more wait in the overflow. */
enum { UNBOUNDED_RING = 1 << 16 };

/* Spare records beyond one for each worker: for the threads that help, and jobs that nest ranges. */
enum { MORE_SPARES = 16, MOST_SPARES = 1024 };

fp_pool *fp_pool_create(const fp_pool_options *options, const fp_host *host)
{
    fp_pool *pool = NULL;
    if (posix_memalign((void **)&pool, FP_CACHE_LINE, sizeof *pool) != 0)
        return NULL;
    *pool = (fp_pool){.options = *options};
    if (host != NULL)
        pool->host = *host;
    pool->workers = calloc(options->max_workers, sizeof *pool->workers);
    pool->places = options->max_workers;
    fp_store(&pool->min_workers, options->min_workers, fp_relaxed);
    fp_store(&pool->max_workers, options->max_workers, fp_relaxed);
    if (pool->workers == NULL ||
        !fp_queue_init(&pool->queue, options->queue_capacity ? options->queue_capacity : UNBOUNDED_RING,
                       (options->max_workers < MOST_SPARES ? options->max_workers : MOST_SPARES) + MORE_SPARES)) {
        free(pool->workers);
        free(pool);
        return NULL;
    }
    fp_overflow_init(&pool->overflow);
    fp_mutex_init(&pool->lock);
    fp_mutex_init(&pool->trace_lock);
    pool->usable_cpus = (uint32_t)fp_os_usable_cpus();
    fp_store(&pool->references, 1, fp_relaxed);
    pool->fork_generation = fp_os_fork_generation;
    return pool;
}

void fp_pool_retain(fp_pool *pool)
{
    fp_fetch_add(&pool->references, 1, fp_relaxed);
}

/* Of a thread that has left the loop. Workers do not wait for each other, or two could do so in a circle; and the last
 * one out may be this very thread. */
static void let_go_of_thread(fp_thread thread)
{
    if (fp_worker_current() != NULL || fp_thread_is_self(thread))
        fp_thread_detach(thread);
    else
        fp_thread_join(thread);
}

/* Under the lock: true and the thread of a worker that has left the loop, which is now the caller's to let go of. */
static bool take_thread(fp_worker *worker, fp_thread *thread)
{
    if (!worker->joinable || fp_load(&worker->running_loop, fp_acquire))
        return false;
    worker->joinable = false;
    *thread = worker->thread;
    return true;
}

/* Lets go of all threads that have left the loop. Not under the lock: on their way out they may want it. */
static void let_go_of_threads(fp_pool *pool)
{
    fp_thread thread;
    bool found;
    do {
        found = false;
        fp_mutex_lock(&pool->lock);
        for (uint32_t i = 0; i < pool->made && !found; i++)
            found = take_thread(pool->workers[i], &thread);
        fp_mutex_unlock(&pool->lock);
        if (found)
            let_go_of_thread(thread);
    } while (found);
}

void fp_pool_release(fp_pool *pool)
{
    if (fp_fetch_sub(&pool->references, 1, fp_acq_rel) != 1)
        return;
    let_go_of_threads(pool);
    for (uint32_t i = 0; i < pool->made; i++)
        fp_worker_free(pool->workers[i]);
    if (pool->trace != NULL)
        fp_trace_close(pool->trace, pool);
    if (pool->host.free != NULL)
        pool->host.free(pool->host.arg);
    fp_queue_destroy(&pool->queue);
    fp_overflow_destroy(&pool->overflow);
    fp_mutex_destroy(&pool->lock);
    fp_mutex_destroy(&pool->trace_lock);
    free(pool->workers);
    free(pool);
}

/* Under the lock: a worker that is not running, made if need be. NULL when memory is short. */
static fp_worker *spare_worker(fp_pool *pool)
{
    for (uint32_t i = 0; i < pool->made; i++)
        if (!fp_load(&pool->workers[i]->running_loop, fp_acquire))
            return pool->workers[i];
    if (pool->made == pool->places)
        return NULL;
    fp_worker *worker = fp_worker_create(pool, pool->made);
    if (worker != NULL)
        pool->workers[pool->made++] = worker;
    return worker;
}

typedef enum start_result {
    STARTED,
    ENOUGH,    /* there are so many; one may be on its way out, but it will look before it goes */
    IMPOSSIBLE /* no thread or memory to be had, or the pool has ended */
} start_result;

static start_result start_worker_locked(fp_pool *pool, uint32_t most, fp_thread *old, bool *has_old)
{
    uint32_t places = fp_load(&pool->max_workers, fp_relaxed); /* by now it may be lower than when `most` was read */
    if (fp_load(&pool->state, fp_seq_cst) > FP_POOL_DRAINING)
        return IMPOSSIBLE;
    if (fp_load(&pool->running, fp_seq_cst) >= (most < places ? most : places))
        return ENOUGH;
    fp_worker *worker = spare_worker(pool);
    if (worker == NULL)
        return IMPOSSIBLE;
    *has_old = take_thread(worker, old);
    return fp_worker_start(worker) == 0 ? STARTED : IMPOSSIBLE;
}

/* Starts a worker if there are fewer than `most`. */
static start_result start_worker(fp_pool *pool, uint32_t most)
{
    fp_thread old;
    bool has_old = false;
    fp_mutex_lock(&pool->lock);
    start_result result = start_worker_locked(pool, most, &old, &has_old);
    fp_mutex_unlock(&pool->lock);
    if (has_old)
        let_go_of_thread(old);
    return result;
}

bool fp_pool_is_empty(fp_pool *pool)
{
    fp_queue_head head;
    /* The overflow first: a job that is moved on meanwhile is in the ring before it leaves the count. */
    return fp_overflow_count(&pool->overflow) == 0 && !fp_queue_peek(&pool->queue, FP_LANE_HIGH, &head);
}

bool fp_pool_has_work(fp_pool *pool)
{
    return !fp_pool_is_paused(pool) && !fp_pool_is_empty(pool);
}

bool fp_pool_holds_more(fp_pool *pool)
{
    return fp_overflow_count(&pool->overflow) != 0 || fp_queue_holds_more(&pool->queue, 1);
}

void fp_pool_wake(fp_pool *pool)
{
    start_result result = STARTED;
    for (;;) {
        uint32_t nobody = 0, most = fp_load(&pool->max_workers, fp_seq_cst);
        if (fp_load(&pool->searching, fp_seq_cst) != 0 || fp_pool_is_paused(pool))
            return;
        bool parked = fp_load(&pool->work.tokens, FP_EC_LOOK) != 0;
        if (!parked && (result == IMPOSSIBLE || fp_load(&pool->running, fp_seq_cst) >= most))
            return; /* all are busy or on their way out, and will look when they are done */
        if (!fp_cas(&pool->searching, &nobody, 1, fp_seq_cst, fp_seq_cst))
            return;
        if (parked ? fp_eventcount_notify_one(&pool->work) : (result = start_worker(pool, most)) == STARTED)
            return; /* the woken or started worker holds `searching` now */
        /* Nobody was woken, nobody started. Others may have relied on this thread while the flag was up, and a worker may
         * have parked or left: so look at the tokens and the places again after clearing it. */
        fp_store(&pool->searching, 0, fp_seq_cst);
    }
}

/* Starts what is missing of the workers that the pool keeps, once it has started any. Resize does it after it has raised
 * `min_workers`, and whoever leaves after it has given up its place. So if one finds all places taken, by some who are on
 * their way out, the last of these finds what is missing: all seq_cst. */
void fp_pool_replenish(fp_pool *pool)
{
    while (fp_load(&pool->state, fp_seq_cst) == FP_POOL_OPEN && fp_load(&pool->live, fp_seq_cst) != 0 &&
           fp_load(&pool->live, fp_seq_cst) < fp_load(&pool->min_workers, fp_seq_cst) &&
           start_worker(pool, UINT32_MAX) == STARTED)
        ;
}

/* S2. Behind the overflow of its lane as long as there is one: see FIFO in fp_overflow.h. */
static fp_submit_result push(fp_pool *pool, const fp_job_class *job_class, void *ctx, unsigned kind, fp_lane lane, bool bounded)
{
    uint64_t now = pool->options.unmeasured ? 0 : fp_clock_ticks();
    if (fp_overflow_count(&pool->overflow) != 0 && fp_queue_has_room(&pool->queue))
        fp_overflow_refill(&pool->overflow, &pool->queue);
    if (!fp_overflow_holds(&pool->overflow, lane) && fp_queue_try_push(&pool->queue, job_class, ctx, kind, lane, now))
        return FP_SUBMIT_OK;
    if (bounded)
        return FP_SUBMIT_FULL;
    fp_started job = {.job_class = job_class, .ctx = ctx, .submitted_ticks = now};
    return fp_overflow_push(&pool->overflow, job, kind, lane) ? FP_SUBMIT_OK : FP_SUBMIT_NO_MEMORY;
}

fp_submit_result fp_pool_look(fp_pool *pool)
{
    if (fp_pool_is_forked(pool))
        return FP_SUBMIT_FORKED;
    uint32_t state = fp_load(&pool->state, fp_acquire);
    if (state == FP_POOL_OPEN)
        return FP_SUBMIT_OK;
    return state == FP_POOL_BROKEN ? FP_SUBMIT_BROKEN : FP_SUBMIT_CLOSED;
}

static fp_submit_result submit(fp_pool *pool, const fp_job_class *job_class, void *ctx, bool is_range, int64_t jobs,
                               fp_lane lane, bool bounded)
{
    fp_submit_result result = fp_pool_look(pool); /* S1 */
    if (result != FP_SUBMIT_OK)
        return result;
    /* The first worker before the first job: if it cannot be started, nothing has been accepted. */
    if (fp_load(&pool->live, fp_acquire) == 0 && start_worker(pool, 1) == IMPOSSIBLE &&
        fp_load(&pool->state, fp_acquire) == FP_POOL_OPEN)
        return FP_SUBMIT_NO_THREAD;
    if (jobs != 1) /* before the push, so that no reader sees more jobs ended than submitted */
        fp_fetch_add(&pool->submitted_extra, (uint64_t)(jobs - 1), fp_relaxed);
    if (lane != FP_LANE_NORMAL && !(fp_load(&pool->unsettled, fp_relaxed) & FP_LANED))
        fp_fetch_or(&pool->unsettled, (uint32_t)FP_LANED, fp_seq_cst);
    result = push(pool, job_class, ctx, job_class->kind | (is_range ? FP_JOB_RANGE : 0), lane, bounded);
    if (result != FP_SUBMIT_OK) {
        if (jobs != 1) {
            fp_fetch_sub(&pool->submitted_extra, (uint64_t)(jobs - 1), fp_seq_cst);
            fp_pool_told_idle(pool); /* who has looked meanwhile has seen jobs that there are not */
        }
        return result;
    }
    fp_pool_wake(pool);                                          /* S3 */
    if (fp_load(&pool->state, fp_seq_cst) >= FP_POOL_CLOSED) /* S4 */
        while (fp_load(&pool->state, fp_relaxed) == FP_POOL_BROKEN ? fp_pool_discard_oldest(pool)
                                                                    : fp_pool_run_oldest(pool))
            ;
    return FP_SUBMIT_OK;
}

fp_submit_result fp_pool_submit(fp_pool *pool, const fp_job_class *job_class, void *ctx, bool is_range, int64_t jobs,
                                fp_lane lane)
{
    return submit(pool, job_class, ctx, is_range, jobs, lane, pool->options.queue_capacity != 0);
}

fp_submit_result fp_pool_submit_beyond(fp_pool *pool, const fp_job_class *job_class, void *ctx, bool is_range, int64_t jobs,
                                       fp_lane lane)
{
    return submit(pool, job_class, ctx, is_range, jobs, lane, false);
}

uint32_t fp_pool_room_key(fp_pool *pool)
{
    return fp_eventcount_prepare(&pool->room);
}

fp_wait_result fp_pool_wait_for_room_since(fp_pool *pool, uint32_t key, int64_t deadline_ns)
{
    if (fp_queue_has_room(&pool->queue) || fp_load(&pool->state, fp_seq_cst) != FP_POOL_OPEN)
        return FP_WAIT_WOKEN;
    return fp_eventcount_wait(&pool->room, key, deadline_ns);
}

fp_wait_result fp_pool_wait_for_room(fp_pool *pool, int64_t deadline_ns)
{
    return fp_pool_wait_for_room_since(pool, fp_pool_room_key(pool), deadline_ns);
}

void fp_pool_tell_of_room(fp_pool *pool)
{
    fp_eventcount_notify_all(&pool->room);
}

void fp_pool_close_range(fp_pool *pool, fp_queue_head head)
{
    if (fp_queue_close(&pool->queue, head))
        fp_eventcount_notify_one(&pool->room);
}

void fp_pool_leave_range(fp_pool *pool, fp_queue_head head, const fp_started *job, fp_worker *worker)
{
    fp_left left = fp_queue_leave(&pool->queue, head);
    if (left == FP_LEFT)
        return;
    if (left == FP_LEFT_LAST_ROOM)
        fp_eventcount_notify_one(&pool->room);
    job->job_class->end(job->ctx, worker);
}

static void discard_here(fp_pool *pool, const fp_started *job)
{
    bool broken = fp_load(&pool->state, fp_relaxed) == FP_POOL_BROKEN;
    int64_t jobs = job->job_class->discard(job->ctx, broken ? FP_DISCARD_BROKEN : FP_DISCARD_CANCELLED);
    fp_pool_note(pool, FP_CANCELLED, (uint64_t)jobs);
}

static bool end_single(fp_pool *pool, fp_queue_head head, bool run)
{
    fp_started job;
    if (!fp_queue_take(&pool->queue, head, &job))
        return false;
    fp_eventcount_notify_one(&pool->room); /* before it runs, which may take long */
    if (run)
        fp_pool_note(pool, job.job_class->run(job.ctx, NULL), 1);
    else
        discard_here(pool, &job);
    return true;
}

static bool end_range(fp_pool *pool, fp_queue_head head, bool run)
{
    fp_started job;
    if (!fp_queue_join(&pool->queue, head, &job))
        return false;
    bool is_head = fp_queue_is_head(&pool->queue, head);
    if (is_head) {
        if (run)
            job.job_class->run(job.ctx, NULL);
        else
            discard_here(pool, &job);
        fp_pool_close_range(pool, head);
    }
    fp_pool_leave_range(pool, head, &job, NULL);
    return is_head;
}

static bool drop_started(fp_pool *pool, fp_queue_head head)
{
    fp_started job;
    if (!fp_queue_join(&pool->queue, head, &job))
        return false;
    bool drops = job.job_class->all_started != NULL && fp_queue_is_head(&pool->queue, head) &&
                 job.job_class->all_started(job.ctx);
    if (drops)
        fp_pool_close_range(pool, head);
    fp_pool_leave_range(pool, head, &job, NULL);
    return drops;
}

void fp_pool_drop_started(fp_pool *pool)
{
    fp_queue_head head;
    for (unsigned lane = FP_LANE_HIGH; lane < FP_LANES; lane++)
        while (fp_queue_peek_lane(&pool->queue, (fp_lane)lane, &head) && (head.kind & FP_JOB_RANGE) && drop_started(pool, head))
            ;
}

static bool peek_lowest(fp_queue *queue, fp_queue_head *head)
{
    for (unsigned lane = FP_LANES; lane > 0; lane--)
        if (fp_queue_peek_lane(queue, (fp_lane)(lane - 1), head))
            return true;
    return false;
}

static bool end_head(fp_pool *pool, bool run)
{
    fp_queue_head head;
    do {
        fp_overflow_refill(&pool->overflow, &pool->queue);
        if (!(run ? fp_queue_peek(&pool->queue, FP_LANE_HIGH, &head) : peek_lowest(&pool->queue, &head)))
            return false;
    } while (!(head.kind & FP_JOB_RANGE ? end_range(pool, head, run) : end_single(pool, head, run)));
    return true;
}

/* Ends one queued job on the calling thread: runs it, or discards what of it has not started. */
static bool end_oldest(fp_pool *pool, bool run)
{
    if (fp_pool_is_empty(pool))
        return false;
    void *token = pool->host.enter != NULL ? pool->host.enter(pool->host.arg) : NULL;
    bool found = end_head(pool, run);
    if (pool->host.leave != NULL)
        pool->host.leave(pool->host.arg, token);
    if (found)
        fp_pool_told_idle(pool);
    return found;
}

bool fp_pool_discard_oldest(fp_pool *pool)
{
    return end_oldest(pool, false);
}

bool fp_pool_run_oldest(fp_pool *pool)
{
    return end_oldest(pool, true);
}

void fp_pool_pause(fp_pool *pool)
{
    fp_fetch_or(&pool->unsettled, (uint32_t)FP_PAUSED, fp_seq_cst);
}

/* Wakes as a submitter does, for all that have submitted meanwhile: see "Pausing". */
void fp_pool_resume(fp_pool *pool)
{
    uint32_t before = fp_fetch_and(&pool->unsettled, ~(uint32_t)FP_PAUSED, fp_seq_cst);
    if ((before & FP_PAUSED) && !fp_pool_is_empty(pool))
        fp_pool_wake(pool);
}

/* Under the lock: room for so many workers. */
static bool make_places(fp_pool *pool, uint32_t places)
{
    if (places <= pool->places)
        return true;
    fp_worker **workers = (fp_worker **)calloc(places, sizeof *workers);
    if (workers == NULL)
        return false;
    for (uint32_t i = 0; i < pool->made; i++)
        workers[i] = pool->workers[i];
    free(pool->workers);
    pool->workers = workers;
    pool->places = places;
    return true;
}

/* Under the lock. */
static bool set_numbers(fp_pool *pool, uint32_t min_workers, uint32_t max_workers)
{
    if (!make_places(pool, max_workers))
        return false;
    fp_store(&pool->min_workers, min_workers, fp_seq_cst);
    fp_store(&pool->max_workers, max_workers, fp_seq_cst);
    if (fp_load(&pool->live, fp_seq_cst) > max_workers)
        fp_fetch_or(&pool->unsettled, (uint32_t)FP_SURPLUS, fp_seq_cst);
    return true;
}

bool fp_pool_resize(fp_pool *pool, uint32_t min_workers, uint32_t max_workers)
{
    fp_mutex_lock(&pool->lock);
    bool done = set_numbers(pool, min_workers, max_workers);
    bool to_spare = done && fp_load(&pool->live, fp_relaxed) > min_workers;
    fp_mutex_unlock(&pool->lock);
    if (!done)
        return false;
    if (to_spare) /* parked ones leave; or learn that they are to leave after a while */
        fp_eventcount_notify_all(&pool->work);
    fp_pool_replenish(pool);
    if (fp_pool_has_work(pool))
        fp_pool_wake(pool);
    return true;
}

void fp_pool_close(fp_pool *pool)
{
    uint32_t open = FP_POOL_OPEN;
    fp_mutex_lock(&pool->lock); /* against a worker being started: it is counted before, or never starts */
    if (fp_cas(&pool->state, &open, FP_POOL_DRAINING, fp_seq_cst, fp_seq_cst) &&
        fp_load(&pool->serving, fp_relaxed) == 0)
        fp_store(&pool->state, FP_POOL_CLOSED, fp_seq_cst);
    fp_mutex_unlock(&pool->lock);
    fp_eventcount_notify_all(&pool->work);
    fp_eventcount_notify_all(&pool->room);
    fp_pool_resume(pool); /* those who submitted during a pause have woken nobody */
    /* A submitter that saw OPEN may have pushed before CLOSED was stored, and so leave the job to us: see S4. */
    while (fp_load(&pool->state, fp_seq_cst) == FP_POOL_CLOSED && !fp_pool_is_empty(pool) && fp_pool_run_oldest(pool))
        ;
}

void fp_pool_break(fp_pool *pool)
{
    fp_store(&pool->state, FP_POOL_BROKEN, fp_seq_cst);
    fp_eventcount_notify_all(&pool->work);
    fp_eventcount_notify_all(&pool->room);
}

/* `live` does not tell: a worker that is not needed counts itself out of it early. */
bool fp_pool_has_ended(fp_pool *pool)
{
    bool running = false;
    fp_mutex_lock(&pool->lock);
    for (uint32_t i = 0; i < pool->made; i++)
        running = running || fp_load(&pool->workers[i]->running_loop, fp_seq_cst);
    fp_mutex_unlock(&pool->lock);
    return !running && fp_load(&pool->state, fp_seq_cst) != FP_POOL_OPEN;
}

bool fp_pool_wait_ended(fp_pool *pool, int64_t deadline_ns, fp_wait_result *why)
{
    *why = FP_WAIT_WOKEN;
    while (!fp_pool_has_ended(pool)) {
        uint32_t key = fp_eventcount_prepare(&pool->ended);
        if (fp_pool_has_ended(pool))
            break;
        *why = fp_eventcount_wait(&pool->ended, key, deadline_ns);
        if (*why != FP_WAIT_WOKEN && !fp_pool_has_ended(pool))
            return false;
    }
    let_go_of_threads(pool);
    return true;
}

/* Under the lock, and after the ends have been read. */
static uint64_t count_submitted(fp_pool *pool)
{
    uint64_t sum = fp_overflow_queued(&pool->overflow, &pool->queue) + fp_load(&pool->submitted_extra, fp_acquire);
    for (uint32_t w = 0; w < pool->made; w++)
        sum += fp_load(&pool->workers[w]->metrics->taken, fp_acquire);
    return sum;
}

/* Under the lock. */
static uint64_t count_ended(fp_pool *pool)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < FP_OUTCOMES; i++)
        sum += fp_load(&pool->ended_extra[i], fp_acquire);
    for (uint32_t w = 0; w < pool->made; w++)
        for (uint32_t i = 0; i < FP_OUTCOMES; i++)
            sum += fp_load(&pool->workers[w]->metrics->ended[i], fp_acquire);
    return sum;
}

bool fp_pool_is_idle(fp_pool *pool)
{
    /* Ends first, for both only grow: if they are equal, nothing was under way in between. */
    fp_mutex_lock(&pool->lock);
    uint64_t ended = count_ended(pool);
    bool idle = count_submitted(pool) == ended;
    fp_mutex_unlock(&pool->lock);
    return idle;
}

void fp_pool_told_idle(fp_pool *pool)
{
    fp_fetch_add(&pool->idle_rounds, 1, fp_seq_cst);
    fp_eventcount_notify_all(&pool->idle);
}

fp_wait_result fp_pool_wait_idle(fp_pool *pool, int64_t deadline_ns)
{
    uint32_t key = fp_eventcount_prepare(&pool->idle);
    fp_load(&pool->idle_rounds, fp_seq_cst);
    if (fp_pool_is_idle(pool))
        return FP_WAIT_WOKEN;
    return fp_eventcount_wait(&pool->idle, key, deadline_ns);
}

void fp_pool_note(fp_pool *pool, fp_outcome outcome, uint64_t jobs)
{
    if (outcome != FP_COUNTED_ELSEWHERE)
        fp_fetch_add(&pool->ended_extra[outcome], jobs, fp_acq_rel);
}

void fp_pool_note_run(fp_pool *pool, fp_outcome outcome, uint64_t jobs, uint64_t ticks)
{
    if (jobs == 0)
        return;
    if ((outcome == FP_DONE || outcome == FP_FAILED) && !pool->options.unmeasured) /* the others did not run */
        fp_histogram_add_shared(&pool->duration_extra, ticks, jobs);
    fp_pool_note(pool, outcome, jobs);
}

void fp_pool_read_metrics(fp_pool *pool, fp_metrics *metrics)
{
    *metrics = (fp_metrics){0};
    fp_mutex_lock(&pool->lock);
    for (uint32_t i = 0; i < FP_OUTCOMES; i++)
        metrics->ended[i] = fp_load(&pool->ended_extra[i], fp_acquire);
    fp_histogram_merge(&metrics->duration, &pool->duration_extra);
    for (uint32_t i = 0; i < pool->made; i++)
        fp_metrics_merge(metrics, pool->workers[i]->metrics);
    metrics->submitted = count_submitted(pool);
    metrics->workers = fp_load(&pool->live, fp_relaxed); /* here no worker leaves that was seen at work */
    fp_mutex_unlock(&pool->lock);
    metrics->queue_depth = fp_pool_queued(pool);
    metrics->queue_capacity = pool->options.queue_capacity;
    metrics->rejected = fp_load(&pool->rejected, fp_relaxed);
}
