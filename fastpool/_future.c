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
#include <math.h>
#include <stddef.h>

#include "fp_awake.h"
#include "fp_backoff.h"

PyTypeObject *py_future_type;

static PyObject *extras_factory; /* () -> Extras */
static PyObject *announce_hook;  /* (future, extras) -> None */
static PyObject *helping_waiters; /* (future, list) -> what stands for the list on a worker of the future's pool */
static PyObject *standard_cancel;
static PyObject *state_names[6];
static PyObject *name_condition, *name_waiters, *name_callbacks;

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

static void track(py_future *future)
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
    track((py_future *)self);
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

static void wake(py_future *future)
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
        wake(future);
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
        track(future);
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
        wake(future);
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

static bool is_final(uint32_t state)
{
    return (state & PY_PHASE) >= PY_FINISHED;
}

/* Also detached. */
static bool has_ended(py_future *future)
{
    return future->kind == PY_ELEMENT ? py_element_has_ended(future) : is_final(fp_load(&future->state, fp_acquire));
}

/* ---- waiting ---- */

static fp_atomic(unsigned long) main_thread;

void py_this_is_the_main_thread(void)
{
    fp_store(&main_thread, PyThread_get_thread_ident(), fp_relaxed);
}

/* threading.main_thread().ident. At import and not when first needed: these calls run signal handlers, whose exceptions belong
 * to the caller, and a wait that is about to ask for them could not tell. */
int py_find_main_thread(void)
{
    if (fp_load(&main_thread, fp_relaxed) != 0)
        return 0; /* this is another interpreter of the process; signal handlers are the first one's */
    PyObject *threading = PyImport_ImportModule("threading"), *main = NULL, *ident = NULL;
    if (threading != NULL && (main = PyObject_CallMethod(threading, "main_thread", NULL)) != NULL &&
        (ident = PyObject_GetAttrString(main, "ident")) != NULL)
        fp_store(&main_thread, PyLong_AsUnsignedLong(ident), fp_relaxed);
    Py_XDECREF(ident);
    Py_XDECREF(main);
    Py_XDECREF(threading);
    return PyErr_Occurred() ? -1 : 0;
}

bool py_on_main_thread(void)
{
    return fp_load(&main_thread, fp_relaxed) == PyThread_get_thread_ident();
}

/* Where workers want all CPUs, spinning would take one from them, and so would waking up for each of many results that come
 * one after the other: after a nap there are several. Naps grow while one soon follows the other. */
static void nap(void)
{
    enum { GROWTH = 8 }; /* the longest, in first naps */
    static _Thread_local int64_t length_ns, ended_ns;
    fp_atomic(uint32_t) nobody_wakes = 0;
    int64_t now_ns = fp_os_now_ns();
    if (now_ns - ended_ns > GROWTH * py_spin_ns)
        length_ns = py_spin_ns;
    else if (length_ns < GROWTH * py_spin_ns)
        length_ns *= 2;
    fp_os_wait(&nobody_wakes, 0, now_ns + length_ns);
    ended_ns = fp_os_now_ns();
}

/* Detached: spins a little for a job that is about to end. True when it has. */
static bool spin_until_final(py_future *future)
{
    if (py_spin_ns == 0)
        return false;
    if (fp_awake_count() >= py_usable_cpus) {
        nap();
        return has_ended(future);
    }
    int64_t until_ns = fp_os_now_ns() + py_spin_ns;
    unsigned round = 0;
    do
        for (int i = 0; i < 8; i++) {
            if (has_ended(future))
                return true;
            fp_backoff(&round);
        }
    while (fp_os_now_ns() < until_ns);
    return false;
}

/* Detached: the worker that ended the job lets go of the interpreter a moment later; a lock that is still taken would cost
 * a system call on each side. */
static void await_detach(void)
{
    for (int i = 0; i < 64 && fp_load(&py_attached_workers, fp_relaxed) != 0; i++)
        fp_cpu_pause();
}

