/* test_resize.c - other numbers of workers at run time: more at once, fewer as they come free, and nothing is lost. */
#include "groups.h"

/* Workers that have left, and said that they were not needed. */
struct leavers {
    gate left;
    fp_atomic(uint32_t) unneeded;
};

static void note_stop(void *arg, fp_worker *worker)
{
    struct leavers *leavers = arg;
    fp_fetch_add(&leavers->unneeded, worker->unneeded, fp_seq_cst);
    gate_raise(&leavers->left, 1);
}

static fp_pool *pool_with_leavers(uint32_t min_workers, uint32_t max_workers, int64_t idle_ns, struct leavers *leavers)
{
    fp_host host = {.arg = leavers, .worker_stop = note_stop};
    leavers->left = (gate)GATE_INITIALIZER;
    fp_store(&leavers->unneeded, 0, fp_relaxed);
    return pool_with_host(min_workers, max_workers, 2000, idle_ns, &host);
}

static uint32_t live(fp_pool *pool)
{
    return fp_load(&pool->live, fp_seq_cst);
}

/* --- growing --------------------------------------------------------------------------------------------------------- */

enum { MANY = 40 }; /* more than the pool had places for */

static void grows_to_the_fewest(void)
{
    fp_pool *pool = fixed_pool(1, 8);
    counted_job jobs[2] = {0};
    CHECK(fp_pool_resize(pool, 2, 2));
    CHECK_EQUAL(live(pool), 0); /* it has not started yet */
    submit_one(pool, &counted_class, &jobs[0]);
    CHECK(fp_pool_resize(pool, 3, MANY));
    CHECK_EQUAL(live(pool), 3);
    CHECK(fp_pool_resize(pool, MANY, MANY));
    CHECK_EQUAL(live(pool), MANY);
    submit_one(pool, &counted_class, &jobs[1]);
    wait_until_idle(pool);
    end_pool(pool);
    CHECK_EQUAL(fp_load(&jobs[0].ran, fp_relaxed) + fp_load(&jobs[1].ran, fp_relaxed), 2);
}

/* All jobs are started before any has ended. */
static void backlog_gets_more_workers(void)
{
    for (int64_t round = test_rounds(100); round > 0; round--) {
        static blocker blockers[MANY];
        fp_pool *pool = fixed_pool(1, MANY);
        for (int i = 0; i < MANY; i++) {
            blockers[i] = (blocker)BLOCKER_INITIALIZER;
            submit_one(pool, &blocker_class, &blockers[i]);
            if (i == 0)
                gate_wait(&blockers[0].started, 1);
        }
        CHECK(fp_pool_resize(pool, 1, MANY));
        for (int i = 0; i < MANY; i++)
            gate_wait(&blockers[i].started, 1);
        for (int i = 0; i < MANY; i++)
            gate_raise(&blockers[i].go, 1);
        end_pool(pool);
    }
}

/* --- shrinking --------------------------------------------------------------------------------------------------------- */

enum { WORKERS = 4 };

static void start_blockers(fp_pool *pool, blocker *blockers)
{
    for (int i = 0; i < WORKERS; i++) {
        blockers[i] = (blocker)BLOCKER_INITIALIZER;
        submit_one(pool, &blocker_class, &blockers[i]);
    }
    for (int i = 0; i < WORKERS; i++)
        gate_wait(&blockers[i].started, 1);
}

static void let_go(blocker *blockers)
{
    for (int i = 0; i < WORKERS; i++)
        gate_raise(&blockers[i].go, 1);
}

