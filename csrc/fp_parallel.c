/* fp_parallel.c - taking pieces, the pace, and the end (A1, A2). */
#include "fp_parallel.h"

#include "fp_awake.h"
#include "fp_clock.h"
#include "fp_running.h"
#include "fp_trace.h"
#include "fp_worker.h"

enum {
    PIECE_NS = 50 * 1000,
    PIECES_A_WORKER = 4,
    GROWTH = 8,              /* a piece in cold caches says little of the next */
    MEASURED_NS = 10 * 1000,
    MOST_TOGETHER = 4096,
    WORTH_WAKING_NS = 30 * 1000, /* what is left, where waking takes some 10 to 20 microseconds */
    TRUSTED_NS = 2000,           /* shorter spans say nothing of the rest */
};

/* Why a thread runs pieces, which says when it stops, and how jobs are counted. */
typedef enum role {
    AS_WORKER, /* until none is left */
    HELPING,   /* the same, not as the record's worker */
    ASSISTING, /* while a CPU is to spare */
    ALONE,     /* not queued: while the rest is not worth a wake-up */
    FINISHING, /* not queued: until none is left */
} role;

/* A thread's way through the range. */
typedef struct way {
    fp_parallel *parallel;
    fp_worker *worker; /* AS_WORKER; else NULL */
    role role;
    int64_t grain;     /* jobs to take next */
    int64_t together;  /* pieces to a measurement */
    int64_t pieces, jobs, failed, cancelled, timed_out; /* since the clock was read */
    int64_t done;      /* jobs in all */
    int64_t finished;  /* of them, subtracted from `unfinished` */
    int64_t from_ns, began_ns;
    int64_t until_ns;  /* when to stop between two pieces */
    uint64_t from_ticks; /* the metrics' clock */
    bool enough;
} way;

void fp_parallel_init(fp_parallel *parallel, const fp_parallel_class *kind, fp_pool *pool, int64_t n, int64_t grain)
{
    fp_range_init(&parallel->range, n);
    fp_store(&parallel->unfinished, n, fp_relaxed);
    fp_store(&parallel->pace, INT64_C(1), fp_relaxed);
    fp_store(&parallel->discarded, 0, fp_relaxed);
    fp_store(&parallel->cut, 0, fp_relaxed);
    fp_store(&parallel->failed, false, fp_relaxed);
    parallel->deadline_ns = FP_FOREVER;
    parallel->status = 0;
    parallel->failed_at = -1;
    parallel->grain = grain;
    parallel->stop = NULL;
    parallel->job_ps = NULL;
    parallel->pool = pool;
    parallel->kind = kind;
    parallel->name = NULL;
    parallel->assisted = false;
}

static int64_t next_grain(way *way, int64_t took_ns)
{
    fp_pool *pool = way->parallel->pool;
    int64_t workers = (int64_t)fp_load(&pool->live, fp_relaxed);
    int64_t fair = fp_range_left(&way->parallel->range) / (PIECES_A_WORKER * (workers > 0 ? workers : 1)) + 1;
    int64_t most = way->jobs < FP_RANGE_GRAIN_MOST / GROWTH ? way->jobs * GROWTH : FP_RANGE_GRAIN_MOST;
    double jobs = took_ns > 0 ? (double)way->jobs * PIECE_NS / (double)took_ns : (double)most; /* beyond any integer, perhaps */
    int64_t aimed = jobs < (double)most ? (int64_t)jobs + 1 : most;
    return aimed < fair || way->role == ALONE ? aimed : fair;
}

static bool worth_waking(way *way, int64_t took_ns, int64_t now_ns)
{
    double left_ns = (double)fp_range_left(&way->parallel->range) * (double)took_ns / (double)way->jobs;
    return left_ns > WORTH_WAKING_NS && now_ns - way->began_ns >= TRUSTED_NS;
}

static void count(way *way, fp_outcome outcome, int64_t jobs, uint64_t ticks_a_job)
{
    if (way->worker != NULL)
        fp_worker_note(way->worker, outcome, jobs, ticks_a_job * (uint64_t)jobs);
    else
        fp_pool_note_run(way->parallel->pool, outcome, (uint64_t)jobs, ticks_a_job);
}

static void count_measured(way *way)
{
    uint64_t ticks_a_job = (fp_clock_ticks() - way->from_ticks) / (uint64_t)way->jobs;
    count(way, FP_DONE, way->jobs - way->failed - way->cancelled - way->timed_out, ticks_a_job);
    count(way, FP_FAILED, way->failed, ticks_a_job);
    count(way, FP_CANCELLED, way->cancelled, 0);
    count(way, FP_TIMED_OUT, way->timed_out, 0);
}

