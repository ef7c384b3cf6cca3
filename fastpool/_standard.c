/* _standard.c - what the standard library reaches for in a future: `_condition`, `_waiters`, `_done_callbacks`, `_state`, `_result`,
 * `_exception`, as descriptors over the state word and the extras, which come into being when one of them is asked for.
 *
 * With these concurrent.futures.wait, as_completed, and the methods that are inherited work as they are. Setting the last three is
 * for futures that a user made, by way of the inherited set_result and its like; those of a pool refuse it.
 */
#include "_bridge.h"

static PyObject *extras_factory; /* () -> Extras */
static PyObject *helping_waiters; /* (future, list) -> what stands for the list on a worker of the future's pool */
static PyObject *state_names[6];
static PyObject *name_condition, *name_waiters, *name_callbacks;

static PyObject *get_extras(py_future *future)
{
    PyObject *extras = fp_load(&future->extras, fp_acquire);
    if (extras == NULL) {
        PyObject *made = PyObject_CallNoArgs(extras_factory);
        if (made == NULL)
            return NULL;
        py_future_track(future);
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
    if (py_future_refuse_if_forked(future) < 0)
        return NULL;
    PyObject *waiters = extra(future, name_waiters);
    if (waiters == NULL || future->core == NULL || py_future_has_ended(future) ||
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
            py_future_wake(future);
        return 0;
    }
    PyErr_Format(PyExc_ValueError, "not a state of a future: %R", value ? value : Py_None);
    return -1;
}

static PyObject *get_result(PyObject *self, void *unused)
{
    (void)unused;
    py_future *future = (py_future *)self;
    return py_future_phase(future) == PY_FINISHED ? py_future_value(future) : Py_NewRef(Py_None);
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

PyGetSetDef py_standard_getset[] = {
    {"_condition", get_condition, NULL, NULL, NULL},
    {"_waiters", get_waiters, NULL, NULL, NULL},
    {"_done_callbacks", get_callbacks, NULL, NULL, NULL},
    {"_state", get_state, set_state, NULL, NULL},
    {"_result", get_result, set_result, NULL, NULL},
    {"_exception", get_exception, set_exception, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

int py_standard_init(PyObject *extras)
{
    static const char *const names[] = {"PENDING", "RUNNING", "FINISHED", "FINISHED", "CANCELLED", "CANCELLED_AND_NOTIFIED"};
    for (int i = 0; i < 6; i++)
        if ((state_names[i] = PyUnicode_InternFromString(names[i])) == NULL)
            return -1;
    name_condition = PyUnicode_InternFromString("condition");
    name_waiters = PyUnicode_InternFromString("waiters");
    name_callbacks = PyUnicode_InternFromString("callbacks");
    if (name_condition == NULL || name_waiters == NULL || name_callbacks == NULL)
        return -1;
    extras_factory = PyObject_GetAttrString(extras, "Extras");
    helping_waiters = PyObject_GetAttrString(extras, "HelpingWaiters");
    return extras_factory == NULL || helping_waiters == NULL ? -1 : 0;
}
