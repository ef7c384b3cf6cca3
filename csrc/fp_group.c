/* fp_group.c - submitting to a group, running its parts, waiting (C1, C2). */
#include "fp_group.h"

#include <limits.h>
#include <stdlib.h>

#include "fp_awake.h"
#include "fp_backoff.h"
#include "fp_clock.h"
#include "fp_worker.h"

/* ---- parts and the group: who holds what ---- */

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

static void drop_group(fp_group *group)
{
    if (fp_fetch_sub(&group->references, 1, fp_acq_rel) != 1)
        return;
    fp_pool_release(group->pool);
    free(group);
}

static void drop_part(fp_part *part)
{
    if (fp_fetch_sub(&part->references, 1, fp_acq_rel) != 1)
        return;
    fp_group *group = part->group;
    free(part);
    drop_group(group);
}

/* C1, C2. The group may be gone after C1, but for its memory, which the part holds. */
static void end_part(fp_part *part)
{
    fp_store(&part->ended, true, fp_release);
    fp_atomic(uint32_t) *outstanding = &part->group->outstanding;
    if (fp_fetch_sub(outstanding, 1, fp_acq_rel) == (FP_GROUP_WAITING | 1))
        fp_os_wake(outstanding, INT_MAX);
}

/* Of the group's thread: a part that is about to be queued. */
static void add_part(fp_group *group, fp_part *part, bool is_burst)
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

/* Undoes add_part of the last part, which nobody else knows. Its memory is the caller's again. */
static void remove_last(fp_group *group, fp_part *part)
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

/* Lets go of the oldest part; keeps a burst that the queue has let go of already, to be used again. */
static void forget_first(fp_group *group)
{
    fp_part *part = group->first;
    group->first = part->next;
    if (group->first == NULL)
        group->last = NULL;
    if (part->is_burst && group->spare == NULL && fp_load(&part->references, fp_acquire) == 1) {
        group->spare = (fp_group_burst *)part;
        fp_fetch_sub(&group->references, 1, fp_relaxed); /* never the last */
    } else {
        drop_part(part);
    }
}

static void forget_ended(fp_group *group)
{
    while (group->first != NULL && fp_load(&group->first->ended, fp_acquire))
        forget_first(group);
}

void fp_group_release(fp_group *group)
{
    while (group->first != NULL)
        forget_first(group);
    free(group->spare);
    drop_group(group);
}

/* Before anything is submitted: what came of the last jobs is forgotten, once it has been waited for. */
static void start_anew(fp_group *group)
{
    if (!group->settled)
        return;
    group->settled = false;
    group->status = 0;
    group->failed_at = -1;
    fp_store(&group->failed, false, fp_relaxed);
    fp_store(&group->cancelled, false, fp_relaxed);
}

/* Published by the part's end. */
static void note_failure(fp_group *group, int status, int64_t at)
{
    bool first = false;
    if (!fp_cas(&group->failed, &first, true, fp_relaxed, fp_relaxed))
        return;
    group->status = status;
    group->failed_at = at;
}

/* ---- bursts ---- */

/* A thread's way through a burst. */
typedef struct burst_way {
    fp_group_burst *part;
    fp_worker *worker; /* NULL: a thread that is not the record's worker */
    uint32_t most;     /* jobs to take at a time */
    uint32_t lull;     /* how long to leave the submitter alone when little was there to take */
    uint64_t now;      /* ticks */
} burst_way;

/* In ticks, of which a microsecond has 1000 to 5000: takes of a few microseconds cost nothing and leave enough for others. */
enum { SHORT_TICKS = 8000, LONG_TICKS = 32000, MOST_AT_A_TIME = 32 };

/* A worker that is as quick as the submitter would take one job at a time, and each take costs both of them a cache line from the
 * other's CPU, ten times a job of a few nanoseconds. So where it finds few it looks away for a while; in pauses of some 20 ns. */
enum { FEW = 16, MOST_LULL = 64 };

static void note(burst_way *way, fp_outcome outcome, uint32_t jobs, uint64_t ticks_a_job)
{
    if (jobs == 0)
        return;
    if (way->worker != NULL)
        fp_worker_note(way->worker, outcome, jobs, ticks_a_job * jobs);
    else if (outcome == FP_CANCELLED)
        fp_pool_note(way->part->part.group->pool, outcome, jobs);
    else
        fp_pool_note_run(way->part->part.group->pool, outcome, jobs, ticks_a_job);
}

