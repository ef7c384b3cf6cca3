/* _future.c - the future: a concurrent.futures.Future made in C.
 *
 * Journey: submit -> ring -> worker -> callable -> [COMPLETION -> FUTURE].
 *
 * It is the job's record on the Python side too: callable and arguments live in it until it runs, the result afterwards,
 * so a queued job is one object. What few futures need (condition, waiters, callbacks, all of the standard class) is made
 * on first use and hangs off `extras`; the attributes that the standard library reaches for (`_condition`, `_state`, ...)
 * are descriptors over that, so wait(), as_completed() and the inherited methods work as they are.
 *
 * Cancelling  one CAS from PENDING to the final phase, and only then is the call dropped: whoever finds the future in the
 *             queue sees that it was cancelled and nothing in between.
 * Ending      R1 the value is written   R2 CAS of the state word to the final phase (release) <- linearisation point
 *             R3 the old word had WAITING: wake      With EXTRAS: R2 adds ANNOUNCING, and the condition is taken, ANNOUNCING
 *             cleared and the standard waiters told in one go, as they count on it.
 * Waiting     fetch_or WAITING; futex on the word while it is not final. The same word carries both, so no wake-up is lost:
 *             R2 either precedes the fetch_or, which then sees the final phase, or sees the flag.
 * Who owns    fn, args, kwargs: whoever moves the phase from PENDING (a worker, a helper, cancel). value: the same.
 *
 * The garbage collector is told of a future only when it could be part of a cycle: when it gets extras, an attribute, or a
 * value that is itself tracked. While it is queued the pool holds it anyway.
 */
#include "_bridge.h"

#include <limits.h>
#include <stddef.h>

PyTypeObject *py_future_type;

static PyObject *announce_hook; /* (future, extras) -> None */
static PyObject *standard_cancel;

/* ---- making and unmaking ---- */

/* Futures that were let go of, to be used again: the allocator's and the collector's books cost as much as all the rest of a
 * future. Under the GIL; without it each thread would need a list of its own. */
#ifdef Py_GIL_DISABLED
static py_future *take_free(void)
{
    return NULL;
}

static bool keep_free(py_future *future)
{
    (void)future;
    return false;
}
#else
enum { MOST_FREE = 4096 }; /* half a megabyte */
static struct {
    py_future *first; /* linked by fn */
    int count;
} free_futures;

static py_future *take_free(void)
{
    py_future *future = free_futures.first;
    if (future == NULL)
        return NULL;
    free_futures.first = (py_future *)future->fn;
    free_futures.count--;
    return (py_future *)PyObject_Init((PyObject *)future, py_future_type);
}

static bool keep_free(py_future *future)
{
    if (free_futures.count >= MOST_FREE || Py_TYPE(future) != py_future_type)
        return false;
    future->fn = (PyObject *)free_futures.first;
    free_futures.first = future;
    free_futures.count++;
    return true;
}
#endif

py_future *py_future_new(void)
{
    py_future *future = take_free();
    if (future == NULL && (future = PyObject_GC_New(py_future, py_future_type)) == NULL)
        return NULL;
    memset((char *)future + offsetof(py_future, state), 0, sizeof *future - offsetof(py_future, state));
#if PY_VERSION_HEX < 0x030C0000
    future->weakrefs = NULL;
#endif
    future->generation = (uint8_t)fp_os_fork_generation;
    return future;
}

static PyObject *future_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args, (void)kwargs;
    py_future *future = (py_future *)type->tp_alloc(type, 0); /* tracks it */
    if (future != NULL)
        fp_store(&future->state, PY_TRACKED, fp_relaxed);
    return (PyObject *)future;
}

static int future_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    (void)self;
    if (PyTuple_GET_SIZE(args) != 0 || (kwargs != NULL && PyDict_GET_SIZE(kwargs) != 0)) {
        PyErr_SetString(PyExc_TypeError, "Future() takes no arguments");
        return -1;
    }
    return 0;
}

void py_future_track(py_future *future)
{
    if (!(fp_load(&future->state, fp_relaxed) & PY_TRACKED) &&
        !(fp_fetch_or(&future->state, PY_TRACKED, fp_relaxed) & PY_TRACKED))
        PyObject_GC_Track(future);
}

static int visit_dict(PyObject *self, visitproc visit, void *arg)
{
#if PY_VERSION_HEX >= 0x030D0000
    return PyObject_VisitManagedDict(self, visit, arg);
#elif PY_VERSION_HEX >= 0x030C0000
    return _PyObject_VisitManagedDict(self, visit, arg);
#else
    PyObject **dict = _PyObject_GetDictPtr(self); /* makes none: py_future_new leaves no inline values */
    Py_VISIT(*dict);
    return 0;
#endif
}

