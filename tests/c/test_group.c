/* test_group.c - groups: jobs, batches and ranges that are waited for together; failing, cancelling, ending, the books. */
#include "groups.h"

/* --- each once ---------------------------------------------------------------------------------------------------------- */

static void submit_range_and_wait(fp_group *group, tally tally, int64_t grain)
{
    CHECK(group_submit_range(group, tally_range, tally.n, &tally, grain) == FP_SUBMIT_OK);
    group_wait(group); /* or `tally` would be gone */
}

/* All sorts by turns, as the dice have it. */
static void submit_mix(fp_group *group, tally *all, test_random *random)
{
    for (int64_t done = 0, some; done < all->n; done += some) {
        fp_atomic(uint32_t) *first = all->ran + done;
        some = 1 + test_random_below(random, 200);
        some = some < all->n - done ? some : all->n - done;
        uint32_t sort = test_random_below(random, 3);
        if (sort == 0)
            for (int64_t i = 0; i < some; i++)
                CHECK(group_submit(group, tally_job, (void *)&first[i]) == FP_SUBMIT_OK);
        else if (sort == 1)
            CHECK(group_submit_batch(group, tally_job, (void *)first, sizeof *first, some) == FP_SUBMIT_OK);
        else
            submit_range_and_wait(group, (tally){.n = some, .ran = first}, test_random_below(random, 20));
    }
}

struct producers {
    fp_pool *pool;
    int64_t jobs;
};

static void produce_mix(void *arg, unsigned number)
{
    struct producers *producers = arg;
    fp_group *group = new_group(producers->pool);
    test_random random = {number + 1};
    tally tally = tally_of(producers->jobs);
    submit_mix(group, &tally, &random);
    group_end(group);
    tally_check(&tally, 1);
    tally_free(&tally);
}

static void each_once(uint32_t workers, uint32_t capacity)
{
    enum { PRODUCERS = 3 };
    struct producers producers = {.pool = fixed_pool(workers, capacity), .jobs = test_rounds(20000)};
    threads threads;
    threads_start(&threads, PRODUCERS, produce_mix, &producers);
    threads_join(&threads);
    check_ended(producers.pool, (uint64_t)producers.jobs * PRODUCERS, 0, 0);
    end_pool(producers.pool);
}

static void every_job_once(void)
{
    static const uint32_t workers[] = {1, 2, 16}, capacities[] = {1, 2, 8192};
    for (int w = 0; w < 3; w++)
        for (int c = 0; c < 3; c++)
            each_once(workers[w], capacities[c]);
}

static void nothing_to_run(void)
{
    fp_pool *pool = fixed_pool(2, 4);
    fp_group *group = new_group(pool);
    group_wait(group); /* nothing at all */
    CHECK(fp_group_submit_batch(group, tally_job, NULL, 4, 0, FP_QUEUED) == FP_SUBMIT_OK);
    CHECK(fp_group_submit_range(group, tally_range, 0, NULL, 0, FP_QUEUED) == FP_SUBMIT_OK);
    CHECK(fp_group_begin_range(group, tally_range, 0, NULL, 1, FP_FOREVER) == FP_SUBMIT_OK);
    CHECK(fp_group_submit_range(group, tally_range, 0, NULL, 0, FP_HERE) == FP_SUBMIT_OK);
    CHECK(fp_group_submit_batch(group, tally_job, NULL, 4, 0, FP_BEYOND) == FP_SUBMIT_OK);
    group_wait(group);
    CHECK_EQUAL(fp_queue_size(&pool->queue), 0);
    check_ended(pool, 0, 0, 0);
    group_end(group);
    end_pool(pool);
}

static void grains(int64_t grain)
{
    fp_pool *pool = fixed_pool(2, 4);
    fp_group *group = new_group(pool);
    tally tally = tally_of(test_rounds(50000));
    CHECK(fp_group_submit_range(group, tally_range, tally.n, &tally, grain, FP_QUEUED) == FP_SUBMIT_OK);
    group_wait(group);
    tally_check(&tally, 1);
    CHECK(fp_group_begin_range(group, tally_range, tally.n, &tally, grain, FP_FOREVER) == FP_SUBMIT_OK);
    group_wait(group);
    tally_check(&tally, 1);
    group_end(group);
    check_ended(pool, 2 * (uint64_t)tally.n, 0, 0);
    end_pool(pool);
    tally_free(&tally);
}