/* Counted as submitted before they are counted as ended; the record itself stands for the first job (end_burst). */
static void note_taken(burst_way *way, uint32_t jobs)
{
    if (way->worker != NULL)
        fp_worker_note_taken(way->worker, jobs);
    else
        fp_fetch_add(&way->part->part.group->pool->submitted_extra, (uint64_t)jobs, fp_relaxed);
}

/* The first job's time; its end is counted when the burst's is. */
static void note_first(burst_way *way, uint64_t ticks)
{
    if (way->worker != NULL)
        fp_histogram_add(&way->worker->metrics->duration, ticks, 1);
    else
        fp_histogram_add_shared(&way->part->part.group->pool->duration_extra, ticks, 1);
}

static void count_taken(burst_way *way, uint32_t begin, uint32_t jobs, const uint32_t *ended, uint64_t ticks)
{
    static const fp_outcome outcomes[] = {FP_DONE, FP_FAILED, FP_CANCELLED};
    fp_outcome first = begin == 0 ? (fp_outcome)fp_get(&way->part->first_outcome) : FP_COUNTED_ELSEWHERE;
    note_taken(way, begin == 0 ? jobs - 1 : jobs);
    if (first == FP_DONE || first == FP_FAILED)
        note_first(way, ticks / jobs);
    for (int i = 0; i < 3; i++)
        note(way, outcomes[i], ended[i] - (outcomes[i] == first), ticks / jobs);
}

/* The last job has ended: counts the first one. Workers tell who waits for idle when they come to rest, and may all be at
 * rest; so another thread has to do it itself. */
static void end_burst(fp_group_burst *part, fp_worker *worker)
{
    fp_pool *pool = part->part.group->pool;
    fp_pool_note(pool, (fp_outcome)fp_get(&part->first_outcome), 1);
    if (worker == NULL)
        fp_pool_told_idle(pool);
    end_part(&part->part);
}

static fp_outcome run_job(fp_group_burst *part, uint32_t i)
{
    fp_group *group = part->part.group;
    fp_burst_job *job = &part->burst.jobs[i];
    if (fp_load(&group->stop, fp_relaxed) != 0) {
        fp_store(&group->cancelled, true, fp_relaxed);
        return FP_CANCELLED;
    }
    int status = fp_get(&job->function)(fp_get(&job->arg));
    if (status == 0)
        return FP_DONE;
    note_failure(group, status, -1);
    return FP_FAILED;
}

static void set_burst_pace(burst_way *way, uint64_t ticks)
{
    if (ticks < SHORT_TICKS && way->most < MOST_AT_A_TIME)
        way->most *= 2;
    else if (ticks > LONG_TICKS && way->most > 1)
        way->most /= 2;
}

/* Runs the jobs that it has taken. True when this ended the burst, and the group may be gone. */
static bool run_taken(burst_way *way, uint32_t begin, uint32_t end)
{
    fp_group_burst *part = way->part;
    uint32_t ended[3] = {0}; /* FP_DONE, FP_FAILED, FP_CANCELLED */
    uint64_t from = way->now;
    for (uint32_t i = begin; i < end; i++) {
        fp_outcome outcome = run_job(part, i);
        ended[outcome]++;
        if (i == 0)
            fp_set(&part->first_outcome, (int)outcome);
    }
    way->now = fp_clock_ticks();
    uint64_t ticks = way->now > from ? way->now - from : 0;
    set_burst_pace(way, ticks);
    count_taken(way, begin, end - begin, ended, ticks);
    if (!fp_burst_settle(&part->burst, -(int32_t)(end - begin))) /* T3 */
        return false;
    end_burst(part, way->worker);
    return true;
}

/* Whoever submits one job after the other has the next one ready in a moment, and a new burst costs more than that. */
static bool await_more(fp_burst *burst, uint32_t filled)
{
    enum { PAUSES = 32 };
    for (int i = 0; i < PAUSES; i++) {
        if (fp_load(&burst->filled, fp_relaxed) != filled)
            return true;
        fp_cpu_pause();
    }
    return false;
}

/* V1, V2. */
static bool seal(fp_group_burst *part, uint32_t n, fp_worker *worker)
{
    if (!fp_burst_seal(&part->burst, n))
        return false;
    if (fp_burst_settle(&part->burst, (int32_t)n))
        end_burst(part, worker);
    return true;
}

