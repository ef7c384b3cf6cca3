/* test_queue.c - the queue of records: its exact bound, records used again, and the life of a range. */
#include "fp_queue.h"
#include "fp_range.h"
#include "threads.h"

/* --- one thread: bound, order, contents -------------------------------------------------------------------------------- */

static const fp_job_class classes[2]; /* only their addresses are of use here */

static bool push_single(fp_queue *queue, void *ctx)
{
    return fp_queue_try_push(queue, &classes[0], ctx, 0, FP_LANE_NORMAL, (uint64_t)(uintptr_t)ctx);
}

static bool push_range(fp_queue *queue, void *ctx)
{
    return fp_queue_try_push(queue, &classes[1], ctx, FP_JOB_RANGE | FP_JOB_ATTACHED, FP_LANE_NORMAL, 0);
}

/* The head's ctx, when it is a single job and ours. */
static void *take_single(fp_queue *queue)
{
    fp_queue_head head;
    fp_started job;
    CHECK(fp_queue_peek(queue, FP_LANE_HIGH, &head));
    CHECK(head.kind == 0);
    CHECK(fp_queue_take(queue, head, &job));
    CHECK(job.job_class == &classes[0] && job.submitted_ticks == (uint64_t)(uintptr_t)job.ctx);
    return job.ctx;
}

static void full_at(uint32_t capacity)
{
    fp_queue queue;
    fp_queue_head head;
    static char ctx[2 * 5000];
    CHECK(fp_queue_init(&queue, capacity, 0));
    for (int lap = 0; lap < 3; lap++) {
        for (uint32_t i = 0; i < capacity; i++) {
            CHECK(fp_queue_has_room(&queue));
            CHECK(push_single(&queue, &ctx[i]));
        }
        CHECK(!fp_queue_has_room(&queue) && !push_single(&queue, &ctx[0]));
        CHECK_EQUAL(fp_queue_size(&queue), capacity);
        CHECK(take_single(&queue) == &ctx[0] && fp_queue_has_room(&queue)); /* one out, exactly one in */
        CHECK(push_single(&queue, &ctx[capacity]) && !push_single(&queue, &ctx[0]));
        for (uint32_t i = 1; i <= capacity; i++)
            CHECK(take_single(&queue) == &ctx[i]);
        CHECK(!fp_queue_peek(&queue, FP_LANE_HIGH, &head));
    }
    fp_queue_destroy(&queue);
}

static void full_at_exactly_its_capacity(void)
{
    static const uint32_t capacities[] = {1, 2, 3, 1000, 1023, 1024, 1025, 5000};
    for (int i = 0; i < 8; i++)
        full_at(capacities[i]);
}

/* Few records go through many slots: each record comes back, and positions and records drift apart. */
static void records_are_used_again(uint32_t capacity)
{
    fp_queue queue;
    static char ctx[7];
    CHECK(fp_queue_init(&queue, capacity, 0));
    uint64_t pushed = 0, taken = 0, slots = queue.ready[FP_LANE_NORMAL].mask + 1;
    while (taken < 5 * slots) {
        while (push_single(&queue, &ctx[pushed % 7]))
            pushed++;
        CHECK_EQUAL(pushed - taken, capacity);
        for (uint64_t i = pushed % capacity; i < capacity; i++) /* some or all of them */
            CHECK(take_single(&queue) == &ctx[taken++ % 7]);
    }
    fp_queue_destroy(&queue);
}

/* --- one thread: ranges ------------------------------------------------------------------------------------------------ */

static fp_queue_head peek_range(fp_queue *queue)
{
    fp_queue_head head;
    CHECK(fp_queue_peek(queue, FP_LANE_HIGH, &head));
    CHECK(head.kind == (FP_JOB_RANGE | FP_JOB_ATTACHED));
    return head;
}

static void join_range(fp_queue *queue, fp_queue_head head, void *ctx)
{
    fp_started job;
    CHECK(fp_queue_join(queue, head, &job));
    CHECK(job.job_class == &classes[1] && job.ctx == ctx);
}