static void parked_workers_leave(bool idle_timeout)
{
    static blocker blockers[WORKERS];
    struct leavers leavers;
    counted_job job = {0};
    fp_pool *pool = pool_with_leavers(WORKERS, WORKERS, 1, &leavers);
    start_blockers(pool, blockers);
    let_go(blockers);
    wait_until_idle(pool);
    while (fp_load(&pool->awake, fp_seq_cst) != 0)
        sched_yield();
    CHECK_EQUAL(leavers.left.count, 0);
    CHECK(fp_pool_resize(pool, 1, idle_timeout ? WORKERS : 1));
    gate_wait(&leavers.left, WORKERS - 1);
    CHECK_EQUAL(fp_load(&leavers.unneeded, fp_seq_cst), WORKERS - 1);
    CHECK_EQUAL(live(pool), 1);
    submit_one(pool, &counted_class, &job);
    wait_until_idle(pool);
    end_pool(pool);
    CHECK_EQUAL(fp_load(&job.ran, fp_relaxed), 1);
    if (!idle_timeout) /* else another one may have come and gone for the last job */
        CHECK_EQUAL(fp_load(&leavers.unneeded, fp_seq_cst), WORKERS - 1); /* the last one left with the pool */
}

static void busy_workers_leave(void)
{
    enum { JOBS = 1000 };
    static blocker blockers[WORKERS], last;
    static counted_job jobs[JOBS];
    struct leavers leavers;
    fp_pool *pool = pool_with_leavers(WORKERS, WORKERS, 0, &leavers);
    start_blockers(pool, blockers);
    last = (blocker)BLOCKER_INITIALIZER;
    submit_one(pool, &blocker_class, &last); /* keeps the one that stays from emptying the queue */
    for (int i = 0; i < JOBS; i++)
        submit_one(pool, &counted_class, &jobs[i]);
    CHECK(fp_pool_resize(pool, 1, 1));
    CHECK_EQUAL(leavers.left.count, 0);
    let_go(blockers);
    gate_wait(&leavers.left, WORKERS - 1);
    CHECK_EQUAL(live(pool), 1);
    CHECK(!fp_pool_is_empty(pool));
    gate_raise(&last.go, 1);
    wait_until_idle(pool);
    end_pool(pool);
    for (int i = 0; i < JOBS; i++)
        CHECK_EQUAL(fp_load(&jobs[i].ran, fp_relaxed), 1);
}

/* A range each of whose jobs waits to be let go. */
struct gated_range {
    fp_range range;
    fp_pool *pool;
    gate started, go, ended;
};

static fp_outcome run_gated_range(void *ctx, fp_worker *worker)
{
    struct gated_range *range = ctx;
    int64_t begin, end;
    while (fp_range_claim(&range->range, 1, &begin, &end)) {
        gate_raise(&range->started, 1);
        gate_wait(&range->go, (uint64_t)begin + 1);
        note_range_jobs(range->pool, worker, FP_DONE, 1);
        if (fp_worker_should_yield(worker))
            break;
    }
    return FP_DONE;
}

static int64_t discard_gated_range(void *ctx, fp_discard_reason reason)
{
    struct gated_range *range = ctx;
    (void)reason;
    return fp_range_cancel(&range->range);
}

static void end_gated_range(void *ctx, fp_worker *worker)
{
    struct gated_range *range = ctx;
    (void)worker;
    gate_raise(&range->ended, 1);
}

static bool gated_range_all_started(void *ctx)
{
    struct gated_range *range = ctx;
    return fp_range_left(&range->range) == 0;
}

static const fp_job_class gated_range_class = {.run = run_gated_range,
                                               .discard = discard_gated_range,
                                               .end = end_gated_range,
                                               .all_started = gated_range_all_started};

static void range_is_left(bool grows_again)
{
    enum { JOBS = 1000 };
    static struct gated_range range;
    struct leavers leavers;
    fp_pool *pool = pool_with_leavers(WORKERS, WORKERS, 0, &leavers);
    range = (struct gated_range){.pool = pool, .started = GATE_INITIALIZER, .go = GATE_INITIALIZER, .ended = GATE_INITIALIZER};
    fp_range_init(&range.range, JOBS);
    CHECK(fp_pool_submit(pool, &gated_range_class, &range, true, JOBS, FP_LANE_NORMAL) == FP_SUBMIT_OK);
    gate_wait(&range.started, WORKERS); /* each has one job */
    CHECK(fp_pool_resize(pool, 1, 1));
    gate_raise(&range.go, WORKERS);
    gate_wait(&leavers.left, WORKERS - 1);
    gate_wait(&range.started, WORKERS + 1); /* the one that stays goes on */
    CHECK_EQUAL(live(pool), 1);
    CHECK_EQUAL(fp_range_left(&range.range), JOBS - WORKERS - 1);
    if (grows_again) {
        CHECK(fp_pool_resize(pool, 1, WORKERS));
        gate_wait(&range.started, 2 * WORKERS);
    }
    gate_raise(&range.go, JOBS);
    gate_wait(&range.ended, 1);
    wait_until_idle(pool);
    end_pool(pool);
    CHECK_EQUAL(range.ended.count, 1);
}