static void places(fp_group_place place)
{
    enum { JOBS = 50 };
    fp_pool *pool = fixed_pool(1, 1);
    fp_group *group = new_group(pool), *held = new_group(pool);
    tally tally = tally_of(JOBS);
    blocker blocker = BLOCKER_INITIALIZER;
    CHECK(fp_group_submit(held, block, &blocker) == FP_SUBMIT_OK);
    gate_wait(&blocker.started, 1);
    CHECK(fp_group_submit(group, tally_job, (void *)&tally.ran[0]) == FP_SUBMIT_FULL); /* the blocker's burst is open */
    CHECK(fp_group_submit_range(group, tally_range, JOBS, &tally, 1, FP_QUEUED) == FP_SUBMIT_FULL);
    for (int i = 0; i < JOBS; i++)
        CHECK(fp_group_submit_new(group, tally_job, (void *)&tally.ran[i], place) == FP_SUBMIT_OK);
    CHECK(fp_group_submit_range(group, tally_range, JOBS, &tally, 3, place) == FP_SUBMIT_OK);
    CHECK(fp_group_submit_batch(group, tally_job, (void *)tally.ran, sizeof *tally.ran, JOBS, place) == FP_SUBMIT_OK);
    CHECK_EQUAL(tally_sum(&tally), place == FP_HERE ? 3 * JOBS : 0);
    gate_raise(&blocker.go, 1);
    group_wait(group);
    tally_check(&tally, 3);
    group_end(group);
    group_end(held);
    check_ended(pool, 3 * JOBS + 1, 0, 0);
    end_pool(pool);
    tally_free(&tally);
}

/* --- order ------------------------------------------------------------------------------------------------------------- */

/* Jobs that say when they started. One worker: nothing comes between. */
static struct {
    int64_t next, numbers[4096];
} order;

static int note_order(void *arg)
{
    CHECK_EQUAL(*(int64_t *)arg, order.next);
    order.next++;
    return 0;
}

static int note_order_of_range(int64_t begin, int64_t end, void *arg)
{
    for (int64_t i = begin; i < end; i++)
        note_order((int64_t *)arg + i);
    return 0;
}

static void submit_ordered(fp_group *group, int64_t *first, int some, uint32_t sort)
{
    if (sort == 0)
        for (int i = 0; i < some; i++)
            CHECK(group_submit(group, note_order, first + i) == FP_SUBMIT_OK);
    else if (sort == 1)
        CHECK(group_submit_batch(group, note_order, first, sizeof *first, some) == FP_SUBMIT_OK);
    else
        CHECK(group_submit_range(group, note_order_of_range, some, first, sort - 2) == FP_SUBMIT_OK);
}

static void jobs_start_in_order(void)
{
    enum { JOBS = 4096 };
    fp_pool *pool = fixed_pool(1, 8);
    fp_group *group = new_group(pool);
    test_random random = {1};
    for (int i = 0; i < JOBS; i++)
        order.numbers[i] = i;
    for (int64_t round = test_rounds(100); round > 0; round--) {
        order.next = 0;
        for (int i = 0, some; i < JOBS; i += some) {
            some = 1 + (int)test_random_below(&random, 150);
            some = some < JOBS - i ? some : JOBS - i;
            submit_ordered(group, &order.numbers[i], some, test_random_below(&random, 5));
        }
        group_wait(group);
        CHECK_EQUAL(order.next, JOBS);
    }
    group_end(group);
    end_pool_with_books(pool);
}

/* --- nested ------------------------------------------------------------------------------------------------------------ */

struct nest {
    fp_pool *pool;
    fp_group_place place;
    int depth;
    fp_atomic(int64_t) leaves;
};

static int run_nest(void *arg);

static void submit_nested(fp_group *group, struct nest *nest)
{
    fp_submit_result result = fp_group_submit(group, run_nest, nest);
    if (result == FP_SUBMIT_FULL) /* a job cannot wait for room in its own queue */
        result = fp_group_submit_new(group, run_nest, nest, nest->place);
    CHECK(result == FP_SUBMIT_OK);
}

static int run_nest(void *arg)
{
    enum { CHILDREN = 3 };
    struct nest *nest = arg;
    watchdog_pat();
    if (nest->depth == 0) {
        fp_fetch_add(&nest->leaves, 1, fp_relaxed);
        return 0;
    }
    struct nest inner = {.pool = nest->pool, .place = nest->place, .depth = nest->depth - 1};
    fp_group *group = new_group(nest->pool);
    for (int i = 0; i < CHILDREN; i++)
        submit_nested(group, &inner);
    group_end(group);
    fp_fetch_add(&nest->leaves, fp_load(&inner.leaves, fp_relaxed), fp_relaxed);
    return 0;
}

