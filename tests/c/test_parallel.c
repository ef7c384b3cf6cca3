/* test_parallel.c - parallel ranges: pieces and their pace, the thread that begins alone, cancelling, and one end. */
#include <string.h>

#include "fp_backoff.h"
#include "groups.h"

enum { MOST_PIECES = 1 << 14 };

/* A range that writes down its pieces, in the order of their starts. */
typedef struct work {
    fp_parallel parallel; /* first: see work_of */
    tally tally;
    int *results;                    /* plain, one for each job: who ends the range has to see them */
    int64_t slow, slow_ns;           /* this job takes so long; the others nothing */
    int64_t each_ns;                 /* or so long each */
    int64_t bad;                     /* this one fails */
    bool refuses;                    /* to start */
    void (*in_piece)(struct work *work, int64_t begin, int64_t end); /* NULL: nothing */
    fp_atomic(bool) has_ended;
    gate ended, released;
    gate started, go;
    fp_atomic(uint32_t) stop;
    fp_atomic(uint32_t) pieces;
    int64_t sizes[MOST_PIECES]; /* these two as far as `pieces` */
    pthread_t threads[MOST_PIECES];
} work;

static work *work_of(fp_parallel *parallel)
{
    return (work *)parallel;
}

/* Time that a job takes: only the CPU's. */
static void burn(int64_t ns)
{
    int64_t until_ns = fp_os_now_ns() + ns;
    while (ns > 0 && fp_os_now_ns() < until_ns)
        ;
}

static void write_down(work *work, int64_t size)
{
    uint32_t piece = fp_fetch_add(&work->pieces, 1, fp_relaxed);
    if (piece >= MOST_PIECES)
        return;
    work->sizes[piece] = size;
    work->threads[piece] = pthread_self();
}

static void run_work(fp_parallel *parallel, int64_t begin, int64_t end, fp_piece *piece)
{
    work *work = work_of(parallel);
    write_down(work, end - begin);
    if (work->in_piece != NULL)
        work->in_piece(work, begin, end);
    for (int64_t i = begin; i < end; i++) {
        tally_job((void *)&work->tally.ran[i]);
        work->results[i] = 1;
        burn(i == work->slow ? work->slow_ns : work->each_ns);
        if (i == work->bad)
            *piece = (fp_piece){.failed = end - begin, .failed_at = i, .status = -9};
    }
}

static bool start_work(fp_parallel *parallel)
{
    return !work_of(parallel)->refuses;
}

static void work_ended(fp_parallel *parallel)
{
    work *work = work_of(parallel);
    int64_t seen = 0;
    CHECK(!fp_load(&work->has_ended, fp_relaxed));
    for (int64_t i = 0; i < work->tally.n; i++)
        seen += work->results[i];
    CHECK(seen == work->tally.n || fp_load(&parallel->discarded, fp_relaxed) != 0);
    fp_store(&work->has_ended, true, fp_release);
    gate_raise(&work->ended, 1);
}

static void work_released(fp_parallel *parallel)
{
    gate_raise(&work_of(parallel)->released, 1); /* last: it may be freed then */
}

static const fp_parallel_class work_class = {
    .run = run_work, .start = start_work, .ended = work_ended, .released = work_released};

static work *new_work(fp_pool *pool, int64_t n, int64_t grain)
{
    work *work = NULL;
    CHECK(posix_memalign((void **)&work, FP_CACHE_LINE, sizeof *work) == 0);
    memset(work, 0, offsetof(struct work, sizes));
    fp_parallel_init(&work->parallel, &work_class, pool, n, grain);
    work->parallel.stop = &work->stop;
    work->tally = tally_of(n);
    work->results = calloc((size_t)n, sizeof *work->results);
    CHECK(work->results != NULL);
    work->slow = work->bad = -1;
    work->ended = work->released = work->started = work->go = (gate)GATE_INITIALIZER;
    return work;
}

static void queue_work(work *work)
{
    fp_parallel *parallel = &work->parallel;
    CHECK(submit_waiting(parallel->pool, &fp_parallel_job, parallel, true, fp_range_left(&parallel->range)) == FP_SUBMIT_OK);
}

/* Queued and to the end. */
static void await_work(work *work)
{
    gate_wait(&work->ended, 1);
    gate_wait(&work->released, 1);
    watchdog_pat();
}

