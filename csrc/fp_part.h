/* fp_part - the parts of a group: records of the queue, and who holds what. Of fp_group*.c only.
 *
 * Journey: as fp_group.h, which says who owns a part. fp_group_burst.c has the parts that are bursts, fp_group_range.c the others,
 * fp_group.c waits for all of them.
 */
#ifndef FP_PART_H
#define FP_PART_H

#include "fp_group.h"

/* A batch or a range. */
typedef struct fp_group_range {
    fp_part part;
    fp_parallel parallel;
    fp_job_function function; /* a batch; or */
    fp_range_function range;
    char *args;
    ptrdiff_t stride;
} fp_group_range;

/* Of the group's thread: a part that is about to be queued. */
void fp_part_add(fp_group *group, fp_part *part, bool is_burst);

/* Undoes fp_part_add of the last part, which nobody else knows. Its memory is the caller's again. */
void fp_part_remove_last(fp_group *group, fp_part *part);

/* One reference less. */
void fp_part_drop(fp_part *part);
void fp_group_drop(fp_group *group);

/* All its jobs have ended: C1, C2. The group may be gone after C1, but for its memory, which the part holds. */
void fp_part_end(fp_part *part);

/* Of the group's thread: lets go of the oldest part, and keeps a burst that the queue has let go of already, to be used again;
 * the same of all that have ended. */
void fp_group_forget_first(fp_group *group);
void fp_group_forget_ended(fp_group *group);

/* Before anything is submitted: what came of the last jobs is forgotten, once it has been waited for. */
void fp_group_start_anew(fp_group *group);

/* A job has failed. Published by its part's end. */
void fp_group_note_failure(fp_group *group, int status, int64_t at);

/* A thread that waits, and runs jobs of the group meanwhile. */
typedef struct fp_helper {
    fp_group *group;
    bool is_worker;      /* of this pool: it must help, for it may be the only one that could run them */
    bool has_run;        /* some job */
    int64_t deadline_ns;
} fp_helper;

/* A worker runs something before it looks at the clock: one that asks again and again gets on, too. */
static inline bool fp_helper_has_time(const fp_helper *helper)
{
    return (helper->is_worker && !helper->has_run) || helper->deadline_ns == FP_FOREVER ||
           fp_os_now_ns() < helper->deadline_ns;
}

/* And a thread that only assists runs nothing in a paused pool. */
static inline bool fp_helper_may_go_on(const fp_helper *helper)
{
    return fp_helper_has_time(helper) && (helper->is_worker || !fp_pool_is_paused(helper->group->pool));
}

/* Takes what of the burst has not been taken, as cancelled, and seals it. Counts by itself: always 0. */
int64_t fp_group_discard_burst(void *ctx, fp_discard_reason reason);

/* Runs what there is in the burst, which is sealed, so that there is no waiting for more. */
void fp_group_help_burst(fp_helper *helper, fp_group_burst *part);

#endif