static void nested(uint32_t workers, uint32_t capacity, fp_group_place place)
{
    fp_pool *pool = fixed_pool(workers, capacity);
    for (int64_t round = test_rounds(100); round > 0; round--) {
        struct nest nest = {.pool = pool, .place = place, .depth = 4};
        fp_group *group = new_group(pool);
        CHECK(group_submit(group, run_nest, &nest) == FP_SUBMIT_OK);
        group_end(group);
        CHECK_EQUAL(fp_load(&nest.leaves, fp_relaxed), 3 * 3 * 3 * 3);
    }
    end_pool_with_books(pool);
}

static void nested_jobs_end(fp_group_place place)
{
    nested(1, 1, place);
    nested(1, 64, place);
    nested(2, 1, place);
    nested(3, 2, place);
}

struct nested_for {
    fp_pool *pool;
    int depth;
    fp_atomic(int64_t) leaves;
};

static int run_nested_for(int64_t begin, int64_t end, void *arg)
{
    enum { CHILDREN = 4 };
    struct nested_for *nest = arg;
    watchdog_pat();
    if (nest->depth == 0) {
        fp_fetch_add(&nest->leaves, end - begin, fp_relaxed);
        return 0;
    }
    for (int64_t i = begin; i < end; i++) {
        struct nested_for inner = {.pool = nest->pool, .depth = nest->depth - 1};
        fp_group *group = new_group(nest->pool);
        CHECK(fp_group_begin_range(group, run_nested_for, CHILDREN, &inner, i % 2, FP_FOREVER) == FP_SUBMIT_OK);
        group_end(group);
        CHECK(fp_load(&inner.leaves, fp_relaxed) > 0);
        fp_fetch_add(&nest->leaves, fp_load(&inner.leaves, fp_relaxed), fp_relaxed);
    }
    return 0;
}

static void nested_loops_end(uint32_t workers)
{
    fp_pool *pool = fixed_pool(workers, 8192);
    for (int64_t round = test_rounds(40); round > 0; round--) {
        struct nested_for nest = {.pool = pool, .depth = 3};
        fp_group *group = new_group(pool);
        CHECK(fp_group_begin_range(group, run_nested_for, 4, &nest, 1, FP_FOREVER) == FP_SUBMIT_OK);
        group_end(group);
        CHECK_EQUAL(fp_load(&nest.leaves, fp_relaxed), 4 * 4 * 4 * 4);
    }
    end_pool_with_books(pool);
}

/* The one worker is inside the job, so nobody else takes from the queue what the job has run itself. */
struct loop {
    fp_pool *pool;
    int64_t rounds;
    tally tally;
};

static int submit_and_wait_in_a_loop(void *arg)
{
    struct loop *loop = arg;
    fp_group *group = new_group(loop->pool);
    for (int64_t round = loop->rounds; round > 0; round--) {
        CHECK(fp_group_submit(group, tally_job, (void *)&loop->tally.ran[0]) == FP_SUBMIT_OK);
        CHECK(fp_group_submit_range(group, tally_range, 1, &loop->tally, 1, FP_QUEUED) == FP_SUBMIT_OK);
        group_wait(group);
        CHECK_EQUAL(fp_queue_size(&loop->pool->queue), 0);
    }
    fp_group_release(group);
    return 0;
}

static void nothing_is_left_in_the_queue(void)
{
    struct loop loop = {.pool = fixed_pool(1, 4), .rounds = test_rounds(5000), .tally = tally_of(1)};
    fp_group *group = new_group(loop.pool);
    CHECK(fp_group_submit(group, submit_and_wait_in_a_loop, &loop) == FP_SUBMIT_OK);
    wait_until_idle(loop.pool); /* its own burst is open meanwhile */
    CHECK_EQUAL(tally_sum(&loop.tally), 2 * loop.rounds);
    group_end(group);
    end_pool_with_books(loop.pool);
    tally_free(&loop.tally);
}

/* --- waiting ------------------------------------------------------------------------------------------------------------ */

static void a_wait_times_out(void)
{
    fp_pool *pool = fixed_pool(1, 8);
    fp_group *group = new_group(pool);
    tally tally = tally_of(10);
    for (int64_t round = test_rounds(200); round > 0; round--) {
        blocker blocker = BLOCKER_INITIALIZER;
        CHECK(fp_group_submit(group, block, &blocker) == FP_SUBMIT_OK);
        CHECK(fp_group_submit(group, tally_job, (void *)&tally.ran[0]) == FP_SUBMIT_OK);
        gate_wait(&blocker.started, 1);
        CHECK(!fp_group_wait(group, 0));
        CHECK(!fp_group_wait(group, fp_os_now_ns() + 1000));
        CHECK(fp_group_submit_batch(group, tally_job, (void *)&tally.ran[1], sizeof *tally.ran, 9, FP_QUEUED) == FP_SUBMIT_OK);
        CHECK(!fp_group_wait(group, fp_os_now_ns() + 1000));
        gate_raise(&blocker.go, 1);
        group_wait(group);
        tally_check(&tally, 1);
        CHECK(fp_group_wait(group, 0)); /* and once more: it has ended */
    }
    group_end(group);
    end_pool_with_books(pool);
    tally_free(&tally);
}

