/* test_close.c - closing, ending and releasing: what was accepted is run exactly once, whatever else goes on. */
#include "pools.h"

/* --- S4: closing while producers submit -------------------------------------------------------------------------------- */

enum { RACE_PRODUCERS = 3, RACE_JOBS = 24 };

struct race {
    fp_pool *pool;
    uint32_t min_workers, max_workers, capacity;
    int64_t idle_ns;
    int64_t rounds;
    pthread_barrier_t ready, done;
    fp_atomic(uint32_t) submits; /* in this round */
    counted_job jobs[RACE_PRODUCERS][RACE_JOBS];
    bool accepted[RACE_PRODUCERS][RACE_JOBS];
    uint64_t accepted_in_all, refused_in_all;
};

static void reset_race(struct race *race)
{
    fp_store(&race->submits, 0, fp_relaxed);
    for (int p = 0; p < RACE_PRODUCERS; p++)
        for (int i = 0; i < RACE_JOBS; i++) {
            fp_store(&race->jobs[p][i].ran, 0, fp_relaxed);
            fp_store(&race->jobs[p][i].discarded, 0, fp_relaxed);
            race->accepted[p][i] = false;
        }
}

static void produce_until_closed(void *arg, unsigned number)
{
    struct race *race = arg;
    for (int64_t round = 0; round < race->rounds; round++) {
        pthread_barrier_wait(&race->ready);
        for (int i = 0; i < RACE_JOBS; i++) {
            fp_submit_result result = submit_waiting(race->pool, &counted_class, &race->jobs[number][i], false, 1);
            fp_fetch_add(&race->submits, 1, fp_relaxed);
            race->accepted[number][i] = result == FP_SUBMIT_OK;
            if (result != FP_SUBMIT_OK)
                CHECK_EQUAL(result, FP_SUBMIT_CLOSED);
        }
        pthread_barrier_wait(&race->done);
    }
}

static void check_race(struct race *race)
{
    for (int p = 0; p < RACE_PRODUCERS; p++)
        for (int i = 0; i < RACE_JOBS; i++) {
            CHECK_EQUAL(fp_load(&race->jobs[p][i].ran, fp_relaxed), race->accepted[p][i]);
            CHECK_EQUAL(fp_load(&race->jobs[p][i].discarded, fp_relaxed), 0);
            *(race->accepted[p][i] ? &race->accepted_in_all : &race->refused_in_all) += 1;
        }
}

/* Lets some of the producers' submits happen first, in some rounds none and in others nearly all. */
static void let_some_submits_pass(struct race *race, test_random *random)
{
    uint32_t enough = test_random_below(random, RACE_PRODUCERS * RACE_JOBS);
    while (fp_load(&race->submits, fp_relaxed) < enough)
        sched_yield();
}

static void close_while_submitting(struct race race)
{
    test_random random = {1};
    threads producers;
    pthread_barrier_init(&race.ready, NULL, RACE_PRODUCERS + 1);
    pthread_barrier_init(&race.done, NULL, RACE_PRODUCERS + 1);
    threads_start(&producers, RACE_PRODUCERS, produce_until_closed, &race);
    for (int64_t round = 0; round < race.rounds; round++) {
        race.pool = pool_with_host(race.min_workers, race.max_workers, race.capacity, race.idle_ns, NULL);
        reset_race(&race);
        pthread_barrier_wait(&race.ready);
        let_some_submits_pass(&race, &random);
        fp_pool_close(race.pool);
        wait_until_ended(race.pool);
        pthread_barrier_wait(&race.done);
        CHECK(fp_pool_is_idle(race.pool));
        check_race(&race);
        release_pool(race.pool);
    }
    threads_join(&producers);
    /* The race was run: in some rounds the close came between submits. */
    CHECK(race.accepted_in_all > 0 && race.refused_in_all > 0);
    pthread_barrier_destroy(&race.ready);
    pthread_barrier_destroy(&race.done);
}

static void accepted_jobs_run_once(void)
{
    int64_t rounds = test_rounds(1500);
    close_while_submitting((struct race){.min_workers = 1, .max_workers = 1, .capacity = 8, .rounds = rounds});
    close_while_submitting((struct race){.min_workers = 2, .max_workers = 2, .capacity = 1, .rounds = rounds});
    close_while_submitting((struct race){.min_workers = 3, .max_workers = 3, .capacity = 64, .rounds = rounds});
    close_while_submitting((struct race){.min_workers = 2, .max_workers = 2, .capacity = 0, .rounds = rounds / 4 + 1});
    close_while_submitting((struct race){.min_workers = 1, .max_workers = 4, .capacity = 4, .idle_ns = 1, .rounds = rounds});
}

/* --- workers that come and go ------------------------------------------------------------------------------------------ */

struct churn {
    fp_pool *pool;
    int64_t jobs_each;
    counted_job *jobs;
};

/* Bursts, each awaited: between them workers run dry and leave. */
static void produce_bursts(void *arg, unsigned number)
{
    enum { BURST = 5 };
    struct churn *churn = arg;
    for (int64_t i = 0; i < churn->jobs_each; i++) {
        submit_one(churn->pool, &counted_class, &churn->jobs[(int64_t)number * churn->jobs_each + i]);
        if (i % BURST == BURST - 1)
            wait_until_idle(churn->pool);
    }
}

