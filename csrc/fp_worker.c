/* fp_worker.c - the worker's loop: look, attach if need be, take, run, count; park (K1-K4). */
#include "fp_worker.h"

#include <stdlib.h>

#include "fp_awake.h"
#include "fp_backoff.h"
#include "fp_clock.h"
#include "fp_pool.h"
#include "fp_trace.h"

static _Thread_local fp_worker *current;

fp_worker *fp_worker_current(void)
{
    return current;
}

static void count_awake(fp_pool *pool, int change)
{
    fp_fetch_add(&pool->awake, (uint32_t)change, fp_relaxed);
    fp_awake_change(change);
}

fp_worker *fp_worker_create(fp_pool *pool, uint32_t id)
{
    fp_worker *worker = calloc(1, sizeof *worker);
    fp_worker_metrics *metrics = NULL;
    if (worker == NULL || posix_memalign((void **)&metrics, FP_CACHE_LINE, sizeof *metrics) != 0) {
        free(worker);
        return NULL;
    }
    *metrics = (fp_worker_metrics){0};
    worker->pool = pool;
    worker->id = id;
    worker->metrics = metrics;
    return worker;
}

void fp_worker_free(fp_worker *worker)
{
    fp_trace_forget_row(worker->row);
    free(worker->metrics);
    free(worker);
}

/* Sees to it that the next worker looks if there is work. */
static void hand_on(fp_worker *worker)
{
    if (fp_pool_has_work(worker->pool))
        fp_pool_wake(worker->pool);
}

/* False: it did not hold `searching`. */
static bool stop_searching(fp_worker *worker)
{
    if (!worker->searching)
        return false;
    worker->searching = false;
    fp_store(&worker->pool->searching, 0, fp_seq_cst);
    return true;
}

/* Gives `searching` up, having found work, and hands on what more there is: those who submitted while it was held have
 * woken nobody. */
static void found_work(fp_worker *worker)
{
    if (stop_searching(worker))
        hand_on(worker);
}

/* A range is work for all; but where a thread that waits for it runs pieces of it too, they may be as many as there are places
 * and CPUs. One more would only be in the others' way: on two CPUs three threads are slower than two, and a worker that was
 * woken where another runs can stay there for some milliseconds. That thread wakes who is needed when it stops. */
static bool range_has_enough(fp_pool *pool)
{
    uint32_t most = fp_load(&pool->max_workers, fp_relaxed), assisting = fp_load(&pool->assisting, fp_seq_cst);
    return assisting != 0 && most <= pool->usable_cpus && fp_load(&pool->awake, fp_relaxed) + assisting >= most &&
           !fp_pool_holds_more(pool);
}

/* As found_work, of a range, which stays at the head. */
static void found_range(fp_worker *worker)
{
    if (stop_searching(worker) && !range_has_enough(worker->pool))
        fp_pool_wake(worker->pool);
}

static void set_attached(fp_worker *worker, bool attached)
{
    fp_host *host = &worker->pool->host;
    if (worker->attached == attached)
        return;
    if (attached && host->attach != NULL)
        host->attach(host->arg, worker, worker->warm);
    if (!attached && host->detach != NULL)
        host->detach(host->arg, worker);
    worker->attached = attached;
    worker->now_ticks = worker->pulse_ticks = fp_clock_ticks();
}

void fp_worker_pulse(fp_worker *worker)
{
    /* In ticks, not nanoseconds: at 2 to 5 GHz, and at the 1 GHz of a tick-less clock, some 20 to 100 microseconds. */
    if (!worker->attached || worker->now_ticks - worker->pulse_ticks < FP_PULSE_NS)
        return;
    fp_host *host = &worker->pool->host;
    if (host->pulse != NULL)
        host->pulse(host->arg, worker);
    worker->now_ticks = worker->pulse_ticks = fp_clock_ticks();
}

void fp_worker_note(fp_worker *worker, fp_outcome outcome, int64_t jobs, uint64_t ticks)
{
    fp_worker_metrics *metrics = worker->metrics;
    if (jobs <= 0 || outcome == FP_COUNTED_ELSEWHERE)
        return;
    if ((outcome == FP_DONE || outcome == FP_FAILED) && !worker->pool->options.unmeasured) /* the others did not run */
        fp_histogram_add(&metrics->duration, jobs == 1 ? ticks : ticks / (uint64_t)jobs, (uint64_t)jobs);
    fp_store(&metrics->ended[outcome], fp_load(&metrics->ended[outcome], fp_relaxed) + (uint64_t)jobs, fp_release);
}

