/* _submit.c - submitting from Python: the future is made, filled, and queued; or the call is refused and nothing is.
 *
 * Journey: [SUBMIT] -> ring -> worker -> callable -> completion -> future. These are Core's methods with the interpreter's
 * fast calling convention, which Cython does not give to functions that take *args and **kwargs.
 *
 * Between the making of the future and its queueing no Python code runs, so a signal handler, a destructor or a
 * collection that submits in its turn finds everything as it should be.
 */
#include "_bridge.h"

/* What a submit came to, where that is not FULL: 0, or -1 with an exception. */
int py_settle(fp_submit_result result)
{
    switch (result) {
    case FP_SUBMIT_OK:
        return 0;
    case FP_SUBMIT_CLOSED:
        PyErr_SetString(py_errors_shutdown, "cannot schedule new futures after shutdown");
        break;
    case FP_SUBMIT_BROKEN:
        PyErr_SetString(py_errors_broken, "a worker's initializer failed; the pool takes no more jobs");
        break;
    case FP_SUBMIT_FORKED:
        PyErr_SetString(py_errors_pool, "this pool was made by the parent process; make one in the child after fork()");
        break;
    case FP_SUBMIT_NO_THREAD:
        PyErr_SetString(py_errors_pool, "can't start new thread");
        break;
    default:
        PyErr_NoMemory();
    }
    return -1;
}

/* Sleeps until there may be room. 1: try again; 0: the time is over; -1: interrupted. */
static int wait_for_room(py_pool *core, int64_t deadline_ns)
{
    if (fp_os_now_ns() >= deadline_ns)
        return 0;
    Py_BEGIN_ALLOW_THREADS
    fp_pool_wait_for_room(core->pool, py_slice_until(deadline_ns));
    Py_END_ALLOW_THREADS
    return PyErr_CheckSignals() < 0 ? -1 : 1;
}

/* One answer to a full queue. FULL: try again. OK: queued after all. -1: refused, an exception is set. */
static int on_full(const py_view *view, const fp_job_class *job_class, void *ctx, bool is_range, int64_t jobs,
                   int64_t deadline_ns)
{
    py_pool *core = view->core;
    if (view->settings.on_full == PY_ON_FULL_RAISE) {
        py_count_rejected(core);
        PyErr_Format(py_errors_overloaded, "the queue is full (queue_size=%u)", core->pool->options.queue_capacity);
        return -1;
    }
    if (view->settings.on_full == PY_ON_FULL_DISCARD_OLDEST && fp_pool_discard_oldest(core->pool))
        return FP_SUBMIT_FULL;
    /* A job that submits to its own full queue goes past the bound: were it to wait, the workers could all be waiting so;
     * and another job, run here in between, might wait for something that this one holds. */
    if (py_on_own_worker(core))
        return (int)fp_pool_submit_beyond(core->pool, job_class, ctx, is_range, jobs, view->settings.lane);
    int room = wait_for_room(core, deadline_ns);
    if (room == 0) {
        py_count_rejected(core);
        if (fp_os_now_ns() >= view->settings.until_ns)
            PyErr_SetString(py_errors_job_timeout, "the deadline passed before there was room in the queue");
        else
            PyErr_SetString(py_errors_submit_timeout, "the queue stayed full for all of submit_timeout");
    }
    return room == 1 ? FP_SUBMIT_FULL : -1;
}

/* The queue was full: until it takes ctx, or on_full says to give up. 0, or -1 with an exception. */
static int push_full(const py_view *view, const fp_job_class *job_class, void *ctx, bool is_range, int64_t jobs)
{
    fp_submit_result result = FP_SUBMIT_FULL;
    int64_t deadline_ns = view->settings.submit_timeout_ns;
    if (deadline_ns != FP_FOREVER)
        deadline_ns += fp_os_now_ns();
    if (deadline_ns > view->settings.until_ns)
        deadline_ns = view->settings.until_ns;
    while (result == FP_SUBMIT_FULL) {
        int answer = on_full(view, job_class, ctx, is_range, jobs, deadline_ns);
        if (answer < 0)
            return -1;
        result = (fp_submit_result)answer;
        if (result == FP_SUBMIT_FULL)
            result = fp_pool_submit(view->core->pool, job_class, ctx, is_range, jobs, view->settings.lane);
    }
    return py_settle(result);
}

