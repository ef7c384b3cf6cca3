/* test_pause.c - pausing: what has started goes on, what is queued waits, and nothing is lost when the pause ends. */
#include "groups.h"

/* All that were awake have looked, and found no work that they may start. */
static void wait_until_parked(fp_pool *pool)
{
    while (fp_load(&pool->awake, fp_seq_cst) != 0) /* the watchdog ends this if they never are */
        sched_yield();
}

static uint64_t count_ran(counted_job *jobs, int64_t count)
{
    uint64_t ran = 0;
    for (int64_t i = 0; i < count; i++)
        ran += fp_load(&jobs[i].ran, fp_relaxed);
    return ran;
}

static void queued_jobs_wait(uint32_t workers, uint32_t capacity, bool fresh)
{
    enum { JOBS = 20 };
    fp_pool *pool = fixed_pool(workers, capacity);
    counted_job jobs[JOBS] = {0}, first = {0};
    if (!fresh) {
        submit_one(pool, &counted_class, &first);
        wait_until_idle(pool);
    }
    fp_pool_pause(pool);
    fp_pool_pause(pool);
    for (int i = 0; i < JOBS; i++)
        CHECK(fp_pool_submit(pool, &counted_class, &jobs[i], false, 1, (fp_lane)(i % FP_LANES)) == FP_SUBMIT_OK);
    wait_until_parked(pool);
    CHECK_EQUAL(count_ran(jobs, JOBS), 0);
    CHECK(!fp_pool_is_idle(pool));
    fp_pool_resume(pool);
    fp_pool_resume(pool);
    wait_until_idle(pool);
    CHECK_EQUAL(count_ran(jobs, JOBS), JOBS);
    end_pool(pool);
}

static void accepts_to_its_bound(void)
{
    enum { CAPACITY = 5 };
    fp_pool *pool = fixed_pool(2, CAPACITY);
    counted_job jobs[CAPACITY + 1] = {0};
    fp_pool_pause(pool);
    for (int i = 0; i < CAPACITY; i++)
        CHECK(fp_pool_submit(pool, &counted_class, &jobs[i], false, 1, FP_LANE_NORMAL) == FP_SUBMIT_OK);
    CHECK(fp_pool_submit(pool, &counted_class, &jobs[CAPACITY], false, 1, FP_LANE_NORMAL) == FP_SUBMIT_FULL);
    for (int i = 0; i < CAPACITY - 1; i++) {
        CHECK(fp_pool_discard_oldest(pool));
        CHECK_EQUAL(fp_load(&jobs[i].discarded, fp_relaxed), 1);
    }
    CHECK(fp_pool_submit(pool, &counted_class, &jobs[CAPACITY], false, 1, FP_LANE_NORMAL) == FP_SUBMIT_OK);
    wait_until_parked(pool);
    CHECK_EQUAL(count_ran(jobs, CAPACITY + 1), 0);
    fp_pool_resume(pool);
    wait_until_idle(pool);
    CHECK_EQUAL(count_ran(jobs, CAPACITY + 1), 2);
    end_pool(pool);
}

static void started_jobs_go_on(void)
{
    fp_pool *pool = fixed_pool(2, 10);
    blocker blocker = BLOCKER_INITIALIZER;
    counted_job queued = {0};
    submit_one(pool, &blocker_class, &blocker);
    gate_wait(&blocker.started, 1);
    fp_pool_pause(pool);
    submit_one(pool, &counted_class, &queued);
    gate_raise(&blocker.go, 1);
    wait_until_parked(pool);
    fp_metrics metrics;
    fp_pool_read_metrics(pool, &metrics);
    CHECK_EQUAL(metrics.ended[FP_DONE], 1);
    CHECK_EQUAL(fp_load(&queued.ran, fp_relaxed), 0);
    fp_pool_resume(pool);
    wait_until_idle(pool);
    CHECK_EQUAL(fp_load(&queued.ran, fp_relaxed), 1);
    end_pool(pool);
}

/* --- ranges and bursts --------------------------------------------------------------------------------------------------- */

/* A job that pauses the pool it runs in: from then on nothing else is to start. */
struct pausing {
    fp_pool *pool;
    fp_atomic(uint32_t) runs;
    uint32_t pause_at;
};

static int run_pausing_job(void *arg)
{
    struct pausing *pausing = arg;
    if (fp_fetch_add(&pausing->runs, 1, fp_seq_cst) == pausing->pause_at)
        fp_pool_pause(pausing->pool);
    watchdog_pat();
    return 0;
}