/* After it has taken so many short jobs. */
static void let_gather(burst_way *way, uint32_t taken)
{
    if (taken >= FEW || way->most < FEW) {
        way->lull /= 2;
        return;
    }
    way->lull = way->lull == 0 ? 1 : way->lull < MOST_LULL ? way->lull * 2 : MOST_LULL;
    for (uint32_t i = 0; i < way->lull; i++)
        fp_cpu_pause();
}

/* Until the burst is sealed and all of it taken. */
static void run_burst(fp_group_burst *part, fp_worker *worker)
{
    burst_way way = {.part = part, .worker = worker, .most = 1, .now = fp_clock_ticks()};
    uint32_t begin, end, filled;
    for (;;) {
        if (fp_burst_take(&part->burst, way.most, &begin, &end, &filled)) {
            if (worker != NULL && filled == (end | FP_BURST_SEALED))
                fp_worker_range_started(worker);
            if (run_taken(&way, begin, end))
                return;
            if (!(filled & FP_BURST_SEALED))
                let_gather(&way, end - begin);
        } else if ((filled & FP_BURST_SEALED) ||
                   (!await_more(&part->burst, filled) && seal(part, filled, worker))) {
            return;
        }
    }
}

static fp_outcome run_burst_job(void *ctx, fp_worker *worker)
{
    fp_group_burst *part = ctx;
    void *token = worker == NULL ? fp_pool_let_go(part->part.group->pool) : NULL;
    run_burst(part, worker);
    if (worker == NULL)
        fp_pool_take_back(part->part.group->pool, token);
    return FP_COUNTED_ELSEWHERE;
}

/* Takes what has not been taken, as cancelled, and seals. It counts by itself. */
static int64_t discard_burst(void *ctx, fp_discard_reason reason)
{
    fp_group_burst *part = ctx;
    burst_way way = {.part = part, .worker = NULL, .most = FP_BURST_JOBS};
    uint32_t begin, end, filled;
    (void)reason;
    for (;;) {
        if (fp_burst_take(&part->burst, way.most, &begin, &end, &filled)) {
            const uint32_t ended[3] = {0, 0, end - begin};
            fp_store(&part->part.group->cancelled, true, fp_relaxed);
            if (begin == 0)
                fp_set(&part->first_outcome, (int)FP_CANCELLED);
            count_taken(&way, begin, end - begin, ended, 0);
            if (fp_burst_settle(&part->burst, -(int32_t)(end - begin))) {
                end_burst(part, NULL);
                return 0;
            }
        } else if ((filled & FP_BURST_SEALED) || seal(part, filled, NULL)) {
            return 0;
        }
    }
}

static void release_part(void *ctx, fp_worker *worker)
{
    (void)worker;
    drop_part(ctx);
}

/* An open burst is sealed for it, if all in it is taken. */
static bool burst_all_started(void *ctx)
{
    fp_group_burst *part = ctx;
    uint32_t filled = fp_load(&part->burst.filled, fp_relaxed);
    if (fp_load(&part->burst.cursor, fp_relaxed) < (filled & ~FP_BURST_SEALED))
        return false;
    return (filled & FP_BURST_SEALED) || seal(part, filled, NULL);
}

static const fp_job_class burst_job = {
    .kind = 0, .run = run_burst_job, .discard = discard_burst, .end = release_part, .all_started = burst_all_started};

static fp_group_burst *take_burst(fp_group *group)
{
    fp_group_burst *burst = NULL;
    forget_ended(group);
    if (group->spare != NULL) {
        burst = group->spare;
        group->spare = NULL;
    } else if (posix_memalign((void **)&burst, FP_CACHE_LINE, sizeof *burst) != 0) {
        return NULL;
    }
    return burst;
}

static void run_single(fp_group *group, fp_job_function function, void *arg)
{
    fp_pool *pool = group->pool;
    void *token = fp_pool_let_go(pool);
    uint64_t from = fp_clock_ticks();
    int status = function(arg);
    fp_pool_note_run(pool, status == 0 ? FP_DONE : FP_FAILED, 1, fp_clock_ticks() - from);
    fp_pool_take_back(pool, token);
    if (status != 0)
        note_failure(group, status, -1);
}