static void free_work(work *work)
{
    tally_free(&work->tally);
    free(work->results);
    free(work);
}

/* A pool that has a worker, at rest. */
static fp_pool *warm_pool(uint32_t workers, uint32_t capacity)
{
    fp_pool *pool = fixed_pool(workers, capacity);
    counted_job job = {0};
    submit_one(pool, &counted_class, &job);
    wait_until_idle(pool);
    return pool;
}

/* --- queued ------------------------------------------------------------------------------------------------------------- */

static void each_once(uint32_t workers, int64_t n, int64_t grain, bool helped)
{
    fp_pool *pool = fixed_pool(workers, 8);
    int64_t rounds = test_rounds(3000 / n + 20);
    for (int64_t round = 0; round < rounds; round++) {
        work *work = new_work(pool, n, grain);
        queue_work(work);
        if (helped)
            fp_parallel_help(&work->parallel, FP_FOREVER);
        await_work(work);
        CHECK_EQUAL(fp_parallel_started(&work->parallel), n);
        tally_check(&work->tally, 1);
        free_work(work);
    }
    check_ended(pool, (uint64_t)(rounds * n), 0, 0);
    end_pool(pool);
}

static void every_job_once(bool helped)
{
    static const uint32_t workers[] = {1, 2, 16};
    static const int64_t grains[] = {0, 1, 7, INT64_MAX};
    for (int w = 0; w < 3; w++)
        for (int g = 0; g < 4; g++) {
            each_once(workers[w], 1, grains[g], helped);
            each_once(workers[w], 9, grains[g], helped);
            each_once(workers[w], 20000, grains[g], helped);
        }
}

/* Idle is more than that all jobs have run: whoever waits for it finds the range ended. */
static void idle_is_after_the_end(uint32_t workers, int64_t grain)
{
    fp_pool *pool = warm_pool(workers, 8);
    for (int64_t round = test_rounds(20000); round > 0; round--) {
        work *work = new_work(pool, 6, grain);
        queue_work(work);
        while (!fp_pool_is_idle(pool))
            fp_cpu_pause();
        CHECK(fp_load(&work->has_ended, fp_acquire));
        await_work(work);
        free_work(work);
    }
    end_pool_with_books(pool);
}

static void the_first_failure_is_kept(void)
{
    fp_pool *pool = fixed_pool(1, 8);
    work *work = new_work(pool, 20, 5);
    work->bad = 12;
    queue_work(work);
    await_work(work);
    CHECK(fp_load(&work->parallel.failed, fp_relaxed) && work->parallel.status == -9 && work->parallel.failed_at == 12);
    CHECK(fp_load(&work->parallel.discarded, fp_relaxed) == 0);
    tally_check(&work->tally, 1);
    check_ended(pool, 15, 5, 0);
    free_work(work);
    end_pool(pool);
}

static void refused_at_the_start(void)
{
    fp_pool *pool = fixed_pool(2, 8);
    work *work = new_work(pool, 20, 1);
    work->refuses = true;
    queue_work(work);
    gate_wait(&work->released, 1);
    tally_check(&work->tally, 0);
    CHECK_EQUAL(work->ended.count, 0);
    check_ended(pool, 0, 0, 20);
    free_work(work);
    end_pool(pool);
}

/* --- the pace ----------------------------------------------------------------------------------------------------------- */

/* One worker, so the pieces are in order. A piece says how large the next may be: many times as large at the most, and
 * as small as one job where jobs take long. */
static void pieces_follow_the_pace(int64_t slow)
{
    enum { SLOW_NS = 2000000, PIECE_NS = 50000, GROWTH = 8, N = 40000 };
    fp_pool *pool = fixed_pool(1, 8);
    work *work = new_work(pool, N, 0);
    work->slow = slow;
    work->slow_ns = SLOW_NS;
    queue_work(work);
    await_work(work);
    tally_check(&work->tally, 1);
    uint32_t pieces = fp_load(&work->pieces, fp_relaxed);
    CHECK(pieces > 4 && pieces < MOST_PIECES && work->sizes[0] == 1);
    int64_t done = 0;
    for (uint32_t i = 0; i + 1 < pieces; i++) {
        int64_t size = work->sizes[i], next = work->sizes[i + 1];
        bool was_slow = done <= slow && slow < done + size;
        CHECK(next <= size * GROWTH);
        CHECK(next <= (N - done - size) / 4 + 1); /* a worker's share in so many pieces */
        if (was_slow)
            CHECK(next <= size * PIECE_NS / SLOW_NS + 1);
        done += size;
    }
    free_work(work);
    end_pool_with_books(pool);
}