static int run_pausing_range(int64_t begin, int64_t end, void *arg)
{
    for (int64_t i = begin; i < end; i++)
        run_pausing_job(arg);
    return 0;
}

enum { PAUSED_JOBS = 100 };

static void check_paused(struct pausing *pausing, fp_group *group, uint32_t more)
{
    wait_until_parked(pausing->pool);
    uint32_t runs = fp_load(&pausing->runs, fp_seq_cst);
    CHECK(runs > pausing->pause_at && runs <= pausing->pause_at + more);
    CHECK(!fp_group_wait(group, fp_os_now_ns() + 1000000)); /* this thread does not run them instead */
    CHECK_EQUAL(fp_load(&pausing->runs, fp_seq_cst), runs);
    fp_pool_resume(pausing->pool);
    CHECK(fp_group_wait(group, FP_FOREVER));
    CHECK_EQUAL(fp_load(&pausing->runs, fp_seq_cst), PAUSED_JOBS);
}

static void range_stops_between_pieces(uint32_t workers)
{
    for (int64_t round = test_rounds(100); round > 0; round--) {
        struct pausing pausing = {.pool = fixed_pool(workers, 4), .pause_at = 30};
        fp_group *group = fp_group_create(pausing.pool);
        CHECK(fp_group_submit_range(group, run_pausing_range, PAUSED_JOBS, &pausing, 1, FP_QUEUED) == FP_SUBMIT_OK);
        while (!fp_pool_is_paused(pausing.pool)) /* by a worker */
            sched_yield();
        check_paused(&pausing, group, 2 * workers); /* one each may have claimed, before it saw the pause */
        fp_group_release(group);
        end_pool(pausing.pool);
    }
}

static void burst_stops(void)
{
    for (int64_t round = test_rounds(100); round > 0; round--) {
        struct pausing pausing = {.pool = fixed_pool(1, 4), .pause_at = 0};
        blocker blocker = BLOCKER_INITIALIZER;
        submit_one(pausing.pool, &blocker_class, &blocker);
        fp_group *group = fp_group_create(pausing.pool);
        for (int i = 0; i < PAUSED_JOBS; i++)
            CHECK(fp_group_submit(group, run_pausing_job, &pausing) == FP_SUBMIT_OK);
        gate_raise(&blocker.go, 1);
        while (!fp_pool_is_paused(pausing.pool))
            sched_yield();
        check_paused(&pausing, group, 1); /* the first job is taken alone */
        fp_group_release(group);
        end_pool(pausing.pool);
    }
}

/* --- who waits inside -------------------------------------------------------------------------------------------------- */

struct nesting {
    fp_pool *pool;
    tally tally;
    gate started, go;
};

static fp_outcome run_nesting(void *ctx, fp_worker *worker)
{
    struct nesting *nesting = ctx;
    (void)worker;
    gate_raise(&nesting->started, 1);
    gate_wait(&nesting->go, 1);
    fp_group *group = fp_group_create(nesting->pool);
    CHECK(fp_group_submit_range(group, tally_range, nesting->tally.n, &nesting->tally, 0, FP_QUEUED) == FP_SUBMIT_OK);
    CHECK(fp_group_wait(group, FP_FOREVER));
    fp_group_release(group);
    return FP_DONE;
}

static const fp_job_class nesting_class = {.run = run_nesting, .discard = discard_blocker};

static void job_that_waits_helps(void)
{
    struct nesting nesting = {.pool = fixed_pool(1, 4), .tally = tally_of(100), .started = GATE_INITIALIZER,
                              .go = GATE_INITIALIZER};
    submit_one(nesting.pool, &nesting_class, &nesting);
    gate_wait(&nesting.started, 1);
    fp_pool_pause(nesting.pool);
    CHECK(!fp_parallel_may_start_here(nesting.pool) && !fp_parallel_begins_here(nesting.pool, 1, 0, 1));
    gate_raise(&nesting.go, 1);
    wait_until_parked(nesting.pool);
    tally_check(&nesting.tally, 1);
    fp_pool_resume(nesting.pool);
    wait_until_idle(nesting.pool);
    end_pool(nesting.pool);
    tally_free(&nesting.tally);
}

/* --- the end ------------------------------------------------------------------------------------------------------------- */