/* on_full is "caller_runs". */
static void run_here(fp_group *group, fp_job_function function, void *arg)
{
    fp_pool *pool = group->pool;
    fp_fetch_add(&pool->submitted_extra, UINT64_C(1), fp_relaxed);
    if (fp_load(&group->stop, fp_relaxed) == 0) {
        run_single(group, function, arg);
    } else {
        fp_store(&group->cancelled, true, fp_relaxed);
        fp_pool_note(pool, FP_CANCELLED, 1);
    }
    fp_pool_told_idle(pool);
}

fp_submit_result fp_group_submit_new(fp_group *group, fp_job_function function, void *arg, fp_group_place place)
{
    fp_submit_result result = fp_pool_look(group->pool);
    fp_group_filled(group); /* sealed already, but where the pool has closed */
    if (result != FP_SUBMIT_OK)
        return result;
    start_anew(group);
    if (place == FP_HERE) {
        run_here(group, function, arg);
        return FP_SUBMIT_OK;
    }
    fp_group_burst *burst = take_burst(group);
    if (burst == NULL)
        return FP_SUBMIT_NO_MEMORY;
    fp_burst_init(&burst->burst, function, arg);
    add_part(group, &burst->part, true);
    result = place == FP_BEYOND ? fp_pool_submit_beyond(group->pool, &burst_job, burst, true, 1)
                                : fp_pool_submit(group->pool, &burst_job, burst, true, 1);
    if (result != FP_SUBMIT_OK) {
        remove_last(group, &burst->part);
        group->spare = burst; /* take_burst has left the place empty */
        return result;
    }
    group->open = burst;
    group->filled = 1;
    return FP_SUBMIT_OK;
}

void fp_group_filled(fp_group *group)
{
    fp_group_burst *burst = group->open;
    if (burst != NULL)
        seal(burst, group->filled, NULL); /* false: a worker was first */
    group->open = NULL;
}

/* ---- batches and ranges ---- */

typedef struct group_range {
    fp_part part;
    fp_parallel parallel;
    fp_job_function function; /* a batch; or */
    fp_range_function range;
    char *args;
    ptrdiff_t stride;
} group_range;

static group_range *range_of(fp_parallel *parallel)
{
    return (group_range *)((char *)parallel - offsetof(group_range, parallel));
}

static void run_batch(fp_parallel *parallel, int64_t begin, int64_t end, fp_piece *piece)
{
    group_range *range = range_of(parallel);
    for (int64_t i = begin; i < end; i++) {
        int status = range->function(range->args + i * range->stride);
        if (status != 0 && piece->failed++ == 0)
            *piece = (fp_piece){.failed = 1, .failed_at = i, .status = status};
    }
}

static void run_range(fp_parallel *parallel, int64_t begin, int64_t end, fp_piece *piece)
{
    group_range *range = range_of(parallel);
    int status = range->range(begin, end, range->args);
    if (status != 0)
        *piece = (fp_piece){.failed = end - begin, .failed_at = begin, .status = status};
}

static void range_ended(fp_parallel *parallel)
{
    group_range *range = range_of(parallel);
    if (fp_load(&parallel->failed, fp_relaxed))
        note_failure(range->part.group, parallel->status, parallel->failed_at);
    if (fp_load(&parallel->discarded, fp_relaxed) != 0)
        fp_store(&range->part.group->cancelled, true, fp_relaxed);
    end_part(&range->part);
}

