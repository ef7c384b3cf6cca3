/* fp_trace.c - opening and closing, each worker's row, and recording. */
#include "fp_trace.h"

#include <stdlib.h>

#include "fp_worker.h"

fp_trace *fp_trace_create(uint32_t events)
{
    fp_trace *trace = calloc(1, sizeof *trace);
    if (trace == NULL)
        return NULL;
    trace->events = events;
    fp_store(&trace->references, 1, fp_relaxed);
    return trace;
}

/* Slots are zeroed by calloc, which costs nothing before they are used: a ring takes the memory that it fills. */
static fp_trace_row *make_row(const fp_trace *trace, uint32_t id)
{
    fp_trace_row *row = calloc(1, sizeof *row);
    fp_trace_slot *slots = calloc(trace->events, sizeof *slots);
    if (row == NULL || slots == NULL) {
        free(row);
        free(slots);
        return NULL;
    }
    row->ring.capacity = trace->events;
    row->ring.slots = slots;
    row->id = id;
    fp_store(&row->references, 1, fp_relaxed);
    return row;
}

void fp_trace_forget_row(fp_trace_row *row)
{
    if (row == NULL || fp_fetch_sub(&row->references, 1, fp_acq_rel) != 1)
        return;
    free(row->ring.slots);
    free(row);
}

void fp_trace_release(fp_trace *trace)
{
    if (fp_fetch_sub(&trace->references, 1, fp_acq_rel) != 1)
        return;
    while (trace->rows != NULL) {
        fp_trace_row *row = trace->rows;
        trace->rows = row->next;
        fp_trace_forget_row(row);
    }
    free(trace);
}

bool fp_trace_open(fp_trace *trace, fp_pool *pool)
{
    fp_mutex_lock(&pool->trace_lock);
    bool opens = pool->trace == NULL;
    if (opens) {
        pool->trace = trace;
        fp_fetch_add(&trace->references, 1, fp_relaxed);
        trace->start_ticks = fp_clock_ticks();
        pool->trace_sessions += pool->trace_sessions == UINT32_MAX ? 2 : 1; /* never 0 */
        fp_store(&pool->tracing, pool->trace_sessions, fp_relaxed);
    }
    fp_mutex_unlock(&pool->trace_lock);
    return opens;
}

void fp_trace_close(fp_trace *trace, fp_pool *pool)
{
    fp_mutex_lock(&pool->trace_lock);
    bool closes = pool->trace == trace;
    if (closes) {
        fp_store(&pool->tracing, 0, fp_relaxed);
        pool->trace = NULL;
        for (fp_trace_row *row = trace->rows; row != NULL; row = row->next)
            row->end = fp_trace_end(&row->ring);
        fp_store(&trace->closed, true, fp_release); /* publishes the ends */
    }
    fp_mutex_unlock(&pool->trace_lock);
    if (closes)
        fp_trace_release(trace);
}

fp_trace_row *fp_trace_rows(fp_trace *trace, fp_pool *pool)
{
    if (pool == NULL)
        return trace->rows;
    fp_mutex_lock(&pool->trace_lock);
    fp_trace_row *first = trace->rows; /* rows come before it, and never go */
    fp_mutex_unlock(&pool->trace_lock);
    return first;
}

void fp_trace_range(fp_trace *trace, fp_trace_row *row, uint64_t *first, uint64_t *end)
{
    *end = fp_load(&trace->closed, fp_acquire) ? row->end : fp_trace_end(&row->ring);
    *first = *end > row->ring.capacity ? *end - row->ring.capacity : 0;
}

/* Under the lock: a new row of the open trace, or NULL, which is counted as an event lost. */
static fp_trace_row *add_row(fp_trace *trace, uint32_t id)
{
    fp_trace_row *row = make_row(trace, id);
    if (row == NULL) {
        fp_fetch_add(&trace->lost, UINT64_C(1), fp_relaxed);
        return NULL;
    }
    row->next = trace->rows;
    trace->rows = row;
    return row;
}

/* The worker's first event of the session, and each of one that has got no row. */
static void join_session(fp_worker *worker)
{
    fp_pool *pool = worker->pool;
    fp_trace_forget_row(worker->row);
    worker->row = NULL;
    fp_mutex_lock(&pool->trace_lock);
    if (pool->trace != NULL)
        worker->row = add_row(pool->trace, worker->id);
    if (worker->row != NULL)
        fp_fetch_add(&worker->row->references, 1, fp_relaxed);
    worker->session = pool->trace_sessions;
    fp_mutex_unlock(&pool->trace_lock);
}

void fp_trace_rest(fp_worker *worker)
{
    if (worker->row == NULL || fp_load(&worker->pool->tracing, fp_relaxed) != 0)
        return;
    fp_trace_forget_row(worker->row);
    worker->row = NULL;
}

static void note_on_worker(fp_worker *worker, const fp_trace_event *event)
{
    uint32_t session = fp_load(&worker->pool->tracing, fp_relaxed);
    if (session == 0) /* closed meanwhile */
        return;
    if (worker->session != session || worker->row == NULL)
        join_session(worker);
    if (worker->row != NULL)
        fp_trace_put(&worker->row->ring, event);
}

/* From 1 on; a thread that has gone leaves its number to nobody. */
static uint32_t thread_number(void)
{
    static fp_atomic(uint32_t) threads;
    static _Thread_local uint32_t number;
    if (number == 0)
        number = fp_fetch_add(&threads, 1, fp_relaxed) + 1;
    return number;
}

static void note_on_caller(fp_pool *pool, fp_trace_event *event)
{
    event->thread = thread_number();
    fp_mutex_lock(&pool->trace_lock);
    fp_trace *trace = pool->trace;
    if (trace != NULL && trace->callers == NULL)
        trace->callers = add_row(trace, FP_TRACE_CALLERS);
    if (trace != NULL && trace->callers != NULL)
        fp_trace_put(&trace->callers->ring, event);
    fp_mutex_unlock(&pool->trace_lock);
}

static uint32_t depth_of(fp_pool *pool)
{
    uint64_t depth = fp_queue_size(&pool->queue) + fp_overflow_count(&pool->overflow);
    return depth < UINT32_MAX ? (uint32_t)depth : UINT32_MAX;
}

void fp_trace_note(fp_pool *pool, const char *name, uint64_t start_ticks, int64_t jobs)
{
    fp_worker *worker = fp_worker_current();
    uint64_t now = fp_clock_ticks();
    if (jobs == 0 || fp_pool_is_forked(pool)) /* by the job: in the child nobody may be there to give the lock back */
        return;
    fp_trace_event event = {.name = name, .start_ticks = start_ticks, .end_ticks = now > start_ticks ? now : start_ticks,
                            .jobs = jobs, .depth = depth_of(pool)};
    if (worker != NULL && worker->pool == pool)
        note_on_worker(worker, &event);
    else
        note_on_caller(pool, &event);
}
