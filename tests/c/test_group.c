/* test_group.c - groups: single jobs, batches and ranges, each job once, whoever waits, helps, cancels or discards meanwhile. */
#include "fp_group.h"
#include "pools.h"

enum { JOBS = 300 };

/* What one thread submits to a group of its own. */
typedef struct submitter {
    fp_pool *pool;
    fp_group *_Atomic group;
    fp_atomic(uint32_t) ran[JOBS]; /* how often */
    test_random random;
    int64_t accepted;
    int next; /* the first job not yet submitted */
} submitter;

static int run_one(void *arg)
{
    fp_fetch_add((fp_atomic(uint32_t) *)arg, 1, fp_relaxed);
    watchdog_pat();
    return 0;
}

static int run_some(int64_t begin, int64_t end, void *arg)
{
    for (int64_t i = begin; i < end; i++)
        run_one((fp_atomic(uint32_t) *)arg + i);
    return 0;
}

/* The next job or jobs, singly, as a batch or as a range. */
static fp_submit_result submit_some(submitter *it, fp_group_place place, uint32_t way, int64_t count)
{
    fp_atomic(uint32_t) *first = &it->ran[it->next];
    if (way == 0 && place == FP_QUEUED)
        return fp_group_submit(it->group, run_one, first);
    if (way == 0)
        return fp_group_submit_new(it->group, run_one, first, place);
    if (way == 1)
        return fp_group_submit_batch(it->group, run_one, first, sizeof *first, count, place);
    return fp_group_submit_range(it->group, run_some, count, first, way == 2 ? 0 : 3, place);
}

static void submit_next(submitter *it)
{
    uint32_t way = test_random_below(&it->random, 8);
    way = way < 4 ? way : 0;
    int64_t count = way == 0 ? 1 : 1 + test_random_below(&it->random, 20);
    count = count < JOBS - it->next ? count : JOBS - it->next;
    fp_submit_result result = submit_some(it, FP_QUEUED, way, count);
    while (result == FP_SUBMIT_FULL) {
        uint32_t choice = test_random_below(&it->random, 4);
        if (choice == 0)
            result = submit_some(it, FP_BEYOND, way, count);
        else if (choice == 1)
            result = submit_some(it, FP_HERE, way, count);
        else if (fp_pool_wait_for_room(it->pool, fp_os_now_ns() + 1000000) != FP_WAIT_INTERRUPTED)
            result = submit_some(it, FP_QUEUED, way, count);
    }
    CHECK_EQUAL(result, FP_SUBMIT_OK);
    it->next += (int)count;
}

/* Now with a deadline, now without. */
static void wait_for_all(submitter *it)
{
    while (!fp_group_wait(it->group, fp_os_now_ns() + test_random_below(&it->random, 100000)))
        watchdog_pat();
}

static void submit_all(submitter *it)
{
    it->next = 0;
    while (it->next < JOBS) {
        submit_next(it);
        if (test_random_below(&it->random, 50) == 0)
            wait_for_all(it);
    }
    wait_for_all(it);
}

static submitter *submitter_create(fp_pool *pool, uint64_t seed)
{
    submitter *it = calloc(1, sizeof *it);
    CHECK(it != NULL);
    it->pool = pool;
    it->random.state = seed * 7919 + 1;
    it->group = fp_group_create(pool);
    CHECK(it->group != NULL);
    return it;
}

static void end_group(submitter *it)
{
    fp_store(&it->group->stop, 1, fp_relaxed);
    while (!fp_group_wait(it->group, FP_FOREVER))
        ;
    fp_group_release(it->group);
}

typedef struct scene {
    fp_pool *pool;
    int64_t rounds;
    gate done;
    fp_atomic(int) stop;
} scene;

static void check_ran(submitter *it, uint32_t fewest, uint32_t most)
{
    for (int i = 0; i < JOBS; i++) {
        uint32_t ran = fp_load(&it->ran[i], fp_relaxed);
        CHECK(ran >= fewest && ran <= most);
    }
}

static void use_groups(void *arg, unsigned number)
{
    scene *scene = arg;
    submitter *it = submitter_create(scene->pool, number + 1);
    for (int64_t round = 1; round <= scene->rounds; round++) {
        submit_all(it);
        check_ran(it, (uint32_t)round, (uint32_t)round);
    }
    CHECK(!fp_load(&it->group->cancelled, fp_relaxed) && !fp_load(&it->group->failed, fp_relaxed));
    end_group(it);
    free(it);
}

static void check_metrics(fp_pool *pool, uint64_t jobs)
{
    fp_metrics metrics;
    wait_until_idle(pool);
    fp_pool_read_metrics(pool, &metrics);
    CHECK_EQUAL(metrics.submitted, jobs);
    CHECK_EQUAL(ended_sum(&metrics), jobs);
}

static void each_job_once(void)
{
    static const uint32_t shapes[][2] = {{1, 1}, {1, 64}, {2, 1}, {2, 3}, {4, 64}, {2, 0}};
    for (unsigned i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        scene scene = {.pool = fixed_pool(shapes[i][0], shapes[i][1]), .rounds = test_rounds(40)};
        threads users;
        threads_start(&users, 4, use_groups, &scene);
        threads_join(&users);
        check_metrics(scene.pool, (uint64_t)(4 * scene.rounds * JOBS));
        end_pool(scene.pool);
    }
}