static void workers_come_and_go(int64_t idle_ns)
{
    enum { PRODUCERS = 2 };
    struct churn churn = {.pool = pool_with_host(1, 4, 16, idle_ns, NULL), .jobs_each = test_rounds(20000)};
    int64_t count = churn.jobs_each * PRODUCERS;
    churn.jobs = calloc((size_t)count, sizeof *churn.jobs);
    CHECK(churn.jobs != NULL);
    threads producers;
    threads_start(&producers, PRODUCERS, produce_bursts, &churn);
    threads_join(&producers);
    end_pool(churn.pool);
    for (int64_t i = 0; i < count; i++)
        CHECK_EQUAL(fp_load(&churn.jobs[i].ran, fp_relaxed), 1);
    free(churn.jobs);
}

/* Closing at a moment when surplus workers may be on their way out. */
static void close_while_workers_leave(void)
{
    for (int64_t round = test_rounds(3000); round > 0; round--) {
        fp_pool *pool = pool_with_host(1, 4, 16, 1, NULL);
        counted_job jobs[6] = {0};
        for (int i = 0; i < 6; i++)
            submit_one(pool, &counted_class, &jobs[i]);
        if (round % 2)
            wait_until_idle(pool);
        end_pool(pool);
        for (int i = 0; i < 6; i++)
            CHECK_EQUAL(fp_load(&jobs[i].ran, fp_relaxed), 1);
    }
}

static void down_to_the_fewest(void)
{
    enum { MOST = 4 };
    fp_pool *pool = pool_with_host(1, MOST, 16, 1, NULL);
    blocker blockers[MOST];
    for (int i = 0; i < MOST; i++) {
        blockers[i] = (blocker)BLOCKER_INITIALIZER;
        submit_one(pool, &blocker_class, &blockers[i]);
    }
    for (int i = 0; i < MOST; i++) /* all run at once: the pool has come up to its most */
        gate_wait(&blockers[i].started, 1);
    CHECK_EQUAL(fp_load(&pool->live, fp_seq_cst), MOST);
    for (int i = 0; i < MOST; i++)
        gate_raise(&blockers[i].go, 1);
    while (fp_load(&pool->live, fp_seq_cst) > 1) { /* the watchdog ends this if they never go */
        fp_wait_result why;
        uint32_t key = fp_eventcount_prepare(&pool->ended);
        if (fp_load(&pool->live, fp_seq_cst) > 1)
            why = fp_eventcount_wait(&pool->ended, key, fp_os_now_ns() + 1000000);
        (void)why;
    }
    counted_job job = {0};
    submit_one(pool, &counted_class, &job);
    wait_until_idle(pool);
    CHECK_EQUAL(fp_load(&job.ran, fp_relaxed), 1);
    CHECK(fp_load(&pool->live, fp_seq_cst) >= 1);
    end_pool(pool);
}

/* --- ending ---------------------------------------------------------------------------------------------------------- */

static void close_without_workers(void)
{
    fp_pool *pool = fixed_pool(2, 4);
    counted_job job = {0};
    fp_pool_close(pool);
    fp_pool_close(pool);
    CHECK(fp_pool_submit(pool, &counted_class, &job, false, 1, FP_LANE_NORMAL) == FP_SUBMIT_CLOSED);
    wait_until_ended(pool);
    release_pool(pool);
}

static void ended_times_out(void)
{
    fp_pool *pool = fixed_pool(1, 4);
    blocker blocker = BLOCKER_INITIALIZER;
    fp_wait_result why;
    submit_one(pool, &blocker_class, &blocker);
    gate_wait(&blocker.started, 1);
    fp_pool_close(pool);
    CHECK(!fp_pool_wait_ended(pool, fp_os_now_ns() + 1000000, &why));
    CHECK(why != FP_WAIT_WOKEN);
    gate_raise(&blocker.go, 1);
    wait_until_ended(pool);
    release_pool(pool);
}

static void count_free(void *arg)
{
    gate_raise(arg, 1);
}

/* Nobody waits for the end: the last worker takes the pool with it. */
static void release_without_waiting(void)
{
    gate freed = GATE_INITIALIZER;
    fp_host host = {.arg = &freed, .free = count_free};
    int64_t rounds = test_rounds(2000);
    for (int64_t round = 0; round < rounds; round++) {
        fp_pool *pool = pool_with_host(1 + (uint32_t)round % 2, 1 + (uint32_t)round % 4, 8, 1, &host);
        counted_job jobs[4] = {0};
        for (int i = 0; i < 4; i++)
            submit_one(pool, &counted_class, &jobs[i]);
        fp_pool_close(pool);
        release_pool(pool);
        gate_wait(&freed, (uint64_t)round + 1);
        for (int i = 0; i < 4; i++)
            CHECK_EQUAL(fp_load(&jobs[i].ran, fp_relaxed), 1);
    }
}

