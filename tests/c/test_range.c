/* test_range.c - ranges: N jobs behind one place in the queue, each exactly once, in order with what stands round them. */
#include "pools.h"

/* --- the cursor alone -------------------------------------------------------------------------------------------------- */

static void cursor_covers_the_range(int64_t n, int64_t grain)
{
    fp_range range;
    int64_t begin, end, next = 0;
    fp_range_init(&range, n);
    while (fp_range_claim(&range, grain, &begin, &end)) {
        CHECK(begin == next && end > begin && end - begin <= grain && end <= n);
        next = end;
        CHECK(fp_range_left(&range) == n - next);
    }
    CHECK(next == n);
    CHECK(!fp_range_claim(&range, grain, &begin, &end) && fp_range_left(&range) == 0 && fp_range_cancel(&range) == 0);
}

static void cursor_covers_each_range(void)
{
    for (int64_t n = 1; n <= 40; n++)
        for (int64_t grain = 1; grain <= 45; grain++)
            cursor_covers_the_range(n, grain);
}

/* A grain is cut, so that claims past the end do not add up to a cursor that wraps. */
static void cursor_at_its_bound(void)
{
    fp_range range;
    int64_t begin, end;
    fp_range_init(&range, FP_RANGE_MOST);
    CHECK(fp_range_claim(&range, INT64_MAX, &begin, &end) && begin == 0 && end == FP_RANGE_GRAIN_MOST);
    fp_store(&range.cursor, FP_RANGE_MOST - 5, fp_relaxed);
    CHECK(fp_range_left(&range) == 5);
    CHECK(fp_range_claim(&range, INT64_MAX, &begin, &end) && begin == FP_RANGE_MOST - 5 && end == FP_RANGE_MOST);
    for (int i = 0; i < 100000; i++)
        CHECK(!fp_range_claim(&range, INT64_MAX, &begin, &end));
    CHECK(fp_load(&range.cursor, fp_relaxed) <= FP_RANGE_MOST + FP_RANGE_GRAIN_MOST);
    CHECK(fp_range_left(&range) == 0 && fp_range_cancel(&range) == 0);
    fp_range_init(&range, FP_RANGE_MOST);
    CHECK(fp_range_cancel(&range) == FP_RANGE_MOST && !fp_range_claim(&range, 1, &begin, &end));
}

/* --- ranges in a pool -------------------------------------------------------------------------------------------------- */

static void check_range_ran_once(counted_range *range)
{
    for (int64_t i = 0; i < range->range.n; i++)
        CHECK_EQUAL(fp_load(&range->ran[i], fp_relaxed), 1);
    CHECK_EQUAL(range->ended.count, 1);
}

static void submit_range(fp_pool *pool, counted_range *range)
{
    CHECK(submit_waiting(pool, &counted_range_class, range, true, range->range.n) == FP_SUBMIT_OK);
}

static void each_job_once(uint32_t workers, uint32_t capacity, int64_t n, int64_t grain, int ranges)
{
    fp_pool *pool = fixed_pool(workers, capacity);
    counted_range **all = calloc((size_t)ranges, sizeof *all);
    CHECK(all != NULL);
    for (int i = 0; i < ranges; i++) {
        all[i] = counted_range_create(pool, n, grain);
        submit_range(pool, all[i]);
    }
    wait_until_idle(pool);
    fp_metrics metrics;
    fp_pool_read_metrics(pool, &metrics);
    CHECK_EQUAL(metrics.submitted, n * ranges);
    CHECK_EQUAL(metrics.ended[FP_DONE], n * ranges);
    end_pool(pool);
    for (int i = 0; i < ranges; i++) {
        check_range_ran_once(all[i]);
        counted_range_free(all[i]);
    }
    free(all);
}

static void each_job_of_a_range_once(void)
{
    static const uint32_t workers[] = {1, 2, 5}, capacities[] = {1, 2, 64, 0};
    for (int w = 0; w < 3; w++)
        for (int c = 0; c < 4; c++) {
            each_job_once(workers[w], capacities[c], 1, 1, (int)test_rounds(3000));
            each_job_once(workers[w], capacities[c], 7, 2, (int)test_rounds(3000));
            each_job_once(workers[w], capacities[c], 100000, 64, 3);
        }
}

