/* _job.c - running a job: the callable on its worker, the result into its future.
 *
 * Journey: submit -> ring -> [WORKER -> CALLABLE OR KERNEL -> COMPLETION] -> future. The queue's reference to the future is
 * dropped here; nothing that a job raises gets past here.
 */
#include "_bridge.h"

PyObject *py_take_exception(void)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL)
        PyException_SetTraceback(value, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
#endif
}

static PyObject *call(PyObject *fn, PyObject *args, PyObject *kwargs, int arg_count)
{
    if (kwargs != NULL || arg_count == 2) {
        if (arg_count == 2)
            return PyObject_Call(fn, args, kwargs);
        PyObject *packed = arg_count == 1 ? PyTuple_Pack(1, args) : PyTuple_New(0);
        PyObject *result = packed == NULL ? NULL : PyObject_Call(fn, packed, kwargs);
        Py_XDECREF(packed);
        return result;
    }
    return arg_count == 0 ? PyObject_CallNoArgs(fn) : PyObject_CallOneArg(fn, args);
}

bool py_is_panic(PyObject *exception)
{
    return !PyErr_GivenExceptionMatches(exception, PyExc_Exception) ||
           PyErr_GivenExceptionMatches(exception, PyExc_MemoryError);
}

/* Of a failure that no future carries, or no handler expects. */
static void tell_hooks(PyObject *hooks, const char *hook, PyObject *fn, PyObject *exception)
{
    fp_worker *worker = fp_worker_current();
    PyObject *none = PyObject_CallMethod(hooks, hook, "OOi", fn != NULL ? fn : Py_None, exception,
                                         worker != NULL ? (int)worker->id : -1);
    if (none == NULL) /* the hook logs and swallows what handlers raise; this is out of memory, or the like */
        PyErr_WriteUnraisable(fn);
    Py_XDECREF(none);
}

void py_note_panic(py_pool *core, PyObject *fn, PyObject *exception)
{
    if (!py_is_panic(exception))
        return;
    fp_fetch_add(&core->panics, UINT64_C(1), fp_relaxed);
    tell_hooks(core->hooks, "job_panicked", fn, exception);
}

void py_note_failure(py_future *future, PyObject *exception)
{
    PyObject *fn;
    Py_BEGIN_CRITICAL_SECTION(future); /* who runs it may be done with it, and drop it */
    fn = Py_XNewRef(py_future_fn(future));
    Py_END_CRITICAL_SECTION();
    if (future->posted) {
        fp_fetch_add(&future->core->panics, UINT64_C(1), fp_relaxed);
        tell_hooks(future->core->hooks, "job_failed", fn, exception);
    } else {
        py_note_panic(future->core, fn, exception);
    }
    Py_XDECREF(fn);
}

/* Ends a started future with an exception, which is stolen. */
static void fail(py_future *future, PyObject *exception)
{
    py_note_failure(future, exception);
    py_future_drop_call(future);
    future->args = PyException_GetTraceback(exception);
    py_future_complete(future, PY_FAILED, exception);
}

static PyObject *call_in(PyObject *context, PyObject *fn, PyObject *args, PyObject *kwargs, int arg_count)
{
    if (context == NULL)
        return call(fn, args, kwargs, arg_count);
    if (PyContext_Enter(context) < 0)
        return NULL;
    PyObject *result = call(fn, args, kwargs, arg_count);
    if (PyContext_Exit(context) < 0)
        Py_CLEAR(result);
    return result;
}

/* The job ends as it was asked to. */
static fp_outcome end_stopped(py_future *future)
{
    fp_fetch_or(&future->state, (uint32_t)PY_STOPPING, fp_relaxed); /* it may have been the pool that was asked */
    py_future_drop_call(future);
    py_future_complete(future, PY_CANCELLED_AND_NOTIFIED, NULL);
    return FP_CANCELLED;
}

/* The job has raised, and this thread ends it. */
static fp_outcome end_raised(py_future *future, bool was_late)
{
    PyObject *exception = py_take_exception();
    if (!was_late && py_future_was_stopped(future) && PyErr_GivenExceptionMatches(exception, py_errors_cancelled)) {
        Py_DECREF(exception);
        return end_stopped(future);
    }
    fail(future, exception);
    return was_late ? FP_TIMED_OUT : FP_FAILED;
}

/* Its time was over when the job returned: whatever it returned or raised becomes JobTimeout. */
static void *late(PyObject *result)
{
    PyObject *raised = result == NULL ? py_take_exception() : NULL;
    Py_XDECREF(result);
    if (raised != NULL && PyErr_GivenExceptionMatches(raised, py_errors_job_timeout)) {
        PyErr_SetObject((PyObject *)Py_TYPE(raised), raised);
    } else {
        PyObject *timeout = py_job_timeout(true);
        PyErr_SetObject((PyObject *)Py_TYPE(timeout), timeout);
        if (raised != NULL)
            PyException_SetContext(timeout, Py_NewRef(raised));
        Py_DECREF(timeout);
    }
    Py_XDECREF(raised);
    return NULL;
}