static void clear_dict(PyObject *self)
{
#if PY_VERSION_HEX >= 0x030D0000
    PyObject_ClearManagedDict(self);
#elif PY_VERSION_HEX >= 0x030C0000
    _PyObject_ClearManagedDict(self);
#else
    PyObject **dict = _PyObject_GetDictPtr(self);
    Py_CLEAR(*dict);
#endif
}

/* Of the union of objects and numbers: a native job that failed has a traceback and an exception there. */
static bool has_scalars(py_future *future)
{
    return (future->kind == PY_KERNEL || future->kind == PY_ELEMENT) &&
           (fp_load(&future->state, fp_acquire) & PY_PHASE) != PY_FAILED;
}

static int future_traverse(PyObject *self, visitproc visit, void *arg)
{
    py_future *future = (py_future *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(py_future_fn(future));
    if (!has_scalars(future)) {
        Py_VISIT(future->args);
        Py_VISIT(future->value);
    }
    if (future->kind == PY_CALLABLE) /* else it is next_reap, which a detached worker may be writing just now */
        Py_VISIT(future->kwargs);
    Py_VISIT(fp_load(&future->extras, fp_relaxed));
    py_task *task = py_future_task(future);
    if (task != NULL) {
        Py_VISIT(fp_load(&task->context, fp_relaxed));
        Py_VISIT(fp_load(&task->watcher, fp_relaxed));
    }
    return visit_dict(self, visit, arg);
}

/* Several threads may be here for one future: a canceller, a helper, the one who reaps. */
static PyObject *take(PyObject **place)
{
    PyObject *taken = *place;
    *place = NULL;
    return taken;
}

static PyObject *take_fn(py_future *future)
{
    PyObject *fn = py_future_fn(future);
    future->fn = NULL;
    return fn;
}

void py_future_drop_call(py_future *future)
{
    PyObject *fn, *args = NULL, *kwargs = NULL;
    Py_BEGIN_CRITICAL_SECTION(future);
    fn = take_fn(future);
    if (!has_scalars(future))
        args = take(&future->args);
    if (future->kind == PY_CALLABLE)
        kwargs = take(&future->kwargs);
    Py_END_CRITICAL_SECTION();
    Py_XDECREF(fn); /* destructors run only now that the future is in order */
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    py_task_drop_context(py_future_task(future));
}

void py_future_drop_owners(py_future *future)
{
    PyObject *fn, *args = NULL;
    if (py_future_phase(future) < PY_FINISHED)
        return; /* somebody who waits for it runs it just now: it keeps them for its life */
    Py_BEGIN_CRITICAL_SECTION(future);
    fn = take_fn(future);
    if (future->kind == PY_ARRAY && py_future_phase(future) != PY_FAILED)
        args = take(&future->args);
    Py_END_CRITICAL_SECTION();
    Py_XDECREF(fn);
    Py_XDECREF(args);
}

void py_future_drop_inputs(py_future *future)
{
    PyObject *args = NULL;
    if (future->kind != PY_ARRAY || py_future_phase(future) < PY_FINISHED)
        return;
    Py_BEGIN_CRITICAL_SECTION(future);
    args = take(&future->args);
    Py_END_CRITICAL_SECTION();
    Py_XDECREF(args);
}

PyObject *py_future_capsule(py_future *future)
{
    PyObject *capsule = NULL;
    if (future->kind != PY_ARRAY)
        return NULL;
    Py_BEGIN_CRITICAL_SECTION(future);
    capsule = Py_XNewRef(future->fn);
    Py_END_CRITICAL_SECTION();
    return capsule;
}

static int future_clear(PyObject *self)
{
    py_future *future = (py_future *)self;
    py_future_drop_call(future);
    if (!has_scalars(future))
        Py_CLEAR(future->value);
    if (fp_load(&future->extras, fp_relaxed) != NULL)
        Py_XDECREF(fp_exchange(&future->extras, NULL, fp_relaxed));
    py_task_drop_watcher(py_future_task(future));
    clear_dict(self);
    return 0;
}

static void future_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    if (fp_load(&((py_future *)self)->state, fp_relaxed) & PY_TRACKED)
        PyObject_GC_UnTrack(self);
    Py_TRASHCAN_BEGIN(self, future_dealloc) /* a chain of futures, each an argument of the next, may be long */
#if PY_VERSION_HEX < 0x030C0000
    if (((py_future *)self)->weakrefs != NULL)
#endif
        PyObject_ClearWeakRefs(self);
    future_clear(self);
    py_task *task = py_future_task((py_future *)self);
    if (task != NULL)
        py_task_drop(task);
    if (!keep_free((py_future *)self))
        PyObject_GC_Del(self);
    Py_DECREF(type);
    Py_TRASHCAN_END
}