/* A piece of one job that is slow holds up none of the others: the second thread runs them meanwhile. */
static void wait_for_the_rest(work *work, int64_t begin, int64_t end)
{
    if (begin > 0) {
        gate_raise(&work->started, (uint64_t)(end - begin));
        return;
    }
    CHECK(end == 1);
    gate_wait(&work->started, (uint64_t)work->tally.n - 1);
}

static void the_rest_is_run_meanwhile(void)
{
    fp_pool *pool = warm_pool(2, 8);
    for (int64_t round = test_rounds(200); round > 0; round--) {
        work *work = new_work(pool, 3000, 0);
        work->in_piece = wait_for_the_rest;
        queue_work(work);
        await_work(work);
        tally_check(&work->tally, 1);
        free_work(work);
    }
    end_pool_with_books(pool);
}

static void join_in(void *arg, unsigned number)
{
    (void)number;
    fp_parallel_help(arg, FP_FOREVER);
}

/* In the first piece that is larger than one job, another thread joins, and has run the rest before this piece goes on. */
static void let_another_join(work *work, int64_t begin, int64_t end)
{
    threads threads;
    if (work->go.count > 0 || end - begin == 1)
        return;
    gate_raise(&work->go, 1);
    threads_start(&threads, 1, join_in, &work->parallel);
    threads_join(&threads);
}

static void who_joins_takes_over_the_pace(void)
{
    fp_pool *pool = fixed_pool(1, 8);
    work *work = new_work(pool, 100000, 0);
    fp_fetch_add(&pool->submitted_extra, 100000, fp_relaxed); /* what queueing it would have done */
    work->in_piece = let_another_join;
    fp_parallel_help(&work->parallel, FP_FOREVER);
    CHECK(fp_load(&work->has_ended, fp_acquire));
    tally_check(&work->tally, 1);
    uint32_t first = 0;
    while (pthread_equal(work->threads[first], pthread_self()))
        first++;
    CHECK(first >= 2 && work->sizes[first - 1] > 1);
    CHECK_EQUAL(work->sizes[first], work->sizes[first - 1]);
    free_work(work);
    check_ended(pool, 100000, 0, 0);
    end_pool(pool);
}

static void a_grain_is_kept(int64_t grain)
{
    fp_pool *pool = fixed_pool(2, 8);
    work *work = new_work(pool, 10007, grain);
    queue_work(work);
    await_work(work);
    uint32_t pieces = fp_load(&work->pieces, fp_relaxed), short_ones = 0;
    CHECK_EQUAL(pieces, (10007 + grain - 1) / grain);
    for (uint32_t i = 0; i < pieces; i++)
        short_ones += work->sizes[i] != grain;
    CHECK(short_ones <= 1);
    free_work(work);
    end_pool_with_books(pool);
}

/* --- alone -------------------------------------------------------------------------------------------------------------- */

static void small_ones_end_alone(void)
{
    fp_pool *pool = warm_pool(2, 8);
    uint64_t ended_alone = 0, rounds = (uint64_t)test_rounds(2000);
    for (uint64_t round = 0; round < rounds; round++) {
        work *work = new_work(pool, 10, (int64_t)round % 3);
        uint64_t queued = fp_queue_pushed(&pool->queue);
        wait_until_idle(pool);
        if (fp_parallel_start_here(&work->parallel)) {
            CHECK(fp_load(&work->has_ended, fp_acquire) && fp_queue_pushed(&pool->queue) == queued);
            ended_alone++;
        } else { /* this thread stood still, so the jobs looked long */
            queue_work(work);
            await_work(work);
        }
        tally_check(&work->tally, 1);
        free_work(work);
    }
    CHECK(ended_alone > 0);
    check_ended(pool, 1 + rounds * 10, 0, 0);
    end_pool(pool);
}

static work *begin_large(fp_pool *pool, int64_t n)
{
    work *work = new_work(pool, n, 0);
    work->each_ns = 50000;
    CHECK(!fp_parallel_start_here(&work->parallel));
    CHECK_EQUAL(fp_parallel_started(&work->parallel), 1); /* it told that the rest is worth a wake-up */
    CHECK(!fp_load(&work->has_ended, fp_relaxed));
    return work;
}

