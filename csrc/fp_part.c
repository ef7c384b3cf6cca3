/* fp_part.c - parts come and go. */
#include "fp_part.h"

#include <limits.h>
#include <stdlib.h>

void fp_group_drop(fp_group *group)
{
    if (fp_fetch_sub(&group->references, 1, fp_acq_rel) != 1)
        return;
    fp_pool_release(group->pool);
    free(group);
}

void fp_part_drop(fp_part *part)
{
    if (fp_fetch_sub(&part->references, 1, fp_acq_rel) != 1)
        return;
    fp_group *group = part->group;
    free(part);
    fp_group_drop(group);
}

void fp_part_end(fp_part *part)
{
    fp_store(&part->ended, true, fp_release);
    fp_atomic(uint32_t) *outstanding = &part->group->outstanding;
    if (fp_fetch_sub(outstanding, 1, fp_acq_rel) == (FP_GROUP_WAITING | 1))
        fp_os_wake(outstanding, INT_MAX);
}

void fp_part_add(fp_group *group, fp_part *part, bool is_burst)
{
    part->group = group;
    part->next = NULL;
    part->is_burst = is_burst;
    fp_store(&part->references, 2, fp_relaxed);
    fp_store(&part->ended, false, fp_relaxed);
    fp_fetch_add(&group->references, 1, fp_relaxed);
    fp_fetch_add(&group->outstanding, 1, fp_relaxed);
    if (group->first == NULL)
        group->first = part;
    else
        group->last->next = part;
    group->last = part;
}

void fp_part_remove_last(fp_group *group, fp_part *part)
{
    fp_part **place = &group->first, *before = NULL;
    while (*place != part) {
        before = *place;
        place = &before->next;
    }
    *place = NULL;
    group->last = before;
    fp_fetch_sub(&group->outstanding, 1, fp_relaxed);
    fp_fetch_sub(&group->references, 1, fp_relaxed); /* never the last */
}

void fp_group_forget_first(fp_group *group)
{
    fp_part *part = group->first;
    group->first = part->next;
    if (group->first == NULL)
        group->last = NULL;
    if (part->is_burst && group->spare == NULL && fp_load(&part->references, fp_acquire) == 1) {
        group->spare = (fp_group_burst *)part;
        fp_fetch_sub(&group->references, 1, fp_relaxed); /* never the last */
    } else {
        fp_part_drop(part);
    }
}

void fp_group_forget_ended(fp_group *group)
{
    while (group->first != NULL && fp_load(&group->first->ended, fp_acquire))
        fp_group_forget_first(group);
}

void fp_group_start_anew(fp_group *group)
{
    if (!group->settled)
        return;
    group->settled = false;
    group->status = 0;
    group->failed_at = -1;
    fp_store(&group->failed, false, fp_relaxed);
    fp_store(&group->cancelled, false, fp_relaxed);
}

void fp_group_note_failure(fp_group *group, int status, int64_t at)
{
    bool first = false;
    if (!fp_cas(&group->failed, &first, true, fp_relaxed, fp_relaxed))
        return;
    group->status = status;
    group->failed_at = at;
}