static int future_setattro(PyObject *self, PyObject *name, PyObject *value)
{
    py_future_track((py_future *)self);
    return PyObject_GenericSetAttr(self, name, value);
}

/* ---- states ---- */

static bool start_as(py_future *future, uint32_t flags)
{
    uint32_t state = fp_load(&future->state, fp_relaxed);
    while ((state & PY_PHASE) == PY_PENDING)
        if (fp_cas(&future->state, &state, (state & ~(uint32_t)PY_PHASE) | flags, fp_acquire, fp_relaxed))
            return true;
    return false;
}

bool py_future_start(py_future *future)
{
    return start_as(future, PY_RUNNING);
}

bool py_future_start_to_end(py_future *future)
{
    return start_as(future, PY_RUNNING | PY_UNSTARTED);
}

void py_future_wake(py_future *future)
{
    fp_os_wake(&future->state, INT_MAX);
}

static uint32_t ended_state(uint32_t state, int phase)
{
    uint32_t announcing = state & PY_EXTRAS ? PY_ANNOUNCING : 0;
    return (state & (PY_EXTRAS | PY_TRACKED | PY_STOPPING | PY_UNSTARTED)) | (uint32_t)phase | announcing;
}

/* R2 and R3. True when there is something to announce. */
static bool end(py_future *future, int phase)
{
    uint32_t state = fp_load(&future->state, fp_relaxed);
    while (!fp_cas(&future->state, &state, ended_state(state, phase), fp_acq_rel, fp_relaxed))
        ;
    if (state & PY_WAITING)
        py_future_wake(future);
    return state & PY_EXTRAS;
}

/* The hook failed. True to call it again: nobody has been told yet, and there may be memory now. */
static bool announce_failed(py_future *future, int attempts)
{
    enum { MOST_ATTEMPTS = 8 };
    bool untold = fp_load(&future->state, fp_relaxed) & PY_ANNOUNCING;
    if (untold && attempts < MOST_ATTEMPTS && PyErr_ExceptionMatches(PyExc_MemoryError)) {
        PyErr_Clear();
        return true;
    }
    fp_fetch_and(&future->state, ~(uint32_t)PY_ANNOUNCING, fp_acq_rel); /* the future ends all the same */
    if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt))
        PyErr_Clear(), PyErr_SetInterrupt(); /* the main thread gets it again, where it can be raised */
    else
        PyErr_WriteUnraisable((PyObject *)future);
    return false;
}

void py_future_announce(py_future *future)
{
    PyObject *none, *extras = fp_load(&future->extras, fp_acquire);
    int attempts = 0;
    do
        none = PyObject_CallFunctionObjArgs(announce_hook, future, extras, NULL);
    while (none == NULL && announce_failed(future, ++attempts));
    Py_XDECREF(none);
}

void py_future_complete(py_future *future, int phase, PyObject *value)
{
    future->value = value;
    if (value != NULL && PyObject_IS_GC(value))
        py_future_track(future);
    bool announce = end(future, phase);
    py_task *task = py_future_task(future);
    if (task != NULL)
        py_task_ended(task, future, phase);
    if (announce)
        py_future_announce(future);
}

bool py_future_complete_native(py_future *future, int phase)
{
    return end(future, phase);
}

void py_element_end(py_future *future, int phase, PyObject *error)
{
    if (phase == PY_FAILED)
        future->args = NULL; /* no traceback; the index was there */
    if (error != NULL)
        future->value = error;
    if (end(future, phase))
        py_future_announce(future);
}

bool py_future_cancel(py_future *future)
{
    if (future->kind == PY_ELEMENT && !py_element_cancel(future))
        return false;
    uint32_t state = fp_load(&future->state, fp_relaxed);
    do
        if ((state & PY_PHASE) != PY_PENDING)
            return false;
    while (!fp_cas(&future->state, &state, ended_state(state, PY_CANCELLED_AND_NOTIFIED), fp_acq_rel, fp_relaxed));
    if (state & PY_WAITING)
        py_future_wake(future);
    if (future->kind == PY_ELEMENT)
        py_element_cancelled(future);
    /* An array's job is the queue's as well: it goes when the queue has come to it. */
    if (future->kind != PY_ARRAY && future->kind != PY_ELEMENT)
        py_future_drop_call(future);
    py_task_drop_watcher(py_future_task(future));
    if (state & PY_EXTRAS)
        py_future_announce(future);
    return true;
}