/* No spare record: the range keeps its place to the end. */
static void a_range_keeps_its_place_without_spares(void)
{
    fp_queue queue;
    fp_queue_head head, next;
    char first, second;
    CHECK(fp_queue_init(&queue, 2, 0));
    CHECK(push_range(&queue, &first) && push_single(&queue, &second));
    for (int lap = 0; lap < 3000; lap++) {
        head = peek_range(&queue);
        join_range(&queue, head, &first);
        join_range(&queue, head, &first);
        join_range(&queue, head, &first);
        CHECK(fp_queue_is_head(&queue, head));
        CHECK(fp_queue_leave(&queue, head) == FP_LEFT); /* open, and two inside */
        CHECK(!fp_queue_close(&queue, head) && !fp_queue_close(&queue, head));
        CHECK(!fp_queue_is_head(&queue, head));
        CHECK(fp_queue_peek(&queue, FP_LANE_HIGH, &next) && next.kind == 0); /* the next has moved up, with two inside still */
        CHECK(fp_queue_leave(&queue, head) == FP_LEFT && !fp_queue_has_room(&queue));
        CHECK(fp_queue_leave(&queue, head) == FP_LEFT_LAST_ROOM && fp_queue_has_room(&queue));
        CHECK(push_range(&queue, &first) && take_single(&queue) == &second && push_single(&queue, &second));
    }
    fp_queue_destroy(&queue);
}

/* Two ranges that have all started and still run, one spare record: the first gives its place up at once, the other when
 * its last worker leaves, and the spare is one again for the next lap. */
static void a_closed_range_gives_its_place_to_a_spare(void)
{
    fp_queue queue;
    char first, second;
    CHECK(fp_queue_init(&queue, 1, 1));
    for (int lap = 0; lap < 3000; lap++) {
        CHECK(push_range(&queue, &first));
        fp_queue_head head = peek_range(&queue);
        join_range(&queue, head, &first);
        join_range(&queue, head, &first);
        CHECK(fp_queue_close(&queue, head) && !fp_queue_close(&queue, head));
        CHECK(fp_queue_has_room(&queue) && push_range(&queue, &second) && !fp_queue_has_room(&queue));
        fp_queue_head other = peek_range(&queue);
        join_range(&queue, other, &second);
        CHECK(!fp_queue_close(&queue, other) && !fp_queue_has_room(&queue)); /* no spare is left */
        CHECK(fp_queue_leave(&queue, head) == FP_LEFT);
        CHECK(fp_queue_leave(&queue, head) == FP_LEFT_LAST && !fp_queue_has_room(&queue));
        CHECK(fp_queue_leave(&queue, other) == FP_LEFT_LAST_ROOM && fp_queue_has_room(&queue));
    }
    fp_queue_destroy(&queue);
}

static void a_range_may_be_left_and_joined_again(void)
{
    fp_queue queue;
    char ctx;
    CHECK(fp_queue_init(&queue, 1, 0) && push_range(&queue, &ctx));
    fp_queue_head head = peek_range(&queue);
    for (int i = 0; i < 3; i++) { /* nobody inside, but open: it does not end */
        join_range(&queue, head, &ctx);
        CHECK(fp_queue_leave(&queue, head) == FP_LEFT);
        CHECK(fp_queue_is_head(&queue, head) && !fp_queue_has_room(&queue));
    }
    join_range(&queue, head, &ctx);
    fp_queue_close(&queue, head);
    CHECK(fp_queue_leave(&queue, head) == FP_LEFT_LAST_ROOM);
    fp_queue_destroy(&queue);
}

/* --- one thread: heads that went stale between peek and what follows --------------------------------------------------- */

static void end_range(fp_queue *queue, fp_queue_head head, void *ctx)
{
    join_range(queue, head, ctx);
    fp_queue_close(queue, head);
    CHECK(fp_queue_leave(queue, head) == FP_LEFT_LAST_ROOM);
}

/* Capacity 1: what comes next uses the very record that the stale head names. */
static void stale_head_of_a_range_that_is_gone(void)
{
    fp_queue queue;
    fp_started job;
    char ctx;
    CHECK(fp_queue_init(&queue, 1, 0) && push_range(&queue, &ctx));
    fp_queue_head stale = peek_range(&queue);
    end_range(&queue, stale, &ctx);
    CHECK(!fp_queue_is_head(&queue, stale) && !fp_queue_join(&queue, stale, &job));
    CHECK(push_single(&queue, &ctx)); /* a single job in the record: not to be joined either, nor taken by that head */
    CHECK(!fp_queue_is_head(&queue, stale) && !fp_queue_join(&queue, stale, &job));
    CHECK(!fp_queue_take(&queue, stale, &job));
    CHECK(take_single(&queue) == &ctx);
    fp_queue_destroy(&queue);
}