static void large_ones_are_queued(void)
{
    enum { N = 20 };
    fp_pool *pool = warm_pool(2, 8);
    uint64_t rounds = (uint64_t)test_rounds(50);
    for (uint64_t round = 0; round < rounds; round++) {
        work *work = begin_large(pool, N);
        queue_work(work);
        if (round % 2)
            fp_parallel_help(&work->parallel, FP_FOREVER);
        await_work(work);
        tally_check(&work->tally, 1);
        free_work(work);
    }
    check_ended(pool, 1 + rounds * N, 0, 0);
    end_pool(pool);
}

static void refused_ones_are_finished(void)
{
    enum { N = 20 };
    fp_pool *pool = warm_pool(2, 8);
    work *work = begin_large(pool, N);
    fp_parallel_finish_here(&work->parallel);
    CHECK(fp_load(&work->has_ended, fp_acquire));
    CHECK_EQUAL(work->released.count, 0);
    tally_check(&work->tally, 1);
    free_work(work);
    check_ended(pool, 1 + N, 0, 0);
    end_pool(pool);
}

static void who_waits_takes_part(void)
{
    fp_pool *pool = fixed_pool(2, 8);
    blocker blockers[2] = {BLOCKER_INITIALIZER, BLOCKER_INITIALIZER};
    for (int i = 0; i < 2; i++) {
        submit_one(pool, &blocker_class, &blockers[i]);
        gate_wait(&blockers[i].started, 1);
    }
    work *work = new_work(pool, 100, 0);
    queue_work(work);
    pool->usable_cpus = 64;
    fp_parallel_assist(&work->parallel, FP_FOREVER); /* as many are at work as there may be */
    fp_fetch_sub(&pool->awake, 1, fp_relaxed); /* as if one slept */
    pool->usable_cpus = 0;
    fp_parallel_assist(&work->parallel, FP_FOREVER); /* no CPU to spare */
    CHECK_EQUAL(fp_parallel_started(&work->parallel), 0);
    pool->usable_cpus = 64;
    fp_parallel_assist(&work->parallel, FP_FOREVER);
    fp_fetch_add(&pool->awake, 1, fp_relaxed);
    CHECK(fp_load(&work->has_ended, fp_acquire));
    tally_check(&work->tally, 1);
    CHECK_EQUAL(work->released.count, 0); /* the worker has not come by */
    gate_raise(&blockers[0].go, 1);
    gate_raise(&blockers[1].go, 1);
    await_work(work);
    free_work(work);
    check_ended(pool, 102, 0, 0);
    end_pool(pool);
}

/* --- cancelling --------------------------------------------------------------------------------------------------------- */

static void hold_piece(work *work, int64_t begin, int64_t end)
{
    (void)begin;
    (void)end;
    gate_raise(&work->started, 1);
    gate_wait(&work->go, 1);
}

static void cancelled_while_running(uint32_t workers)
{
    enum { N = 50 };
    fp_pool *pool = fixed_pool(workers, 8);
    work *work = new_work(pool, N, 1);
    work->in_piece = hold_piece;
    queue_work(work);
    gate_wait(&work->started, workers); /* each has one job */
    CHECK_EQUAL(fp_parallel_cancel(&work->parallel), N - workers);
    CHECK_EQUAL(fp_parallel_cancel(&work->parallel), 0);
    CHECK_EQUAL(work->ended.count, 0);
    CHECK(!fp_pool_is_idle(pool));
    gate_raise(&work->go, 1);
    await_work(work);
    CHECK_EQUAL(fp_load(&work->parallel.discarded, fp_relaxed), 1 + FP_DISCARD_CANCELLED);
    CHECK_EQUAL(tally_sum(&work->tally), workers);
    free_work(work);
    check_ended(pool, workers, 0, N - workers);
    end_pool(pool);
}

static void stopped_while_running(uint32_t workers)
{
    enum { N = 50 };
    fp_pool *pool = fixed_pool(workers, 8);
    work *work = new_work(pool, N, 1);
    work->in_piece = hold_piece;
    queue_work(work);
    gate_wait(&work->started, workers);
    fp_store(&work->stop, 1, fp_relaxed);
    gate_raise(&work->go, 1);
    await_work(work);
    CHECK_EQUAL(tally_sum(&work->tally), workers);
    free_work(work);
    check_ended(pool, workers, 0, N - workers);
    end_pool(pool);
}