/* Producers that mix ranges and single jobs, wait for room, and wait for idle. */
struct mix {
    fp_pool *pool;
    int64_t rounds;
};

static void produce_mix(void *arg, unsigned number)
{
    struct mix *mix = arg;
    test_random random = {number + 1};
    for (int64_t i = 0; i < mix->rounds; i++) {
        counted_range *range = counted_range_create(mix->pool, 1 + test_random_below(&random, 5), 1);
        counted_job before = {0}, after = {0};
        submit_one(mix->pool, &counted_class, &before);
        submit_range(mix->pool, range);
        submit_one(mix->pool, &counted_class, &after);
        wait_until_idle(mix->pool);
        gate_wait(&range->ended, 1); /* idle speaks of the jobs; the range's end comes after the last of them */
        CHECK_EQUAL(fp_load(&before.ran, fp_relaxed), 1);
        CHECK_EQUAL(fp_load(&after.ran, fp_relaxed), 1);
        check_range_ran_once(range);
        counted_range_free(range);
    }
}

static void ranges_beside_single_jobs(uint32_t workers, uint32_t capacity)
{
    enum { PRODUCERS = 3 };
    struct mix mix = {.pool = fixed_pool(workers, capacity), .rounds = test_rounds(1500)};
    threads threads;
    threads_start(&threads, PRODUCERS, produce_mix, &mix);
    threads_join(&threads);
    end_pool(mix.pool);
}

/* --- several workers join, and gates hold them inside ----------------------------------------------------------------- */

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
        note_range_jobs(range->pool, worker, FP_DONE, end - begin);
        watchdog_pat();
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

static const fp_job_class gated_range_class = {
    .run = run_gated_range, .discard = discard_gated_range, .end = end_gated_range};

static void init_gated_range(struct gated_range *range, fp_pool *pool, int64_t n)
{
    *range = (struct gated_range){
        .pool = pool, .started = GATE_INITIALIZER, .go = GATE_INITIALIZER, .ended = GATE_INITIALIZER};
    fp_range_init(&range->range, n);
}

static void all_workers_join(void)
{
    enum { WORKERS = 4 };
    fp_pool *pool = fixed_pool(WORKERS, 4);
    static struct gated_range range;
    init_gated_range(&range, pool, WORKERS);
    CHECK(fp_pool_submit(pool, &gated_range_class, &range, true, WORKERS, FP_LANE_NORMAL) == FP_SUBMIT_OK);
    gate_wait(&range.started, WORKERS); /* each worker holds one job: none could have two */
    CHECK_EQUAL(range.ended.count, 0);
    gate_raise(&range.go, WORKERS);
    gate_wait(&range.ended, 1);
    end_pool(pool);
    CHECK_EQUAL(range.ended.count, 1);
}

/* Two workers inside; the first to find no job left closes the range, and that makes room, though the other's job may
 * take as long as it likes. */
static void submit_one_job(void *arg, unsigned number)
{
    static counted_job job;
    (void)number;
    submit_one(arg, &counted_class, &job);
}

static void room_when_all_jobs_have_started(void)
{
    enum { JOBS = 2 };
    for (int64_t round = test_rounds(300); round > 0; round--) {
        fp_pool *pool = fixed_pool(2, 1);
        static struct gated_range range;
        threads submitter;
        init_gated_range(&range, pool, JOBS);
        CHECK(fp_pool_submit(pool, &gated_range_class, &range, true, JOBS, FP_LANE_NORMAL) == FP_SUBMIT_OK);
        gate_wait(&range.started, 2); /* jobs 0 and 1 run, one on each worker: the range is the head still */
        threads_start(&submitter, 1, submit_one_job, pool);
        gate_raise(&range.go, 1); /* job 0 ends; its worker finds none left */
        threads_join(&submitter); /* while job 1 runs */
        CHECK_EQUAL(range.ended.count, 0);
        gate_raise(&range.go, 1);
        end_pool(pool);
        CHECK_EQUAL(range.ended.count, 1);
    }
}

/* --- order --------------------------------------------------------------------------------------------------------------- */