static void start_measuring(way *way, int64_t now_ns)
{
    way->pieces = way->jobs = way->failed = way->cancelled = way->timed_out = 0;
    way->from_ticks = fp_clock_ticks();
    way->from_ns = now_ns;
}

static void set_pace(way *way, int64_t took_ns)
{
    if (way->parallel->grain <= 0) {
        way->grain = next_grain(way, took_ns);
        fp_store(&way->parallel->pace, way->grain, fp_relaxed);
    } else if (took_ns < MEASURED_NS / 2) {
        way->together = way->together < MOST_TOGETHER ? way->together * 2 : MOST_TOGETHER;
    } else if (took_ns > MEASURED_NS * 2) {
        way->together = way->together > 1 ? way->together / 2 : 1;
    }
}

/* A1, A2. */
static void finish(fp_parallel *parallel, int64_t jobs)
{
    if (jobs != 0 && fp_fetch_sub(&parallel->unfinished, jobs, FP_PARALLEL_END) == jobs)
        parallel->kind->ended(parallel);
}

/* Jobs are counted as ended only when this has been done: a pool is not idle before the range has ended. */
static void finish_done(way *way)
{
    int64_t jobs = way->done - way->finished;
    way->finished = way->done;
    finish(way->parallel, jobs);
}

static void note_job_ps(way *way, int64_t took_ns)
{
    enum { PS = 1000 };
    int64_t most_ns = INT64_MAX / PS;
    if (way->parallel->job_ps != NULL) /* + 1: known, however short */
        fp_store(way->parallel->job_ps, (took_ns < most_ns ? took_ns : most_ns - 1) * PS / way->jobs + 1, fp_relaxed);
}

/* With this thread. */
static bool are_too_many(fp_pool *pool)
{
    uint32_t assisting = fp_load(&pool->assisting, fp_relaxed);
    return fp_pool_is_paused(pool) || fp_load(&pool->awake, fp_relaxed) + assisting > fp_load(&pool->max_workers, fp_relaxed) ||
           fp_awake_count() + assisting > pool->usable_cpus;
}

/* Counts what was done since the last time, and sets the pace by it. */
static void measure(way *way)
{
    int64_t now_ns = fp_os_now_ns(), took_ns = now_ns - way->from_ns;
    note_job_ps(way, took_ns); /* before the end, after which it may be gone */
    finish_done(way);
    count_measured(way);
    set_pace(way, took_ns);
    if (way->role == ALONE)
        way->enough = worth_waking(way, took_ns, now_ns) || fp_pool_is_paused(way->parallel->pool);
    else if (way->role == ASSISTING)
        way->enough = are_too_many(way->parallel->pool);
    if (now_ns >= way->until_ns)
        way->enough = true;
    start_measuring(way, now_ns);
}

/* F1, F2. */
static void note_failure(fp_parallel *parallel, const fp_piece *piece)
{
    bool first = false;
    if (piece->failed == 0 || !fp_cas(&parallel->failed, &first, true, fp_relaxed, fp_relaxed))
        return;
    parallel->status = piece->status;
    parallel->failed_at = piece->failed_at;
}

static bool is_stopped(fp_parallel *parallel)
{
    return (parallel->stop != NULL && fp_load(parallel->stop, fp_relaxed) != 0) ||
           fp_load(&parallel->pool->stop, fp_relaxed) != 0;
}

static bool is_late(fp_parallel *parallel)
{
    return parallel->deadline_ns != FP_FOREVER && fp_os_now_ns() >= parallel->deadline_ns;
}

static bool should_go_on(fp_parallel *parallel)
{
    return !is_stopped(parallel) && fp_load(&parallel->discarded, fp_relaxed) == 0;
}

/* How the jobs of a piece count whose time was over when it ended; or that failed, and may have been asked to. */
static void judge(fp_parallel *parallel, int64_t jobs, fp_piece *piece)
{
    if (is_late(parallel)) {
        *piece = (fp_piece){.cancelled = piece->cancelled, .timed_out = jobs - piece->cancelled};
        fp_store(&parallel->cut, 1 + FP_DISCARD_TIMED_OUT, fp_relaxed);
    } else if (piece->failed != 0 && !should_go_on(parallel)) {
        *piece = (fp_piece){.cancelled = piece->cancelled + piece->failed};
        fp_store(&parallel->cut, 1 + FP_DISCARD_CANCELLED, fp_relaxed);
    }
}

