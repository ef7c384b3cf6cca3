/* fp_group.c - a group's life, and waiting for it. */
#include "fp_part.h"

#include <stdlib.h>

#include "fp_awake.h"
#include "fp_backoff.h"
#include "fp_worker.h"

fp_group *fp_group_create(fp_pool *pool)
{
    fp_group *group = NULL;
    if (posix_memalign((void **)&group, FP_CACHE_LINE, sizeof *group) != 0)
        return NULL;
    *group = (fp_group){.pool = pool};
    group->failed_at = -1;
    fp_store(&group->references, 1, fp_relaxed);
    fp_pool_retain(pool);
    return group;
}

void fp_group_release(fp_group *group)
{
    while (group->first != NULL)
        fp_group_forget_first(group);
    free(group->spare);
    fp_group_drop(group);
}

static void cancel_part(fp_part *part)
{
    if (part->is_burst)
        fp_group_discard_burst(part, FP_DISCARD_CANCELLED);
    else
        fp_parallel_cancel(&((fp_group_range *)part)->parallel);
}

/* Asked for each part. */
static bool may_help(const fp_helper *helper)
{
    return (helper->is_worker || fp_parallel_may_assist(helper->group->pool)) && fp_helper_has_time(helper);
}

static void help_range(fp_helper *helper, fp_parallel *parallel)
{
    if (fp_range_left(&parallel->range) == 0)
        return;
    helper->has_run = true;
    if (helper->is_worker)
        fp_parallel_help(parallel, helper->deadline_ns);
    else
        fp_parallel_assist(parallel, helper->deadline_ns);
    fp_parallel_stop_assisting(parallel);
}

static void help_part(fp_helper *helper, fp_part *part)
{
    if (!may_help(helper))
        return;
    if (part->is_burst)
        fp_group_help_burst(helper, (fp_group_burst *)part);
    else
        help_range(helper, &((fp_group_range *)part)->parallel);
}

void fp_group_help(fp_group *group, int64_t deadline_ns)
{
    fp_worker *worker = fp_worker_current();
    fp_helper helper = {.group = group, .is_worker = worker != NULL && worker->pool == group->pool, .deadline_ns = deadline_ns};
    fp_group_filled(group);
    for (fp_part *part = group->first; part != NULL; part = part->next) {
        if (fp_load(&part->ended, fp_acquire))
            continue;
        if (fp_load(&group->stop, fp_relaxed) != 0)
            cancel_part(part);
        else
            help_part(&helper, part);
    }
    if (helper.is_worker) /* or a job that does so again and again would fill the queue with what is over */
        fp_pool_drop_started(group->pool);
}

static bool all_ended(fp_group *group)
{
    return (fp_load(&group->outstanding, fp_acquire) & ~FP_GROUP_WAITING) == 0;
}

/* Waits a little without sleeping, where no worker wants the CPU. */
static void spin(fp_group *group)
{
    fp_pool *pool = group->pool;
    if (pool->options.spin_ns <= 0 || fp_awake_count() >= pool->usable_cpus)
        return;
    int64_t until_ns = fp_os_now_ns() + pool->options.spin_ns;
    unsigned round = 0;
    do
        for (int i = 0; i < 8 && !all_ended(group); i++)
            fp_backoff(&round);
    while (!all_ended(group) && fp_os_now_ns() < until_ns);
}

static bool settle(fp_group *group)
{
    fp_store(&group->outstanding, 0, fp_relaxed);
    while (group->first != NULL)
        fp_group_forget_first(group);
    group->settled = true;
    fp_store(&group->stop, 0, fp_relaxed); /* here, not at the next submit: a cancellation before that is meant for it */
    return true;
}

bool fp_group_wait(fp_group *group, int64_t deadline_ns)
{
    fp_group_help(group, deadline_ns);
    spin(group);
    while (!all_ended(group)) {
        uint32_t word = fp_fetch_or(&group->outstanding, FP_GROUP_WAITING, fp_acq_rel) | FP_GROUP_WAITING;
        if (word == FP_GROUP_WAITING)
            break;
        if (fp_os_wait(&group->outstanding, word, deadline_ns) != FP_WAIT_WOKEN && !all_ended(group))
            return false;
    }
    return settle(group);
}