/* The timer ends the job, or has ended it. */
static fp_outcome outcome_of_lost(py_task *task)
{
    return py_task_is_over(task, PY_TASK_LEFT) ? FP_TIMED_OUT : FP_COUNTED_ELSEWHERE;
}

/* The same, of one that was started: what it was called with, and came to, goes. */
static fp_outcome lose(py_future *future, PyObject *result, py_task *task)
{
    Py_XDECREF(result);
    PyErr_Clear();
    py_future_drop_call(future);
    return outcome_of_lost(task);
}

/* A started job whose deadline has passed does not run: it ends. */
static fp_outcome end_too_late(py_future *future, py_task *task)
{
    if (!py_task_claim(task)) /* T1 */
        return lose(future, NULL, task);
    py_future_time_out(future, false);
    return FP_TIMED_OUT;
}

/* Runs a future that is this thread's (py_future_start). */
static fp_outcome run_started(py_future *future)
{
    PyObject *fn = future->fn, *args = future->args, *kwargs = future->kwargs;
    py_task *task = py_future_task(future);
    bool is_timed = py_has_deadline(task);
    if (is_timed && py_task_is_late(task))
        return end_too_late(future, task);
    fp_pool *pool = future->core->pool;
    const char *name = NULL;
    uint64_t traced = py_trace_call(pool, fn, &name);
    py_running running = {.running = {.should_stop = py_running_should_stop, .pool = future->core->pool}, .future = future};
    fp_running_enter(&running.running);
    PyObject *context = task == NULL ? NULL : fp_exchange(&task->context, NULL, fp_acq_rel);
    PyObject *result = call_in(context, fn, args, kwargs, future->arg_count);
    fp_running_leave(&running.running);
    fp_trace_ran(pool, name, traced, 1);
    Py_XDECREF(context);
    if (is_timed && !running.keeps_future && !py_task_claim(task)) /* T1 */
        return lose(future, result, task);
    bool was_late = is_timed && py_task_is_late(task);
    if (was_late)
        result = late(result);
    if (result == NULL)
        return end_raised(future, was_late);
    future->fn = future->args = future->kwargs = NULL;
    py_future_complete(future, PY_FINISHED, py_ref_to_pass(result));
    /* After the end is known, for the arguments' destructors may take their time. */
    Py_DECREF(fn);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    return FP_DONE;
}

/* A job that never ran ends as cancelled, or at its deadline; one that was helped along has been counted by the helper. */
static fp_outcome outcome_of_absent(py_future *future)
{
    uint32_t state = fp_load(&future->state, fp_acquire);
    if ((state & PY_PHASE) == PY_CANCELLED_AND_NOTIFIED)
        return state & PY_STOPPING ? FP_COUNTED_ELSEWHERE : FP_CANCELLED;
    return state & PY_UNSTARTED ? outcome_of_lost(py_future_task(future)) : FP_COUNTED_ELSEWHERE;
}

static fp_outcome run_python(void *ctx, fp_worker *worker)
{
    (void)worker;
    py_future *future = ctx;
    fp_outcome outcome = py_future_start(future) ? run_started(future) : outcome_of_absent(future);
    py_timer_disarm(future);
    Py_DECREF(future);
    return outcome;
}

/* A started job that does not run, for the pool is broken. */
static fp_outcome end_broken(py_future *future, py_task *task)
{
    if (py_has_deadline(task) && !py_task_claim(task)) /* T1 */
        return lose(future, NULL, task);
    py_future_drop_call(future);
    future->args = NULL; /* no traceback; a kernel's scalars were there */
    PyErr_SetString(py_errors_broken, "the pool's initializer failed; the job was not run");
    py_future_complete(future, PY_FAILED, py_take_exception());
    return FP_CANCELLED;
}

static int64_t discard(void *ctx, fp_discard_reason reason)
{
    py_future *future = ctx;
    fp_outcome outcome = FP_CANCELLED;
    if (reason == FP_DISCARD_BROKEN && py_future_start(future))
        outcome = end_broken(future, py_future_task(future));
    else if (!py_future_cancel(future))
        outcome = outcome_of_absent(future);
    if (outcome == FP_TIMED_OUT)
        fp_pool_note(future->core->pool, FP_TIMED_OUT, 1);
    py_timer_disarm(future);
    Py_DECREF(future);
    return outcome == FP_CANCELLED;
}

const fp_job_class py_python_job = {.kind = FP_JOB_ATTACHED, .run = run_python, .discard = discard};

/* ---- native jobs: no interpreter from start to end ---- */

/* A worker hands them on a few together, for the list is where it meets the submitters; and when there is nothing more to do. */
enum { REAPED_TOGETHER = 32 };
static _Thread_local struct {
    py_future *first, *last;
    int count;
} ended_here;

