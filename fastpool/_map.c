/* _map.c - map: one record of the queue that stands for many calls of one function.
 *
 * Journey: submit -> ring -> [WORKER -> CALLABLE, again and again -> RESULTS] -> reader. Workers join the record (fp_queue.h) and
 * claim calls from its cursor, one or `chunksize` at a time; each result goes to its place in a list. There is no future
 * for a call, which is why a map costs a third of as many submits.
 *
 * Ending a call   M1 the result is put in the list   M2 done[i] = RESULT or EXCEPTION (seq_cst)   M3 want == i: wake
 * Reading it      L1 want = i (seq_cst), or ANY where another reader sleeps   L2 done[i] (seq_cst)   L3 sleep on epoch
 * Either M3 sees L1 or L2 sees M2, for all four are seq_cst. A cancelled call ends by `cancelled_from`, in the same way.
 */
#include "_bridge.h"

#include <limits.h>
#include <stdlib.h>

#include "fp_running.h"

static PyObject *call_item(py_batch *batch, int64_t index)
{
    PyObject *item = PyList_GET_ITEM(batch->items, (Py_ssize_t)index);
    return batch->star ? PyObject_Call(batch->fn, item, NULL) : PyObject_CallOneArg(batch->fn, item);
}

/* In a copy of the context, for several calls may be at work in it. */
static PyObject *call_item_in_context(py_batch *batch, int64_t index)
{
    PyObject *context = PyContext_Copy(batch->context), *value = NULL;
    if (context != NULL && PyContext_Enter(context) == 0) {
        value = call_item(batch, index);
        if (PyContext_Exit(context) < 0)
            Py_CLEAR(value);
    }
    Py_XDECREF(context);
    return value;
}

static bool is_late(py_batch *batch)
{
    return batch->deadline_ns != FP_FOREVER && fp_os_now_ns() >= batch->deadline_ns;
}

static bool was_stopped(py_batch *batch)
{
    return fp_load(&batch->stop, fp_relaxed) != 0 || fp_load(&batch->view.core->pool->stop, fp_relaxed) != 0;
}

bool py_batch_should_stop(py_batch *batch)
{
    return was_stopped(batch) || is_late(batch);
}

static PyObject *call_traced(py_batch *batch, int64_t index)
{
    const char *name = NULL;
    uint64_t traced = py_trace_call(batch->view.core->pool, batch->fn, &name);
    PyObject *value = batch->context != NULL ? call_item_in_context(batch, index) : call_item(batch, index);
    fp_trace_ran(batch->view.core->pool, name, traced, 1);
    return value;
}

/* What a call came to that did not return in time, or raised; and how it counts. */
static PyObject *failure_of(py_batch *batch, PyObject *value, fp_outcome *outcome)
{
    PyObject *exception = value == NULL ? py_take_exception() : NULL;
    Py_XDECREF(value);
    *outcome = FP_FAILED;
    if (is_late(batch)) {
        *outcome = FP_TIMED_OUT;
        Py_XSETREF(exception, py_job_timeout(true));
    } else if (was_stopped(batch) && PyErr_GivenExceptionMatches(exception, py_errors_cancelled)) {
        *outcome = FP_CANCELLED;
    } else {
        py_note_panic(batch->view.core, batch->fn, exception);
    }
    return exception;
}

static void wake_reader(py_batch *batch)
{
    fp_fetch_add(&batch->epoch, UINT32_C(1), fp_seq_cst);
    fp_os_wake(&batch->epoch, INT_MAX);
}

/* Puts a call's end where the reader looks. */
static void publish(py_batch *batch, int64_t index, PyObject *value, uint8_t done)
{
    PyObject *none = PyList_GET_ITEM(batch->results, (Py_ssize_t)index);
    PyList_SET_ITEM(batch->results, (Py_ssize_t)index, py_ref_to_pass(value)); /* M1 */
    Py_DECREF(none);
    fp_store(&batch->done[index], done, fp_seq_cst);    /* M2 */
    int64_t want = fp_load(&batch->want, fp_seq_cst);   /* M3 */
    if (want == index || want == PY_WANT_ANY)
        wake_reader(batch);
}

