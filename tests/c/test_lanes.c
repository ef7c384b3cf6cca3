/* test_lanes.c - lanes: which job starts first, that none starves, and the bound of the queue over all of them. */
#include "pools.h"

enum { MOST_LOGGED = 1 << 18 };

/* What one worker starts, in order. */
static struct log {
    fp_lane lanes[MOST_LOGGED];
    int64_t sequence[MOST_LOGGED]; /* the job's number within its lane */
    int64_t count;
} started;

typedef struct logged_job {
    fp_lane lane;
    int64_t sequence;
} logged_job;

static void note_start(fp_lane lane, int64_t sequence)
{
    CHECK(started.count < MOST_LOGGED);
    started.lanes[started.count] = lane;
    started.sequence[started.count++] = sequence;
    watchdog_pat();
}

static fp_outcome run_logged(void *ctx, fp_worker *worker)
{
    logged_job *job = ctx;
    (void)worker;
    note_start(job->lane, job->sequence);
    return FP_DONE;
}

static int64_t discard_logged(void *ctx, fp_discard_reason reason)
{
    (void)reason;
    run_logged(ctx, NULL);
    return 1;
}

static const fp_job_class logged_class = {.run = run_logged, .discard = discard_logged};

/* A pool of one worker, which is held up. */
typedef struct held_pool {
    fp_pool *pool;
    blocker blocker;
} held_pool;

static void hold(held_pool *held, uint32_t capacity)
{
    started.count = 0;
    held->pool = fixed_pool(1, capacity);
    held->blocker = (blocker)BLOCKER_INITIALIZER;
    submit_one(held->pool, &blocker_class, &held->blocker);
    gate_wait(&held->blocker.started, 1);
}

static void let_go(held_pool *held)
{
    gate_raise(&held->blocker.go, 1);
    wait_until_idle(held->pool);
    end_pool(held->pool);
}

/* `count` jobs of each of these lanes, one after the other, and past the bound. */
static logged_job *queue_logged(fp_pool *pool, int64_t count, fp_lane first, fp_lane last)
{
    unsigned lanes = 1 + (unsigned)last - (unsigned)first;
    logged_job *jobs = calloc((size_t)count * lanes, sizeof *jobs);
    CHECK(jobs != NULL);
    for (int64_t i = 0; i < count; i++)
        for (unsigned lane = 0; lane < lanes; lane++) {
            logged_job *job = &jobs[i * lanes + lane];
            *job = (logged_job){.lane = (fp_lane)(first + lane), .sequence = i};
            CHECK(fp_pool_submit_beyond(pool, &logged_class, job, false, 1, job->lane) == FP_SUBMIT_OK);
        }
    return jobs;
}

/* --- which starts first ---------------------------------------------------------------------------------------------- */

static void high_overtakes(uint32_t capacity, int64_t normal_jobs)
{
    static held_pool held;
    logged_job high = {.lane = FP_LANE_HIGH};
    hold(&held, capacity);
    logged_job *jobs = queue_logged(held.pool, normal_jobs, FP_LANE_NORMAL, FP_LANE_NORMAL);
    CHECK(fp_pool_submit_beyond(held.pool, &logged_class, &high, false, 1, FP_LANE_HIGH) == FP_SUBMIT_OK);
    let_go(&held);
    CHECK_EQUAL(started.count, normal_jobs + 1);
    CHECK(started.lanes[0] == FP_LANE_HIGH);
    free(jobs);
}

/* Of each `window` starts one is of the low lane and three of the normal one, as long as these have any. */
static void check_shares(int64_t jobs_each, int64_t window)
{
    int64_t left[FP_LANES] = {jobs_each, jobs_each, jobs_each}, seen[FP_LANES] = {0, 0, 0};
    for (int64_t i = 0; i < started.count; i++) {
        CHECK_EQUAL(started.sequence[i], jobs_each - left[started.lanes[i]]); /* in order within the lane */
        left[started.lanes[i]]--;
        seen[started.lanes[i]]++;
        if (i >= window)
            seen[started.lanes[i - window]]--;
        if (i < window - 1)
            continue;
        CHECK(left[FP_LANE_LOW] == 0 || seen[FP_LANE_LOW] >= 1);
        CHECK(left[FP_LANE_NORMAL] == 0 || seen[FP_LANE_NORMAL] >= 3);
    }
}