/* --- at random ----------------------------------------------------------------------------------------------------------- */

enum { PRODUCERS = 3, CHANGERS = 2, RANGE_JOBS = 60 };

struct load {
    fp_pool *pool;
    counted_job *jobs;
    counted_range **ranges;
    int64_t jobs_each, ranges_each;
    bool pauses;
    fp_atomic(bool) over;
};

static void produce(void *arg, unsigned number)
{
    struct load *load = arg;
    test_random random = {number + 1};
    for (int64_t i = 0; i < load->jobs_each; i++) {
        fp_lane lane = load->pauses ? (fp_lane)test_random_below(&random, FP_LANES) : FP_LANE_NORMAL;
        counted_job *job = &load->jobs[(int64_t)number * load->jobs_each + i];
        CHECK(submit_to_lane(load->pool, &counted_class, job, false, 1, lane) == FP_SUBMIT_OK);
        if (i >= load->ranges_each)
            continue;
        counted_range *range = load->ranges[(int64_t)number * load->ranges_each + i];
        CHECK(submit_to_lane(load->pool, &yielding_range_class, range, true, RANGE_JOBS, lane) == FP_SUBMIT_OK);
    }
}

static void change_once(struct load *load, test_random *random)
{
    uint32_t most = 1 + test_random_below(random, 6);
    uint32_t what = test_random_below(random, load->pauses ? 4 : 2);
    if (what < 2)
        CHECK(fp_pool_resize(load->pool, 1 + test_random_below(random, most), most));
    else if (what == 2)
        fp_pool_pause(load->pool);
    else
        fp_pool_resume(load->pool);
}

static void change(void *arg, unsigned number)
{
    struct load *load = arg;
    test_random random = {number + 100};
    while (!fp_load(&load->over, fp_relaxed)) {
        change_once(load, &random);
        for (uint32_t pauses = test_random_below(&random, 8); pauses > 0; pauses--)
            sched_yield();
    }
    fp_pool_resume(load->pool);
}

static struct load *make_load(uint32_t capacity, int64_t idle_ns, bool pauses)
{
    struct load *load = calloc(1, sizeof *load);
    CHECK(load != NULL);
    load->pool = pool_with_host(1, 2, capacity, idle_ns, NULL);
    load->jobs_each = test_rounds(10000);
    load->ranges_each = load->jobs_each / 10;
    load->pauses = pauses;
    load->jobs = calloc((size_t)(load->jobs_each * PRODUCERS), sizeof *load->jobs);
    load->ranges = calloc((size_t)(load->ranges_each * PRODUCERS + 1), sizeof *load->ranges);
    CHECK(load->jobs != NULL && load->ranges != NULL);
    for (int64_t i = 0; i < load->ranges_each * PRODUCERS; i++)
        load->ranges[i] = counted_range_create(load->pool, RANGE_JOBS, 1 + i % 3);
    return load;
}

static void check_and_free(struct load *load)
{
    for (int64_t i = 0; i < load->jobs_each * PRODUCERS; i++)
        CHECK_EQUAL(fp_load(&load->jobs[i].ran, fp_relaxed), 1);
    for (int64_t i = 0; i < load->ranges_each * PRODUCERS; i++) {
        for (int j = 0; j < RANGE_JOBS; j++)
            CHECK_EQUAL(fp_load(&load->ranges[i]->ran[j], fp_relaxed), 1);
        CHECK_EQUAL(load->ranges[i]->ended.count, 1);
        counted_range_free(load->ranges[i]);
    }
    free(load->jobs);
    free(load->ranges);
    free(load);
}