void fp_worker_note_taken(fp_worker *worker, uint32_t jobs)
{
    fp_atomic(uint64_t) *taken = &worker->metrics->taken;
    fp_store(taken, fp_load(taken, fp_relaxed) + jobs, fp_relaxed); /* published by the ends, which are counted after it */
}

/* A clock that another CPU read may be a little ahead of this one's. */
static uint64_t since(uint64_t now, uint64_t then)
{
    return now > then ? now - then : 0;
}

uint64_t fp_worker_lap(fp_worker *worker)
{
    enum { SELDOM = 16 };
    uint64_t from = worker->now_ticks;
    if (worker->pool->options.unmeasured && ++worker->laps % SELDOM != 0)
        return 0;
    worker->now_ticks = fp_clock_ticks();
    return since(worker->now_ticks, from);
}

static void run_job(fp_worker *worker, const fp_started *job)
{
    fp_worker_metrics *metrics = worker->metrics;
    if (!worker->pool->options.unmeasured)
        fp_histogram_add(&metrics->wait, since(worker->now_ticks, job->submitted_ticks), 1);
    fp_store(&metrics->running, 1, fp_relaxed);
    fp_outcome outcome = job->job_class->run(job->ctx, worker);
    fp_store(&metrics->running, 0, fp_relaxed);
    fp_worker_note(worker, outcome, 1, fp_worker_lap(worker));
}

static void discard_job(fp_worker *worker, const fp_started *job)
{
    fp_pool_note(worker->pool, FP_CANCELLED, (uint64_t)job->job_class->discard(job->ctx, FP_DISCARD_BROKEN));
}

static bool is_broken(fp_worker *worker)
{
    return fp_load(&worker->pool->state, fp_relaxed) == FP_POOL_BROKEN;
}

static void serve_single(fp_worker *worker, fp_queue_head head)
{
    fp_started job;
    if (!fp_queue_take(&worker->pool->queue, head, &job))
        return;
    worker->turn++;
    fp_eventcount_notify_one(&worker->pool->room);
    found_work(worker);
    if (is_broken(worker))
        discard_job(worker, &job);
    else
        run_job(worker, &job);
}

void fp_worker_range_started(fp_worker *worker)
{
    if (!worker->range_open)
        return;
    worker->range_open = false;
    fp_pool_close_range(worker->pool, worker->range_head);
}

/* Whether this turn is another lane's. Else it is used for the next piece. */
static bool is_turn_of_others(fp_worker *worker)
{
    fp_pool *pool = worker->pool;
    fp_queue_head head;
    fp_overflow_refill(&pool->overflow, &pool->queue);
    if (fp_queue_peek(&pool->queue, fp_lane_of_turn(worker->turn), &head) && head.lane != worker->range_head.lane)
        return true;
    worker->turn++;
    return false;
}

bool fp_worker_should_yield(fp_worker *worker)
{
    fp_pool *pool = worker->pool;
    uint32_t unsettled = fp_load(&pool->unsettled, fp_relaxed);
    if (unsettled == 0)
        return false;
    worker->yields = (unsettled & FP_SURPLUS) || fp_pool_is_paused(pool) ||
                     ((unsettled & FP_LANED) && is_turn_of_others(worker));
    return worker->yields;
}

/* Closes the range unless this worker has only stopped taking part. */
static void range_done(fp_worker *worker, const fp_started *job)
{
    if (worker->yields && !job->job_class->all_started(job->ctx))
        worker->range_open = false;
    fp_worker_range_started(worker);
}

/* Joins the range at the head and stays until none of its jobs is left to start, or another thing comes first. */
static void serve_range(fp_worker *worker, fp_queue_head head)
{
    fp_queue *queue = &worker->pool->queue;
    fp_started job;
    if (!fp_queue_join(queue, head, &job))
        return;
    if (fp_queue_is_head(queue, head)) {
        worker->range_head = head;
        worker->range_open = true;
        worker->yields = false;
        worker->turn++;
        found_range(worker);
        if (is_broken(worker)) {
            discard_job(worker, &job);
        } else {
            fp_store(&worker->metrics->running, 1, fp_relaxed);
            job.job_class->run(job.ctx, worker);
            fp_store(&worker->metrics->running, 0, fp_relaxed);
        }
        range_done(worker, &job);
    }
    fp_pool_leave_range(worker->pool, head, &job, worker);
    worker->now_ticks = fp_clock_ticks();
}