/* on_full="caller_runs" and the queue is full: the job runs here, and is counted like any other. */
static void run_on_caller(py_pool *core, const fp_job_class *job_class, void *ctx, bool is_range, int64_t jobs)
{
    fp_fetch_add(&core->pool->submitted_extra, (uint64_t)jobs, fp_relaxed);
    fp_outcome outcome = job_class->run(ctx, NULL);
    if (is_range)
        job_class->end(ctx, NULL);
    else
        fp_pool_note(core->pool, outcome, 1);
    fp_pool_told_idle(core->pool);
}

/* Queues ctx, whose reference passes to the queue on success. 0, -1 with an exception, or 1: full, and to be refused. */
static int push(const py_view *view, const fp_job_class *job_class, void *ctx, bool is_range, int64_t jobs)
{
    fp_submit_result result = fp_pool_submit(view->core->pool, job_class, ctx, is_range, jobs, view->settings.lane);
    if (result == FP_SUBMIT_FULL && view->settings.on_full == PY_ON_FULL_CALLER_RUNS) {
        run_on_caller(view->core, job_class, ctx, is_range, jobs);
        return 0;
    }
    if (result == FP_SUBMIT_FULL && view->settings.on_full == PY_ON_FULL_REFUSE)
        return 1;
    if (result == FP_SUBMIT_FULL)
        return push_full(view, job_class, ctx, is_range, jobs);
    return py_settle(result);
}

int py_submit_range(const py_view *view, const fp_job_class *job_class, void *ctx, int64_t jobs)
{
    return push(view, job_class, ctx, true, jobs);
}

/* Queues the future, leaving the caller's reference as it is. As push(). */
static int submit_future(const py_view *view, py_future *future)
{
    py_new_ref_to_pass((PyObject *)future);
    py_timer_arm(future); /* before: once it is queued, it may be done with */
    int refused = push(view, future->kind == PY_KERNEL ? &py_native_job : &py_python_job, future, false, 1);
    if (refused != 0) {
        py_timer_disarm(future);
        Py_DECREF(future);
    }
    return refused;
}

/* The arguments after fn into the future: none, one, or a tuple; keywords into a dict. */
static int fill_call(py_future *future, PyObject *fn, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    future->fn = py_new_ref_to_pass(fn);
    if (count == 1) {
        future->arg_count = 1;
        future->args = py_new_ref_to_pass(args[0]);
    } else if (count > 1) {
        future->arg_count = 2;
        PyObject *tuple = PyTuple_New(count);
        if (tuple == NULL)
            return -1;
        for (Py_ssize_t i = 0; i < count; i++)
            PyTuple_SET_ITEM(tuple, i, py_new_ref_to_pass(args[i]));
        future->args = py_ref_to_pass(tuple);
    }
    Py_ssize_t named = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    if (named == 0)
        return 0;
    if ((future->kwargs = PyDict_New()) == NULL)
        return -1;
    for (Py_ssize_t i = 0; i < named; i++)
        if (PyDict_SetItem(future->kwargs, PyTuple_GET_ITEM(names, i), args[count + i]) < 0)
            return -1;
    return 0;
}

/* Before there is a future, for it may run Python code. */
static int read_scalars(PyObject *kernel, PyObject *const *args, Py_ssize_t count, PyObject *names, fp_scalar *scalars)
{
    if (names != NULL && PyTuple_GET_SIZE(names) != 0) {
        PyErr_SetString(PyExc_TypeError, "a kernel takes no keyword arguments");
        return -1;
    }
    return py_scalars_from(kernel, args, count, scalars);
}

static PyTypeObject *core_type;

py_pool *py_core_from(PyObject *object)
{
    if (!PyObject_TypeCheck(object, core_type)) {
        PyErr_Format(PyExc_TypeError, "pool must be a fastpool.Pool, not %.200s", py_type_name(object));
        return NULL;
    }
    py_pool *core = ((py_core_object *)object)->view.core;
    if (core == NULL)
        PyErr_SetString(py_errors_pool, "the pool was not initialised");
    return core;
}