static void range_released(fp_parallel *parallel)
{
    drop_part(&range_of(parallel)->part);
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
static group_range *make_range(fp_group *group, const fp_parallel_class *kind, int64_t n, int64_t grain, void *args)
{
    group_range *range = NULL;
    if (posix_memalign((void **)&range, FP_CACHE_LINE, sizeof *range) != 0)
        return NULL;
    fp_group_filled(group); /* jobs of a group start in order: no more go into a burst before this */
    start_anew(group);
    forget_ended(group);
    fp_parallel_init(&range->parallel, kind, group->pool, n, grain);
    range->parallel.stop = &group->stop;
    range->args = args;
    add_part(group, &range->part, false);
    return range;
}

static fp_submit_result queue_range(fp_group *group, group_range *range, fp_group_place place)
{
    int64_t jobs = fp_range_left(&range->parallel.range);
    if (place == FP_HERE) {
        fp_parallel_finish_here(&range->parallel);
        drop_part(&range->part); /* the queue's reference, which it never had */
        return FP_SUBMIT_OK;
    }
    return place == FP_BEYOND ? fp_pool_submit_beyond(group->pool, &fp_parallel_job, &range->parallel, true, jobs)
                              : fp_pool_submit(group->pool, &fp_parallel_job, &range->parallel, true, jobs);
}

static fp_submit_result submit_range(fp_group *group, group_range *range, fp_group_place place)
{
    fp_submit_result result = range == NULL ? FP_SUBMIT_NO_MEMORY : queue_range(group, range, place);
    if (range != NULL && result != FP_SUBMIT_OK) {
        remove_last(group, &range->part);
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
    group_range *range = make_range(group, &batch_class, count, 0, args);
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
    group_range *range = make_range(group, &range_class, n, grain, arg);
    if (range != NULL) {
        range->range = function;
        range->parallel.job_ps = pace_of(group->pool, function);
    }
    return submit_range(group, range, place);
}

/* Where a second piece, which others could run meanwhile, does not have to wait long for the first. */
static bool begins_here(fp_pool *pool, fp_range_function function, int64_t n, int64_t grain)
{
    int64_t first = grain > 0 ? grain : 1;
    return fp_parallel_may_start_here(pool) &&
           (first >= n || fp_parallel_is_short(fp_load(pace_of(pool, function), fp_relaxed), first));
}

fp_submit_result fp_group_begin_range(fp_group *group, fp_range_function function, int64_t n, void *arg, int64_t grain,
                                      int64_t until_ns)
{
    if (n == 0 || !begins_here(group->pool, function, n, grain))
        return fp_group_submit_range(group, function, n, arg, grain, FP_QUEUED);
    fp_submit_result result = fp_pool_look(group->pool);
    if (result != FP_SUBMIT_OK)
        return result;
    group_range *range = make_range(group, &range_class, n, grain, arg);
    if (range == NULL)
        return FP_SUBMIT_NO_MEMORY;
    range->range = function;
    range->parallel.job_ps = pace_of(group->pool, function);
    if (fp_parallel_start_here(&range->parallel)) {
        drop_part(&range->part); /* the queue's reference, which it never had */
        return FP_SUBMIT_OK;
    }
    if (queue_range(group, range, FP_QUEUED) != FP_SUBMIT_OK)
        queue_range(group, range, FP_HERE); /* it has begun, so it is not refused any more */
    else
        fp_parallel_assist(&range->parallel, until_ns);
    fp_parallel_stop_assisting(&range->parallel);
    return FP_SUBMIT_OK;
}

/* ---- waiting ---- */

static void cancel_part(fp_part *part)
{
    if (part->is_burst)
        discard_burst(part, FP_DISCARD_CANCELLED);
    else
        fp_parallel_cancel(&((group_range *)part)->parallel);
}

/* A thread that waits, and runs jobs of the group meanwhile. */
typedef struct helper {
    fp_group *group;
    bool is_worker;      /* of this pool: it must help, for it may be the only one that could run them */
    bool has_run;        /* some job */
    int64_t deadline_ns;
} helper;

/* A worker runs something before it looks at the clock: one that asks again and again gets on, too. */
static bool has_time(const helper *helper)
{
    return (helper->is_worker && !helper->has_run) || helper->deadline_ns == FP_FOREVER ||
           fp_os_now_ns() < helper->deadline_ns;
}

/* Asked for each part. */
static bool may_help(const helper *helper)
{
    return (helper->is_worker || fp_parallel_may_assist(helper->group->pool)) && has_time(helper);
}

/* It is sealed, so there is no waiting for more. */
static void help_burst(helper *helper, fp_group_burst *part)
{
    burst_way way = {.part = part, .worker = NULL, .most = 1, .now = fp_clock_ticks()};
    uint32_t begin, end, filled;
    void *token = fp_pool_let_go(helper->group->pool);
    while (has_time(helper) && fp_burst_take(&part->burst, way.most, &begin, &end, &filled)) {
        helper->has_run = true;
        run_taken(&way, begin, end);
    }
    fp_pool_take_back(helper->group->pool, token);
}

static void help_range(helper *helper, fp_parallel *parallel)
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

static void help_part(helper *helper, fp_part *part)
{
    if (!may_help(helper))
        return;
    if (part->is_burst)
        help_burst(helper, (fp_group_burst *)part);
    else
        help_range(helper, &((group_range *)part)->parallel);
}

void fp_group_help(fp_group *group, int64_t deadline_ns)
{
    fp_worker *worker = fp_worker_current();
    helper helper = {.group = group, .is_worker = worker != NULL && worker->pool == group->pool, .deadline_ns = deadline_ns};
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
        forget_first(group);
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