static void sleep_once(py_future *future, int64_t until_ns)
{
    if (future->kind == PY_ELEMENT) {
        py_element_sleep(future, until_ns);
        return;
    }
    uint32_t state = fp_fetch_or(&future->state, PY_WAITING, fp_acq_rel) | PY_WAITING;
    if (!is_final(state))
        fp_os_wait(&future->state, state, until_ns);
}

/* A worker that waits for a job of its own pool runs it, if no one has begun to: else all could wait for each other. */
bool py_future_help(py_future *future)
{
    if (future->core == NULL || has_ended(future) || !py_on_own_worker(future->core))
        return false;
    if (future->kind == PY_ARRAY) {
        PyObject *capsule = py_future_capsule(future);
        if (capsule != NULL)
            py_array_help(capsule);
        Py_XDECREF(capsule);
    } else if (future->kind == PY_ELEMENT) {
        py_element_help(future);
    } else if (py_future_start(future)) {
        py_job_run_here(future);
    }
    return has_ended(future);
}

/* -1 with an exception where waiting would be for ever. */
static int refuse_if_forked(py_future *future)
{
    if (future->core == NULL || future->generation == (uint8_t)fp_os_fork_generation ||
        has_ended(future))
        return 0;
    PyErr_SetString(py_errors_pool, "this job belongs to the parent process, whose workers are not in this one");
    return -1;
}

int py_future_wait(py_future *future, int64_t deadline_ns)
{
    if (has_ended(future))
        return 1;
    if ((deadline_ns == FP_FOREVER || fp_os_now_ns() < deadline_ns) && py_future_help(future))
        return 1;
    if (refuse_if_forked(future) < 0)
        return -1;
    bool sliced = py_on_main_thread(), spun = false;
    while (!has_ended(future)) {
        Py_BEGIN_ALLOW_THREADS
        if (!spun) {
            fp_fetch_add(&py_detached_waiters, 1, fp_relaxed);
            if (spin_until_final(future))
                await_detach();
            fp_fetch_sub(&py_detached_waiters, 1, fp_relaxed);
            spun = true;
        } else {
            sleep_once(future, sliced ? py_slice_until(deadline_ns) : deadline_ns);
        }
        Py_END_ALLOW_THREADS
        if (has_ended(future))
            return 1;
        if (sliced && PyErr_CheckSignals() < 0)
            return -1;
        if (deadline_ns != FP_FOREVER && fp_os_now_ns() >= deadline_ns)
            return 0;
    }
    return 1;
}

/* ---- times ---- */

const char *py_type_name(PyObject *object)
{
    const char *name = Py_TYPE(object)->tp_name, *dot = strrchr(name, '.');
    return dot != NULL ? dot + 1 : name;
}

int py_duration_from(PyObject *timeout, const char *name, int64_t *duration_ns)
{
    *duration_ns = FP_FOREVER;
    if (timeout == NULL || timeout == Py_None)
        return 0;
    double seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1.0 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_TypeError))
            PyErr_Format(PyExc_TypeError, "%s must be a number of seconds or None, not %.200s", name, py_type_name(timeout));
        if (!PyErr_ExceptionMatches(PyExc_OverflowError))
            return -1;
        PyErr_Clear(); /* an int beyond any float: for ever, or negative */
        seconds = PyObject_RichCompareBool(timeout, Py_False, Py_LT) == 1 ? -1.0 : INFINITY;
    }
    if (isnan(seconds) || seconds < 0) {
        PyErr_Format(PyExc_ValueError, "%s must be at least 0 seconds, got %R", name, timeout);
        return -1;
    }
    if (seconds < 9e9) /* beyond that, 285 years: for ever */
        *duration_ns = (int64_t)ceil(seconds * 1e9);
    return 0;
}

int py_deadline_from(PyObject *timeout, const char *name, int64_t *deadline_ns)
{
    if (py_duration_from(timeout, name, deadline_ns) < 0)
        return -1;
    if (*deadline_ns != FP_FOREVER)
        *deadline_ns += fp_os_now_ns();
    return 0;
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
    PyErr_Restore(Py_NewRef(Py_TYPE(exception)), exception, traceback);
    return NULL;
}