static fp_outcome run_call(py_batch *batch, int64_t index)
{
    uint8_t done = PY_BATCH_RESULT;
    fp_outcome outcome = FP_DONE;
    PyObject *value = call_traced(batch, index);
    if (value == NULL || is_late(batch)) {
        done = PY_BATCH_EXCEPTION;
        value = failure_of(batch, value, &outcome);
    }
    publish(batch, index, value, done);
    return outcome;
}

static fp_outcome run_or_leave_out(py_running *running, int64_t index)
{
    py_batch *batch = running->batch;
    running->index = index;
    if (!is_late(batch))
        return run_call(batch, index);
    publish(batch, index, py_job_timeout(false), PY_BATCH_EXCEPTION); /* it was claimed with others, and they took too long */
    return FP_TIMED_OUT;
}

static int64_t cancel(py_batch *batch, int reason)
{
    int64_t jobs = fp_range_cancel(&batch->range);
    if (jobs > 0) { /* only the first cancel finds any */
        fp_store(&batch->reason, reason, fp_relaxed);
        fp_store(&batch->cancelled_from, batch->range.n - jobs, fp_seq_cst);
        wake_reader(batch);
    }
    return jobs;
}

static void cancel_counted(py_batch *batch, fp_discard_reason reason)
{
    fp_pool *pool = batch->view.core->pool;
    int64_t jobs = cancel(batch, (int)reason);
    if (jobs == 0)
        return;
    fp_pool_note(pool, reason == FP_DISCARD_TIMED_OUT ? FP_TIMED_OUT : FP_CANCELLED, (uint64_t)jobs);
    fp_pool_told_idle(pool);
}

/* Until no call is left to claim, or the worker is to yield. */
static void run_share(py_running *running, fp_worker *worker)
{
    py_batch *batch = running->batch;
    int64_t begin, end;
    while (fp_range_claim(&batch->range, batch->grain, &begin, &end)) {
        if (worker != NULL && end == batch->range.n)
            fp_worker_range_started(worker);
        for (int64_t i = begin; i < end; i++) {
            if (worker == NULL) { /* a reader that helps, or a submitter at the pool's end */
                fp_pool_note(batch->view.core->pool, run_or_leave_out(running, i), 1);
                continue;
            }
            fp_outcome outcome = run_or_leave_out(running, i);
            fp_worker_note(worker, outcome, 1, fp_worker_lap(worker));
            fp_worker_pulse(worker);
        }
        if (is_late(batch))
            cancel_counted(batch, FP_DISCARD_TIMED_OUT);
        if (worker != NULL && fp_worker_should_yield(worker))
            break;
    }
}

/* One worker's share; or that of a reader who helps. */
static fp_outcome run_batch(void *ctx, fp_worker *worker)
{
    py_batch *batch = ctx;
    fp_pool *pool = batch->view.core->pool;
    py_running running = {.running = {.should_stop = py_running_should_stop, .pool = pool}, .batch = batch};
    if (is_late(batch)) /* there is no timer for it: nobody sees a call's end but the reader, who looks at the clock too */
        cancel_counted(batch, FP_DISCARD_TIMED_OUT);
    fp_running_enter(&running.running);
    run_share(&running, worker);
    fp_running_leave(&running.running);
    if (worker == NULL)
        fp_pool_told_idle(pool);
    return FP_COUNTED_ELSEWHERE;
}

static void end_batch(void *ctx, fp_worker *worker)
{
    py_batch *batch = ctx;
    (void)worker;
    py_tie tie = py_attach_now();
    Py_DECREF(batch->owner);
    py_detach_again(tie);
}

static int64_t discard_batch(void *ctx, fp_discard_reason reason)
{
    return cancel(ctx, (int)reason);
}

static bool batch_all_started(void *ctx)
{
    return fp_range_left(&((py_batch *)ctx)->range) == 0;
}

static const fp_job_class map_job = {
    .kind = FP_JOB_ATTACHED, .run = run_batch, .discard = discard_batch, .end = end_batch, .all_started = batch_all_started,
};