/* ---- methods ---- */

/* The one optional argument `timeout` of result() and exception(). */
static int parse_timeout(const char *method, PyObject *const *args, Py_ssize_t count, PyObject *names, int64_t *deadline_ns)
{
    Py_ssize_t named = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    *deadline_ns = FP_FOREVER;
    if (count + named == 0)
        return 0;
    if (count + named > 1 || (named == 1 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "timeout") != 0)) {
        PyErr_Format(PyExc_TypeError, "%s() takes one optional argument, timeout", method);
        return -1;
    }
    return py_deadline_from(args[0], "timeout", deadline_ns);
}

static PyObject *raise_stored(py_future *future)
{
    PyObject *exception = Py_NewRef(future->value), *traceback;
    /* With the traceback it ended with: each raise would otherwise add its frames to the last one's. Where the deadline has
     * ended a job that still runs, the arguments are still there, until the job returns. */
    Py_BEGIN_CRITICAL_SECTION(future);
    traceback = future->args != NULL && PyTraceBack_Check(future->args) ? Py_NewRef(future->args) : NULL;
    Py_END_CRITICAL_SECTION();
    /* Said to the exception itself: from 3.14 on restoring none leaves the one that it has. */
    if (PyException_SetTraceback(exception, traceback != NULL ? traceback : Py_None) < 0)
        PyErr_Clear(); /* it is a traceback or None, which cannot be refused */
    PyErr_Restore(Py_NewRef(Py_TYPE(exception)), exception, traceback);
    return NULL;
}

PyObject *py_future_value(py_future *future)
{
    if (future->kind == PY_ELEMENT)
        return py_element_value(future);
    if (future->kind == PY_KERNEL)
        return py_scalar_box((char)future->type, future->scalars[0]);
    return Py_NewRef(future->value != NULL ? future->value : Py_None); /* NULL: the garbage collector was here */
}

/* Waits for the end and returns its phase, or -1 with TimeoutError, CancelledError or what interrupted it. */
static int await_end(const char *method, PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    py_future *future = (py_future *)self;
    int phase = py_future_phase(future);
    if (phase < PY_FINISHED || count != 0 || names != NULL) {
        int64_t deadline_ns;
        if (parse_timeout(method, args, count, names, &deadline_ns) < 0)
            return -1;
        int ended = py_future_wait(future, deadline_ns);
        if (ended == 0)
            PyErr_SetNone(PyExc_TimeoutError);
        if (ended <= 0)
            return -1;
        phase = py_future_phase(future);
    }
    py_future_drop_inputs(future);
    if (phase >= PY_CANCELLED) {
        PyErr_SetNone(py_errors_cancelled);
        return -1;
    }
    return phase;
}

static PyObject *future_result(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    int phase = await_end("result", self, args, count, names);
    if (phase < 0)
        return NULL;
    return phase == PY_FAILED ? raise_stored((py_future *)self) : py_future_value((py_future *)self);
}

static PyObject *future_exception(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    int phase = await_end("exception", self, args, count, names);
    if (phase < 0)
        return NULL;
    return Py_NewRef(phase == PY_FAILED ? ((py_future *)self)->value : Py_None);
}

/* Of _extras.HelpingEvent. */
static PyObject *future_help(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(py_future_help((py_future *)self));
}

static PyObject *future_done(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(py_future_phase((py_future *)self) >= PY_FINISHED);
}

static PyObject *future_running(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(py_future_phase((py_future *)self) == PY_RUNNING);
}

static PyObject *future_cancelled(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(py_future_phase((py_future *)self) >= PY_CANCELLED);
}

/* An array that runs already stops at its next piece, if there is one to come: then it ends as cancelled, which is known from
 * here on, however often it is asked for. */
static bool stop_array(py_future *future)
{
    PyObject *capsule = py_future_capsule(future);
    bool stopped = capsule != NULL && py_future_phase(future) == PY_RUNNING && py_array_cancel(capsule);
    Py_XDECREF(capsule);
    return stopped;
}

