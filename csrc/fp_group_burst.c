/* fp_group_burst.c - single jobs of a group: put into bursts (fp_burst.h), run, counted, cancelled. */
#include "fp_part.h"

#include <stdlib.h>

#include "fp_backoff.h"
#include "fp_clock.h"
#include "fp_running.h"
#include "fp_trace.h"
#include "fp_worker.h"

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
    if (way->worker != NULL)
        fp_worker_note(way->worker, outcome, jobs, ticks_a_job * jobs);
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
    if (way->part->part.group->pool->options.unmeasured)
        return;
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
    fp_part_end(&part->part);
}

/* On the stack of who runs jobs, for the jobs to ask. */
typedef struct burst_running {
    fp_running running;
    fp_group *group;
} burst_running;

static bool is_asked_to_stop(fp_group *group)
{
    return fp_load(&group->stop, fp_relaxed) != 0 || fp_load(&group->pool->stop, fp_relaxed) != 0;
}

static bool should_stop(fp_running *running)
{
    return is_asked_to_stop(((burst_running *)running)->group);
}

static fp_outcome end_cancelled(fp_group *group)
{
    fp_store(&group->cancelled, true, fp_relaxed);
    return FP_CANCELLED;
}

static fp_outcome run_job(fp_group_burst *part, uint32_t i)
{
    fp_group *group = part->part.group;
    fp_burst_job *job = &part->burst.jobs[i];
    if (fp_load(&group->stop, fp_relaxed) != 0)
        return end_cancelled(group);
    int status = fp_get(&job->function)(fp_get(&job->arg));
    if (status == 0)
        return FP_DONE;
    if (is_asked_to_stop(group))
        return end_cancelled(group);
    fp_group_note_failure(group, status, -1);
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
    uint64_t from = way->now, traced = fp_trace_start(part->part.group->pool);
    burst_running running = {.running = {.should_stop = should_stop, .pool = part->part.group->pool}, .group = part->part.group};
    fp_running_enter(&running.running);
    for (uint32_t i = begin; i < end; i++) {
        fp_outcome outcome = run_job(part, i);
        ended[outcome]++;
        if (i == 0)
            fp_set(&part->first_outcome, (int)outcome);
    }
    fp_running_leave(&running.running);
    fp_trace_ran(part->part.group->pool, "native", traced, end - begin);
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

/* Until the burst is sealed and all of it taken, or the worker is to yield. */
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
            if (worker != NULL && fp_worker_should_yield(worker))
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

int64_t fp_group_discard_burst(void *ctx, fp_discard_reason reason)
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
    fp_part_drop(ctx);
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
    .kind = 0, .run = run_burst_job, .discard = fp_group_discard_burst, .end = release_part, .all_started = burst_all_started};

static fp_group_burst *take_burst(fp_group *group)
{
    fp_group_burst *burst = NULL;
    fp_group_forget_ended(group);
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
    uint64_t from = fp_clock_ticks(), traced = fp_trace_start(pool);
    int status = function(arg);
    fp_trace_ran(pool, "native", traced, 1);
    fp_pool_note_run(pool, status == 0 ? FP_DONE : FP_FAILED, 1, fp_clock_ticks() - from);
    fp_pool_take_back(pool, token);
    if (status != 0)
        fp_group_note_failure(group, status, -1);
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
    fp_group_start_anew(group);
    if (place == FP_HERE) {
        run_here(group, function, arg);
        return FP_SUBMIT_OK;
    }
    fp_group_burst *burst = take_burst(group);
    if (burst == NULL)
        return FP_SUBMIT_NO_MEMORY;
    fp_burst_init(&burst->burst, function, arg);
    fp_part_add(group, &burst->part, true);
    result = place == FP_BEYOND ? fp_pool_submit_beyond(group->pool, &burst_job, burst, true, 1, FP_LANE_NORMAL)
                                : fp_pool_submit(group->pool, &burst_job, burst, true, 1, FP_LANE_NORMAL);
    if (result != FP_SUBMIT_OK) {
        fp_part_remove_last(group, &burst->part);
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

void fp_group_help_burst(fp_helper *helper, fp_group_burst *part)
{
    burst_way way = {.part = part, .worker = NULL, .most = 1, .now = fp_clock_ticks()};
    uint32_t begin, end, filled;
    void *token = fp_pool_let_go(helper->group->pool);
    while (fp_helper_may_go_on(helper) && fp_burst_take(&part->burst, way.most, &begin, &end, &filled)) {
        helper->has_run = true;
        run_taken(&way, begin, end);
    }
    fp_pool_take_back(helper->group->pool, token);
}
