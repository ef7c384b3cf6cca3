/* test_pool.c - an open pool: every job once, bounds, order, discarding, helping, waiting for idle. */
#include "pools.h"

#include <string.h>

/* --- every job exactly once ------------------------------------------------------------------------------------------ */

struct load {
    fp_pool *pool;
    counted_job *jobs;
    int64_t jobs_each;
};

static void produce(void *arg, unsigned number)
{
    struct load *load = arg;
    for (int64_t i = 0; i < load->jobs_each; i++)
        submit_one(load->pool, &counted_class, &load->jobs[(int64_t)number * load->jobs_each + i]);
}

static void check_each_ran_once(counted_job *jobs, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        CHECK_EQUAL(fp_load(&jobs[i].ran, fp_relaxed), 1);
        CHECK_EQUAL(fp_load(&jobs[i].discarded, fp_relaxed), 0);
    }
}

static void exactly_once(uint32_t workers, unsigned producers, uint32_t capacity, bool wait_idle)
{
    struct load load = {.pool = fixed_pool(workers, capacity), .jobs_each = test_rounds(1000)};
    int64_t count = load.jobs_each * producers;
    load.jobs = calloc((size_t)count, sizeof *load.jobs);
    CHECK(load.jobs != NULL);
    threads threads;
    threads_start(&threads, producers, produce, &load);
    threads_join(&threads);
    if (wait_idle) {
        wait_until_idle(load.pool);
        check_each_ran_once(load.jobs, count);
        fp_metrics metrics;
        fp_pool_read_metrics(load.pool, &metrics);
        CHECK_EQUAL(metrics.submitted, count);
        CHECK_EQUAL(metrics.ended[FP_DONE], count);
        CHECK_EQUAL(ended_sum(&metrics), count);
        CHECK_EQUAL(metrics.queue_depth, 0);
    }
    end_pool(load.pool);
    check_each_ran_once(load.jobs, count);
    free(load.jobs);
}

static void exactly_once_everywhere(void)
{
    static const uint32_t workers[] = {1, 2, 16}, capacities[] = {1, 2, 3, 8192, 0};
    static const unsigned producers[] = {1, 2, 4};
    for (int w = 0; w < 3; w++)
        for (int p = 0; p < 3; p++)
            for (int c = 0; c < 5; c++)
                exactly_once(workers[w], producers[p], capacities[c], (w + p + c) % 2 == 0);
}

/* --- bounds ---------------------------------------------------------------------------------------------------------- */

static void full_at_exactly(uint32_t capacity)
{
    fp_pool *pool = fixed_pool(1, capacity);
    blocker blocker = BLOCKER_INITIALIZER;
    counted_job *jobs = calloc(capacity + 1, sizeof *jobs);
    CHECK(jobs != NULL);
    submit_one(pool, &blocker_class, &blocker);
    gate_wait(&blocker.started, 1); /* the only worker holds no place in the queue now */
    for (uint32_t i = 0; i < capacity; i++)
        CHECK(fp_pool_submit(pool, &counted_class, &jobs[i], false, 1, FP_LANE_NORMAL) == FP_SUBMIT_OK);
    CHECK(fp_pool_submit(pool, &counted_class, &jobs[capacity], false, 1, FP_LANE_NORMAL) == FP_SUBMIT_FULL);
    fp_metrics metrics;
    fp_pool_read_metrics(pool, &metrics);
    CHECK_EQUAL(metrics.queue_depth, capacity);
    gate_raise(&blocker.go, 1);
    wait_until_idle(pool);
    check_each_ran_once(jobs, capacity);
    CHECK_EQUAL(fp_load(&jobs[capacity].ran, fp_relaxed), 0);
    end_pool(pool);
    free(jobs);
}

static void full_is_exact(void)
{
    static const uint32_t capacities[] = {1, 2, 3, 1000, 1024, 5000, 8192};
    for (int i = 0; i < 7; i++)
        full_at_exactly(capacities[i]);
}

/* More submitters than places, all waiting for room: each gets in. */
static void every_waiter_gets_room(void)
{
    for (uint32_t capacity = 1; capacity <= 3; capacity++)
        for (uint32_t workers = 1; workers <= 3; workers++)
            exactly_once(workers, 12, capacity, true);
}

/* --- order ----------------------------------------------------------------------------------------------------------- */

enum { ORDER_PRODUCERS = 4 };

struct ordered {
    fp_pool *pool;
    int64_t jobs_each;
    int64_t next[ORDER_PRODUCERS]; /* written by the one worker only */
    struct ordered_job {
        struct ordered *all;
        unsigned producer;
        int64_t sequence;
    } *jobs;
};