static bool is_settled(py_batch *batch, int64_t index)
{
    return fp_load(&batch->done[index], fp_seq_cst) != PY_BATCH_PENDING ||
           index >= fp_load(&batch->cancelled_from, fp_seq_cst);
}

/* L1. Several readers are rare: from the second on each call's end wakes all of them, for as long as the batch lives. */
static void announce_want(py_batch *batch, int64_t index)
{
    int64_t want = PY_WANT_NONE;
    if (!fp_cas(&batch->want, &want, index, fp_seq_cst, fp_seq_cst) && want != index)
        fp_store(&batch->want, (int64_t)PY_WANT_ANY, fp_seq_cst);
}

int py_batch_wait(py_batch *batch, int64_t index, int64_t deadline_ns)
{
    if (!is_settled(batch, index) && fp_pool_is_forked(batch->view.core->pool)) {
        PyErr_SetString(py_errors_pool, "this map belongs to the parent process, whose workers are not in this one");
        return -1;
    }
    if (!is_settled(batch, index) && py_on_own_worker(batch->view.core))
        run_batch(batch, NULL); /* a job that maps over its own pool must not wait for a worker that may be itself */
    for (;;) {
        announce_want(batch, index);
        uint32_t epoch = fp_load(&batch->epoch, fp_seq_cst);
        if (is_settled(batch, index)) /* L2 */
            break;
        Py_BEGIN_ALLOW_THREADS
        fp_os_wait(&batch->epoch, epoch, py_slice_until(deadline_ns)); /* L3 */
        Py_END_ALLOW_THREADS
        if (PyErr_CheckSignals() < 0)
            return -1;
        if (!is_settled(batch, index) && fp_os_now_ns() >= deadline_ns)
            return 0;
    }
    fp_cas(&batch->want, &index, (int64_t)PY_WANT_NONE, fp_relaxed, fp_relaxed);
    return 1;
}

int py_batch_done(py_batch *batch, int64_t index)
{
    return fp_load(&batch->done[index], fp_acquire);
}

int py_batch_reason(py_batch *batch)
{
    return fp_load(&batch->reason, fp_relaxed);
}

void py_batch_cancel_counted(py_batch *batch)
{
    cancel_counted(batch, is_late(batch) ? FP_DISCARD_TIMED_OUT : FP_DISCARD_CANCELLED);
    fp_exchange(&batch->stop, 1, fp_acq_rel); /* O1 */
    py_task *task = fp_load(&batch->task, fp_acquire);
    if (task != NULL)
        fp_store(&task->stop, 1, fp_release); /* O2 */
}

py_batch *py_batch_new(const py_view *view, PyObject *owner, PyObject *fn, PyObject *items, int star, PyObject *results,
                       int64_t grain, PyObject *context)
{
    py_batch *batch = NULL;
    size_t count = (size_t)PyList_GET_SIZE(items);
    if (posix_memalign((void **)&batch, FP_CACHE_LINE, sizeof *batch) != 0)
        return (py_batch *)PyErr_NoMemory();
    *batch = (py_batch){.grain = grain, .fn = fn, .items = items, .results = results, .owner = owner, .star = star,
                        .view = *view, .context = context, .deadline_ns = py_settings_deadline(&view->settings)};
    batch->done = calloc(count, sizeof *batch->done);
    if (batch->done == NULL) {
        free(batch);
        return (py_batch *)PyErr_NoMemory();
    }
    batch->first_id = py_task_ids(count);
    fp_range_init(&batch->range, (int64_t)count);
    fp_store(&batch->cancelled_from, INT64_MAX, fp_relaxed);
    fp_store(&batch->want, (int64_t)PY_WANT_NONE, fp_relaxed);
    return batch;
}

void py_batch_free(py_batch *batch)
{
    py_task *task = fp_load(&batch->task, fp_acquire);
    if (task != NULL)
        py_task_drop(task);
    free(batch->done);
    free(batch);
}

int py_batch_submit(py_batch *batch)
{
    Py_INCREF(batch->owner); /* end_batch drops it */
    if (py_submit_range(&batch->view, &map_job, batch, batch->range.n) == 0)
        return 0;
    Py_DECREF(batch->owner);
    return -1;
}
