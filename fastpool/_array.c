/* _array.c - map_array and parallel_for: one record of the queue, one native job for each element.
 *
 * Journey: submit -> ring -> [WORKER -> KERNEL, piece after piece -> COMPLETION] -> future. How pieces are cut, run and counted is
 * in csrc/fp_parallel.h; here is what they run and the future that they end. From join to leave a worker does not touch the
 * interpreter, unless somebody has to be told.
 *
 * Who holds what   The future holds the capsule of the job and its arrays; the queue holds the future, until the record that
 *                  stood for it, by then an empty range, is let go of by a worker.
 */
#include "_bridge.h"

#include <stdlib.h>

static py_array_job *job_of(fp_parallel *parallel)
{
    return (py_array_job *)parallel; /* its first member */
}

static void run_elements(fp_parallel *parallel, int64_t begin, int64_t end, fp_piece *piece)
{
    (void)piece; /* a kernel for elements returns elements */
    fp_elementwise_run(&job_of(parallel)->work, begin, end);
}

static void run_range(fp_parallel *parallel, int64_t begin, int64_t end, fp_piece *piece)
{
    py_array_job *job = job_of(parallel);
    int status = job->range(begin, end, job->data);
    if (status != 0)
        *piece = (fp_piece){.failed = end - begin, .failed_at = begin, .status = status};
}

/* The first worker starts the future, the others find it running; a cancelled one starts nothing. */
static bool start(fp_parallel *parallel)
{
    py_future *future = job_of(parallel)->future;
    return py_future_start(future) || py_future_phase(future) != PY_CANCELLED_AND_NOTIFIED;
}

/* Sets the exception that a job which has ended, but not well, stands for; CancelledError where some of it was cancelled. */
static void set_error(fp_parallel *parallel)
{
    int discarded = fp_load(&parallel->discarded, fp_relaxed), cut = fp_load(&parallel->cut, fp_relaxed);
    if (fp_load(&parallel->failed, fp_relaxed)) {
        PyObject *error = PyObject_CallFunction(py_errors_native, "iL", parallel->status, (long long)parallel->failed_at);
        if (error != NULL)
            PyErr_SetObject(py_errors_native, error);
        Py_XDECREF(error);
    } else if (discarded == 1 + FP_DISCARD_TIMED_OUT || cut == 1 + FP_DISCARD_TIMED_OUT) {
        PyErr_SetString(py_errors_job_timeout, "the deadline passed before all of it was done");
    } else if (discarded == 1 + FP_DISCARD_BROKEN) {
        PyErr_SetString(py_errors_broken, "a worker's initializer failed; the array was not computed");
    } else {
        PyErr_SetNone(py_errors_cancelled);
    }
}

static bool went_well(fp_parallel *parallel)
{
    return !fp_load(&parallel->failed, fp_relaxed) && fp_load(&parallel->discarded, fp_relaxed) == 0 &&
           fp_load(&parallel->cut, fp_relaxed) == 0;
}

/* Ends a future whose array is not whole. Attached. */
static void fail(py_future *future, fp_parallel *parallel)
{
    set_error(parallel);
    PyObject *exception = py_take_exception();
    bool cancelled = PyErr_GivenExceptionMatches(exception, py_errors_cancelled);
    if (cancelled)
        Py_CLEAR(exception);
    Py_CLEAR(future->value);
    py_future_complete(future, cancelled ? PY_CANCELLED_AND_NOTIFIED : PY_FAILED, exception);
}

/* The last element has ended. */
static void ended(fp_parallel *parallel)
{
    py_future *future = job_of(parallel)->future;
    if (future == NULL || py_future_phase(future) != PY_RUNNING)
        return; /* nobody had to be asked; or it was cancelled before it began */
    if (went_well(parallel) && !py_future_complete_native(future, PY_FINISHED))
        return;
    py_tie tie = py_attach_now();
    if (went_well(parallel))
        py_future_announce(future);
    else
        fail(future, parallel);
    py_detach_again(tie);
}

static void released(fp_parallel *parallel)
{
    py_future *future = job_of(parallel)->future;
    py_timer_disarm(future);
    py_leave_to_reaper(future, future->core);
}