static const py_view *view_of(PyObject *self)
{
    return &((py_core_object *)self)->view;
}

/* A future for fn(*args, **kwargs), not yet queued. */
static py_future *make(const py_view *view, const char *method, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    py_pool *core = view->core;
    if (core == NULL) {
        PyErr_SetString(py_errors_pool, "the pool was not initialised");
        return NULL;
    }
    if (count == 0) {
        PyErr_Format(PyExc_TypeError, "%s() needs a callable as its first argument, fn", method);
        return NULL;
    }
    if (!PyCallable_Check(args[0])) {
        PyErr_Format(PyExc_TypeError, "fn must be callable, not %.200s", py_type_name(args[0]));
        return NULL;
    }
    fp_scalar scalars[FP_MOST_SCALARS] = {{0}};
    bool is_native = Py_TYPE(args[0]) == py_kernel_type;
    if (is_native && read_scalars(args[0], args + 1, count - 1, names, scalars) < 0)
        return NULL;
    py_reap(core);
    py_future *future = py_future_new();
    if (future == NULL)
        return NULL;
    if (is_native)
        py_native_fill(future, args[0], scalars);
    else if (fill_call(future, args[0], args + 1, count - 1, names) < 0)
        Py_CLEAR(future);
    if (future == NULL)
        return NULL;
    future->core = core;
    if (py_task_add(future, &view->settings) < 0)
        Py_CLEAR(future);
    return future;
}

static PyObject *core_submit(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    py_future *future = make(view_of(self), "submit", args, count, names);
    if (future != NULL && submit_future(view_of(self), future) < 0)
        Py_CLEAR(future);
    return (PyObject *)future;
}

/* submit(), or None where that would wait for room. */
static PyObject *core_submit_unless_full(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    py_future *future = make(view_of(self), "run", args, count, names);
    const py_view *view = view_of(self);
    py_on_full policy = view->settings.on_full;
    if (future == NULL)
        return NULL;
    py_view refusing = *view;
    /* The submitter is an event loop, which neither waits nor runs the job; a job's submit goes past the bound. */
    if (policy == PY_ON_FULL_BLOCK || policy == PY_ON_FULL_CALLER_RUNS)
        refusing.settings.on_full = py_on_own_worker(view->core) ? PY_ON_FULL_BLOCK : PY_ON_FULL_REFUSE;
    int refused = submit_future(&refusing, future);
    if (refused != 0)
        Py_CLEAR(future);
    if (refused > 0)
        Py_RETURN_NONE;
    return (PyObject *)future;
}

static PyObject *core_post(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    py_future *future = make(view_of(self), "post", args, count, names);
    if (future == NULL)
        return NULL;
    future->posted = 1;
    int refused = submit_future(view_of(self), future);
    Py_DECREF(future);
    if (refused < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* Queues the last future of the list, or takes it off the list. */
static int submit_listed(const py_view *view, py_future *future, PyObject *futures)
{
    if (submit_future(view, future) == 0)
        return 0;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyList_SetSlice(futures, PyList_GET_SIZE(futures) - 1, PyList_GET_SIZE(futures), NULL);
    PyErr_Restore(type, value, traceback);
    return -1;
}

/* With an exception set, which stays; here and not in Python, for it may be that there is no memory for a loop. */
static void cancel_listed(PyObject *futures)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(futures); i++)
        py_future_cancel((py_future *)PyList_GET_ITEM(futures, i));
    PyErr_Restore(type, value, traceback);
}

/* _submit_each(fn, items, star, futures): one job for each item. An item's future is in the list before it is queued, which
 * it may be too late to undo, and off it again if it is refused. An error cancels those that have not started, for the
 * caller gets none of them. */