static PyObject *future_cancel(PyObject *self, PyObject *unused)
{
    (void)unused;
    py_future *future = (py_future *)self;
    if (future->core == NULL) /* not of a pool: the standard two steps, for whoever made it drives it */
        return PyObject_CallOneArg(standard_cancel, self);
    if (py_future_cancel(future) || py_future_phase(future) >= PY_CANCELLED || stop_array(future))
        Py_RETURN_TRUE;
    if (future->kind == PY_CALLABLE || future->kind == PY_KERNEL)
        py_future_ask_to_stop(future);
    Py_RETURN_FALSE;
}

/* Of the announce hook: `_state` may now be seen. Called with the condition held. */
static PyObject *future_announced(PyObject *self, PyObject *unused)
{
    (void)unused;
    fp_fetch_and(&((py_future *)self)->state, ~(uint32_t)PY_ANNOUNCING, fp_acq_rel);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(result_doc,
"result($self, /, timeout=None)\n--\n\n"
"The job's result, waiting for it up to `timeout` seconds (default: for ever).\n\n"
"Raises TimeoutError if it has not ended by then, CancelledError if it was cancelled, and what the job raised.\n"
"A job that waits for another job of its own pool runs it, if it has not started, instead of waiting.");
PyDoc_STRVAR(exception_doc,
"exception($self, /, timeout=None)\n--\n\n"
"What the job raised, or None, waiting as result() does.");
PyDoc_STRVAR(cancel_doc,
"cancel($self, /)\n--\n\n"
"Cancels the job if it has not started: True then, and from then on.\n\nIts arguments are dropped at once. "
"A running job is asked to stop (False): it sees current_job().cancelled, and is cancelled if it then raises "
"CancelledError, as current_job().check() does. "
"Of an array: what of it has not started; where some of it runs, it ends as cancelled once that has ended.");

static PyMethodDef future_methods[] = {
    {"result", (PyCFunction)(void (*)(void))future_result, METH_FASTCALL | METH_KEYWORDS, result_doc},
    {"exception", (PyCFunction)(void (*)(void))future_exception, METH_FASTCALL | METH_KEYWORDS, exception_doc},
    {"done", future_done, METH_NOARGS, PyDoc_STR("done($self, /)\n--\n\nTrue when the job has ended or was cancelled.")},
    {"running", future_running, METH_NOARGS, PyDoc_STR("running($self, /)\n--\n\nTrue while the job runs.")},
    {"cancelled", future_cancelled, METH_NOARGS, PyDoc_STR("cancelled($self, /)\n--\n\nTrue when the job was cancelled.")},
    {"cancel", future_cancel, METH_NOARGS, cancel_doc},
    {"_announced", future_announced, METH_NOARGS, NULL},
    {"_help", future_help, METH_NOARGS, NULL},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL, NULL, 0, NULL},
};

/* ---- the type ---- */

PyDoc_STRVAR(future_doc,
"The end of one job, to come: a concurrent.futures.Future made in C.\n\n"
"Returned by Pool.submit. concurrent.futures.wait, as_completed and asyncio.wrap_future take it.\n\n"
"Notes\n-----\nThread safety: all methods, from any thread. Blocking: result() and exception() only.\n"
"Cost: about 110 bytes; the condition and the lists of the standard class are made when something asks for them.");

static PyType_Slot future_slots[] = {
    {Py_tp_doc, (void *)future_doc},
    {Py_tp_new, future_new},
    {Py_tp_init, future_init},
    {Py_tp_dealloc, future_dealloc},
    {Py_tp_traverse, future_traverse},
    {Py_tp_clear, future_clear},
    {Py_tp_setattro, future_setattro},
    {Py_tp_methods, future_methods},
    {Py_tp_getset, py_standard_getset},
    {0, NULL},
};

static PyType_Spec future_spec = {
    .name = "fastpool.Future",
    .basicsize = sizeof(py_future),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = future_slots,
};

int py_future_init(PyObject *standard_future, PyObject *extras)
{
    if ((size_t)((PyTypeObject *)standard_future)->tp_basicsize > offsetof(py_future, state)) {
        PyErr_SetString(PyExc_ImportError, "fastpool: concurrent.futures.Future has another layout than expected");
        return -1;
    }
    standard_cancel = PyObject_GetAttrString(standard_future, "cancel");
    announce_hook = PyObject_GetAttrString(extras, "announce");
    if (standard_cancel == NULL || announce_hook == NULL || py_standard_init(extras) < 0)
        return -1;
    py_future_type = (PyTypeObject *)PyType_FromSpecWithBases(&future_spec, standard_future);
    return py_future_type == NULL ? -1 : 0;
}