static void check_load(struct load *load)
{
    fp_metrics metrics;
    fp_pool_read_metrics(load->pool, &metrics);
    CHECK_EQUAL(metrics.submitted, (load->jobs_each + load->ranges_each * RANGE_JOBS) * PRODUCERS);
    CHECK_EQUAL(metrics.ended[FP_DONE], metrics.submitted);
    CHECK_EQUAL(ended_sum(&metrics), metrics.submitted);
    CHECK_EQUAL(metrics.queue_depth, 0);
}

static void each_runs_once(uint32_t capacity, int64_t idle_ns, bool pauses)
{
    struct load *load = make_load(capacity, idle_ns, pauses);
    threads producers, changers;
    threads_start(&changers, CHANGERS, change, load);
    threads_start(&producers, PRODUCERS, produce, load);
    threads_join(&producers);
    fp_store(&load->over, true, fp_relaxed);
    threads_join(&changers);
    wait_until_idle(load->pool);
    check_load(load);
    CHECK(fp_pool_resize(load->pool, 5, 5));
    while (live(load->pool) != 5) /* those who have still to leave make room for others */
        sched_yield();
    end_pool(load->pool);
    check_and_free(load);
}

/* Groups: bursts, batches and ranges, which the thread that waits helps with, and other threads' jobs of other lanes. */
enum { GROUP_JOBS = 300 };

struct group_load {
    struct load load; /* for change() */
    int64_t rounds;
    counted_job *others; /* one a round and thread, of any lane */
};

static void run_groups(void *arg, unsigned number)
{
    struct group_load *all = arg;
    test_random random = {number + 1};
    tally tally = tally_of(GROUP_JOBS);
    fp_group *group = fp_group_create(all->load.pool);
    for (int64_t round = 0; round < all->rounds; round++) {
        for (int64_t i = 0; i < GROUP_JOBS; i++)
            while (fp_group_submit(group, tally_job, (void *)&tally.ran[i]) == FP_SUBMIT_FULL)
                fp_pool_wait_for_room(all->load.pool, FP_FOREVER);
        fp_lane lane = (fp_lane)test_random_below(&random, FP_LANES);
        counted_job *other = &all->others[(int64_t)number * all->rounds + round];
        CHECK(submit_to_lane(all->load.pool, &counted_class, other, false, 1, lane) == FP_SUBMIT_OK);
        while (fp_group_submit_batch(group, tally_job, (void *)tally.ran, sizeof *tally.ran, GROUP_JOBS, FP_QUEUED) ==
               FP_SUBMIT_FULL)
            fp_pool_wait_for_room(all->load.pool, FP_FOREVER);
        while (fp_group_begin_range(group, tally_range, GROUP_JOBS, &tally, 1, FP_FOREVER) == FP_SUBMIT_FULL)
            fp_pool_wait_for_room(all->load.pool, FP_FOREVER);
        CHECK(fp_group_wait(group, FP_FOREVER));
        tally_check(&tally, 3);
    }
    fp_group_release(group);
    tally_free(&tally);
}

static void groups_run_once(uint32_t capacity)
{
    struct group_load all = {.load = {.pool = pool_with_host(1, 2, capacity, 1, NULL), .pauses = true},
                             .rounds = test_rounds(300)};
    threads groups, changers;
    all.others = calloc((size_t)(all.rounds * PRODUCERS), sizeof *all.others);
    CHECK(all.others != NULL);
    threads_start(&changers, CHANGERS, change, &all);
    threads_start(&groups, PRODUCERS, run_groups, &all);
    threads_join(&groups);
    fp_store(&all.load.over, true, fp_relaxed);
    threads_join(&changers);
    wait_until_idle(all.load.pool);
    fp_metrics metrics;
    fp_pool_read_metrics(all.load.pool, &metrics);
    CHECK_EQUAL(metrics.submitted, (uint64_t)all.rounds * PRODUCERS * (3 * GROUP_JOBS + 1));
    CHECK_EQUAL(metrics.ended[FP_DONE], metrics.submitted);
    end_pool(all.load.pool);
    for (int64_t i = 0; i < all.rounds * PRODUCERS; i++)
        CHECK_EQUAL(fp_load(&all.others[i].ran, fp_relaxed), 1);
    free(all.others);
}