/* Each job waits for the others: the workers that the pause has kept from being started are started by the close. */
static void close_ends_it(bool resumes_instead)
{
    enum { WORKERS = 3 };
    for (int64_t round = test_rounds(300); round > 0; round--) {
        fp_pool *pool = pool_with_host(1, WORKERS, 8, 1, NULL);
        blocker blockers[WORKERS];
        counted_job late = {0};
        fp_pool_pause(pool);
        for (int i = 0; i < WORKERS; i++) {
            blockers[i] = (blocker)BLOCKER_INITIALIZER;
            submit_one(pool, &blocker_class, &blockers[i]);
        }
        if (round % 2)
            wait_until_parked(pool);
        if (resumes_instead)
            fp_pool_resume(pool);
        else
            fp_pool_close(pool);
        for (int i = 0; i < WORKERS; i++)
            gate_wait(&blockers[i].started, 1);
        if (!resumes_instead)
            CHECK(fp_pool_submit(pool, &counted_class, &late, false, 1, FP_LANE_NORMAL) == FP_SUBMIT_CLOSED);
        fp_pool_pause(pool); /* a closed one does not mind */
        for (int i = 0; i < WORKERS; i++)
            gate_raise(&blockers[i].go, 1);
        end_pool(pool);
        watchdog_pat();
    }
}

/* --- beside everything else -------------------------------------------------------------------------------------------- */

struct load {
    fp_pool *pool;
    counted_job *jobs;
    int64_t jobs_each;
    fp_atomic(bool) over;
};

static void produce(void *arg, unsigned number)
{
    struct load *load = arg;
    for (int64_t i = 0; i < load->jobs_each; i++)
        submit_one(load->pool, &counted_class, &load->jobs[(int64_t)number * load->jobs_each + i]);
}

static void pause_and_resume(void *arg, unsigned number)
{
    struct load *load = arg;
    test_random random = {number + 1};
    while (!fp_load(&load->over, fp_relaxed)) {
        if (test_random_below(&random, 2))
            fp_pool_pause(load->pool);
        else
            fp_pool_resume(load->pool);
        if (test_random_below(&random, 4) == 0)
            sched_yield();
    }
    fp_pool_resume(load->pool);
}

static void each_runs_once(uint32_t min_workers, uint32_t max_workers, uint32_t capacity, int64_t idle_ns)
{
    enum { PRODUCERS = 3, PAUSERS = 2 };
    fp_pool *pool = pool_with_host(min_workers, max_workers, capacity, idle_ns, NULL);
    struct load load = {.pool = pool, .jobs_each = test_rounds(10000)};
    int64_t count = load.jobs_each * PRODUCERS;
    threads producers, pausers;
    load.jobs = calloc((size_t)count, sizeof *load.jobs);
    CHECK(load.jobs != NULL);
    threads_start(&pausers, PAUSERS, pause_and_resume, &load);
    threads_start(&producers, PRODUCERS, produce, &load);
    threads_join(&producers);
    fp_store(&load.over, true, fp_relaxed);
    threads_join(&pausers);
    wait_until_idle(load.pool);
    CHECK_EQUAL(count_ran(load.jobs, count), count);
    end_pool(load.pool);
    free(load.jobs);
}

int main(void)
{
    watchdog_start(dump_pool);
    PROPERTY("pause: queued jobs wait, and run when it ends", for (uint32_t w = 1; w <= 3; w++) {
        queued_jobs_wait(w, 100, false);
        queued_jobs_wait(w, 0, true);
    });
    PROPERTY("pause: jobs are accepted to the bound, and discarded", accepts_to_its_bound());
    PROPERTY("pause: started jobs go on", started_jobs_go_on());
    PROPERTY("pause: a range stops between two pieces, and nobody assists", range_stops_between_pieces(1);
             range_stops_between_pieces(3));
    PROPERTY("pause: a burst stops between two jobs", burst_stops());
    PROPERTY("pause: a job that waits for its own pool still runs what it waits for", job_that_waits_helps());
    PROPERTY("pause: its end brings as many workers as there are jobs", close_ends_it(true));
    PROPERTY("pause: closing ends it, and brings as many workers as there are jobs", close_ends_it(false));
    PROPERTY("pause: each job runs once beside threads that pause and resume", each_runs_once(1, 1, 8, 0);
             each_runs_once(3, 3, 8, 0); each_runs_once(1, 3, 64, 1); each_runs_once(2, 2, 0, 0));
    return 0;
}