static void hand_on(py_pool *core, py_future *first, py_future *last)
{
    py_future *others = fp_load(&core->reap, fp_relaxed);
    do
        last->next_reap = others;
    while (!fp_cas(&core->reap, &others, first, fp_release, fp_relaxed));
}

void py_flush_reaped(py_pool *core)
{
    if (ended_here.count == 0)
        return;
    hand_on(core, ended_here.first, ended_here.last);
    ended_here.count = 0;
}

void py_leave_to_reaper(py_future *future, py_pool *core)
{
    if (!py_on_own_worker(core)) {
        hand_on(core, future, future);
        return;
    }
    if (ended_here.count++ == 0)
        ended_here.last = future;
    else
        future->next_reap = ended_here.first;
    ended_here.first = future;
    if (ended_here.count >= REAPED_TOGETHER || fp_pool_is_empty(core->pool))
        py_flush_reaped(core);
}

void py_reap(py_pool *core)
{
    if (fp_load(&core->reap, fp_relaxed) == NULL)
        return;
    py_future *future = fp_exchange(&core->reap, NULL, fp_acquire);
    while (future != NULL) {
        py_future *next = future->next_reap;
        py_future_drop_owners(future);
        Py_DECREF(future);
        future = next;
    }
}

/* On a worker it is detached; whoever else runs native jobs is attached, and lets go meanwhile. */
static fp_scalar invoke(py_future *future, fp_worker *worker, int *status)
{
    py_running running = {.running = {.should_stop = py_running_should_stop, .pool = future->core->pool}, .future = future};
    PyThreadState *state = worker == NULL ? PyEval_SaveThread() : NULL;
    uint64_t traced = fp_trace_start(future->core->pool);
    fp_running_enter(&running.running);
    fp_scalar result = py_native_run(future, status);
    fp_running_leave(&running.running);
    fp_trace_ran(future->core->pool, future->code->name, traced, 1);
    if (state != NULL)
        PyEval_RestoreThread(state);
    return result;
}

static PyObject *native_error(int status)
{
    PyObject *exception = PyObject_CallFunction(py_errors_native, "i", status);
    return exception != NULL ? exception : py_take_exception();
}

/* Ends a future whose kernel has not returned in time, or not 0. Attached; this thread has claimed it. */
static fp_outcome end_native(py_future *future, int status, bool was_late, bool has_run)
{
    if (was_late) {
        py_future_time_out(future, has_run);
        return FP_TIMED_OUT;
    }
    if (py_future_was_stopped(future))
        return end_stopped(future);
    fail(future, native_error(status));
    return FP_FAILED;
}

/* Runs a started future on a worker, detached, or on another thread, attached. */
static fp_outcome run_kernel(py_future *future, fp_worker *worker)
{
    int status = 0;
    fp_outcome outcome = FP_DONE;
    py_task *task = py_future_task(future);
    bool is_timed = py_has_deadline(task), too_late = is_timed && py_task_is_late(task);
    fp_scalar result = too_late ? (fp_scalar){0} : invoke(future, worker, &status);
    if (is_timed && !py_task_claim(task)) /* T1 */
        return outcome_of_lost(task);
    bool was_late = is_timed && py_task_is_late(task), bad = was_late || status != 0;
    if (!bad) {
        future->scalars[0] = result;
        if (!py_future_complete_native(future, PY_FINISHED))
            return FP_DONE;
    }
    py_tie tie = py_attach_now();
    if (bad)
        outcome = end_native(future, status, was_late, !too_late);
    else
        py_future_announce(future);
    py_detach_again(tie);
    return outcome;
}

static fp_outcome run_native(void *ctx, fp_worker *worker)
{
    py_future *future = ctx;
    py_pool *core = future->core;
    fp_outcome outcome = py_future_start(future) ? run_kernel(future, worker) : outcome_of_absent(future);
    py_timer_disarm(future);
    py_leave_to_reaper(future, core);
    return outcome;
}

static int64_t discard_native(void *ctx, fp_discard_reason reason)
{
    py_tie tie = py_attach_now();
    int64_t jobs = discard(ctx, reason);
    py_detach_again(tie);
    return jobs;
}

const fp_job_class py_native_job = {.kind = 0, .run = run_native, .discard = discard_native};

/* ---- on a thread that waits for the job ---- */

void py_job_run_here(py_future *future)
{
    fp_pool *pool = future->core->pool;
    fp_pool_note(pool, future->kind == PY_KERNEL ? run_kernel(future, NULL) : run_started(future), 1);
    if (future->kind == PY_KERNEL)
        py_future_drop_owners(future); /* the queue may have let go of it meanwhile */
    fp_pool_told_idle(pool);
}

bool py_on_own_worker(py_pool *core)
{
    fp_worker *worker = fp_worker_current();
    /* Not core->pool: core may have gone with its pool. In a child that a job has forked there are no workers. */
    return worker != NULL && worker->pool->host.arg == core && !fp_pool_is_forked(worker->pool);
}