/* Thousands of groups, freed with the wait, while the queue may hold their records still. */
static void freed_at_once(uint32_t workers, uint32_t capacity)
{
    enum { JOBS = 4 };
    fp_pool *pool = fixed_pool(workers, capacity);
    for (int64_t round = test_rounds(20000); round > 0; round--) {
        tally tally = tally_of(JOBS);
        fp_group *group = new_group(pool);
        uint32_t runs = 0;
        if (round % 3 != 0 && ++runs)
            for (int i = 0; i < JOBS; i++)
                CHECK(group_submit(group, tally_job, (void *)&tally.ran[i]) == FP_SUBMIT_OK);
        if (round % 3 != 1 && ++runs)
            CHECK(group_submit_range(group, tally_range, JOBS, &tally, 1) == FP_SUBMIT_OK);
        if (round % 5 == 0 && ++runs)
            CHECK(group_begin_range(group, tally_range, JOBS, &tally, 0) == FP_SUBMIT_OK);
        group_end(group);
        tally_check(&tally, runs);
        tally_free(&tally);
    }
    end_pool_with_books(pool);
}

/* Freed before the records are gone, and the pool's last reference with them. */
static void groups_hold_the_pool(void)
{
    for (int64_t round = test_rounds(500); round > 0; round--) {
        fp_pool *pool = fixed_pool(2, 8);
        fp_group *group = new_group(pool);
        tally tally = tally_of(3);
        for (int i = 0; i < 3; i++)
            CHECK(group_submit(group, tally_job, (void *)&tally.ran[i]) == FP_SUBMIT_OK);
        fp_pool_close(pool);
        release_pool(pool);
        group_end(group);
        tally_check(&tally, 1);
        tally_free(&tally);
    }
}

/* --- failing ------------------------------------------------------------------------------------------------------------- */

static int fail_if_negative(void *arg)
{
    int value = *(int *)arg;
    return value < 0 ? value : 0;
}

static int fail_range(int64_t begin, int64_t end, void *arg)
{
    int64_t bad = *(int64_t *)arg;
    return begin <= bad && bad < end ? 70 + (int)begin : 0;
}

static void check_failure(fp_group *group, int status, int64_t at)
{
    group_wait(group);
    CHECK(fp_load(&group->failed, fp_relaxed) == (status != 0));
    CHECK_EQUAL(group->status, status);
    CHECK_EQUAL(group->failed_at, at);
}

static void the_first_failure_is_kept(void)
{
    fp_pool *pool = fixed_pool(1, 8);
    fp_group *group = new_group(pool);
    int values[] = {0, 0, -3, 0, -5, 0};
    int64_t bad = 6, good = 100;
    for (int i = 0; i < 6; i++)
        CHECK(fp_group_submit(group, fail_if_negative, &values[i]) == FP_SUBMIT_OK);
    CHECK(fp_group_submit_batch(group, fail_if_negative, values, sizeof *values, 6, FP_QUEUED) == FP_SUBMIT_OK);
    check_failure(group, -3, -1); /* a single job, and the others have run all the same */
    check_ended(pool, 8, 4, 0);
    CHECK(fp_group_submit_batch(group, fail_if_negative, values, sizeof *values, 6, FP_QUEUED) == FP_SUBMIT_OK);
    CHECK(fp_group_submit(group, fail_if_negative, &values[4]) == FP_SUBMIT_OK);
    check_failure(group, -3, 2);
    CHECK(fp_group_submit_range(group, fail_range, 10, &bad, 4, FP_QUEUED) == FP_SUBMIT_OK); /* 4..8 fails */
    check_failure(group, 74, 4);
    CHECK(fp_group_submit_new(group, fail_if_negative, &values[4], FP_HERE) == FP_SUBMIT_OK);
    check_failure(group, -5, -1);
    CHECK(fp_group_submit_batch(group, fail_if_negative, values, sizeof *values, 6, FP_HERE) == FP_SUBMIT_OK);
    check_failure(group, -3, 2);
    CHECK(fp_group_submit_range(group, fail_range, 10, &good, 4, FP_QUEUED) == FP_SUBMIT_OK);
    check_failure(group, 0, -1); /* what went before is forgotten */
    check_ended(pool, 8 + 4 + 6 + 0 + 4 + 10, 4 + 3 + 4 + 1 + 2, 0);
    group_end(group);
    end_pool(pool);
}