static void stale_head_of_a_single_job(void)
{
    fp_queue queue;
    fp_queue_head stale;
    fp_started job;
    char ctx;
    CHECK(fp_queue_init(&queue, 1, 0) && push_single(&queue, &ctx));
    CHECK(fp_queue_peek(&queue, FP_LANE_HIGH, &stale));
    CHECK(take_single(&queue) == &ctx && !fp_queue_take(&queue, stale, &job));
    CHECK(push_range(&queue, &ctx) && !fp_queue_take(&queue, stale, &job));
    end_range(&queue, peek_range(&queue), &ctx);
    CHECK(push_single(&queue, &ctx) && !fp_queue_take(&queue, stale, &job)); /* the same job in the same record, later */
    CHECK(take_single(&queue) == &ctx);
    fp_queue_destroy(&queue);
}

/* The stale head's record holds a younger range: joining it keeps the record from being used again and no more. */
static void stale_head_joins_a_younger_range(bool stale_leaves_last)
{
    fp_queue queue;
    char older, younger;
    CHECK(fp_queue_init(&queue, 1, 0) && push_range(&queue, &older));
    fp_queue_head stale = peek_range(&queue);
    end_range(&queue, stale, &older);
    CHECK(push_range(&queue, &younger));
    join_range(&queue, stale, &younger); /* it is told whose job it may have to end */
    CHECK(!fp_queue_is_head(&queue, stale) && !fp_queue_close(&queue, stale));
    fp_queue_head head = peek_range(&queue);
    CHECK(fp_queue_is_head(&queue, head));
    join_range(&queue, head, &younger);
    fp_queue_head last = stale_leaves_last ? stale : head;
    fp_queue_close(&queue, head);
    CHECK(fp_queue_leave(&queue, stale_leaves_last ? head : stale) == FP_LEFT && !fp_queue_has_room(&queue));
    CHECK(fp_queue_leave(&queue, last) == FP_LEFT_LAST_ROOM);
    CHECK(fp_queue_has_room(&queue) && !fp_queue_peek(&queue, FP_LANE_HIGH, &head));
    fp_queue_destroy(&queue);
}

/* --- many threads: singles and ranges, few records, stale heads in plenty ---------------------------------------------- */

enum { STRESS_PRODUCERS = 3, STRESS_WORKERS = 3, STRESS_JOBS = 4 };

struct stress {
    fp_queue queue;
    int64_t items_each;
    fp_atomic(int64_t) items_left;
};

/* Made by a producer and freed by whoever ends it: AddressSanitizer sees one that is used after its end, or ended twice. */
struct stress_item {
    fp_range range;
    int64_t jobs;
    fp_atomic(int64_t) jobs_run;
    fp_atomic(int64_t) inside;
    bool ran[STRESS_JOBS]; /* plain: written inside, read at the end, after all that was done inside */
};

static struct stress_item *make_item(int64_t jobs)
{
    struct stress_item *item = NULL;
    CHECK(posix_memalign((void **)&item, FP_CACHE_LINE, sizeof *item) == 0);
    *item = (struct stress_item){.jobs = jobs};
    fp_range_init(&item->range, jobs);
    return item;
}

static void end_item(struct stress *stress, struct stress_item *item)
{
    CHECK(fp_load(&item->jobs_run, fp_relaxed) == item->jobs && fp_load(&item->inside, fp_relaxed) == 0);
    for (int64_t i = 0; i < item->jobs; i++)
        CHECK(item->ran[i]);
    free(item);
    fp_fetch_sub(&stress->items_left, 1, fp_relaxed);
    watchdog_pat();
}

static void run_item(struct stress_item *item)
{
    int64_t begin, end;
    fp_fetch_add(&item->inside, 1, fp_relaxed);
    while (fp_range_claim(&item->range, 1, &begin, &end)) {
        fp_fetch_add(&item->jobs_run, 1, fp_relaxed);
        item->ran[begin] = true;
    }
    fp_fetch_sub(&item->inside, 1, fp_relaxed);
}