static const fp_parallel_class elements_class = {
    .run = run_elements, .start = start, .ended = ended, .released = released};
static const fp_parallel_class range_class = {.run = run_range, .start = start, .ended = ended, .released = released};

static py_array_job *job_in(PyObject *capsule)
{
    return PyCapsule_GetPointer(capsule, NULL);
}

bool py_array_cancel(PyObject *capsule)
{
    fp_parallel *parallel = &job_in(capsule)->parallel;
    return fp_parallel_cancel(parallel) > 0 || fp_load(&parallel->discarded, fp_acquire) == 1 + FP_DISCARD_CANCELLED;
}

void py_array_time_out(py_future *future)
{
    bool has_ended = py_future_phase(future) >= PY_FINISHED; /* a cancelled one is the queue's to count */
    PyObject *capsule = has_ended ? NULL : py_future_capsule(future);
    if (capsule != NULL)
        fp_parallel_time_out(&job_in(capsule)->parallel);
    Py_XDECREF(capsule);
}

void py_array_help(PyObject *capsule)
{
    fp_parallel *parallel = &job_in(capsule)->parallel;
    if (start(parallel))
        fp_parallel_help(parallel, FP_FOREVER);
}

bool py_array_progress(py_future *future, int64_t *started, int64_t *total)
{
    PyObject *capsule = py_future_capsule(future);
    if (capsule == NULL)
        return false;
    fp_parallel *parallel = &job_in(capsule)->parallel;
    *total = parallel->range.n;
    *started = fp_parallel_started(parallel);
    Py_DECREF(capsule);
    return true;
}

static void free_job(PyObject *capsule)
{
    py_array_job *job = job_in(capsule);
    if (job->future != NULL)
        fp_pool_release(job->parallel.pool);
    free(job);
}

PyObject *py_array_job_new(py_array_job **job)
{
    void *memory = NULL;
    if (posix_memalign(&memory, FP_CACHE_LINE, sizeof **job) != 0)
        return PyErr_NoMemory();
    *job = memory;
    (*job)->future = NULL;
    (*job)->range = NULL;
    (*job)->name = NULL;
    PyObject *capsule = PyCapsule_New(memory, NULL, free_job);
    if (capsule == NULL)
        free(memory);
    return capsule;
}

static fp_atomic(int64_t) *job_ps_of(py_array_job *job)
{
    return (fp_atomic(int64_t) *)job->job_ps; /* Cython knows no atomics; one without a lock is laid out as the plain type */
}

static void prepare(py_pool *core, py_array_job *job, int64_t n, int64_t grain)
{
    if (job->range == NULL)
        fp_elementwise_coalesce(&job->work);
    fp_parallel_init(&job->parallel, job->range == NULL ? &elements_class : &range_class, core->pool, n, grain);
    job->parallel.job_ps = job_ps_of(job);
    job->parallel.name = job->name;
}

/* The future of a prepared job, which it holds; not queued. */
static py_future *make_future(const py_view *view, PyObject *capsule, PyObject *owners, PyObject *out)
{
    py_pool *core = view->core;
    py_reap(core);
    py_future *future = py_future_new();
    if (future == NULL)
        return NULL;
    fp_pool_retain(core->pool); /* cancelling counts with it, perhaps when its owner and its workers have gone */
    job_in(capsule)->future = future;
    future->kind = PY_ARRAY;
    future->core = core;
    future->fn = Py_NewRef(capsule);
    future->args = Py_NewRef(owners);
    future->value = Py_NewRef(out);
    if (py_task_add(future, &view->settings) < 0)
        Py_CLEAR(future);
    else if (py_future_task(future) != NULL)
        job_in(capsule)->parallel.deadline_ns = py_future_task(future)->deadline_ns;
    return future;
}

PyObject *py_array_submit(const py_view *view, PyObject *capsule, PyObject *owners, PyObject *out, int64_t n, int64_t grain)
{
    py_array_job *job = job_in(capsule);
    prepare(view->core, job, n, grain);
    py_future *future = make_future(view, capsule, owners, out);
    if (future == NULL)
        return NULL;
    if (n == 0) { /* nothing to queue */
        py_future_start(future);
        py_future_complete(future, PY_FINISHED, future->value);
        return (PyObject *)future;
    }
    Py_INCREF(future); /* the queue's, until reaped */
    py_timer_arm(future);
    if (py_submit_range(view, &fp_parallel_job, job, n) < 0) {
        py_timer_disarm(future);
        Py_DECREF(future);
        Py_CLEAR(future);
    } else {
        py_timer_queued(future);
    }
    return (PyObject *)future;
}