/* A submitter that holds a reference may still submit when everybody else has let go. */
static void several_wait_for_the_end(void *arg, unsigned number)
{
    (void)number;
    wait_until_ended(arg);
}

static void many_waiters_for_the_end(void)
{
    for (int64_t round = test_rounds(500); round > 0; round--) {
        fp_pool *pool = pool_with_host(1, 3, 8, 1, NULL);
        counted_job jobs[4] = {0};
        threads waiters;
        for (int i = 0; i < 4; i++)
            submit_one(pool, &counted_class, &jobs[i]);
        threads_start(&waiters, 3, several_wait_for_the_end, pool);
        fp_pool_close(pool);
        threads_join(&waiters);
        release_pool(pool);
    }
}

/* --- a pool that breaks ------------------------------------------------------------------------------------------------ */

struct breaking {
    gate entered, go;
};

static int refuse_start(void *arg, fp_worker *worker)
{
    struct breaking *breaking = arg;
    (void)worker;
    gate_raise(&breaking->entered, 1);
    gate_wait(&breaking->go, 1);
    return 1;
}

static void broken_pool_discards(uint32_t workers, uint32_t capacity)
{
    enum { JOBS = 20 };
    struct breaking breaking = {GATE_INITIALIZER, GATE_INITIALIZER};
    fp_host host = {.arg = &breaking, .worker_start = refuse_start};
    fp_pool *pool = pool_with_host(workers, workers, capacity, 0, &host);
    counted_job jobs[JOBS] = {0}, late = {0};
    for (int i = 0; i < JOBS; i++)
        submit_one(pool, &counted_class, &jobs[i]);
    gate_wait(&breaking.entered, 1);
    gate_raise(&breaking.go, 1);
    wait_until_ended(pool);
    for (int i = 0; i < JOBS; i++) {
        CHECK_EQUAL(fp_load(&jobs[i].ran, fp_relaxed), 0);
        CHECK_EQUAL(fp_load(&jobs[i].discarded, fp_relaxed), 1);
    }
    CHECK(fp_pool_submit(pool, &counted_class, &late, false, 1, FP_LANE_NORMAL) == FP_SUBMIT_BROKEN);
    CHECK(fp_pool_is_idle(pool));
    fp_metrics metrics;
    fp_pool_read_metrics(pool, &metrics);
    CHECK_EQUAL(metrics.ended[FP_CANCELLED], JOBS);
    fp_pool_close(pool);
    release_pool(pool);
}

/* A pool that breaks while producers submit: each job ends once. */
static int start_none_but_the_first(void *arg, fp_worker *worker)
{
    (void)arg;
    return worker->id == 0 ? 0 : 1;
}

struct break_race {
    fp_pool *pool;
    counted_job jobs[2][64];
    bool accepted[2][64];
};

static void produce_until_broken(void *arg, unsigned number)
{
    struct break_race *race = arg;
    for (int i = 0; i < 64; i++) {
        fp_submit_result result = submit_waiting(race->pool, &counted_class, &race->jobs[number][i], false, 1);
        CHECK(result == FP_SUBMIT_OK || result == FP_SUBMIT_BROKEN);
        race->accepted[number][i] = result == FP_SUBMIT_OK;
    }
}

static void break_while_submitting(uint32_t capacity)
{
    fp_host host = {.worker_start = start_none_but_the_first};
    for (int64_t round = test_rounds(1000); round > 0; round--) {
        struct break_race race = {.pool = pool_with_host(2, 2, capacity, 0, &host)};
        threads producers;
        threads_start(&producers, 2, produce_until_broken, &race);
        threads_join(&producers);
        end_pool(race.pool);
        for (int p = 0; p < 2; p++)
            for (int i = 0; i < 64; i++)
                CHECK_EQUAL(fp_load(&race.jobs[p][i].ran, fp_relaxed) + fp_load(&race.jobs[p][i].discarded, fp_relaxed),
                            race.accepted[p][i]);
    }
}

int main(void)
{
    watchdog_start(dump_pool);
    PROPERTY("close: what was accepted while the pool closed runs exactly once, the rest never", accepted_jobs_run_once());
    PROPERTY("close: a pool without workers closes and ends", close_without_workers());
    PROPERTY("close: waiting for the end times out while a job runs", ended_times_out());
    PROPERTY("close: nothing is lost as workers come and go, idle 1 ns", workers_come_and_go(1));
    PROPERTY("close: nothing is lost as workers come and go, idle 50 us", workers_come_and_go(50000));
    PROPERTY("close: a pool grows to its most and shrinks to its fewest", down_to_the_fewest());
    PROPERTY("close: closing while surplus workers leave", close_while_workers_leave());
    PROPERTY("close: release without waiting frees the pool when the last worker is out", release_without_waiting());
    PROPERTY("close: several threads wait for the end", many_waiters_for_the_end());
    PROPERTY("close: a broken pool discards each job once", broken_pool_discards(1, 32); broken_pool_discards(3, 32);
             broken_pool_discards(2, 0));
    PROPERTY("close: a pool that breaks while producers submit ends each job once", break_while_submitting(4);
             break_while_submitting(100));
    return 0;
}