static bool may_spin(fp_pool *pool)
{
    /* The submitter wants a CPU, and so does each awake worker, this one among them. */
    return pool->options.spin_ns > 0 && fp_load(&pool->awake, fp_relaxed) < pool->usable_cpus && !fp_pool_is_paused(pool);
}

/* A worker that is quicker than the submitter finds one job each time it looks, and meets the submitter at the head of the queue
 * for it, where each look costs both a cache line from the other's CPU. So where there is a job at the first look it looks
 * away a little longer the next time; in pauses of some 20 ns. */
static void let_gather(fp_worker *worker)
{
    for (uint32_t i = 0; i < worker->lull; i++)
        fp_cpu_pause();
}

static void set_lull(fp_worker *worker, bool at_first_look)
{
    enum { MOST_LULL = 32 };
    if (!at_first_look)
        worker->lull /= 2;
    else
        worker->lull = worker->lull == 0 ? 1 : worker->lull < MOST_LULL ? worker->lull * 2 : MOST_LULL;
}

/* Looks for a while without sleeping. True when there is work. */
static bool spin(fp_worker *worker)
{
    fp_pool *pool = worker->pool;
    uint32_t nobody = 0;
    if (!may_spin(pool))
        return false;
    if (!fp_cas(&pool->searching, &nobody, 1, fp_seq_cst, fp_seq_cst) && !worker->searching)
        return false; /* somebody else spins, or is on the way */
    worker->searching = true;
    let_gather(worker);
    int64_t until_ns = fp_os_now_ns() + pool->options.spin_ns;
    unsigned round = 0;
    do
        for (int i = 0; i < 8; i++) {
            if (fp_pool_has_work(pool)) {
                set_lull(worker, round < 4);
                return true;
            }
            fp_backoff(&round);
        }
    while (fp_load(&pool->state, fp_relaxed) == FP_POOL_OPEN && fp_os_now_ns() < until_ns);
    return false;
}

/* Under the lock: counts a worker out, if more than `kept` are counted in. */
static bool count_out(fp_pool *pool, uint32_t kept)
{
    if (fp_load(&pool->live, fp_seq_cst) <= kept)
        return false;
    fp_fetch_sub(&pool->live, 1, fp_seq_cst);
    return true;
}

/* Asks to leave for want of work. False when the pool is down to the workers that it keeps. A worker that has counted itself
 * out looks once more, not to be started anew at once; the look that counts is its last one (fp_pool.h, "Places"). */
static bool leave_idle(fp_pool *pool)
{
    fp_mutex_lock(&pool->lock);
    bool leaves = count_out(pool, fp_load(&pool->min_workers, fp_relaxed));
    if (leaves && fp_pool_has_work(pool)) {
        fp_fetch_add(&pool->live, 1, fp_seq_cst);
        leaves = false;
    }
    fp_mutex_unlock(&pool->lock);
    return leaves;
}

/* Leaves a pool that has more workers than places: see fp_pool.h, "Surplus". Not one that is closed, where it may be the last
 * worker, which has to empty the queue. */
static bool leave_surplus(fp_worker *worker)
{
    fp_pool *pool = worker->pool;
    fp_mutex_lock(&pool->lock);
    uint32_t places = fp_load(&pool->max_workers, fp_relaxed);
    bool leaves = fp_load(&pool->state, fp_seq_cst) <= FP_POOL_DRAINING && count_out(pool, places);
    if (!leaves || fp_load(&pool->live, fp_relaxed) <= places)
        fp_fetch_and(&pool->unsettled, ~(uint32_t)FP_SURPLUS, fp_seq_cst);
    fp_mutex_unlock(&pool->lock);
    if (leaves) {
        stop_searching(worker);
        hand_on(worker); /* its last look would do; but host.worker_stop comes before that, and may take long */
    }
    return leaves;
}