/* By the queue's discarding, while a worker is inside. */
static void discarded_while_running(void)
{
    enum { N = 50 };
    fp_pool *pool = fixed_pool(1, 8);
    work *work = new_work(pool, N, 1);
    work->in_piece = hold_piece;
    queue_work(work);
    gate_wait(&work->started, 1);
    CHECK(fp_pool_discard_oldest(pool) && !fp_pool_discard_oldest(pool));
    gate_raise(&work->go, 1);
    await_work(work);
    CHECK_EQUAL(tally_sum(&work->tally), 1);
    free_work(work);
    check_ended(pool, 1, 0, N - 1);
    end_pool(pool);
}

struct canceller {
    work *work;
    int64_t after; /* jobs */
    int64_t cancelled;
};

static void cancel_after_some(void *arg, unsigned number)
{
    struct canceller *canceller = arg;
    (void)number;
    while (fp_parallel_started(&canceller->work->parallel) < canceller->after)
        sched_yield();
    canceller->cancelled = fp_parallel_cancel(&canceller->work->parallel);
}

static void cancelled_at_any_moment(uint32_t workers)
{
    enum { N = 300 };
    fp_pool *pool = fixed_pool(workers, 8);
    test_random random = {workers};
    uint64_t cancelled = 0, rounds = (uint64_t)test_rounds(1000);
    for (uint64_t round = 0; round < rounds; round++) {
        work *work = new_work(pool, N, (int64_t)round % 3);
        struct canceller canceller = {.work = work, .after = test_random_below(&random, N)};
        threads threads;
        queue_work(work);
        threads_start(&threads, 1, cancel_after_some, &canceller);
        threads_join(&threads);
        await_work(work);
        CHECK_EQUAL(tally_sum(&work->tally) + (uint64_t)canceller.cancelled, N);
        cancelled += (uint64_t)canceller.cancelled;
        free_work(work);
    }
    check_ended(pool, rounds * N - cancelled, 0, cancelled);
    end_pool(pool);
}

int main(void)
{
    watchdog_start(dump_pool);
    PROPERTY("parallel: every job exactly once, one end (workers 1-16, any grain)", every_job_once(false));
    PROPERTY("parallel: the same where the thread that waits helps", every_job_once(true));
    PROPERTY("parallel: a pool is idle only when the range has ended", idle_is_after_the_end(2, 1);
             idle_is_after_the_end(3, 0); idle_is_after_the_end(3, 1));
    PROPERTY("parallel: the first failure is kept, and the others go on", the_first_failure_is_kept());
    PROPERTY("parallel: one that is refused at its start counts as cancelled and does not end", refused_at_the_start());
    PROPERTY("parallel: a slow job among quick ones makes the next piece small, a quick one larger", pieces_follow_the_pace(0);
             pieces_follow_the_pace(3); pieces_follow_the_pace(7000));
    PROPERTY("parallel: a slow job holds up none of the others", the_rest_is_run_meanwhile());
    PROPERTY("parallel: who joins later takes over the pace", who_joins_takes_over_the_pace());
    PROPERTY("parallel: a grain that is asked for is kept", a_grain_is_kept(1); a_grain_is_kept(64); a_grain_is_kept(20000));
    PROPERTY("parallel: a small range ends where it was begun", small_ones_end_alone());
    PROPERTY("parallel: of a large range the rest is queued", large_ones_are_queued());
    PROPERTY("parallel: a range that is refused when it has begun is finished", refused_ones_are_finished());
    PROPERTY("parallel: who waits takes part where a CPU is to spare", who_waits_takes_part());
    PROPERTY("parallel: cancelled while it runs, the rest never starts", cancelled_while_running(1); cancelled_while_running(3));
    PROPERTY("parallel: stopped while it runs, the rest never starts", stopped_while_running(1); stopped_while_running(3));
    PROPERTY("parallel: discarded while it runs, the rest never starts", discarded_while_running());
    PROPERTY("parallel: cancelled at any moment each job ends once", cancelled_at_any_moment(1); cancelled_at_any_moment(3));
    return 0;
}