static PyObject *value_of(py_future *future)
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
    return phase == PY_FAILED ? raise_stored((py_future *)self) : value_of((py_future *)self);
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

/* ---- what the standard library reaches for ---- */

static PyObject *get_extras(py_future *future)
{
    PyObject *extras = fp_load(&future->extras, fp_acquire);
    if (extras == NULL) {
        PyObject *made = PyObject_CallNoArgs(extras_factory);
        if (made == NULL)
            return NULL;
        track(future);
        if (fp_cas(&future->extras, &extras, made, fp_acq_rel, fp_acquire))
            extras = made;
        else
            Py_DECREF(made);
    }
    /* From here on whoever ends the future announces it; if it has ended, `_state` says so already. Also where another thread
     * has made the extras and may not have come this far. */
    if (!(fp_load(&future->state, fp_acquire) & PY_EXTRAS)) {
        fp_fetch_or(&future->state, PY_EXTRAS, fp_acq_rel);
        if (future->kind == PY_ELEMENT && py_element_watch(future) < 0)
            return NULL;
    }
    return extras;
}

static PyObject *extra(py_future *future, PyObject *name)
{
    PyObject *extras = get_extras(future);
    return extras == NULL ? NULL : PyObject_GetAttr(extras, name);
}

static PyObject *get_condition(PyObject *self, void *unused)
{
    (void)unused;
    return extra((py_future *)self, name_condition);
}

/* wait() and as_completed() put what they sleep on in here. A worker must not sleep on its own queue: it gets a list that
 * makes the sleeper help. */
static PyObject *get_waiters(PyObject *self, void *unused)
{
    (void)unused;
    py_future *future = (py_future *)self;
    if (refuse_if_forked(future) < 0)
        return NULL;
    PyObject *waiters = extra(future, name_waiters);
    if (waiters == NULL || future->core == NULL || has_ended(future) ||
        !py_on_own_worker(future->core))
        return waiters;
    PyObject *helping = PyObject_CallFunctionObjArgs(helping_waiters, self, waiters, NULL);
    Py_DECREF(waiters);
    return helping;
}

static PyObject *get_callbacks(PyObject *self, void *unused)
{
    (void)unused;
    return extra((py_future *)self, name_callbacks);
}

static PyObject *get_state(PyObject *self, void *unused)
{
    (void)unused;
    py_future *future = (py_future *)self;
    uint32_t state = fp_load(&future->state, fp_acquire);
    int phase = state & PY_ANNOUNCING ? PY_RUNNING : (int)(state & PY_PHASE);
    /* One of many that has ended is announced by who finds out first, and that must not be this thread here: it may hold the
     * condition, and count on it that no state changes from one look to the next. */
    if (future->kind == PY_ELEMENT && (state & PY_PHASE) < PY_FINISHED) {
        phase = py_element_look(future);
        if (phase >= PY_FINISHED && (state & PY_EXTRAS))
            phase = PY_RUNNING;
    }
    return Py_NewRef(state_names[phase]);
}

/* arg_count of a future that a user made and gave an exception. */
enum { IS_EXCEPTION = UINT8_MAX };

static int refuse_if_pooled(py_future *future)
{
    if (future->core == NULL)
        return 0;
    PyErr_SetString(py_errors_pool, "this future belongs to a pool, which alone sets its state and its result");
    return -1;
}

/* The inherited set_result, set_exception, cancel and set_running_or_notify_cancel of a future that a user made. */
static int set_state(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    py_future *future = (py_future *)self;
    if (refuse_if_pooled(future) < 0)
        return -1;
    for (int phase = 0; value != NULL && phase <= PY_CANCELLED_AND_NOTIFIED; phase++) {
        int same = PyObject_RichCompareBool(value, state_names[phase], Py_EQ);
        if (same < 0)
            return -1;
        if (!same)
            continue;
        if (phase == PY_FINISHED && future->arg_count == IS_EXCEPTION)
            phase = PY_FAILED;
        uint32_t state = fp_load(&future->state, fp_relaxed), next;
        do
            next = (state & (PY_EXTRAS | PY_TRACKED)) | (uint32_t)phase;
        while (!fp_cas(&future->state, &state, next, fp_acq_rel, fp_relaxed));
        if (state & PY_WAITING)
            wake(future);
        return 0;
    }
    PyErr_Format(PyExc_ValueError, "not a state of a future: %R", value ? value : Py_None);
    return -1;
}