static int64_t idle_deadline(fp_pool *pool)
{
    int64_t now_ns = fp_os_now_ns();
    return pool->options.idle_ns < FP_FOREVER - now_ns ? now_ns + pool->options.idle_ns : FP_FOREVER;
}

enum parked { LOOK_AGAIN, DRAINED, UNNEEDED, FORKED };

static enum parked park(fp_worker *worker)
{
    fp_pool *pool = worker->pool;
    uint32_t key = fp_eventcount_prepare(&pool->work); /* K1 */
    worker->searching = false;
    fp_store(&pool->searching, 0, fp_seq_cst); /* K2: whoever set it, this worker looks after the clearing */
    uint32_t state = fp_load(&pool->state, fp_seq_cst); /* before the queue: see fp_pool.h, "Pausing" */
    if (fp_pool_has_work(pool) || (fp_load(&pool->unsettled, fp_seq_cst) & FP_SURPLUS)) { /* K3 */
        worker->searching = true; /* who submitted before K2 may have woken nobody: for the rest of those jobs, too */
        return LOOK_AGAIN;
    }
    if (state != FP_POOL_OPEN)
        return DRAINED;
    /* After K1: resize lowers `min_workers` and then wakes whoever has a token in, to read it anew. */
    bool to_spare = fp_load(&pool->live, fp_relaxed) > fp_load(&pool->min_workers, fp_seq_cst);
    int64_t deadline_ns = to_spare ? idle_deadline(pool) : FP_FOREVER;
    count_awake(pool, -1);
    fp_wait_result result = fp_eventcount_wait(&pool->work, key, deadline_ns); /* K4 */
    count_awake(pool, +1);
    worker->warm = false;
    if (result == FP_WAIT_TIMED_OUT && !fp_pool_has_work(pool) && leave_idle(pool))
        return UNNEEDED;
    worker->searching = true; /* the notifier set it for us; at worst it is set for another, and clearing it is safe */
    return LOOK_AGAIN;
}

/* Without work: detaches, tells who waits for that, spins, parks. */
static enum parked rest(fp_worker *worker)
{
    fp_host *host = &worker->pool->host;
    set_attached(worker, false);
    fp_pool_told_idle(worker->pool);
    if (spin(worker)) {
        worker->now_ticks = fp_clock_ticks();
        return LOOK_AGAIN;
    }
    fp_trace_rest(worker);
    if (host->idle != NULL) {
        /* It may take a while: nobody is to rely on this worker's looking meanwhile. park() looks again. */
        worker->searching = false;
        fp_store(&worker->pool->searching, 0, fp_seq_cst);
        host->idle(host->arg, worker);
    }
    enum parked parked = park(worker);
    worker->now_ticks = fp_clock_ticks();
    return parked;
}

/* Until the pool is drained or has no need of this worker. */
static enum parked serve(fp_worker *worker)
{
    fp_pool *pool = worker->pool;
    fp_queue_head head;
    for (;;) {
        if (fp_pool_is_forked(pool)) /* by the job: this is the child, and the pool is its parent's */
            return FORKED;
        if ((fp_load(&pool->unsettled, fp_seq_cst) & FP_SURPLUS) && leave_surplus(worker))
            return UNNEEDED;
        fp_overflow_refill(&pool->overflow, &pool->queue);
        if (fp_pool_is_paused(pool) || !fp_queue_peek(&pool->queue, fp_lane_of_turn(worker->turn), &head)) {
            enum parked parked = rest(worker);
            if (parked != LOOK_AGAIN)
                return parked;
            continue;
        }
        bool attached = head.kind & FP_JOB_ATTACHED;
        if (attached != worker->attached) {
            set_attached(worker, attached);
            continue; /* attaching may have taken a while: look at the head anew */
        }
        worker->warm = true;
        if (head.kind & FP_JOB_RANGE)
            serve_range(worker, head);
        else
            serve_single(worker, head);
        fp_worker_pulse(worker);
    }
}

/* The last worker out of a pool that drains closes it, and looks once more (fp_pool.h, S4). */
static void leave(fp_worker *worker)
{
    fp_pool *pool = worker->pool;
    uint32_t draining = FP_POOL_DRAINING;
    fp_mutex_lock(&pool->lock);
    bool closed = fp_fetch_sub(&pool->serving, 1, fp_acq_rel) == 1 &&
                  fp_cas(&pool->state, &draining, FP_POOL_CLOSED, fp_seq_cst, fp_seq_cst);
    fp_mutex_unlock(&pool->lock);
    if (closed)
        serve(worker);
    set_attached(worker, false);
}

