/* pools.h - what the tests of the whole pool share: jobs that count their runs, submitting that waits for room, ending. */
#ifndef FP_TEST_POOLS_H
#define FP_TEST_POOLS_H

#include "fp_clock.h"
#include "fp_pool.h"
#include "fp_range.h"
#include "fp_worker.h"
#include "threads.h"

/* The pool that the watchdog prints. */
static fp_pool *_Atomic watched_pool;

static void dump_eventcount(const char *name, fp_eventcount *ec)
{
    fprintf(stderr, "      %s: epoch %u, tokens %u\n", name, fp_load(&ec->epoch, fp_relaxed),
            fp_load(&ec->tokens, fp_relaxed));
}

static void dump_ring(const char *name, fp_ring *ring)
{
    fprintf(stderr, "      %s: enqueue_pos %llu, dequeue_pos %llu\n", name,
            (unsigned long long)fp_load(&ring->enqueue_pos, fp_relaxed),
            (unsigned long long)fp_load(&ring->dequeue_pos, fp_relaxed));
}

__attribute__((unused)) static void dump_pool(void)
{
    fp_pool *pool = atomic_load(&watched_pool);
    if (pool == NULL)
        return;
    fprintf(stderr, "      min %u, max %u, unsettled %u\n", fp_load(&pool->min_workers, fp_relaxed),
            fp_load(&pool->max_workers, fp_relaxed), fp_load(&pool->unsettled, fp_relaxed));
    fprintf(stderr, "      state %u, live %u, serving %u, searching %u, awake %u, references %u, made %u\n",
            fp_load(&pool->state, fp_relaxed), fp_load(&pool->live, fp_relaxed), fp_load(&pool->serving, fp_relaxed),
            fp_load(&pool->searching, fp_relaxed), fp_load(&pool->awake, fp_relaxed),
            fp_load(&pool->references, fp_relaxed), pool->made);
    dump_eventcount("work", &pool->work);
    dump_eventcount("room", &pool->room);
    dump_eventcount("idle", &pool->idle);
    dump_eventcount("ended", &pool->ended);
    dump_ring("high", &pool->queue.ready[FP_LANE_HIGH]);
    dump_ring("normal", &pool->queue.ready[FP_LANE_NORMAL]);
    dump_ring("low", &pool->queue.ready[FP_LANE_LOW]);
    dump_ring("free", &pool->queue.free);
    fprintf(stderr, "      overflow %llu\n", (unsigned long long)fp_overflow_count(&pool->overflow));
}

/* A job that counts what is done to it. */
typedef struct counted_job {
    fp_atomic(uint32_t) ran;
    fp_atomic(uint32_t) discarded;
} counted_job;

static fp_outcome run_counted(void *ctx, fp_worker *worker)
{
    counted_job *job = ctx;
    (void)worker;
    fp_fetch_add(&job->ran, 1, fp_relaxed);
    watchdog_pat();
    return FP_DONE;
}

static int64_t discard_counted(void *ctx, fp_discard_reason reason)
{
    counted_job *job = ctx;
    (void)reason;
    fp_fetch_add(&job->discarded, 1, fp_relaxed);
    watchdog_pat();
    return 1;
}

__attribute__((unused)) static const fp_job_class counted_class = {.run = run_counted, .discard = discard_counted};

/* A job that says it has started, and ends when it is let go. */
typedef struct blocker {
    gate started, go;
} blocker;

#define BLOCKER_INITIALIZER {GATE_INITIALIZER, GATE_INITIALIZER}

static fp_outcome run_blocker(void *ctx, fp_worker *worker)
{
    blocker *blocker = ctx;
    (void)worker;
    gate_raise(&blocker->started, 1);
    gate_wait(&blocker->go, 1);
    return FP_DONE;
}

static int64_t discard_blocker(void *ctx, fp_discard_reason reason)
{
    (void)ctx;
    (void)reason;
    return 1;
}

__attribute__((unused)) static const fp_job_class blocker_class = {.run = run_blocker, .discard = discard_blocker};

/* A range that counts the runs of each of its jobs, and the calls of end. */
typedef struct counted_range {
    fp_range range;
    int64_t grain;
    fp_pool *pool;
    fp_atomic(uint32_t) *ran; /* one for each job */
    gate ended;
    fp_atomic(uint32_t) joined; /* how many threads have run a part */
} counted_range;

static void note_range_jobs(fp_pool *pool, fp_worker *worker, fp_outcome outcome, int64_t jobs)
{
    if (worker != NULL)
        fp_worker_note(worker, outcome, jobs, 0);
    else
        fp_pool_note(pool, outcome, (uint64_t)jobs);
}

static fp_outcome run_counted_range(void *ctx, fp_worker *worker)
{
    counted_range *range = ctx;
    int64_t begin, end;
    fp_fetch_add(&range->joined, 1, fp_relaxed);
    while (fp_range_claim(&range->range, range->grain, &begin, &end)) {
        for (int64_t i = begin; i < end; i++)
            fp_fetch_add(&range->ran[i], 1, fp_relaxed);
        note_range_jobs(range->pool, worker, FP_DONE, end - begin);
        watchdog_pat();
    }
    return FP_DONE;
}