/* --- cancelling ---------------------------------------------------------------------------------------------------------- */

static void cancel_from_another_thread(void *arg, unsigned number)
{
    (void)number;
    fp_store(&((fp_group *)arg)->stop, 1, fp_relaxed);
}

static void cancel_group(fp_group *group)
{
    threads threads;
    threads_start(&threads, 1, cancel_from_another_thread, group);
    threads_join(&threads);
}

static void the_rest_is_cancelled(void)
{
    enum { JOBS = 300, SORTS = 3 };
    fp_pool *pool = fixed_pool(1, 16);
    fp_group *group = new_group(pool);
    tally tally = tally_of(JOBS);
    uint64_t rounds = (uint64_t)test_rounds(50);
    for (uint64_t round = 0; round < rounds; round++) {
        blocker blocker = BLOCKER_INITIALIZER;
        CHECK(fp_group_submit(group, block, &blocker) == FP_SUBMIT_OK);
        for (int i = 0; i < JOBS; i++)
            CHECK(fp_group_submit(group, tally_job, (void *)&tally.ran[i]) == FP_SUBMIT_OK);
        CHECK(fp_group_submit_batch(group, tally_job, (void *)tally.ran, sizeof *tally.ran, JOBS, FP_QUEUED) == FP_SUBMIT_OK);
        CHECK(fp_group_submit_range(group, tally_range, JOBS, &tally, 0, FP_QUEUED) == FP_SUBMIT_OK);
        gate_wait(&blocker.started, 1);
        cancel_group(group);
        if (round % 2)
            CHECK(!fp_group_wait(group, 0)); /* the waiter cancels the rest, or the worker does */
        gate_raise(&blocker.go, 1);
        group_wait(group);
        CHECK(fp_load(&group->cancelled, fp_relaxed) && !fp_load(&group->failed, fp_relaxed));
        tally_check(&tally, 0);
        CHECK(fp_group_submit_batch(group, tally_job, (void *)tally.ran, sizeof *tally.ran, JOBS, FP_QUEUED) == FP_SUBMIT_OK);
        group_wait(group); /* it is as good as new */
        CHECK(!fp_load(&group->cancelled, fp_relaxed));
        tally_check(&tally, 1);
    }
    group_end(group);
    check_ended(pool, rounds * (1 + JOBS), 0, rounds * JOBS * SORTS);
    end_pool(pool);
    tally_free(&tally);
}

static int stop_its_group(void *arg)
{
    fp_store(&((fp_group *)arg)->stop, 1, fp_relaxed);
    return 0;
}

static int stop_its_group_in_a_range(int64_t begin, int64_t end, void *arg)
{
    CHECK(begin == 0 && end == 1);
    return stop_its_group(arg);
}

/* Cancelled by the job that the submitting thread runs, which nobody has queued. */
static void cancelled_where_it_is_run(void)
{
    enum { JOBS = 10 };
    fp_pool *pool = fixed_pool(2, 8);
    fp_group *group = new_group(pool);
    tally tally = tally_of(JOBS);
    CHECK(fp_group_submit_range(group, stop_its_group_in_a_range, JOBS, group, 1, FP_HERE) == FP_SUBMIT_OK);
    CHECK(fp_group_submit_range(group, tally_range, JOBS, &tally, 1, FP_HERE) == FP_SUBMIT_OK);
    CHECK(fp_group_submit_new(group, tally_job, (void *)tally.ran, FP_HERE) == FP_SUBMIT_OK);
    group_wait(group);
    CHECK(fp_load(&group->cancelled, fp_relaxed));
    tally_check(&tally, 0);
    check_ended(pool, 1, 0, JOBS - 1 + JOBS + 1);
    /* The same where the waiting thread begins by itself, as it may when there is a worker. */
    CHECK(fp_group_submit(group, tally_job, (void *)tally.ran) == FP_SUBMIT_OK);
    group_wait(group);
    wait_until_idle(pool);
    while (!fp_parallel_may_start_here(pool)) /* until a worker has gone to sleep */
        sched_yield();
    CHECK(fp_group_begin_range(group, stop_its_group_in_a_range, JOBS, group, 1, FP_FOREVER) == FP_SUBMIT_OK);
    CHECK(fp_group_begin_range(group, tally_range, JOBS, &tally, 1, FP_FOREVER) == FP_SUBMIT_OK); /* not one of it */
    group_wait(group);
    CHECK_EQUAL(tally_sum(&tally), 1);
    check_ended(pool, 1 + 1 + 1, 0, JOBS - 1 + JOBS + 1 + JOBS - 1 + JOBS);
    group_end(group);
    end_pool(pool);
    tally_free(&tally);
}

