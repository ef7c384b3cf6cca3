/* _native.c - a kernel on scalars: its arguments into the future, its result out of it.
 *
 * Journey: [SUBMIT] -> ring -> worker -> [KERNEL] -> completion -> [FUTURE]. The scalars of a native job lie in its future, the
 * result where the first of them was: a job costs one object.
 */
#include "_bridge.h"

#include <stdlib.h>

PyTypeObject *py_kernel_type;
int (*py_kernel_refuse)(PyObject *kernel, Py_ssize_t count);
int (*py_kernel_convert)(PyObject *kernel, Py_ssize_t i, PyObject *value, fp_scalar *scalar);

static py_kernel_object *kernel_of(PyObject *object)
{
    return (py_kernel_object *)object;
}

/* The common types here, the rest, and what fits not, in _kernel.pxi. */
int py_scalar_from(PyObject *kernel, Py_ssize_t i, PyObject *value, fp_scalar *scalar)
{
    char type = fp_signatures[kernel_of(kernel)->signature].type;
    if (type == 'd' && PyFloat_CheckExact(value)) {
        scalar->f64 = PyFloat_AS_DOUBLE(value);
        return 0;
    }
    return py_kernel_convert(kernel, i, value, scalar);
}

int py_scalars_from(PyObject *kernel, PyObject *const *args, Py_ssize_t count, fp_scalar *scalars)
{
    const fp_signature_info *info = &fp_signatures[kernel_of(kernel)->signature];
    if ((info->loop == NULL && info->type != 'i') || count != info->inputs || kernel_of(kernel)->signature == FP_SIG_RANGE)
        return py_kernel_refuse(kernel, count);
    for (Py_ssize_t i = 0; i < count; i++)
        if (py_scalar_from(kernel, i, args[i], &scalars[i]) < 0)
            return -1;
    return 0;
}

PyObject *py_scalar_box(char type, fp_scalar scalar)
{
    if (type == 'd')
        return PyFloat_FromDouble(scalar.f64);
    return type == 'f' ? PyFloat_FromDouble((double)scalar.f32) : PyLong_FromLongLong(scalar.i64);
}

void py_native_fill(py_future *future, PyObject *kernel, const fp_scalar *scalars)
{
    future->kind = PY_KERNEL;
    future->type = (uint8_t)fp_signatures[kernel_of(kernel)->signature].type;
    memcpy(future->scalars, scalars, sizeof future->scalars);
    future->code = kernel_of(kernel)->code;
    Py_INCREF(kernel); /* holds the code and the user data */
}

fp_scalar py_native_run(py_future *future, int *status)
{
    const py_code *code = future->code;
    py_task *task = py_future_task(future);
    const fp_scalar *scalars = py_has_deadline(task) ? task->scalars : future->scalars;
    fp_scalar result = fp_call_scalar((fp_signature)code->signature, code->fn, scalars, code->data);
    *status = future->type == 'i' ? (int)result.i64 : 0;
    return result;
}

int py_kernel_publish(PyObject *object)
{
    py_kernel_object *kernel = kernel_of(object);
    void *memory = NULL;
    PyObject *name = PyObject_GetAttrString(object, "name");
    const char *text = name == NULL ? NULL : PyUnicode_AsUTF8(name);
    if (text == NULL)
        PyErr_Clear(); /* a name that is no UTF-8 */
    const char *interned = py_intern_name(text != NULL ? text : "kernel");
    Py_XDECREF(name);
    if (posix_memalign(&memory, FP_CACHE_LINE, sizeof *kernel->code) != 0)
        return PyErr_NoMemory(), -1;
    kernel->code = memory;
    *kernel->code = (py_code){.fn = kernel->fn, .signature = kernel->signature, .data = kernel->data,
                               .kernel = object, .name = interned};
    return 0;
}