static void no_lane_starves(uint32_t capacity, int64_t window)
{
    enum { JOBS_EACH = 2000 };
    static held_pool held;
    hold(&held, capacity);
    logged_job *jobs = queue_logged(held.pool, JOBS_EACH, FP_LANE_HIGH, FP_LANE_LOW);
    let_go(&held);
    CHECK_EQUAL(started.count, JOBS_EACH * FP_LANES);
    check_shares(JOBS_EACH, window);
    free(jobs);
}

static void highest_first(void)
{
    static held_pool held;
    hold(&held, 100);
    logged_job *jobs = queue_logged(held.pool, 3, FP_LANE_HIGH, FP_LANE_LOW);
    let_go(&held);
    enum { H = FP_LANE_HIGH, N = FP_LANE_NORMAL, L = FP_LANE_LOW };
    static const int expected[] = {H, H, N, H, N, N, L, L, L};
    CHECK_EQUAL(started.count, 9); /* the blocker was the first turn: the fourth is the normal lane's */
    for (int i = 0; i < 9; i++)
        CHECK_EQUAL(started.lanes[i], expected[i]);
    free(jobs);
}

/* --- ranges ---------------------------------------------------------------------------------------------------------- */

/* A range each of whose jobs is logged; the first one waits to be let go. */
typedef struct logged_range {
    fp_range range;
    fp_pool *pool;
    fp_lane lane;
    gate entered, go, ended;
    bool waits;
} logged_range;

static fp_outcome run_logged_range(void *ctx, fp_worker *worker)
{
    logged_range *range = ctx;
    int64_t begin, end;
    while (fp_range_claim(&range->range, 1, &begin, &end)) {
        note_start(range->lane, begin);
        if (begin == 0 && range->waits) {
            gate_raise(&range->entered, 1);
            gate_wait(&range->go, 1);
        }
        note_range_jobs(range->pool, worker, FP_DONE, 1);
        if (fp_worker_should_yield(worker))
            break;
    }
    return FP_DONE;
}

static int64_t discard_logged_range(void *ctx, fp_discard_reason reason)
{
    logged_range *range = ctx;
    (void)reason;
    return fp_range_cancel(&range->range);
}

static void end_logged_range(void *ctx, fp_worker *worker)
{
    logged_range *range = ctx;
    (void)worker;
    gate_raise(&range->ended, 1);
}

static bool logged_range_all_started(void *ctx)
{
    logged_range *range = ctx;
    return fp_range_left(&range->range) == 0;
}

static const fp_job_class logged_range_class = {.run = run_logged_range,
                                                .discard = discard_logged_range,
                                                .end = end_logged_range,
                                                .all_started = logged_range_all_started};

static void init_logged_range(logged_range *range, fp_pool *pool, int64_t n, fp_lane lane, bool waits)
{
    *range = (logged_range){.pool = pool, .lane = lane, .waits = waits, .entered = GATE_INITIALIZER, .go = GATE_INITIALIZER,
                            .ended = GATE_INITIALIZER};
    fp_range_init(&range->range, n);
}

/* A job of a higher lane does not wait for the whole range that runs, also past the bound, and the range goes on after it. */
static void range_makes_way(fp_lane range_lane, fp_lane lane, uint32_t behind)
{
    enum { JOBS = 100 };
    static counted_job others[16];
    static logged_range range;
    logged_job job = {.lane = lane};
    started.count = 0;
    fp_pool *pool = fixed_pool(1, 8);
    init_logged_range(&range, pool, JOBS, range_lane, true);
    CHECK(fp_pool_submit(pool, &logged_range_class, &range, true, JOBS, range_lane) == FP_SUBMIT_OK);
    gate_wait(&range.entered, 1);
    for (uint32_t i = 0; i < behind; i++)
        CHECK(fp_pool_submit_beyond(pool, &counted_class, &others[i], false, 1, range_lane) == FP_SUBMIT_OK);
    CHECK(fp_pool_submit_beyond(pool, &logged_class, &job, false, 1, lane) == FP_SUBMIT_OK);
    gate_raise(&range.go, 1);
    gate_wait(&range.ended, 1);
    wait_until_idle(pool);
    CHECK_EQUAL(started.count, JOBS + 1);
    CHECK(started.lanes[1] == lane);
    end_pool(pool);
    CHECK_EQUAL(range.ended.count, 1);
}