static fp_outcome run_ordered(void *ctx, fp_worker *worker)
{
    struct ordered_job *job = ctx;
    (void)worker;
    CHECK_EQUAL(job->all->next[job->producer], job->sequence);
    job->all->next[job->producer]++;
    watchdog_pat();
    return FP_DONE;
}

static int64_t discard_ordered(void *ctx, fp_discard_reason reason)
{
    (void)reason;
    run_ordered(ctx, NULL);
    return 1;
}

static const fp_job_class ordered_class = {.run = run_ordered, .discard = discard_ordered};

static void produce_ordered(void *arg, unsigned number)
{
    struct ordered *all = arg;
    for (int64_t i = 0; i < all->jobs_each; i++) {
        struct ordered_job *job = &all->jobs[(int64_t)number * all->jobs_each + i];
        *job = (struct ordered_job){all, number, i};
        submit_one(all->pool, &ordered_class, job);
    }
}

static void starts_in_order_of_submits(uint32_t capacity)
{
    struct ordered all = {.pool = fixed_pool(1, capacity), .jobs_each = test_rounds(40000)};
    all.jobs = calloc((size_t)all.jobs_each * ORDER_PRODUCERS, sizeof *all.jobs);
    CHECK(all.jobs != NULL);
    threads threads;
    threads_start(&threads, ORDER_PRODUCERS, produce_ordered, &all);
    threads_join(&threads);
    end_pool(all.pool);
    for (int p = 0; p < ORDER_PRODUCERS; p++)
        CHECK_EQUAL(all.next[p], all.jobs_each);
    free(all.jobs);
}

/* --- discarding and helping ------------------------------------------------------------------------------------------ */

static void oldest_goes_first(bool run)
{
    enum { JOBS = 100 };
    fp_pool *pool = fixed_pool(1, JOBS);
    blocker blocker = BLOCKER_INITIALIZER;
    counted_job jobs[JOBS];
    memset(jobs, 0, sizeof jobs);
    submit_one(pool, &blocker_class, &blocker);
    gate_wait(&blocker.started, 1);
    for (int i = 0; i < JOBS; i++)
        submit_one(pool, &counted_class, &jobs[i]);
    for (int i = 0; i < JOBS / 2; i++) {
        CHECK(run ? fp_pool_run_oldest(pool) : fp_pool_discard_oldest(pool));
        CHECK_EQUAL(fp_load(&jobs[i].ran, fp_relaxed), run);
        CHECK_EQUAL(fp_load(&jobs[i].discarded, fp_relaxed), !run);
        CHECK_EQUAL(fp_load(&jobs[i + 1].ran, fp_relaxed) + fp_load(&jobs[i + 1].discarded, fp_relaxed), 0);
    }
    gate_raise(&blocker.go, 1);
    wait_until_idle(pool);
    for (int i = JOBS / 2; i < JOBS; i++)
        CHECK_EQUAL(fp_load(&jobs[i].ran, fp_relaxed), 1);
    CHECK(!(run ? fp_pool_run_oldest(pool) : fp_pool_discard_oldest(pool)));
    fp_metrics metrics;
    fp_pool_read_metrics(pool, &metrics);
    CHECK_EQUAL(metrics.submitted, JOBS + 1);
    CHECK_EQUAL(metrics.ended[FP_CANCELLED], run ? 0 : JOBS / 2);
    CHECK_EQUAL(ended_sum(&metrics), JOBS + 1);
    end_pool(pool);
}

/* Producers that make room themselves, beside the workers: each job ends once, one way or the other. */
static void produce_discarding(void *arg, unsigned number)
{
    struct load *load = arg;
    for (int64_t i = 0; i < load->jobs_each; i++) {
        counted_job *job = &load->jobs[(int64_t)number * load->jobs_each + i];
        while (fp_pool_submit(load->pool, &counted_class, job, false, 1, FP_LANE_NORMAL) == FP_SUBMIT_FULL)
            if (number % 2)
                fp_pool_discard_oldest(load->pool);
            else
                fp_pool_run_oldest(load->pool);
    }
}

static void ends_once_beside_discarders(uint32_t capacity)
{
    enum { PRODUCERS = 4 };
    struct load load = {.pool = fixed_pool(2, capacity), .jobs_each = test_rounds(20000)};
    int64_t count = load.jobs_each * PRODUCERS, discarded = 0;
    load.jobs = calloc((size_t)count, sizeof *load.jobs);
    CHECK(load.jobs != NULL);
    threads threads;
    threads_start(&threads, PRODUCERS, produce_discarding, &load);
    threads_join(&threads);
    wait_until_idle(load.pool);
    for (int64_t i = 0; i < count; i++) {
        CHECK_EQUAL(fp_load(&load.jobs[i].ran, fp_relaxed) + fp_load(&load.jobs[i].discarded, fp_relaxed), 1);
        discarded += fp_load(&load.jobs[i].discarded, fp_relaxed);
    }
    fp_metrics metrics;
    fp_pool_read_metrics(load.pool, &metrics);
    CHECK_EQUAL(metrics.ended[FP_CANCELLED], discarded);
    CHECK_EQUAL(ended_sum(&metrics), count);
    end_pool(load.pool);
    free(load.jobs);
}