/* A stream of ranges and single jobs. Whoever starts a job of an item finds nothing left to start of the range before. */
struct stream_item {
    fp_range range;
    fp_pool *pool;
    fp_range *before; /* the nearest range before this item in the stream, or NULL */
    fp_atomic(uint32_t) ran;
    fp_atomic(uint32_t) ended;
};

static int64_t left_before(struct stream_item *item)
{
    return item->before != NULL ? fp_range_left(item->before) : 0;
}

static fp_outcome run_stream_range(void *ctx, fp_worker *worker)
{
    struct stream_item *item = ctx;
    int64_t begin, end;
    for (;;) {
        int64_t left = left_before(item);
        if (!fp_range_claim(&item->range, 1, &begin, &end))
            return FP_DONE;
        CHECK(left == 0);
        fp_fetch_add(&item->ran, 1, fp_relaxed);
        note_range_jobs(item->pool, worker, FP_DONE, 1);
        watchdog_pat();
    }
}

static fp_outcome run_stream_single(void *ctx, fp_worker *worker)
{
    struct stream_item *item = ctx;
    (void)worker;
    CHECK(left_before(item) == 0);
    fp_fetch_add(&item->ran, 1, fp_relaxed);
    fp_fetch_add(&item->ended, 1, fp_relaxed);
    watchdog_pat();
    return FP_DONE;
}

static void end_stream_range(void *ctx, fp_worker *worker)
{
    struct stream_item *item = ctx;
    (void)worker;
    fp_fetch_add(&item->ended, 1, fp_relaxed);
}

static int64_t discard_stream(void *ctx, fp_discard_reason reason)
{
    (void)ctx;
    (void)reason;
    return 0;
}

static const fp_job_class stream_range_class = {
    .run = run_stream_range, .discard = discard_stream, .end = end_stream_range};
static const fp_job_class stream_single_class = {.run = run_stream_single, .discard = discard_stream};

/* `singles`: one stands between each two ranges. */
static void order_is_kept(uint32_t workers, uint32_t capacity, bool singles)
{
    enum { JOBS = 3 };
    fp_pool *pool = fixed_pool(workers, capacity);
    int64_t count = test_rounds(30000);
    struct stream_item *items = NULL;
    CHECK(posix_memalign((void **)&items, FP_CACHE_LINE, (size_t)count * sizeof *items) == 0);
    for (int64_t i = 0; i < count; i++) {
        bool single = singles && i % 2;
        fp_range_init(&items[i].range, JOBS);
        items[i].pool = pool;
        items[i].before = i == 0 ? NULL : singles && !single ? &items[i - 2].range : &items[i - 1].range;
        fp_store(&items[i].ran, 0, fp_relaxed);
        fp_store(&items[i].ended, 0, fp_relaxed);
        CHECK(submit_waiting(pool, single ? &stream_single_class : &stream_range_class, &items[i], !single,
                             single ? 1 : JOBS) == FP_SUBMIT_OK);
    }
    end_pool(pool);
    for (int64_t i = 0; i < count; i++) {
        CHECK_EQUAL(fp_load(&items[i].ran, fp_relaxed), singles && i % 2 ? 1 : JOBS);
        CHECK_EQUAL(fp_load(&items[i].ended, fp_relaxed), 1);
    }
    free(items);
}

int main(void)
{
    watchdog_start(dump_pool);
    PROPERTY("range: the cursor covers a range once, chunk by chunk", cursor_covers_each_range());
    PROPERTY("range: the cursor holds at its bound of 2^62", cursor_at_its_bound());
    PROPERTY("range: each job exactly once, one end (workers 1-5, capacity 1-64 and unbounded)", each_job_of_a_range_once());
    PROPERTY("range: ranges beside single jobs", ranges_beside_single_jobs(1, 2); ranges_beside_single_jobs(3, 1);
             ranges_beside_single_jobs(4, 16));
    PROPERTY("range: all workers join", all_workers_join());
    PROPERTY("range: its place is free when all its jobs have started", room_when_all_jobs_have_started());
    PROPERTY("range: all jobs of a range start before the next range", order_is_kept(3, 1, false);
             order_is_kept(2, 2, false); order_is_kept(4, 64, false));
    PROPERTY("range: all jobs of a range start before the next single job", order_is_kept(3, 2, true);
             order_is_kept(4, 64, true));
    return 0;
}