static int64_t discard_counted_range(void *ctx, fp_discard_reason reason)
{
    counted_range *range = ctx;
    (void)reason;
    return fp_range_cancel(&range->range);
}

static void end_counted_range(void *ctx, fp_worker *worker)
{
    counted_range *range = ctx;
    (void)worker;
    watchdog_pat();
    gate_raise(&range->ended, 1); /* last: whoever waits for it may free the range */
}

__attribute__((unused)) static const fp_job_class counted_range_class = {
    .run = run_counted_range, .discard = discard_counted_range, .end = end_counted_range};

/* The same, stopping between two pieces when it should. */
static fp_outcome run_yielding_range(void *ctx, fp_worker *worker)
{
    counted_range *range = ctx;
    int64_t begin, end;
    fp_fetch_add(&range->joined, 1, fp_relaxed);
    while (fp_range_claim(&range->range, range->grain, &begin, &end)) {
        for (int64_t i = begin; i < end; i++)
            fp_fetch_add(&range->ran[i], 1, fp_relaxed);
        note_range_jobs(range->pool, worker, FP_DONE, end - begin);
        watchdog_pat();
        if (worker != NULL && fp_worker_should_yield(worker))
            break;
    }
    return FP_DONE;
}

static bool counted_range_all_started(void *ctx)
{
    counted_range *range = ctx;
    return fp_range_left(&range->range) == 0;
}

__attribute__((unused)) static const fp_job_class yielding_range_class = {.run = run_yielding_range,
                                                                          .discard = discard_counted_range,
                                                                          .end = end_counted_range,
                                                                          .all_started = counted_range_all_started};

__attribute__((unused)) static counted_range *counted_range_create(fp_pool *pool, int64_t n, int64_t grain)
{
    counted_range *range = NULL;
    CHECK(posix_memalign((void **)&range, FP_CACHE_LINE, sizeof *range) == 0);
    fp_range_init(&range->range, n);
    range->grain = grain;
    range->pool = pool;
    range->ran = calloc((size_t)n, sizeof *range->ran);
    CHECK(range->ran != NULL);
    range->ended = (gate)GATE_INITIALIZER;
    fp_store(&range->joined, 0, fp_relaxed);
    return range;
}

__attribute__((unused)) static void counted_range_free(counted_range *range)
{
    free(range->ran);
    free(range);
}

/* Pools. */
static fp_pool *pool_with_host(uint32_t min_workers, uint32_t max_workers, uint32_t capacity, int64_t idle_ns,
                               const fp_host *host)
{
    fp_pool_options options = {
        .max_workers = max_workers, .min_workers = min_workers, .queue_capacity = capacity, .idle_ns = idle_ns};
    fp_pool *pool = fp_pool_create(&options, host);
    CHECK(pool != NULL);
    atomic_store(&watched_pool, pool);
    return pool;
}

__attribute__((unused)) static fp_pool *fixed_pool(uint32_t workers, uint32_t capacity)
{
    return pool_with_host(workers, workers, capacity, 0, NULL);
}

/* Submits, waiting for room. The result is never FP_SUBMIT_FULL. */
static fp_submit_result submit_to_lane(fp_pool *pool, const fp_job_class *job_class, void *ctx, bool is_range, int64_t jobs,
                                       fp_lane lane)
{
    for (;;) {
        fp_submit_result result = fp_pool_submit(pool, job_class, ctx, is_range, jobs, lane);
        if (result != FP_SUBMIT_FULL)
            return result;
        fp_pool_wait_for_room(pool, FP_FOREVER);
    }
}

__attribute__((unused)) static fp_submit_result submit_waiting(fp_pool *pool, const fp_job_class *job_class, void *ctx,
                                                               bool is_range, int64_t jobs)
{
    return submit_to_lane(pool, job_class, ctx, is_range, jobs, FP_LANE_NORMAL);
}

__attribute__((unused)) static void submit_one(fp_pool *pool, const fp_job_class *job_class, void *ctx)
{
    CHECK_EQUAL(submit_waiting(pool, job_class, ctx, false, 1), FP_SUBMIT_OK);
}

__attribute__((unused)) static void wait_until_idle(fp_pool *pool)
{
    while (!fp_pool_is_idle(pool))
        fp_pool_wait_idle(pool, FP_FOREVER);
}

static void wait_until_ended(fp_pool *pool)
{
    fp_wait_result why;
    CHECK(fp_pool_wait_ended(pool, FP_FOREVER, &why));
}

static void release_pool(fp_pool *pool)
{
    atomic_store(&watched_pool, NULL);
    fp_pool_release(pool);
    watchdog_pat();
}

__attribute__((unused)) static void end_pool(fp_pool *pool)
{
    fp_pool_close(pool);
    wait_until_ended(pool);
    release_pool(pool);
}

__attribute__((unused)) static uint64_t ended_sum(const fp_metrics *metrics)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < FP_OUTCOMES; i++)
        sum += metrics->ended[i];
    return sum;
}

#endif
