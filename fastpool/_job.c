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

/* Ends a started future with the exception that is set. */
static void fail(py_future *future)
{
    py_pool *core = future->core;
    PyObject *exception = py_take_exception();
    if (future->posted || py_is_panic(exception))
        fp_fetch_add(&core->panics, UINT64_C(1), fp_relaxed);
    if (future->posted) {
        fp_worker *worker = fp_worker_current();
        PyObject *none = PyObject_CallMethod(core->hooks, "job_failed", "OOi", py_future_fn(future), exception,
                                             worker != NULL ? (int)worker->id : -1);
        if (none == NULL) /* the hook logs and swallows what handlers raise; this is out of memory, or the like */
            PyErr_WriteUnraisable(py_future_fn(future));
        Py_XDECREF(none);
    }
    py_future_drop_call(future);
    future->args = PyException_GetTraceback(exception);
    py_future_complete(future, PY_FAILED, exception);
}

/* Runs a future that is this thread's (py_future_start). */
static fp_outcome run_started(py_future *future)
{
    PyObject *fn = future->fn, *args = future->args, *kwargs = future->kwargs;
    fp_pool *pool = future->core->pool;
    const char *name = NULL;
    uint64_t traced = py_trace_call(pool, fn, &name);
    PyObject *result = call(fn, args, kwargs, future->arg_count);
    fp_trace_ran(pool, name, traced, 1);
    if (result == NULL) {
        fail(future);
        return FP_FAILED;
    }
    future->fn = future->args = future->kwargs = NULL;
    py_future_complete(future, PY_FINISHED, py_ref_to_pass(result));
    /* After the end is known, for the arguments' destructors may take their time. */
    Py_DECREF(fn);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    return FP_DONE;
}

/* A job that never ran ends as cancelled, one that was helped along has been counted by the helper. */
static fp_outcome outcome_of_absent(py_future *future)
{
    return py_future_phase(future) == PY_CANCELLED_AND_NOTIFIED ? FP_CANCELLED : FP_COUNTED_ELSEWHERE;
}

static fp_outcome run_python(void *ctx, fp_worker *worker)
{
    (void)worker;
    py_future *future = ctx;
    fp_outcome outcome = py_future_start(future) ? run_started(future) : outcome_of_absent(future);
    Py_DECREF(future);
    return outcome;
}

static int64_t discard(void *ctx, fp_discard_reason reason)
{
    py_future *future = ctx;
    int64_t jobs = 1;
    if (reason == FP_DISCARD_BROKEN && py_future_start(future)) {
        py_future_drop_call(future);
        future->args = NULL; /* no traceback; a kernel's scalars were there */
        PyErr_SetString(py_errors_broken, "the pool's initializer failed; the job was not run");
        py_future_complete(future, PY_FAILED, py_take_exception());
    } else if (!py_future_cancel(future) && outcome_of_absent(future) != FP_CANCELLED) {
        jobs = 0;
    }
    Py_DECREF(future);
    return jobs;
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
static int invoke(py_future *future, fp_worker *worker)
{
    PyThreadState *state = worker == NULL ? PyEval_SaveThread() : NULL;
    uint64_t traced = fp_trace_start(future->core->pool);
    int status = py_native_run(future);
    fp_trace_ran(future->core->pool, future->code->name, traced, 1);
    if (state != NULL)
        PyEval_RestoreThread(state);
    return status;
}

/* Ends a started future of a kernel that returned non-zero. Attached. */
static fp_outcome fail_native(py_future *future, int status)
{
    PyObject *exception = PyObject_CallFunction(py_errors_native, "i", status);
    if (exception != NULL)
        PyErr_SetObject(py_errors_native, exception);
    Py_XDECREF(exception);
    fail(future);
    return FP_FAILED;
}

static fp_outcome run_native(void *ctx, fp_worker *worker)
{
    py_future *future = ctx;
    py_pool *core = future->core;
    fp_outcome outcome = FP_DONE;
    if (!py_future_start(future)) {
        outcome = outcome_of_absent(future);
    } else {
        int status = invoke(future, worker);
        if (status != 0 || py_future_complete_native(future, PY_FINISHED)) {
            py_tie tie = py_attach_now();
            if (status != 0)
                outcome = fail_native(future, status);
            else
                py_future_announce(future);
            py_detach_again(tie);
        }
    }
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

static fp_outcome run_kernel_here(py_future *future)
{
    int status = invoke(future, NULL);
    if (status != 0)
        return fail_native(future, status);
    if (py_future_complete_native(future, PY_FINISHED))
        py_future_announce(future);
    return FP_DONE;
}

void py_job_run_here(py_future *future)
{
    fp_pool *pool = future->core->pool;
    fp_pool_note(pool, future->kind == PY_KERNEL ? run_kernel_here(future) : run_started(future), 1);
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