/* One that waits for room is woken when a helper takes a job, not only when that job has ended. */
static void wait_for_room_and_submit(void *arg, unsigned number)
{
    struct load *load = arg;
    (void)number;
    submit_one(load->pool, &counted_class, load->jobs);
}

static void run_one(void *arg, unsigned number)
{
    struct load *load = arg;
    (void)number;
    CHECK(fp_pool_run_oldest(load->pool));
}

static void helper_gives_room_at_once(void)
{
    for (int round = 0; round < 20; round++) {
        counted_job job = {0};
        struct load load = {.pool = fixed_pool(1, 1), .jobs = &job};
        blocker first = BLOCKER_INITIALIZER, second = BLOCKER_INITIALIZER;
        threads submitter, helper;
        submit_one(load.pool, &blocker_class, &first);
        gate_wait(&first.started, 1);
        submit_one(load.pool, &blocker_class, &second);
        threads_start(&submitter, 1, wait_for_room_and_submit, &load);
        threads_start(&helper, 1, run_one, &load);
        gate_wait(&second.started, 1);
        threads_join(&submitter); /* while both blockers still run */
        gate_raise(&first.go, 1);
        gate_raise(&second.go, 1);
        threads_join(&helper);
        end_pool(load.pool);
        CHECK_EQUAL(fp_load(&job.ran, fp_relaxed), 1);
    }
}

/* --- idle ------------------------------------------------------------------------------------------------------------ */

/* Several threads submit and wait for idle, over and over: no wake-up is lost, and idle is never claimed of a pool in
 * which a job of the waiter's own has not ended. */
static void submit_and_wait_idle(void *arg, unsigned number)
{
    struct load *load = arg;
    for (int64_t i = 0; i < load->jobs_each; i++) {
        counted_job *job = &load->jobs[(int64_t)number * load->jobs_each + i];
        submit_one(load->pool, &counted_class, job);
        wait_until_idle(load->pool);
        CHECK_EQUAL(fp_load(&job->ran, fp_relaxed), 1);
    }
}

static void idle_is_noticed(uint32_t workers, unsigned waiters, uint32_t capacity)
{
    struct load load = {.pool = fixed_pool(workers, capacity), .jobs_each = test_rounds(5000)};
    load.jobs = calloc((size_t)load.jobs_each * waiters, sizeof *load.jobs);
    CHECK(load.jobs != NULL);
    CHECK(fp_pool_is_idle(load.pool));
    threads threads;
    threads_start(&threads, waiters, submit_and_wait_idle, &load);
    threads_join(&threads);
    end_pool(load.pool);
    free(load.jobs);
}

static void not_idle_while_a_job_runs(void)
{
    fp_pool *pool = fixed_pool(2, 10);
    blocker blocker = BLOCKER_INITIALIZER;
    submit_one(pool, &blocker_class, &blocker);
    CHECK(!fp_pool_is_idle(pool));
    gate_wait(&blocker.started, 1);
    CHECK(!fp_pool_is_idle(pool));
    CHECK(fp_pool_wait_idle(pool, fp_os_now_ns() + 1000000) != FP_WAIT_INTERRUPTED && !fp_pool_is_idle(pool));
    gate_raise(&blocker.go, 1);
    wait_until_idle(pool);
    end_pool(pool);
}

/* --- as many jobs at a time as there are workers ------------------------------------------------------------------------- */

/* Each job waits for all the others to have started: were one left in the queue beside a worker that sleeps, or that has
 * yet to be started, nothing would go on. */
enum { TOGETHER = 3 };

struct together {
    fp_pool *pool;
    blocker blockers[TOGETHER];
};

static void submit_blocker(void *arg, unsigned number)
{
    struct together *together = arg;
    submit_one(together->pool, &blocker_class, &together->blockers[number]);
}