static PyObject *get_result(PyObject *self, void *unused)
{
    (void)unused;
    py_future *future = (py_future *)self;
    return py_future_phase(future) == PY_FINISHED ? value_of(future) : Py_NewRef(Py_None);
}

/* `mark` tells set_state which of the two it was that has come. */
static int set_value(py_future *future, PyObject *value, PyObject *traceback, uint8_t mark)
{
    if (refuse_if_pooled(future) < 0)
        return -1;
    future->arg_count = mark;
    Py_XSETREF(future->value, Py_XNewRef(value));
    Py_XSETREF(future->args, Py_XNewRef(traceback));
    return 0;
}

static int set_result(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    return set_value((py_future *)self, value, NULL, 0);
}

static PyObject *get_exception(PyObject *self, void *unused)
{
    (void)unused;
    py_future *future = (py_future *)self;
    return Py_NewRef(py_future_phase(future) == PY_FAILED ? future->value : Py_None);
}

static int set_exception(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    if (value == NULL || value == Py_None)
        return set_value((py_future *)self, Py_None, NULL, 0);
    PyObject *exception = PyExceptionClass_Check(value) ? PyObject_CallNoArgs(value) : Py_NewRef(value);
    if (exception == NULL)
        return -1;
    int bad = -1;
    if (PyExceptionInstance_Check(exception)) {
        PyObject *traceback = PyException_GetTraceback(exception);
        bad = set_value((py_future *)self, exception, traceback, IS_EXCEPTION);
        Py_XDECREF(traceback);
    } else {
        PyErr_Format(PyExc_TypeError, "exception must be an exception, not %.200s", py_type_name(exception));
    }
    Py_DECREF(exception);
    return bad;
}

static PyGetSetDef future_getset[] = {
    {"_condition", get_condition, NULL, NULL, NULL},
    {"_waiters", get_waiters, NULL, NULL, NULL},
    {"_done_callbacks", get_callbacks, NULL, NULL, NULL},
    {"_state", get_state, set_state, NULL, NULL},
    {"_result", get_result, set_result, NULL, NULL},
    {"_exception", get_exception, set_exception, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
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
    {Py_tp_getset, future_getset},
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
    static const char *const names[] = {"PENDING", "RUNNING", "FINISHED", "FINISHED", "CANCELLED", "CANCELLED_AND_NOTIFIED"};
    if ((size_t)((PyTypeObject *)standard_future)->tp_basicsize > offsetof(py_future, state)) {
        PyErr_SetString(PyExc_ImportError, "fastpool: concurrent.futures.Future has another layout than expected");
        return -1;
    }
    for (int i = 0; i < 6; i++)
        if ((state_names[i] = PyUnicode_InternFromString(names[i])) == NULL)
            return -1;
    name_condition = PyUnicode_InternFromString("condition");
    name_waiters = PyUnicode_InternFromString("waiters");
    name_callbacks = PyUnicode_InternFromString("callbacks");
    standard_cancel = PyObject_GetAttrString(standard_future, "cancel");
    if (name_condition == NULL || name_waiters == NULL || name_callbacks == NULL || standard_cancel == NULL)
        return -1;
    if ((extras_factory = PyObject_GetAttrString(extras, "Extras")) == NULL ||
        (announce_hook = PyObject_GetAttrString(extras, "announce")) == NULL ||
        (helping_waiters = PyObject_GetAttrString(extras, "HelpingWaiters")) == NULL)
        return -1;
    py_future_type = (PyTypeObject *)PyType_FromSpecWithBases(&future_spec, standard_future);
    return py_future_type == NULL ? -1 : 0;
}
