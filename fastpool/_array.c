/* _array.c - map_array: one record of the queue, one native job for each element.
 *
 * Journey: submit -> ring -> [WORKER -> KERNEL, chunk after chunk -> COMPLETION] -> future. From join to leave a worker does not
 * touch the interpreter.
 *
 * Ending      A1 a worker that finds no more chunks subtracts what it has done from `unfinished`   A2 who takes it to zero ends
 *             the future. So the future is told when the last element is done, not when the queue has noticed; the record
 *             in the queue, by then an empty range, holds the future (and it the job) until a worker comes by.
 * Order pair  A1 -> A1 (acq_rel): the elements that others have written, to the one who ends the future.
 *
 * Grain       How many elements a worker claims at a time, unless the caller says so: a chunk is to take about CHUNK_NS, so
 *             that claiming it costs nothing beside it, but each worker is to get several, so that they end together. The
 *             first chunk is small and is measured; from then on each chunk sizes the next.
 * Measuring   Reading the clock costs as much as a small chunk, so chunks are measured a few together where they are small
 *             by the caller's wish: as many as take about MEASURED_NS.
 */
#include "_bridge.h"

#include <stdlib.h>

#include "fp_clock.h"

enum { FIRST_GRAIN = 256, CHUNK_NS = 50 * 1000, CHUNKS_A_WORKER = 4, MEASURED_NS = 10 * 1000, MOST_TOGETHER = 4096 };

/* A worker's way through the range. */
typedef struct pace {
    int64_t grain;       /* elements to claim next */
    int64_t together;    /* chunks to a measurement */
    int64_t chunks, elements; /* since the clock was read */
    int64_t from_ns;
    uint64_t from_ticks; /* the metrics' clock */
} pace;

static int64_t next_grain(py_array_job *job, int64_t jobs, int64_t took_ns)
{
    int64_t workers = (int64_t)fp_load(&job->future->core->pool->live, fp_relaxed);
    int64_t fair = fp_range_left(&job->range) / (CHUNKS_A_WORKER * (workers > 0 ? workers : 1)) + 1;
    int64_t aimed = took_ns > 0 ? (int64_t)((double)jobs * CHUNK_NS / (double)took_ns) + 1 : jobs * 8;
    int64_t most = jobs * 8; /* a first chunk in cold caches says little */
    aimed = aimed < most ? aimed : most;
    return aimed < fair ? aimed : fair;
}

static void start_measuring(pace *pace)
{
    pace->chunks = pace->elements = 0;
    pace->from_ticks = fp_clock_ticks();
    pace->from_ns = fp_os_now_ns();
}

/* Counts what was done since the last time, and sets the pace by it. */
static void measure(py_array_job *job, fp_worker *worker, pace *pace)
{
    int64_t took_ns = fp_os_now_ns() - pace->from_ns;
    if (pace->elements == 0)
        return;
    if (worker != NULL)
        fp_worker_note(worker, FP_DONE, pace->elements, fp_clock_ticks() - pace->from_ticks);
    else
        fp_pool_note(job->future->core->pool, FP_DONE, (uint64_t)pace->elements);
    if (job->grain <= 0)
        pace->grain = next_grain(job, pace->elements, took_ns);
    else if (took_ns < MEASURED_NS / 2)
        pace->together = pace->together < MOST_TOGETHER ? pace->together * 2 : MOST_TOGETHER;
    else if (took_ns > MEASURED_NS * 2)
        pace->together = pace->together > 1 ? pace->together / 2 : 1;
    start_measuring(pace);
}

/* Runs chunks until none is left to claim; how many elements that were. On a worker it is detached; whoever else runs them
 * is attached, and lets go meanwhile. The last measurement is left to the caller. */
static int64_t run_chunks(py_array_job *job, fp_worker *worker, pace *pace)
{
    PyThreadState *state = worker == NULL ? PyEval_SaveThread() : NULL;
    int64_t begin, end, done = 0;
    *pace = (struct pace){.grain = job->grain > 0 ? job->grain : FIRST_GRAIN, .together = 1};
    start_measuring(pace);
    while (fp_range_claim(&job->range, pace->grain, &begin, &end)) {
        if (worker != NULL && end == job->range.n)
            fp_worker_range_started(worker);
        fp_elementwise_run(&job->work, begin, end);
        done += end - begin;
        pace->elements += end - begin;
        if (++pace->chunks >= pace->together && end != job->range.n)
            measure(job, worker, pace);
    }
    if (state != NULL)
        PyEval_RestoreThread(state);
    return done;
}

