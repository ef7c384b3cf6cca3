/* groups.h - what the tests of bursts, groups and parallel ranges share: jobs that count their runs, and the books. */
#ifndef FP_TEST_GROUPS_H
#define FP_TEST_GROUPS_H

#include "fp_group.h"
#include "pools.h"

/* Jobs, each of which counts its runs. */
typedef struct tally {
    int64_t n;
    fp_atomic(uint32_t) *ran;
} tally;

__attribute__((unused)) static tally tally_of(int64_t n)
{
    tally tally = {.n = n, .ran = calloc((size_t)n, sizeof *tally.ran)};
    CHECK(tally.ran != NULL);
    return tally;
}

__attribute__((unused)) static uint64_t tally_sum(tally *tally)
{
    uint64_t sum = 0;
    for (int64_t i = 0; i < tally->n; i++)
        sum += fp_load(&tally->ran[i], fp_relaxed);
    return sum;
}

/* Each as often as that; and begins anew. */
__attribute__((unused)) static void tally_check(tally *tally, uint32_t times)
{
    for (int64_t i = 0; i < tally->n; i++) {
        CHECK_EQUAL(fp_load(&tally->ran[i], fp_relaxed), times);
        fp_store(&tally->ran[i], 0, fp_relaxed);
    }
}

__attribute__((unused)) static void tally_free(tally *tally)
{
    free(tally->ran);
}

/* As a single job, or a batch of them. */
static int tally_job(void *arg)
{
    fp_fetch_add((fp_atomic(uint32_t) *)arg, 1, fp_relaxed);
    watchdog_pat();
    return 0;
}

/* As a range. */
__attribute__((unused)) static int tally_range(int64_t begin, int64_t end, void *arg)
{
    tally *tally = arg;
    CHECK(begin >= 0 && begin < end && end <= tally->n);
    for (int64_t i = begin; i < end; i++)
        tally_job((void *)&tally->ran[i]);
    return 0;
}

/* Submitting that waits for room: the result is never FP_SUBMIT_FULL. */
__attribute__((unused)) static fp_submit_result group_submit(fp_group *group, fp_job_function function, void *arg)
{
    fp_submit_result result;
    while ((result = fp_group_submit(group, function, arg)) == FP_SUBMIT_FULL)
        fp_pool_wait_for_room(group->pool, FP_FOREVER);
    return result;
}

__attribute__((unused)) static fp_submit_result group_submit_batch(fp_group *group, fp_job_function function, void *args,
                                                                   ptrdiff_t stride, int64_t count)
{
    fp_submit_result result;
    while ((result = fp_group_submit_batch(group, function, args, stride, count, FP_QUEUED)) == FP_SUBMIT_FULL)
        fp_pool_wait_for_room(group->pool, FP_FOREVER);
    return result;
}

__attribute__((unused)) static fp_submit_result group_submit_range(fp_group *group, fp_range_function range, int64_t n,
                                                                   void *arg, int64_t grain)
{
    fp_submit_result result;
    while ((result = fp_group_submit_range(group, range, n, arg, grain, FP_QUEUED)) == FP_SUBMIT_FULL)
        fp_pool_wait_for_room(group->pool, FP_FOREVER);
    return result;
}

__attribute__((unused)) static fp_submit_result group_begin_range(fp_group *group, fp_range_function range, int64_t n,
                                                                  void *arg, int64_t grain)
{
    fp_submit_result result;
    while ((result = fp_group_begin_range(group, range, n, arg, grain, FP_FOREVER)) == FP_SUBMIT_FULL)
        fp_pool_wait_for_room(group->pool, FP_FOREVER);
    return result;
}

__attribute__((unused)) static fp_group *new_group(fp_pool *pool)
{
    fp_group *group = fp_group_create(pool);
    CHECK(group != NULL);
    return group;
}

/* To the end, through signals and all. */
__attribute__((unused)) static void group_wait(fp_group *group)
{
    while (!fp_group_wait(group, FP_FOREVER))
        ;
    watchdog_pat();
}

__attribute__((unused)) static void group_end(fp_group *group)
{
    group_wait(group);
    fp_group_release(group);
}

/* The books of an idle pool: all that was submitted has ended, and each job that ran has its duration counted. */
__attribute__((unused)) static fp_metrics check_books(fp_pool *pool)
{
    fp_metrics metrics;
    uint64_t timed = 0;
    wait_until_idle(pool);
    fp_pool_read_metrics(pool, &metrics);
    for (unsigned i = 0; i < FP_HISTOGRAM_BUCKETS; i++)
        timed += metrics.duration.buckets[i];
    CHECK_EQUAL(metrics.submitted, ended_sum(&metrics));
    CHECK_EQUAL(timed, metrics.ended[FP_DONE] + metrics.ended[FP_FAILED]);
    return metrics;
}

__attribute__((unused)) static void check_ended(fp_pool *pool, uint64_t done, uint64_t failed, uint64_t cancelled)
{
    fp_metrics metrics = check_books(pool);
    CHECK_EQUAL(metrics.ended[FP_DONE], done);
    CHECK_EQUAL(metrics.ended[FP_FAILED], failed);
    CHECK_EQUAL(metrics.ended[FP_CANCELLED], cancelled);
}

__attribute__((unused)) static void end_pool_with_books(fp_pool *pool)
{
    check_books(pool);
    end_pool(pool);
}

/* A blocker as a group's job. */
__attribute__((unused)) static int block(void *arg)
{
    run_blocker(arg, NULL);
    return 0;
}

__attribute__((unused)) static void reset_blocker(blocker *blocker)
{
    gate_reset(&blocker->started);
    gate_reset(&blocker->go);
}

/* Sleeps until the pool is idle, and says so. */
typedef struct idler {
    fp_pool *pool;
    threads thread;
} idler;

static void idle_away(void *arg, unsigned number)
{
    (void)number;
    wait_until_idle(arg);
}

__attribute__((unused)) static void idler_start(idler *idler, fp_pool *pool)
{
    idler->pool = pool;
    threads_start(&idler->thread, 1, idle_away, pool);
}

/* All workers are at rest, and have told so; and the idler has looked once more, in vain, and registered. */
__attribute__((unused)) static void idler_is_asleep(idler *idler)
{
    while (fp_load(&idler->pool->awake, fp_seq_cst) != 0)
        sched_yield();
    while (fp_load(&idler->pool->idle.tokens, fp_seq_cst) == 0)
        sched_yield();
}

__attribute__((unused)) static void idler_join(idler *idler)
{
    threads_join(&idler->thread);
}

#endif