static PyObject *core_submit_each(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    (void)count;
    PyObject *fn = args[0], *items = args[1], *futures = args[3];
    int star = args[2] == Py_True;
    py_view view = *view_of(self);
    view.settings.copies_context = true;
    Py_ssize_t extra = star && PyList_GET_SIZE(items) > 0 ? PyTuple_GET_SIZE(PyList_GET_ITEM(items, 0)) : 1;
    PyObject **call = PyMem_Malloc((size_t)(extra + 1) * sizeof *call);
    if (call == NULL)
        return PyErr_NoMemory();
    call[0] = fn;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(items); i++) {
        PyObject *item = PyList_GET_ITEM(items, i);
        for (Py_ssize_t k = 0; k < extra; k++)
            call[1 + k] = star ? PyTuple_GET_ITEM(item, k) : item;
        py_future *future = make(&view, "submit_many", call, 1 + extra, NULL);
        bool bad = future == NULL || PyList_Append(futures, (PyObject *)future) < 0 ||
                   submit_listed(&view, future, futures) < 0;
        Py_XDECREF(future);
        if (bad) {
            cancel_listed(futures);
            PyMem_Free(call);
            return NULL;
        }
    }
    PyMem_Free(call);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(submit_doc,
"submit($self, fn, /, *args, **kwargs)\n--\n\n"
"Queue fn(*args, **kwargs) and return its Future.\n\n"
"Parameters\n----------\n"
"fn : callable or Kernel\n    A Kernel runs without the interpreter; its arguments are scalars.\n\n"
"Returns\n-------\nFuture\n\n"
"Raises\n------\n"
"TypeError\n    If fn is not callable.\n"
"PoolShutdown\n    If the pool was shut down.\n"
"BrokenThreadPool\n    If a worker's initializer failed.\n"
"PoolOverloaded\n    If the queue is full and on_full is \"raise\".\n"
"SubmitTimeout\n    If the queue stayed full for submit_timeout seconds.\n"
"PoolError\n    In a forked child, or if the first worker could not be started. The job is not queued then.\n\n"
"Notes\n-----\n"
"Thread safety: from any thread, from signal handlers and destructors. Blocking: only while the queue is full, as on_full\n"
"says. Cost: about a tenth of a microsecond, and another to run and to fetch the result.\n");
PyDoc_STRVAR(post_doc,
"post($self, fn, /, *args, **kwargs)\n--\n\n"
"Queue fn(*args, **kwargs) and forget it: no future. A failure is logged, counted and given to on_error.\n\n"
"Raises what submit raises.");

static PyMethodDef core_methods[] = {
    {"submit", (PyCFunction)(void (*)(void))core_submit, METH_FASTCALL | METH_KEYWORDS, submit_doc},
    {"post", (PyCFunction)(void (*)(void))core_post, METH_FASTCALL | METH_KEYWORDS, post_doc},
    {"_submit_unless_full", (PyCFunction)(void (*)(void))core_submit_unless_full, METH_FASTCALL | METH_KEYWORDS, NULL},
    {"_submit_each", (PyCFunction)(void (*)(void))core_submit_each, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static traverseproc traverse_attributes;

/* The hooks hold what the pool was given, and on_error may well be a method of who has the pool: then they are part of a cycle. While
 * there are workers, these hold them too, so the collector must not count them as the owner's. */
static int core_traverse(PyObject *self, visitproc visit, void *arg)
{
    py_core_object *it = (py_core_object *)self;
    if (it->owns && py_hooks_are_the_owners(it->view.core))
        Py_VISIT(it->view.core->hooks);
    return traverse_attributes(self, visit, arg);
}

int py_core_add_methods(PyObject *type)
{
    core_type = (PyTypeObject *)type;
    traverse_attributes = core_type->tp_traverse;
    core_type->tp_traverse = core_traverse; /* Cython knows of the attributes only */
    for (PyMethodDef *method = core_methods; method->ml_name != NULL; method++) {
        PyObject *descriptor = PyDescr_NewMethod(core_type, method);
        /* By way of the dict: Core is an extension type, whose attributes cannot be set. */
        int bad = descriptor == NULL ||
                  PyDict_SetItemString(core_type->tp_dict, method->ml_name, descriptor) < 0;
        Py_XDECREF(descriptor);
        if (bad)
            return -1;
    }
    PyType_Modified(core_type);
    return 0;
}
