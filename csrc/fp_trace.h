/* fp_trace - what ran when, and where: for as long as somebody asks, and for one load and a branch where nobody does.
 *
 * Journey: ring -> worker -> [TRACE] -> completion. Who runs a job says so before it can be known that the job has ended: who
 * has waited for a job and then closes the trace finds it there.
 *
 * Sessions   A trace is open on one pool, and a pool has one open trace at most; pool->tracing is its number, 0 for none.
 *            A worker that records sees by the number that its ring is of an older session, and makes one for this: so there
 *            are no rings but those of threads that have run something. A ring that there is no memory for: its
 *            events are counted and dropped.
 * Callers    Threads that are no workers of the pool (they wait for a job and run it, or submit to a full queue) share one
 *            ring, which they write under pool->trace_lock; an event says which of them it was.
 * Reading    A closed trace is what it was when it was closed: who records late, which may be, is not seen any more, but may
 *            have overwritten the oldest events (fp_trace_ring.h). An open one may be read too.
 * Ownership  A trace is held by who created it, and by the pool while it is open. A ring is held by its trace and by its
 *            worker, which lets go of it when it comes to rest after that, at its first event of the next session, or when it
 *            is freed: until then the memory of a trace that is gone may stay, never more than one ring a worker.
 */
#ifndef FP_TRACE_H
#define FP_TRACE_H

#include "fp_clock.h"
#include "fp_pool.h"
#include "fp_trace_ring.h"

#define fp_unlikely(condition) __builtin_expect(!!(condition), 0)

enum {
    FP_TRACE_CALLERS = FP_MOST_WORKERS, /* the row of those who are no workers; a worker's row is its id */
    FP_TRACE_MOST = 1 << 22,            /* events to a ring: 160 MiB */
};

typedef struct fp_trace_row {
    fp_trace_ring ring;
    struct fp_trace_row *next;        /* of the same trace */
    fp_atomic(uint32_t) references;   /* its trace's, and its worker's */
    uint32_t id;
    uint64_t end;                     /* events, when the trace was closed */
} fp_trace_row;

typedef struct fp_trace {
    fp_atomic(uint32_t) references;
    uint32_t events;             /* to a ring */
    uint64_t start_ticks;
    fp_atomic(uint64_t) lost;    /* events that there was no memory for */
    fp_atomic(bool) closed;
    fp_trace_row *rows;          /* this and the next under pool->trace_lock until it is closed, and not written after that */
    fp_trace_row *callers;       /* among the rows; NULL before the first event */
} fp_trace;

/* 1 .. FP_TRACE_MOST events to a ring. NULL when memory is short. */
fp_trace *fp_trace_create(uint32_t events);
void fp_trace_release(fp_trace *trace);

/* False: another one is open. A trace is opened once. */
bool fp_trace_open(fp_trace *trace, fp_pool *pool);

/* Idempotent. */
void fp_trace_close(fp_trace *trace, fp_pool *pool);

/* The first row, the others follow by `next`; of an open trace the pool has to be given. */
fp_trace_row *fp_trace_rows(fp_trace *trace, fp_pool *pool);

/* Events [first, end) of a row may still be there; those before have been overwritten. */
void fp_trace_range(fp_trace *trace, fp_trace_row *row, uint64_t *first, uint64_t *end);

/* Of workers (fp_worker.c): it is freed; it found nothing to do. */
void fp_trace_forget_row(fp_trace_row *row);
void fp_trace_rest(struct fp_worker *worker);

/* Records that `jobs` jobs ran here from start_ticks until now. */
void fp_trace_note(fp_pool *pool, const char *name, uint64_t start_ticks, int64_t jobs);

/* Round a job: the ticks at which it starts, 0 when nobody traces; and the same, when it has run and before it ends. */
static inline uint64_t fp_trace_start(fp_pool *pool)
{
    return fp_unlikely(fp_load(&pool->tracing, fp_relaxed) != 0) ? fp_clock_ticks() : 0;
}

static inline void fp_trace_ran(fp_pool *pool, const char *name, uint64_t start_ticks, int64_t jobs)
{
    if (fp_unlikely(start_ticks != 0))
        fp_trace_note(pool, name, start_ticks, jobs);
}

#endif