/* More than those who are being set up will take. */
static bool has_work_for_more(fp_pool *pool, uint32_t setting_up)
{
    fp_queue_head head;
    for (unsigned lane = FP_LANE_HIGH; lane < FP_LANES; lane++)
        if (fp_queue_peek_lane(&pool->queue, (fp_lane)lane, &head) && (head.kind & FP_JOB_RANGE))
            return true;
    uint64_t overflowed = fp_overflow_count(&pool->overflow); /* first: see fp_pool_is_empty */
    return overflowed > setting_up || fp_queue_holds_more(&pool->queue, setting_up - overflowed);
}

/* A started worker holds `searching`. Its set-up may take long, or wait for that of others, so it hands the search on. */
static void set_up(fp_worker *worker)
{
    fp_pool *pool = worker->pool;
    if (pool->host.worker_start == NULL)
        return;
    uint32_t setting_up = fp_fetch_add(&pool->setting_up, 1, fp_seq_cst) + 1;
    worker->searching = false;
    fp_store(&pool->searching, 0, fp_seq_cst);
    if (has_work_for_more(pool, setting_up))
        fp_pool_wake(pool);
    if (pool->host.worker_start(pool->host.arg, worker) != 0)
        fp_pool_break(pool);
    fp_fetch_sub(&pool->setting_up, 1, fp_seq_cst);
    worker->searching = true; /* as after K3 */
}

static void *worker_main(void *arg)
{
    fp_worker *worker = arg;
    fp_pool *pool = worker->pool;
    fp_host *host = &pool->host;
    current = worker;
    fp_mutex_lock(&pool->lock); /* the starter has it until it has counted this worker in */
    fp_mutex_unlock(&pool->lock);
    worker->now_ticks = fp_clock_ticks();
    set_up(worker);
    enum parked why = serve(worker);
    if (why == FORKED)
        return NULL; /* the child's only thread: with it the child ends, as one does whose thread forked and returned */
    leave(worker);
    worker->unneeded = why == UNNEEDED;
    if (host->worker_stop != NULL)
        host->worker_stop(host->arg, worker);
    count_awake(pool, -1);
    if (why == DRAINED) /* one that is not needed has counted itself out already */
        fp_fetch_sub(&pool->live, 1, fp_seq_cst);
    fp_store(&worker->running_loop, false, fp_seq_cst); /* N1 of `ended`. From here on the worker may be started anew */
    fp_fetch_sub(&pool->running, 1, fp_seq_cst);
    hand_on(worker); /* a submitter may have found all places taken, one by this worker */
    fp_pool_replenish(pool);
    fp_eventcount_notify_all(&pool->ended);
    fp_pool_release(pool);
    return NULL;
}

static void count_thread(fp_pool *pool, int change)
{
    if (pool->host.worker_count != NULL)
        pool->host.worker_count(pool->host.arg, change);
}

int fp_worker_start(fp_worker *worker)
{
    fp_pool *pool = worker->pool;
    worker->attached = worker->warm = worker->unneeded = false;
    worker->searching = true; /* see fp_pool_wake: at worst it is set for another, and clearing it is safe */
    fp_pool_retain(pool);
    fp_fetch_add(&pool->running, 1, fp_seq_cst);
    fp_fetch_add(&pool->serving, 1, fp_acq_rel);
    count_awake(pool, +1);
    fp_store(&worker->running_loop, true, fp_release);
    count_thread(pool, +1);
    int error = fp_thread_start(&worker->thread, worker_main, worker);
    if (error == 0) {
        fp_fetch_add(&pool->live, 1, fp_seq_cst); /* not before: a job is accepted for the sake of a worker that there is */
        worker->joinable = true;
        return 0;
    }
    count_thread(pool, -1);
    fp_store(&worker->running_loop, false, fp_release);
    count_awake(pool, -1);
    fp_fetch_sub(&pool->serving, 1, fp_acq_rel);
    fp_fetch_sub(&pool->running, 1, fp_seq_cst);
    fp_fetch_sub(&pool->references, 1, fp_relaxed); /* never the last: the caller has one */
    return error;
}