/* Numbers change while the pool closes, and jobs that wait for each other still find workers. */
static void close_while_resizing(void)
{
    for (int64_t round = test_rounds(1000); round > 0; round--) {
        struct load *load = make_load(8, 1, false);
        counted_job jobs[8] = {0};
        threads changers;
        threads_start(&changers, CHANGERS, change, load);
        for (int i = 0; i < 8; i++)
            submit_one(load->pool, &counted_class, &jobs[i]);
        fp_pool_close(load->pool);
        wait_until_ended(load->pool);
        fp_store(&load->over, true, fp_relaxed);
        threads_join(&changers);
        release_pool(load->pool);
        for (int i = 0; i < 8; i++)
            CHECK_EQUAL(fp_load(&jobs[i].ran, fp_relaxed), 1);
        load->jobs_each = 0;
        for (int64_t i = 0; i < load->ranges_each * PRODUCERS; i++)
            counted_range_free(load->ranges[i]);
        load->ranges_each = 0;
        check_and_free(load);
    }
}

/* In each round the pool shrinks and grows while as many jobs are queued as it then has workers: all have to run at once. */
static void all_workers_are_used(void)
{
    enum { TOGETHER = 3 };
    static blocker blockers[TOGETHER];
    fp_pool *pool = pool_with_host(1, TOGETHER, 8, 1, NULL);
    for (int64_t round = test_rounds(3000); round > 0; round--) {
        for (int i = 0; i < TOGETHER; i++)
            blockers[i] = (blocker)BLOCKER_INITIALIZER;
        CHECK(fp_pool_resize(pool, 1, 1));
        for (int i = 0; i < TOGETHER; i++) {
            if (i == (int)(round % TOGETHER))
                CHECK(fp_pool_resize(pool, 1 + (uint32_t)round % 2, TOGETHER));
            submit_one(pool, &blocker_class, &blockers[i]);
        }
        for (int i = 0; i < TOGETHER; i++)
            gate_wait(&blockers[i].started, 1);
        for (int i = 0; i < TOGETHER; i++)
            gate_raise(&blockers[i].go, 1);
        wait_until_idle(pool); /* the blockers are used again */
        watchdog_pat();
    }
    end_pool(pool);
}

int main(void)
{
    watchdog_start(dump_pool);
    PROPERTY("resize: there are the fewest at once, if the pool has started any", grows_to_the_fewest());
    PROPERTY("resize: a backlog gets more workers at once", backlog_gets_more_workers());
    PROPERTY("resize: parked workers leave at once, and say that they were not needed", parked_workers_leave(false));
    PROPERTY("resize: parked workers beyond the new fewest leave after their idle timeout", parked_workers_leave(true));
    PROPERTY("resize: busy workers leave when their job is done, whatever is queued", busy_workers_leave());
    PROPERTY("resize: workers leave a range between two pieces, and it goes on", range_is_left(false); range_is_left(true));
    PROPERTY("resize: as many jobs run at a time as there are workers", all_workers_are_used());
    PROPERTY("resize: each job runs once as the numbers change", each_runs_once(16, 0, false); each_runs_once(1000, 1, false));
    PROPERTY("resize: the same with pauses and all lanes", each_runs_once(16, 1, true); each_runs_once(1000, 0, true);
             each_runs_once(0, 1, true));
    PROPERTY("resize: bursts, batches and ranges of groups, the same", groups_run_once(3); groups_run_once(100);
             groups_run_once(0));
    PROPERTY("resize: what was accepted runs once as the pool closes meanwhile", close_while_resizing());
    return 0;
}