static void serve_range(struct stress *stress, fp_queue_head head)
{
    fp_started job;
    if (!fp_queue_join(&stress->queue, head, &job))
        return;
    if (fp_queue_is_head(&stress->queue, head)) {
        run_item(job.ctx);
        fp_queue_close(&stress->queue, head);
    }
    if (fp_queue_leave(&stress->queue, head) != FP_LEFT)
        end_item(stress, job.ctx);
}

static void serve_single(struct stress *stress, fp_queue_head head)
{
    fp_started job;
    if (!fp_queue_take(&stress->queue, head, &job))
        return;
    CHECK(job.job_class == &classes[0]);
    run_item(job.ctx);
    end_item(stress, job.ctx);
}

static void serve_until_done(struct stress *stress)
{
    fp_queue_head head;
    while (fp_load(&stress->items_left, fp_relaxed) != 0)
        if (!fp_queue_peek(&stress->queue, FP_LANE_HIGH, &head))
            sched_yield();
        else if (head.kind & FP_JOB_RANGE)
            serve_range(stress, head);
        else
            serve_single(stress, head);
}

static void produce_items(struct stress *stress, unsigned number)
{
    test_random random = {number + 1};
    for (int64_t i = 0; i < stress->items_each; i++) {
        bool is_range = test_random_below(&random, 3) != 0;
        struct stress_item *item = make_item(is_range ? 1 + test_random_below(&random, STRESS_JOBS) : 1);
        while (!fp_queue_try_push(&stress->queue, &classes[is_range], item, is_range ? FP_JOB_RANGE : 0, FP_LANE_NORMAL, 0))
            sched_yield();
    }
}

static void produce_or_serve(void *arg, unsigned number)
{
    if (number < STRESS_PRODUCERS)
        produce_items(arg, number);
    else
        serve_until_done(arg);
}

static void each_item_ends_once(uint32_t capacity, uint32_t spares)
{
    static struct stress stress;
    threads threads;
    CHECK(fp_queue_init(&stress.queue, capacity, spares));
    stress.items_each = test_rounds(8000);
    fp_store(&stress.items_left, stress.items_each * STRESS_PRODUCERS, fp_relaxed);
    threads_start(&threads, STRESS_PRODUCERS + STRESS_WORKERS, produce_or_serve, &stress);
    threads_join(&threads);
    CHECK_EQUAL(fp_queue_size(&stress.queue), 0);
    CHECK_EQUAL(fp_ring_size(&stress.queue.free), capacity); /* each record came back, once */
    CHECK_EQUAL(fp_ring_size(&stress.queue.spare), spares);
    fp_queue_destroy(&stress.queue);
}

int main(void)
{
    watchdog_start(NULL);
    PROPERTY("queue: full at exactly its capacity", full_at_exactly_its_capacity());
    PROPERTY("queue: records are used again, in order", for (uint32_t c = 1; c <= 9; c++) records_are_used_again(c));
    PROPERTY("queue: without spares a range keeps its place until the last one leaves",
             a_range_keeps_its_place_without_spares());
    PROPERTY("queue: a closed range gives its place to a spare", a_closed_range_gives_its_place_to_a_spare());
    PROPERTY("queue: an open range may be left and joined again", a_range_may_be_left_and_joined_again());
    PROPERTY("queue: a stale head of a range that is gone", stale_head_of_a_range_that_is_gone());
    PROPERTY("queue: a stale head of a single job", stale_head_of_a_single_job());
    PROPERTY("queue: a stale head joins a younger range and only leaves it", stale_head_joins_a_younger_range(false);
             stale_head_joins_a_younger_range(true));
    PROPERTY("queue: each single job and each range ends once (3 producers, 3 workers; capacity 1 to 3; spares 0 to 3)",
             for (uint32_t c = 1; c <= 3; c++) for (uint32_t s = 0; s <= 3; s++) each_item_ends_once(c, s));
    PROPERTY("queue: the same with room for many", each_item_ends_once(64, 0); each_item_ends_once(64, 8));
    return 0;
}