static void run_piece(way *way, int64_t begin, int64_t end)
{
    fp_parallel *parallel = way->parallel;
    fp_piece piece = {0};
    if (way->worker != NULL && end == parallel->range.n)
        fp_worker_range_started(way->worker);
    if (way->role >= ALONE) /* before they can be counted as ended */
        fp_fetch_add(&parallel->pool->submitted_extra, (uint64_t)(end - begin), fp_relaxed);
    uint64_t traced = parallel->name != NULL ? fp_trace_start(parallel->pool) : 0;
    parallel->kind->run(parallel, begin, end, &piece);
    fp_trace_ran(parallel->pool, parallel->name, traced, end - begin);
    judge(parallel, end - begin, &piece);
    if (parallel->kind->piece_ended != NULL)
        parallel->kind->piece_ended(parallel, begin, end, &piece);
    note_failure(parallel, &piece);
    way->done += end - begin;
    way->jobs += end - begin;
    way->failed += piece.failed;
    way->cancelled += piece.cancelled;
    way->timed_out += piece.timed_out;
}

/* Lets no further job start: how many there are, and how many of those had been cancelled one by one. */
static int64_t discard_rest(fp_parallel *parallel, fp_discard_reason reason, int64_t *cancelled)
{
    int64_t jobs = fp_range_cancel(&parallel->range);
    *cancelled = 0;
    if (jobs > 0) { /* only the first to discard finds any */
        parallel->discarded_from = parallel->range.n - jobs;
        if (parallel->kind->seal != NULL)
            *cancelled = parallel->kind->seal(parallel);
        fp_store(&parallel->discarded, 1 + (int)reason, fp_seq_cst);
        if (parallel->kind->discarded != NULL)
            parallel->kind->discarded(parallel);
    }
    if (parallel->kind->start != NULL)
        parallel->kind->start(parallel); /* unless it runs already, or was cancelled */
    finish(parallel, jobs);
    return jobs;
}

static int64_t discard(void *ctx, fp_discard_reason reason)
{
    int64_t cancelled;
    return discard_rest(ctx, reason, &cancelled);
}

/* Jobs of a range that was not queued count as submitted now, for else more would end than were. */
static int64_t discard_counted(fp_parallel *parallel, fp_discard_reason reason, bool queued)
{
    int64_t cancelled, jobs = discard_rest(parallel, reason, &cancelled);
    int64_t late = reason == FP_DISCARD_TIMED_OUT ? jobs - cancelled : 0;
    if (!queued)
        fp_fetch_add(&parallel->pool->submitted_extra, (uint64_t)jobs, fp_relaxed);
    fp_pool_note(parallel->pool, FP_TIMED_OUT, (uint64_t)late);
    fp_pool_note(parallel->pool, FP_CANCELLED, (uint64_t)(jobs - late));
    fp_pool_told_idle(parallel->pool);
    return jobs;
}

static void run_pieces(way *way)
{
    fp_parallel *parallel = way->parallel;
    int64_t begin, end;
    while (!way->enough) {
        if (is_stopped(parallel))
            discard_counted(parallel, FP_DISCARD_CANCELLED, way->role < ALONE);
        else if (is_late(parallel))
            discard_counted(parallel, FP_DISCARD_TIMED_OUT, way->role < ALONE);
        if (!fp_range_claim(&parallel->range, way->grain, &begin, &end))
            return;
        run_piece(way, begin, end);
        if (end == parallel->range.n || (way->worker != NULL && fp_worker_should_yield(way->worker)))
            return;
        if (++way->pieces >= way->together)
            measure(way);
    }
}

/* On the stack of who takes part, for the kernel to ask. */
typedef struct part_running {
    fp_running running;
    fp_parallel *parallel;
} part_running;

static bool should_stop(fp_running *running)
{
    fp_parallel *parallel = ((part_running *)running)->parallel;
    return !should_go_on(parallel) || is_late(parallel);
}

static void take_part(fp_parallel *parallel, fp_worker *worker, role role, int64_t until_ns)
{
    part_running running = {.running = {.should_stop = should_stop, .pool = parallel->pool}, .parallel = parallel};
    way way = {.parallel = parallel, .worker = worker, .role = role, .together = 1, .until_ns = until_ns,
               .grain = parallel->grain > 0 ? parallel->grain : fp_load(&parallel->pace, fp_relaxed)};
    int64_t now_ns = fp_os_now_ns();
    way.began_ns = now_ns;
    start_measuring(&way, now_ns);
    fp_running_enter(&running.running);
    run_pieces(&way);
    fp_running_leave(&running.running);
    finish_done(&way);
    if (way.jobs > 0)
        count_measured(&way);
    if (worker == NULL && way.done > 0)
        fp_pool_told_idle(parallel->pool);
}

static void take_part_here(fp_parallel *parallel, role role, int64_t until_ns)
{
    void *token = fp_pool_let_go(parallel->pool);
    take_part(parallel, NULL, role, until_ns);
    fp_pool_take_back(parallel->pool, token);
}