/* ---- others cancel and discard meanwhile ---- */

static void use_and_free(void *arg, unsigned number)
{
    scene *scene = arg;
    for (int64_t round = 0; round < scene->rounds; round++) {
        submitter *it = submitter_create(scene->pool, (uint64_t)round * 10 + number);
        int jobs = (int)test_random_below(&it->random, JOBS);
        while (it->next < jobs) {
            submit_next(it);
            if (test_random_below(&it->random, 100) == 0)
                fp_store(&it->group->stop, 1, fp_relaxed);
        }
        end_group(it); /* often with jobs in the queue */
        check_ran(it, 0, 1);
        free(it);
    }
    gate_raise(&scene->done, 1);
}

static void discard_now_and_then(void *arg, unsigned number)
{
    scene *scene = arg;
    (void)number;
    while (!fp_load(&scene->stop, fp_relaxed)) {
        fp_pool_discard_oldest(scene->pool);
        fp_pool_wait_for_room(scene->pool, fp_os_now_ns() + 100000);
    }
}

static void freed_at_any_time(void)
{
    static const uint32_t shapes[][2] = {{1, 1}, {2, 3}, {4, 64}};
    for (unsigned i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        scene scene = {.pool = fixed_pool(shapes[i][0], shapes[i][1]), .rounds = test_rounds(200), .done = GATE_INITIALIZER};
        threads users, discarder;
        threads_start(&discarder, 1, discard_now_and_then, &scene);
        threads_start(&users, 3, use_and_free, &scene);
        gate_wait(&scene.done, 3);
        fp_store(&scene.stop, 1, fp_relaxed);
        threads_join(&users);
        threads_join(&discarder);
        fp_metrics metrics;
        wait_until_idle(scene.pool);
        fp_pool_read_metrics(scene.pool, &metrics);
        CHECK_EQUAL(metrics.submitted, ended_sum(&metrics));
        end_pool(scene.pool);
    }
}

/* ---- jobs that submit and wait ---- */

typedef struct fibonacci {
    fp_pool *pool;
    int n;
    uint64_t value;
} fibonacci;

static int run_fibonacci(void *arg)
{
    fibonacci *it = arg, both[2] = {{it->pool, it->n - 1, 0}, {it->pool, it->n - 2, 0}};
    it->value = (uint64_t)it->n;
    watchdog_pat();
    if (it->n < 2)
        return 0;
    fp_group *group = fp_group_create(it->pool);
    CHECK(group != NULL);
    for (int i = 0; i < 2; i++) {
        fp_submit_result result = fp_group_submit(group, run_fibonacci, &both[i]);
        if (result == FP_SUBMIT_FULL)
            result = fp_group_submit_new(group, run_fibonacci, &both[i], FP_BEYOND);
        CHECK_EQUAL(result, FP_SUBMIT_OK);
    }
    while (!fp_group_wait(group, it->n % 2 == 0 ? FP_FOREVER : fp_os_now_ns()))
        ;
    fp_group_release(group);
    it->value = both[0].value + both[1].value;
    return 0;
}

static void nested(void)
{
    for (uint32_t workers = 1; workers <= 4; workers++) {
        fp_pool *pool = fixed_pool(workers, 1);
        fibonacci it = {pool, 16, 0};
        fp_group *group = fp_group_create(pool);
        CHECK_EQUAL(fp_group_submit(group, run_fibonacci, &it), FP_SUBMIT_OK);
        while (!fp_group_wait(group, FP_FOREVER))
            ;
        CHECK_EQUAL(it.value, 987);
        fp_group_release(group);
        wait_until_idle(pool);
        end_pool(pool);
    }
}

/* ---- the pool closes or breaks meanwhile ---- */

static void submit_until_closed(void *arg, unsigned number)
{
    scene *scene = arg;
    submitter *it = submitter_create(scene->pool, number + 1);
    fp_submit_result result = FP_SUBMIT_OK;
    while (result == FP_SUBMIT_OK || result == FP_SUBMIT_FULL) {
        result = fp_group_submit(it->group, run_one, &it->ran[0]);
        it->accepted += result == FP_SUBMIT_OK;
        if (it->accepted == 1)
            gate_raise(&scene->done, 1);
    }
    wait_for_all(it);
    CHECK_EQUAL(fp_load(&it->ran[0], fp_relaxed), it->accepted);
    fp_group_release(it->group);
    free(it);
}

static void closing(void)
{
    for (int64_t round = 0; round < test_rounds(100); round++) {
        scene scene = {.pool = fixed_pool(1 + (uint32_t)round % 3, 8), .done = GATE_INITIALIZER};
        threads users;
        threads_start(&users, 3, submit_until_closed, &scene);
        gate_wait(&scene.done, 1);
        fp_pool_close(scene.pool);
        threads_join(&users);
        end_pool(scene.pool);
    }
}

int main(void)
{
    watchdog_start(dump_pool);
    PROPERTY("group: each job exactly once, in whatever way it was submitted and waited for", each_job_once());
    PROPERTY("group: freed, cancelled and discarded at any time, each job ends once", freed_at_any_time());
    PROPERTY("group: jobs wait for their jobs, with one worker and a full queue too", nested());
    PROPERTY("group: what was accepted while the pool closed runs exactly once, the rest never", closing());
    return 0;
}