/* The caller owns its arrays alone again, though the queue may hold the future, which nobody sees, for a while. */
static void drop_arrays(py_future *future)
{
    PyObject *value;
    py_future_drop_inputs(future);
    Py_BEGIN_CRITICAL_SECTION(future);
    value = future->value;
    future->value = NULL;
    Py_END_CRITICAL_SECTION();
    Py_XDECREF(value);
}

/* Takes part where nobody else wants the CPU. -1 when a signal handler has raised. */
static int take_part(fp_parallel *parallel)
{
    int64_t until_ns;
    do {
        until_ns = py_look_up_ns(FP_FOREVER);
        fp_parallel_assist(parallel, until_ns);
        if (PyErr_CheckSignals() < 0)
            return -1;
    } while (fp_os_now_ns() >= until_ns && fp_range_left(&parallel->range) > 0 && parallel->assisted);
    return 0;
}

/* Waits for a queued job, and takes part in it if `assist`. 0, or -1 with an exception. */
static int await(py_future *future, fp_parallel *parallel, bool assist)
{
    int interrupted = assist && take_part(parallel) < 0;
    fp_parallel_stop_assisting(parallel);
    if (interrupted || py_future_wait(future, FP_FOREVER) < 0) {
        PyObject *interruption = py_take_exception();
        fp_parallel_cancel(parallel); /* what has not begun does not begin any more */
        PyErr_SetObject((PyObject *)Py_TYPE(interruption), interruption);
        Py_DECREF(interruption);
        return -1;
    }
    drop_arrays(future);
    if (went_well(parallel))
        return 0;
    set_error(parallel);
    return -1;
}

/* Queues what is left of a job that has begun here. */
static int queue_rest(const py_view *view, PyObject *capsule, PyObject *owners, PyObject *out)
{
    fp_parallel *parallel = &job_in(capsule)->parallel;
    py_future *future = make_future(view, capsule, owners, out);
    if (future == NULL)
        return -1;
    py_future_start(future); /* it has begun */
    Py_INCREF(future);
    if (fp_pool_submit(view->core->pool, &fp_parallel_job, parallel, true, fp_range_left(&parallel->range),
                       view->settings.lane) != FP_SUBMIT_OK) {
        Py_DECREF(future); /* the queue has filled up, or closed, in the meantime: what was accepted is done all the same */
        fp_parallel_finish_here(parallel);
    }
    int bad = await(future, parallel, true);
    Py_DECREF(future);
    return bad;
}

PyObject *py_array_run(const py_view *view, PyObject *capsule, PyObject *owners, PyObject *out, int64_t n, int64_t grain)
{
    fp_parallel *parallel = &job_in(capsule)->parallel;
    int64_t job_ps = fp_load(job_ps_of(job_in(capsule)), fp_relaxed);
    py_pool *core = view->core;
    /* What has to end at a deadline is a job for the timer to know of. */
    bool alone = n > 0 && py_settings_deadline(&view->settings) == FP_FOREVER && fp_parallel_begins_here(core->pool, n, grain, job_ps);
    if (py_settle(fp_pool_look(core->pool)) < 0)
        return NULL;
    if (!alone) {
        py_future *future = (py_future *)py_array_submit(view, capsule, owners, out, n, grain);
        int bad = future == NULL ? -1 : n == 0 ? 0 : await(future, parallel, false);
        Py_XDECREF(future);
        return bad < 0 ? NULL : Py_NewRef(out);
    }
    prepare(core, job_in(capsule), n, grain);
    if (!fp_parallel_start_here(parallel)) {
        if (queue_rest(view, capsule, owners, out) < 0)
            return NULL;
    } else if (!went_well(parallel)) {
        set_error(parallel);
        return NULL;
    }
    return Py_NewRef(out);
}