/* Any number of threads that cancel, at any moment: each job has run once or counts as cancelled. */
struct cancelling {
    fp_group *group;
    fp_atomic(bool) over;
};

static void cancel_now_and_then(void *arg, unsigned number)
{
    struct cancelling *cancelling = arg;
    (void)number;
    while (!fp_load(&cancelling->over, fp_relaxed)) {
        fp_store(&cancelling->group->stop, 1, fp_relaxed);
        sched_yield();
    }
}

static void cancelled_at_any_moment(uint32_t workers)
{
    enum { JOBS = 100 };
    struct cancelling cancelling = {.group = new_group(fixed_pool(workers, 8))};
    fp_group *group = cancelling.group;
    fp_pool *pool = group->pool;
    tally tally = tally_of(JOBS);
    threads threads;
    int64_t rounds = test_rounds(1000);
    threads_start(&threads, 1, cancel_now_and_then, &cancelling);
    for (int64_t round = 0; round < rounds; round++) {
        for (int i = 0; i < JOBS; i++)
            CHECK(group_submit(group, tally_job, (void *)&tally.ran[i]) == FP_SUBMIT_OK);
        CHECK(group_submit_range(group, tally_range, JOBS, &tally, 7) == FP_SUBMIT_OK);
        CHECK(group_begin_range(group, tally_range, JOBS, &tally, 0) == FP_SUBMIT_OK);
        group_wait(group);
    }
    fp_store(&cancelling.over, true, fp_relaxed);
    threads_join(&threads);
    fp_metrics metrics = check_books(pool);
    CHECK_EQUAL(metrics.ended[FP_DONE], tally_sum(&tally));
    group_end(group);
    end_pool(pool);
    tally_free(&tally);
}

/* --- discarding --------------------------------------------------------------------------------------------------------- */

static void the_oldest_are_discarded(void)
{
    enum { JOBS = FP_BURST_JOBS + 20 };
    fp_pool *pool = fixed_pool(1, 8);
    fp_group *group = new_group(pool), *held = new_group(pool);
    tally tally = tally_of(JOBS);
    blocker blocker = BLOCKER_INITIALIZER;
    CHECK(fp_group_submit(held, block, &blocker) == FP_SUBMIT_OK);
    gate_wait(&blocker.started, 1);
    for (int i = 0; i < JOBS; i++)
        CHECK(fp_group_submit(group, tally_job, (void *)&tally.ran[i]) == FP_SUBMIT_OK);
    while (fp_load(&((struct fp_group_burst *)held->first)->burst.filled, fp_relaxed) == 1) /* the blocker's own place first */
        CHECK(fp_pool_discard_oldest(pool));
    CHECK(fp_pool_discard_oldest(pool)); /* a full one */
    CHECK(fp_pool_discard_oldest(pool)); /* an open one, which takes no more then */
    CHECK(!fp_pool_discard_oldest(pool));
    CHECK(fp_group_submit(group, tally_job, (void *)&tally.ran[0]) == FP_SUBMIT_OK);
    gate_raise(&blocker.go, 1);
    group_end(held);
    group_wait(group);
    CHECK(fp_load(&group->cancelled, fp_relaxed));
    CHECK_EQUAL(tally_sum(&tally), 1);
    group_end(group);
    check_ended(pool, 2, 0, JOBS);
    end_pool(pool);
    tally_free(&tally);
}

struct discarding {
    fp_pool *pool;
    fp_atomic(bool) over;
};

static void discard_now_and_then(void *arg, unsigned number)
{
    struct discarding *discarding = arg;
    while (!fp_load(&discarding->over, fp_relaxed))
        if (!(number % 2 ? fp_pool_run_oldest(discarding->pool) : fp_pool_discard_oldest(discarding->pool)))
            sched_yield();
}

