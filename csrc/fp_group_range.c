/* fp_group_range.c - batches and ranges of a group: a fp_parallel each. */
#include "fp_part.h"

#include <stdlib.h>

static fp_group_range *range_of(fp_parallel *parallel)
{
    return (fp_group_range *)((char *)parallel - offsetof(fp_group_range, parallel));
}

static void run_batch(fp_parallel *parallel, int64_t begin, int64_t end, fp_piece *piece)
{
    fp_group_range *range = range_of(parallel);
    for (int64_t i = begin; i < end; i++) {
        int status = range->function(range->args + i * range->stride);
        if (status != 0 && piece->failed++ == 0)
            *piece = (fp_piece){.failed = 1, .failed_at = i, .status = status};
    }
}

static void run_range(fp_parallel *parallel, int64_t begin, int64_t end, fp_piece *piece)
{
    fp_group_range *range = range_of(parallel);
    int status = range->range(begin, end, range->args);
    if (status != 0)
        *piece = (fp_piece){.failed = end - begin, .failed_at = begin, .status = status};
}

static void range_ended(fp_parallel *parallel)
{
    fp_group_range *range = range_of(parallel);
    if (fp_load(&parallel->failed, fp_relaxed))
        fp_group_note_failure(range->part.group, parallel->status, parallel->failed_at);
    if (fp_load(&parallel->discarded, fp_relaxed) != 0 || fp_load(&parallel->cut, fp_relaxed) != 0)
        fp_store(&range->part.group->cancelled, true, fp_relaxed);
    fp_part_end(&range->part);
}

static void range_released(fp_parallel *parallel)
{
    fp_part_drop(&range_of(parallel)->part);
}

static const fp_parallel_class batch_class = {.run = run_batch, .ended = range_ended, .released = range_released};
static const fp_parallel_class range_class = {.run = run_range, .ended = range_ended, .released = range_released};

/* What the function took the last time; functions may share an entry, and the one that has it not starts from nothing. */
static fp_atomic(int64_t) *pace_of(fp_pool *pool, fp_range_function function)
{
    uintptr_t address = (uintptr_t)function;
    unsigned entry = (unsigned)((address >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> 58); /* 2^6 entries; Fibonacci hashing */
    _Static_assert(FP_PACES == 64, "the hash has 6 bits");
    if (fp_load(&pool->paces[entry].function, fp_relaxed) != address) {
        fp_store(&pool->paces[entry].job_ps, INT64_C(0), fp_relaxed);
        fp_store(&pool->paces[entry].function, address, fp_relaxed);
    }
    return &pool->paces[entry].job_ps;
}

/* A part for n > 0 jobs, added to the group. NULL when memory is short. */
static fp_group_range *make_range(fp_group *group, const fp_parallel_class *kind, int64_t n, int64_t grain, void *args)
{
    fp_group_range *range = NULL;
    if (posix_memalign((void **)&range, FP_CACHE_LINE, sizeof *range) != 0)
        return NULL;
    fp_group_filled(group); /* jobs of a group start in order: no more go into a burst before this */
    fp_group_start_anew(group);
    fp_group_forget_ended(group);
    fp_parallel_init(&range->parallel, kind, group->pool, n, grain);
    range->parallel.stop = &group->stop;
    range->parallel.name = "native";
    range->args = args;
    fp_part_add(group, &range->part, false);
    return range;
}

static fp_submit_result queue_range(fp_group *group, fp_group_range *range, fp_group_place place)
{
    int64_t jobs = fp_range_left(&range->parallel.range);
    if (place == FP_HERE) {
        fp_parallel_finish_here(&range->parallel);
        fp_part_drop(&range->part); /* the queue's reference, which it never had */
        return FP_SUBMIT_OK;
    }
    fp_parallel *parallel = &range->parallel;
    return place == FP_BEYOND ? fp_pool_submit_beyond(group->pool, &fp_parallel_job, parallel, true, jobs, FP_LANE_NORMAL)
                              : fp_pool_submit(group->pool, &fp_parallel_job, parallel, true, jobs, FP_LANE_NORMAL);
}

static fp_submit_result submit_range(fp_group *group, fp_group_range *range, fp_group_place place)
{
    fp_submit_result result = range == NULL ? FP_SUBMIT_NO_MEMORY : queue_range(group, range, place);
    if (range != NULL && result != FP_SUBMIT_OK) {
        fp_part_remove_last(group, &range->part);
        free(range);
    }
    return result;
}

fp_submit_result fp_group_submit_batch(fp_group *group, fp_job_function function, void *args, ptrdiff_t stride, int64_t count,
                                       fp_group_place place)
{
    fp_submit_result result = fp_pool_look(group->pool);
    if (result != FP_SUBMIT_OK || count == 0)
        return result;
    fp_group_range *range = make_range(group, &batch_class, count, 0, args);
    if (range != NULL) {
        range->function = function;
        range->stride = stride;
    }
    return submit_range(group, range, place);
}

fp_submit_result fp_group_submit_range(fp_group *group, fp_range_function function, int64_t n, void *arg, int64_t grain,
                                       fp_group_place place)
{
    fp_submit_result result = fp_pool_look(group->pool);
    if (result != FP_SUBMIT_OK || n == 0)
        return result;
    fp_group_range *range = make_range(group, &range_class, n, grain, arg);
    if (range != NULL) {
        range->range = function;
        range->parallel.job_ps = pace_of(group->pool, function);
    }
    return submit_range(group, range, place);
}

fp_submit_result fp_group_begin_range(fp_group *group, fp_range_function function, int64_t n, void *arg, int64_t grain,
                                      int64_t until_ns)
{
    int64_t job_ps = fp_load(pace_of(group->pool, function), fp_relaxed);
    if (n == 0 || !fp_parallel_begins_here(group->pool, n, grain, job_ps))
        return fp_group_submit_range(group, function, n, arg, grain, FP_QUEUED);
    fp_submit_result result = fp_pool_look(group->pool);
    if (result != FP_SUBMIT_OK)
        return result;
    fp_group_range *range = make_range(group, &range_class, n, grain, arg);
    if (range == NULL)
        return FP_SUBMIT_NO_MEMORY;
    range->range = function;
    range->parallel.job_ps = pace_of(group->pool, function);
    if (fp_parallel_start_here(&range->parallel)) {
        fp_part_drop(&range->part); /* the queue's reference, which it never had */
        return FP_SUBMIT_OK;
    }
    if (queue_range(group, range, FP_QUEUED) != FP_SUBMIT_OK)
        queue_range(group, range, FP_HERE); /* it has begun, so it is not refused any more */
    else
        fp_parallel_assist(&range->parallel, until_ns);
    fp_parallel_stop_assisting(&range->parallel);
    return FP_SUBMIT_OK;
}