/* Each piece is a turn: neither a range of the high lane nor one of the low lane takes all. */
static void ranges_share(void)
{
    enum { JOBS_EACH = 2000 };
    static held_pool held;
    static logged_range ranges[FP_LANES];
    hold(&held, 10);
    for (unsigned lane = 0; lane < FP_LANES; lane++) {
        init_logged_range(&ranges[lane], held.pool, JOBS_EACH, (fp_lane)lane, false);
        CHECK(fp_pool_submit(held.pool, &logged_range_class, &ranges[lane], true, JOBS_EACH, (fp_lane)lane) == FP_SUBMIT_OK);
    }
    let_go(&held);
    CHECK_EQUAL(started.count, JOBS_EACH * FP_LANES);
    check_shares(JOBS_EACH, 16);
    for (unsigned lane = 0; lane < FP_LANES; lane++)
        CHECK_EQUAL(ranges[lane].ended.count, 1);
}

/* --- bounds and discarding ---------------------------------------------------------------------------------------------- */

static void full_over_all_lanes(uint32_t capacity)
{
    static held_pool held;
    logged_job *jobs = calloc(capacity + 1, sizeof *jobs);
    CHECK(jobs != NULL);
    hold(&held, capacity);
    for (uint32_t i = 0; i < capacity; i++) {
        jobs[i].lane = (fp_lane)(i % FP_LANES);
        CHECK(fp_pool_submit(held.pool, &logged_class, &jobs[i], false, 1, jobs[i].lane) == FP_SUBMIT_OK);
    }
    for (unsigned lane = 0; lane < FP_LANES; lane++)
        CHECK(fp_pool_submit(held.pool, &logged_class, &jobs[capacity], false, 1, (fp_lane)lane) == FP_SUBMIT_FULL);
    fp_metrics metrics;
    fp_pool_read_metrics(held.pool, &metrics);
    CHECK_EQUAL(metrics.queue_depth, capacity);
    let_go(&held);
    CHECK_EQUAL(started.count, capacity);
    free(jobs);
}

static void discards_the_lowest(void)
{
    enum { JOBS_EACH = 5 };
    static held_pool held;
    hold(&held, 100);
    logged_job *jobs = queue_logged(held.pool, JOBS_EACH, FP_LANE_HIGH, FP_LANE_LOW);
    for (int i = 0; i < JOBS_EACH * FP_LANES; i++) {
        CHECK(fp_pool_discard_oldest(held.pool));
        CHECK_EQUAL(started.count, i + 1);
        CHECK_EQUAL(started.lanes[i], FP_LANE_LOW - i / JOBS_EACH);
        CHECK_EQUAL(started.sequence[i], i % JOBS_EACH);
    }
    CHECK(!fp_pool_discard_oldest(held.pool));
    let_go(&held);
    free(jobs);
}

/* --- every job once --------------------------------------------------------------------------------------------------- */

enum { PRODUCERS = 3 };

struct mix {
    fp_pool *pool;
    counted_job *jobs;
    counted_range **ranges;
    int64_t jobs_each, ranges_each;
    bool beyond;
};

static void produce_mixed(void *arg, unsigned number)
{
    struct mix *mix = arg;
    test_random random = {number + 1};
    for (int64_t i = 0; i < mix->jobs_each; i++) {
        fp_lane lane = (fp_lane)test_random_below(&random, FP_LANES);
        counted_job *job = &mix->jobs[(int64_t)number * mix->jobs_each + i];
        CHECK((mix->beyond ? fp_pool_submit_beyond(mix->pool, &counted_class, job, false, 1, lane)
                           : submit_to_lane(mix->pool, &counted_class, job, false, 1, lane)) == FP_SUBMIT_OK);
        if (i < mix->ranges_each) {
            counted_range *range = mix->ranges[(int64_t)number * mix->ranges_each + i];
            CHECK(submit_to_lane(mix->pool, &yielding_range_class, range, true, range->range.n, lane) == FP_SUBMIT_OK);
        }
    }
}