static void discarded_at_any_moment(uint32_t workers, uint32_t capacity)
{
    enum { JOBS = 60 };
    struct discarding discarding = {.pool = fixed_pool(workers, capacity)};
    fp_group *group = new_group(discarding.pool);
    tally tally = tally_of(JOBS);
    threads threads;
    int64_t rounds = test_rounds(1500);
    threads_start(&threads, 2, discard_now_and_then, &discarding);
    for (int64_t round = 0; round < rounds; round++) {
        for (int i = 0; i < JOBS; i++)
            CHECK(group_submit(group, tally_job, (void *)&tally.ran[i]) == FP_SUBMIT_OK);
        CHECK(group_submit_range(group, tally_range, JOBS, &tally, 9) == FP_SUBMIT_OK);
        group_wait(group);
    }
    fp_store(&discarding.over, true, fp_relaxed);
    threads_join(&threads);
    group_end(group);
    fp_metrics metrics = check_books(discarding.pool);
    CHECK_EQUAL(metrics.ended[FP_DONE], tally_sum(&tally));
    CHECK_EQUAL(metrics.submitted, (uint64_t)rounds * 2 * JOBS);
    end_pool(discarding.pool);
    tally_free(&tally);
}

/* --- pools that close and break ------------------------------------------------------------------------------------------ */

enum { CLOSING_JOBS = 400 };

struct closing {
    fp_group *group;
    tally tally;
    fp_atomic(uint32_t) submits;
    bool accepted[CLOSING_JOBS];
};

static void submit_until_closed(void *arg, unsigned number)
{
    struct closing *closing = arg;
    (void)number;
    for (int i = 0; i < CLOSING_JOBS; i++) {
        fp_submit_result result = group_submit(closing->group, tally_job, (void *)&closing->tally.ran[i]);
        CHECK(result == FP_SUBMIT_OK || result == FP_SUBMIT_CLOSED);
        closing->accepted[i] = result == FP_SUBMIT_OK;
        fp_fetch_add(&closing->submits, 1, fp_relaxed);
    }
    group_end(closing->group);
}

static void closed_while_submitting(uint32_t workers, uint32_t capacity)
{
    test_random random = {workers};
    struct closing closing = {.tally = tally_of(CLOSING_JOBS)};
    for (int64_t round = test_rounds(400); round > 0; round--) {
        fp_pool *pool = fixed_pool(workers, capacity);
        threads submitter;
        uint32_t enough = test_random_below(&random, CLOSING_JOBS);
        closing.group = new_group(pool);
        fp_store(&closing.submits, 0, fp_relaxed);
        threads_start(&submitter, 1, submit_until_closed, &closing);
        while (fp_load(&closing.submits, fp_relaxed) < enough)
            sched_yield();
        fp_pool_close(pool);
        threads_join(&submitter);
        wait_until_ended(pool);
        check_books(pool);
        release_pool(pool);
        for (int i = 0; i < CLOSING_JOBS; i++) {
            CHECK_EQUAL(fp_load(&closing.tally.ran[i], fp_relaxed), closing.accepted[i]);
            fp_store(&closing.tally.ran[i], 0, fp_relaxed);
        }
    }
    tally_free(&closing.tally);
}

static int refuse_start(void *arg, fp_worker *worker)
{
    (void)worker;
    gate_wait(arg, 1);
    return 1;
}

static void raise_soon(void *arg, unsigned number)
{
    (void)number;
    gate_raise(arg, 1);
}

static void broken_pool_frees_the_waiter(uint32_t workers, uint32_t capacity)
{
    enum { JOBS = 300 };
    for (int64_t round = test_rounds(100); round > 0; round--) {
        gate go = GATE_INITIALIZER;
        fp_host host = {.arg = &go, .worker_start = refuse_start};
        fp_pool *pool = pool_with_host(workers, workers, capacity, 0, &host);
        fp_group *group = new_group(pool);
        tally tally = tally_of(JOBS);
        threads breaker;
        for (int i = 0; i < JOBS; i++)
            CHECK(fp_group_submit(group, tally_job, (void *)&tally.ran[i]) == FP_SUBMIT_OK);
        CHECK(fp_group_submit_range(group, tally_range, JOBS, &tally, 1, FP_QUEUED) == FP_SUBMIT_OK);
        pool->usable_cpus = 0; /* nobody helps: there is nobody but the workers to free this thread */
        threads_start(&breaker, 1, raise_soon, &go);
        group_wait(group);
        CHECK(fp_load(&group->cancelled, fp_relaxed));
        tally_check(&tally, 0);
        CHECK(fp_group_submit(group, tally_job, (void *)tally.ran) == FP_SUBMIT_BROKEN);
        CHECK(fp_group_submit_range(group, tally_range, JOBS, &tally, 1, FP_QUEUED) == FP_SUBMIT_BROKEN);
        CHECK(fp_group_begin_range(group, tally_range, JOBS, &tally, 1, FP_FOREVER) == FP_SUBMIT_BROKEN);
        threads_join(&breaker);
        group_end(group);
        check_ended(pool, 0, 0, 2 * JOBS);
        end_pool(pool);
        tally_free(&tally);
    }
}

/* --- idle: whoever ends the last job says so ---------------------------------------------------------------------------- */