static void run_together(fp_pool *pool, bool from_one_thread)
{
    static struct together together;
    threads submitters;
    together.pool = pool;
    for (int i = 0; i < TOGETHER; i++)
        together.blockers[i] = (blocker)BLOCKER_INITIALIZER;
    if (!from_one_thread)
        threads_start(&submitters, TOGETHER, submit_blocker, &together);
    for (unsigned i = 0; i < TOGETHER && from_one_thread; i++)
        submit_blocker(&together, i);
    for (int i = 0; i < TOGETHER; i++)
        gate_wait(&together.blockers[i].started, 1);
    for (int i = 0; i < TOGETHER; i++)
        gate_raise(&together.blockers[i].go, 1);
    if (!from_one_thread)
        threads_join(&submitters);
    wait_until_idle(pool); /* the blockers are used again */
    watchdog_pat();
}

static int start_well(void *arg, fp_worker *worker)
{
    (void)arg;
    (void)worker;
    sched_yield(); /* give submitters time to rely on this worker */
    return 0;
}

static void idle_for_a_moment(void *arg, fp_worker *worker)
{
    (void)arg;
    (void)worker;
    sched_yield();
}

static void all_workers_are_used(int64_t spin_ns, bool hooks, bool anew)
{
    fp_host host = {.worker_start = hooks ? start_well : NULL, .idle = hooks ? idle_for_a_moment : NULL};
    fp_pool *pool = NULL;
    for (int64_t round = test_rounds(anew ? 300 : 1000); round > 0; round--) {
        if (pool == NULL) {
            fp_pool_options options = {
                .max_workers = TOGETHER, .min_workers = TOGETHER, .queue_capacity = 8, .spin_ns = spin_ns};
            pool = fp_pool_create(&options, &host);
            CHECK(pool != NULL);
            pool->usable_cpus = 2 * TOGETHER; /* or nobody would spin here */
            atomic_store(&watched_pool, pool);
        }
        run_together(pool, round % 2);
        if (anew || round == 1) {
            end_pool(pool);
            pool = NULL;
        }
    }
}

static void all_workers_are_always_used(bool hooks)
{
    for (int64_t spin_ns = 0; spin_ns <= 20000; spin_ns += 10000) {
        all_workers_are_used(spin_ns, hooks, true);
        all_workers_are_used(spin_ns, hooks, false);
    }
}

/* --- spinning -------------------------------------------------------------------------------------------------------- */

static void exactly_once_with_spinning(void)
{
    fp_pool_options options = {
        .max_workers = 3, .min_workers = 3, .queue_capacity = 64, .spin_ns = 20000};
    struct load load = {.pool = fp_pool_create(&options, NULL), .jobs_each = test_rounds(50000)};
    CHECK(load.pool != NULL);
    load.pool->usable_cpus = 8; /* as on a machine that has CPUs to spare, or nobody would spin here */
    atomic_store(&watched_pool, load.pool);
    load.jobs = calloc((size_t)load.jobs_each * 2, sizeof *load.jobs);
    CHECK(load.jobs != NULL);
    threads threads;
    threads_start(&threads, 2, produce, &load);
    threads_join(&threads);
    end_pool(load.pool);
    check_each_ran_once(load.jobs, load.jobs_each * 2);
    free(load.jobs);
}

int main(void)
{
    watchdog_start(dump_pool);
    PROPERTY("pool: every job runs exactly once (workers 1-16, producers 1-4, capacity 1-8192 and unbounded)",
             exactly_once_everywhere());
    PROPERTY("pool: full at exactly its capacity", full_is_exact());
    PROPERTY("pool: every submitter that waits for room gets it", every_waiter_gets_room());
    PROPERTY("pool: jobs of a producer start in the order of their submits, bounded", starts_in_order_of_submits(16));
    PROPERTY("pool: jobs of a producer start in the order of their submits, unbounded", starts_in_order_of_submits(0));
    PROPERTY("pool: discard_oldest ends the oldest", oldest_goes_first(false));
    PROPERTY("pool: run_oldest runs the oldest", oldest_goes_first(true));
    PROPERTY("pool: each job ends once beside discarders and helpers",
             for (uint32_t c = 1; c <= 3; c++) ends_once_beside_discarders(c));
    PROPERTY("pool: a helper makes room when it takes a job", helper_gives_room_at_once());
    PROPERTY("pool: idle is noticed by every waiter",
             for (uint32_t w = 1; w <= 3; w++) idle_is_noticed(w, 1 + w % 3, w == 2 ? 0 : 8));
    PROPERTY("pool: not idle while a job runs", not_idle_while_a_job_runs());
    PROPERTY("pool: as many jobs run at a time as there are workers", all_workers_are_always_used(false));
    PROPERTY("pool: the same where workers take their time to start and to rest", all_workers_are_always_used(true));
    PROPERTY("pool: every job runs exactly once with a spinning worker", exactly_once_with_spinning());
    return 0;
}