static void each_runs_once(uint32_t workers, uint32_t capacity, bool beyond)
{
    enum { RANGE_JOBS = 40 };
    struct mix mix = {.pool = fixed_pool(workers, capacity), .jobs_each = test_rounds(8000), .beyond = beyond};
    mix.ranges_each = mix.jobs_each / 10;
    int64_t jobs = mix.jobs_each * PRODUCERS, ranges = mix.ranges_each * PRODUCERS;
    mix.jobs = calloc((size_t)jobs, sizeof *mix.jobs);
    mix.ranges = calloc((size_t)ranges + 1, sizeof *mix.ranges);
    CHECK(mix.jobs != NULL && mix.ranges != NULL);
    for (int64_t i = 0; i < ranges; i++)
        mix.ranges[i] = counted_range_create(mix.pool, RANGE_JOBS, 1 + i % 4);
    threads producers;
    threads_start(&producers, PRODUCERS, produce_mixed, &mix);
    threads_join(&producers);
    wait_until_idle(mix.pool);
    fp_metrics metrics;
    fp_pool_read_metrics(mix.pool, &metrics);
    CHECK_EQUAL(metrics.submitted, jobs + ranges * RANGE_JOBS);
    CHECK_EQUAL(metrics.ended[FP_DONE], jobs + ranges * RANGE_JOBS);
    end_pool(mix.pool);
    for (int64_t i = 0; i < jobs; i++)
        CHECK_EQUAL(fp_load(&mix.jobs[i].ran, fp_relaxed), 1);
    for (int64_t i = 0; i < ranges; i++) {
        for (int j = 0; j < RANGE_JOBS; j++)
            CHECK_EQUAL(fp_load(&mix.ranges[i]->ran[j], fp_relaxed), 1);
        CHECK_EQUAL(mix.ranges[i]->ended.count, 1);
        counted_range_free(mix.ranges[i]);
    }
    free(mix.jobs);
    free(mix.ranges);
}

static void each_runs_once_everywhere(bool beyond)
{
    for (uint32_t workers = 1; workers <= 4; workers++) {
        each_runs_once(workers, 4, beyond);
        each_runs_once(workers, 1000, beyond);
    }
}

/* --- as many jobs at a time as there are workers ------------------------------------------------------------------------- */

enum { TOGETHER = 3 };

struct together {
    fp_pool *pool;
    blocker blockers[TOGETHER];
};

static void submit_blocker(void *arg, unsigned number)
{
    struct together *together = arg;
    blocker *blocker = &together->blockers[number];
    CHECK(submit_to_lane(together->pool, &blocker_class, blocker, false, 1, (fp_lane)number) == FP_SUBMIT_OK);
}

static void all_workers_are_used(void)
{
    static struct together together;
    for (int64_t round = test_rounds(1000); round > 0; round--) {
        threads submitters;
        if (round % 10 == 0 || together.pool == NULL)
            together.pool = fixed_pool(TOGETHER, 8); /* anew, for the first job of another lane is special */
        for (int i = 0; i < TOGETHER; i++)
            together.blockers[i] = (blocker)BLOCKER_INITIALIZER;
        threads_start(&submitters, TOGETHER, submit_blocker, &together);
        for (int i = 0; i < TOGETHER; i++)
            gate_wait(&together.blockers[i].started, 1);
        for (int i = 0; i < TOGETHER; i++)
            gate_raise(&together.blockers[i].go, 1);
        threads_join(&submitters);
        wait_until_idle(together.pool);
        watchdog_pat();
        if (round % 10 == 1) {
            end_pool(together.pool);
            together.pool = NULL;
        }
    }
}

int main(void)
{
    watchdog_start(dump_pool);
    PROPERTY("lanes: the highest that has any starts, but in every fourth turn the normal one", highest_first());
    PROPERTY("lanes: a high job overtakes all that is queued", high_overtakes(2000, 1000));
    PROPERTY("lanes: a high job overtakes 100,000 jobs of an unbounded pool", high_overtakes(0, 100000);
             high_overtakes(8, 1000));
    PROPERTY("lanes: of 16 starts one at least is low and three normal", no_lane_starves(8192, 16));
    PROPERTY("lanes: the same past the bound, within 32", no_lane_starves(8, 32));
    PROPERTY("lanes: a range makes way for a higher lane between two pieces", range_makes_way(FP_LANE_NORMAL, FP_LANE_HIGH, 0);
             range_makes_way(FP_LANE_LOW, FP_LANE_HIGH, 0); range_makes_way(FP_LANE_LOW, FP_LANE_NORMAL, 0);
             range_makes_way(FP_LANE_NORMAL, FP_LANE_HIGH, 16));
    PROPERTY("lanes: ranges of several lanes share a worker by turns", ranges_share());
    PROPERTY("lanes: the bound is that of all lanes together", full_over_all_lanes(1); full_over_all_lanes(3);
             full_over_all_lanes(1000));
    PROPERTY("lanes: discard_oldest ends the oldest of the lowest", discards_the_lowest());
    PROPERTY("lanes: singles and ranges of all lanes, each once", each_runs_once_everywhere(false));
    PROPERTY("lanes: the same past the bound", each_runs_once_everywhere(true));
    PROPERTY("lanes: as many jobs run at a time as there are workers", all_workers_are_used());
    return 0;
}