/* Ends a future some of whose elements the pool has discarded, for its array is not whole. Attached. */
static void fail_discarded(py_future *future, int discarded)
{
    bool broken = discarded == 1 + FP_DISCARD_BROKEN;
    if (broken)
        PyErr_SetString(py_errors_broken, "a worker's initializer failed; the array was not computed");
    Py_CLEAR(future->value);
    py_future_complete(future, broken ? PY_FAILED : PY_CANCELLED_AND_NOTIFIED, broken ? py_take_exception() : NULL);
}

/* A1, A2. */
static void finish(py_array_job *job, int64_t done)
{
    py_future *future = job->future;
    if (done == 0 || fp_fetch_sub(&job->unfinished, done, fp_acq_rel) != done)
        return;
    if (py_future_phase(future) != PY_RUNNING)
        return; /* cancelled before it began */
    int discarded = fp_load(&job->discarded, fp_relaxed);
    if (discarded == 0 && !py_future_complete_native(future, PY_FINISHED))
        return;
    bool attached = py_attach_now();
    if (discarded != 0)
        fail_discarded(future, discarded);
    else
        py_future_announce(future);
    py_detach_again(attached);
}

/* Counts the last elements only when the future has ended: a pool is not idle before. */
static void take_part(py_array_job *job, fp_worker *worker)
{
    pace pace;
    finish(job, run_chunks(job, worker, &pace));
    measure(job, worker, &pace);
}

static fp_outcome run_array(void *ctx, fp_worker *worker)
{
    py_array_job *job = ctx;
    /* The first worker starts the future, the others find it running; a cancelled one starts nothing. */
    if (py_future_start(job->future) || py_future_phase(job->future) != PY_CANCELLED_AND_NOTIFIED)
        take_part(job, worker);
    else
        fp_pool_note(job->future->core->pool, FP_CANCELLED, (uint64_t)fp_range_cancel(&job->range));
    return FP_COUNTED_ELSEWHERE;
}

/* The pool discards what has not started. */
static int64_t discard_array(void *ctx, fp_discard_reason reason)
{
    py_array_job *job = ctx;
    int64_t jobs = fp_range_cancel(&job->range);
    if (jobs > 0)
        fp_store(&job->discarded, 1 + (int)reason, fp_relaxed); /* published by A1 */
    py_future_start(job->future); /* unless it runs already, or was cancelled */
    finish(job, jobs);
    return jobs;
}

void py_array_cancel(py_pool *core, PyObject *capsule)
{
    int64_t jobs = discard_array(PyCapsule_GetPointer(capsule, NULL), FP_DISCARD_CANCELLED);
    fp_pool_note(core->pool, FP_CANCELLED, (uint64_t)jobs);
    fp_pool_told_idle(core->pool);
}

static void end_array(void *ctx, fp_worker *worker)
{
    py_array_job *job = ctx;
    (void)worker;
    py_leave_to_reaper(job->future, job->future->core);
}

static const fp_job_class array_job = {.kind = 0, .run = run_array, .discard = discard_array, .end = end_array};

static void free_job(PyObject *capsule)
{
    free(PyCapsule_GetPointer(capsule, NULL));
}

PyObject *py_array_job_new(py_array_job **job)
{
    void *memory = NULL;
    if (posix_memalign(&memory, FP_CACHE_LINE, sizeof **job) != 0)
        return PyErr_NoMemory();
    memset(memory, 0, sizeof **job);
    *job = memory;
    PyObject *capsule = PyCapsule_New(memory, NULL, free_job);
    if (capsule == NULL)
        free(memory);
    return capsule;
}

void py_array_help(PyObject *capsule)
{
    py_array_job *job = PyCapsule_GetPointer(capsule, NULL);
    if (py_future_start(job->future) || py_future_phase(job->future) == PY_RUNNING)
        take_part(job, NULL);
    fp_pool_told_idle(job->future->core->pool);
}

PyObject *py_array_submit(py_pool *core, PyObject *capsule, PyObject *owners, PyObject *out, int64_t n, int64_t grain)
{
    py_array_job *job = PyCapsule_GetPointer(capsule, NULL);
    py_reap(core);
    py_future *future = py_future_new();
    if (future == NULL)
        return NULL;
    fp_elementwise_coalesce(&job->work);
    fp_range_init(&job->range, n);
    fp_store(&job->unfinished, n, fp_relaxed);
    job->grain = grain;
    job->future = future;
    future->kind = PY_ARRAY;
    future->core = core;
    future->fn = Py_NewRef(capsule);
    future->args = Py_NewRef(owners);
    future->value = Py_NewRef(out);
    if (n == 0) { /* nothing to queue */
        py_future_start(future);
        py_future_complete(future, PY_FINISHED, future->value);
        return (PyObject *)future;
    }
    Py_INCREF(future); /* the queue's, until reaped */
    if (py_submit_range(core, &array_job, job, n) < 0) {
        Py_DECREF(future);
        Py_CLEAR(future);
    }
    return (PyObject *)future;
}