/* Two jobs of a burst: the worker has the one, the thread that waits for the group the other, and it ends last. */
struct last_helper {
    fp_group *group;
    pthread_t owner;
    blocker of_worker, of_owner;
};

static int run_last_helper(void *arg)
{
    struct last_helper *it = arg;
    return block(pthread_equal(pthread_self(), it->owner) ? &it->of_owner : &it->of_worker);
}

static void help_as_owner(void *arg, unsigned number)
{
    struct last_helper *it = arg;
    (void)number;
    it->owner = pthread_self();
    CHECK(fp_group_submit(it->group, run_last_helper, it) == FP_SUBMIT_OK);
    gate_wait(&it->of_worker.started, 1);
    CHECK(fp_group_submit_new(it->group, run_last_helper, it, FP_QUEUED) == FP_SUBMIT_OK);
    group_end(it->group);
}

static void idle_is_told_by_helpers(void)
{
    fp_pool *pool = fixed_pool(2, 8);
    struct last_helper it = {
        .group = new_group(pool), .of_worker = BLOCKER_INITIALIZER, .of_owner = BLOCKER_INITIALIZER};
    blocker other = BLOCKER_INITIALIZER;
    fp_group *held = new_group(pool);
    threads owner;
    idler idler;
    pool->usable_cpus = 64; /* there is always one for a helper */
    CHECK(fp_group_submit(held, block, &other) == FP_SUBMIT_OK); /* the second worker */
    gate_wait(&other.started, 1);
    fp_fetch_sub(&pool->awake, 1, fp_relaxed); /* as if a worker slept, or nobody would help */
    threads_start(&owner, 1, help_as_owner, &it);
    gate_wait(&it.of_owner.started, 1);
    fp_fetch_add(&pool->awake, 1, fp_relaxed);
    gate_raise(&it.of_worker.go, 1);
    gate_raise(&other.go, 1);
    group_end(held);
    idler_start(&idler, pool);
    idler_is_asleep(&idler);
    gate_raise(&it.of_owner.go, 1);
    threads_join(&owner);
    idler_join(&idler);
    end_pool_with_books(pool);
}

int main(void)
{
    watchdog_start(dump_pool);
    PROPERTY("group: every job exactly once, of all sorts (workers 1-16, capacity 1-8192, 3 submitters)", every_job_once());
    PROPERTY("group: no jobs are none", nothing_to_run());
    PROPERTY("group: each job once whatever the grain", grains(1); grains(0); grains(INT64_MAX));
    PROPERTY("group: jobs may run here where the queue is full", places(FP_HERE));
    PROPERTY("group: jobs may be queued past the bound", places(FP_BEYOND));
    PROPERTY("group: one worker starts jobs in their order, whatever their sort", jobs_start_in_order());
    PROPERTY("group: a job that waits for others of its own full pool ends, nested 4 deep", nested_jobs_end(FP_BEYOND);
             nested_jobs_end(FP_HERE));
    PROPERTY("group: nested loops end", nested_loops_end(1); nested_loops_end(2); nested_loops_end(3));
    PROPERTY("group: what a job has run itself leaves the queue", nothing_is_left_in_the_queue());
    PROPERTY("group: a wait times out and may be repeated", a_wait_times_out());
    PROPERTY("group: may be freed right after the wait", freed_at_once(1, 1); freed_at_once(2, 8); freed_at_once(3, 64));
    PROPERTY("group: holds its pool", groups_hold_the_pool());
    PROPERTY("group: the first failure is kept until the next submit", the_first_failure_is_kept());
    PROPERTY("group: cancelled from elsewhere, the rest never starts", the_rest_is_cancelled());
    PROPERTY("group: cancelled where the submitter runs it, the rest never starts", cancelled_where_it_is_run());
    PROPERTY("group: cancelled at any moment each job ends once", cancelled_at_any_moment(1); cancelled_at_any_moment(3));
    PROPERTY("group: discard_oldest ends bursts", the_oldest_are_discarded());
    PROPERTY("group: each job ends once beside discarders and helpers", discarded_at_any_moment(1, 2);
             discarded_at_any_moment(3, 16));
    PROPERTY("group: what was accepted while the pool closed runs exactly once", closed_while_submitting(1, 8);
             closed_while_submitting(2, 1); closed_while_submitting(3, 64));
    PROPERTY("group: a pool that breaks frees the waiter", broken_pool_frees_the_waiter(1, 8);
             broken_pool_frees_the_waiter(3, 8));
    PROPERTY("group: a helper that ends the last job tells who waits for idle", idle_is_told_by_helpers());
    return 0;
}
