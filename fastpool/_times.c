/* _times.c - the public interface's times: seconds, as floats, into nanoseconds; and what is none, into a clear error. */
#include "_bridge.h"

#include <math.h>

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