bool fp_parallel_may_assist(fp_pool *pool)
{
    uint32_t assisting = fp_load(&pool->assisting, fp_relaxed), most = fp_load(&pool->max_workers, fp_relaxed);
    return most > 1 && fp_load(&pool->live, fp_relaxed) > 0 && fp_load(&pool->awake, fp_relaxed) + assisting < most &&
           fp_awake_count() + assisting < pool->usable_cpus && !fp_pool_is_paused(pool);
}

bool fp_parallel_may_start_here(fp_pool *pool)
{
    fp_worker *worker = fp_worker_current();
    if (worker != NULL && worker->pool == pool)
        return true;
    return fp_parallel_may_assist(pool) && fp_load(&pool->setting_up, fp_relaxed) == 0 && fp_pool_is_empty(pool);
}

bool fp_parallel_begins_here(fp_pool *pool, int64_t n, int64_t grain, int64_t job_ps)
{
    int64_t first = grain > 0 ? grain : 1;
    return fp_parallel_may_start_here(pool) &&
           (first >= n || (job_ps > 0 && job_ps <= WORTH_WAKING_NS * INT64_C(1000) / first));
}

/* Of a worker of the pool nothing has to be said: it is counted as awake. */
static void start_assisting(fp_parallel *parallel)
{
    fp_worker *worker = fp_worker_current();
    if (parallel->assisted || (worker != NULL && worker->pool == parallel->pool))
        return;
    parallel->assisted = true;
    fp_fetch_add(&parallel->pool->assisting, 1, fp_seq_cst);
}

void fp_parallel_stop_assisting(fp_parallel *parallel)
{
    fp_pool *pool = parallel->pool;
    if (!parallel->assisted)
        return;
    parallel->assisted = false;
    fp_fetch_sub(&pool->assisting, 1, fp_seq_cst);
    /* For the sake of this thread somebody may have been left asleep. But not for a record that is spent: who has been woken
     * for it takes it off. */
    if (fp_range_left(&parallel->range) > 0 || fp_pool_holds_more(pool))
        fp_pool_wake(pool);
}

bool fp_parallel_start_here(fp_parallel *parallel)
{
    start_assisting(parallel);
    take_part_here(parallel, ALONE, FP_FOREVER);
    if (fp_load(&parallel->unfinished, fp_relaxed) != 0)
        return false;
    fp_parallel_stop_assisting(parallel); /* nobody else has any of it */
    return true;
}

void fp_parallel_finish_here(fp_parallel *parallel)
{
    take_part_here(parallel, FINISHING, FP_FOREVER);
    fp_parallel_stop_assisting(parallel);
}

void fp_parallel_help(fp_parallel *parallel, int64_t until_ns)
{
    take_part_here(parallel, HELPING, until_ns);
}

void fp_parallel_assist(fp_parallel *parallel, int64_t until_ns)
{
    if (fp_os_now_ns() >= until_ns || fp_pool_is_paused(parallel->pool) ||
        !(parallel->assisted || fp_parallel_may_assist(parallel->pool)))
        return;
    start_assisting(parallel);
    take_part_here(parallel, ASSISTING, until_ns);
}

int64_t fp_parallel_cancel(fp_parallel *parallel)
{
    return discard_counted(parallel, FP_DISCARD_CANCELLED, true);
}

void fp_parallel_time_out(fp_parallel *parallel)
{
    discard_counted(parallel, FP_DISCARD_TIMED_OUT, true);
}

/* As a job of the queue; worker == NULL: on a thread that is none, attached where the host attaches. */
static fp_outcome run(void *ctx, fp_worker *worker)
{
    fp_parallel *parallel = ctx;
    if (parallel->kind->start != NULL && !parallel->kind->start(parallel))
        fp_pool_note(parallel->pool, FP_CANCELLED, (uint64_t)fp_range_cancel(&parallel->range));
    else if (is_stopped(parallel))
        fp_parallel_cancel(parallel);
    else if (worker != NULL)
        take_part(parallel, worker, AS_WORKER, FP_FOREVER);
    else
        fp_parallel_help(parallel, FP_FOREVER);
    return FP_COUNTED_ELSEWHERE;
}

static void end(void *ctx, fp_worker *worker)
{
    fp_parallel *parallel = ctx;
    (void)worker;
    parallel->kind->released(parallel);
}

static bool all_started(void *ctx)
{
    return fp_range_left(&((fp_parallel *)ctx)->range) == 0;
}

const fp_job_class fp_parallel_job = {.kind = 0, .run = run, .discard = discard, .end = end, .all_started = all_started};
