# _kernel.pxi - kernels and their arrays; part of _core.pyx, for there is one extension module.
#
# Journey: submit -> ring -> worker -> [KERNEL] -> completion. What a user may give as a kernel is sorted out in kernel.py; here
# it is an address and a signature. What is checked before a call is checked here: scalars and arrays.
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.pycapsule cimport (
    PyCapsule_CheckExact, PyCapsule_GetContext, PyCapsule_GetName, PyCapsule_GetPointer, PyCapsule_New,
)

from fastpool._loops cimport *

import numpy as _np

SIGNATURES = {fp_signatures[i].text.decode(): i for i in range(FP_SIGNATURES)}
_DTYPES = {b"d": _np.dtype(_np.float64), b"f": _np.dtype(_np.float32), b"q": _np.dtype(_np.int64)}


@cython.final
cdef class Kernel:
    """A C function of a known signature, with its user data: a job that needs no interpreter. Made by `fastpool.kernel`.

    Attributes
    ----------
    signature : str
        In canonical spelling, such as ``"double (double, void *)"``.
    name : str
        "module:function" where it has one, else a description.
    """
    cdef fp_function fn               # the code
    cdef int signature_id             # its index in fp_signatures
    cdef void *data                   # what its last argument points to; NULL without user data
    cdef object owner                 # keeps the code: capsule, ctypes function, ...
    cdef object data_owner            # keeps the data: memoryview or capsule
    cdef readonly str name
    cdef readonly str signature
    cdef readonly str origin          # "module:function" that brings it back, or None
    cdef readonly tuple dtypes        # of a NumPy inner loop: its inputs' and its output's; else None

    def __init__(self):
        raise TypeError("a Kernel is made by fastpool.kernel()")

    def __call__(self, *args):
        """Run it here and now, on scalars; the GIL is held."""
        cdef fp_scalar[3] scalars
        cdef Py_ssize_t i
        _check_count(self, len(args))
        for i in range(len(args)):
            _convert_scalar(self, i, args[i], &scalars[i])
        cdef fp_scalar result = fp_call_scalar(self.signature_id, self.fn, scalars, self.data)
        if self.signature_id == FP_SIG_STATUS_P and result.i64 != 0:
            raise _errors.NativeJobError(result.i64)
        return _box(self.signature_id, result)

    def __repr__(self):
        return f"<Kernel {self.name}: {self.signature}>"

    def __reduce__(self):
        if self.origin is None or self.data_owner is not None:
            why = "has user data" if self.origin is not None else 'has no "module:function" name'
            raise TypeError(f"cannot pickle {self!r}: it {why}")
        from fastpool.kernel import kernel
        return kernel, (self.origin,)


def make_kernel(address, str signature, owner, data, str name, str origin=None, tuple dtypes=None):
    """Of kernel.py only: a Kernel from an address that it has got from a ctypes or numba object, or from a capsule.

    `data`: None, a capsule, or an object with a buffer. `dtypes`: of an inner loop, and of nothing else.
    """
    cdef Kernel k = Kernel.__new__(Kernel)
    cdef int sid = SIGNATURES[signature]
    if PyCapsule_CheckExact(address):
        k.fn = <fp_function>PyCapsule_GetPointer(address, PyCapsule_GetName(address))
        k.data = PyCapsule_GetContext(address)
    else:
        k.fn = <fp_function><size_t>address
    if k.fn is NULL:
        raise ValueError("obj is a NULL function pointer")
    k.signature_id, k.signature, k.owner, k.name, k.origin, k.dtypes = sid, signature, owner, name, origin, dtypes
    if data is not None:
        _set_data(k, data)
    return k


def rebind_kernel(Kernel k, data):
    """The same function with other user data."""
    cdef Kernel other = Kernel.__new__(Kernel)
    other.fn, other.signature_id, other.signature = k.fn, k.signature_id, k.signature
    other.owner, other.name, other.origin, other.dtypes = k.owner, k.name, k.origin, k.dtypes
    _set_data(other, data)
    return other


cdef int _set_data(Kernel k, data) except -1:
    if not fp_signatures[k.signature_id].has_data:
        raise TypeError(f"data was given, but {k!r} takes no void *")
    if PyCapsule_CheckExact(data):
        k.data = PyCapsule_GetPointer(data, PyCapsule_GetName(data))
        k.data_owner = data
    else:
        k.data_owner = _BufferHold.__new__(_BufferHold)
        k.data = (<_BufferHold>k.data_owner).hold(data)
    return 0


@cython.final
cdef class _BufferHold:
    """Keeps a buffer exported, so that it is neither resized nor freed."""
    cdef Py_buffer view
    cdef bint held

    cdef void *hold(self, data) except? NULL:
        try:
            PyObject_GetBuffer(data, &self.view, PyBUF_SIMPLE)
        except (TypeError, BufferError, ValueError) as error:
            raise TypeError(f"data must be a capsule or have a contiguous buffer, not {type(data).__name__}") from error
        self.held = True
        return self.view.buf

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)


def capsule_signature(capsule):
    """The name of a capsule, which says its C signature; None when it has no name."""
    if not PyCapsule_CheckExact(capsule):
        raise TypeError(f"not a capsule: {type(capsule).__name__}")
    cdef const char *name = PyCapsule_GetName(capsule)
    return None if name is NULL else name.decode()


def is_capsule(obj):
    return PyCapsule_CheckExact(obj)


# ---- scalars ----

cdef struct kernel_call:
    py_native_call base      # first: C sees no more than this
    fp_function fn
    void *data
    int signature_id
    fp_scalar[3] args
    fp_scalar result


cdef int _invoke(py_native_call *base) noexcept nogil:
    cdef kernel_call *call = <kernel_call *>base
    call.result = fp_call_scalar(call.signature_id, call.fn, call.args, call.data)
    return <int>call.result.i64 if call.signature_id == FP_SIG_STATUS_P else 0


cdef object _box(int signature_id, fp_scalar result):
    cdef char kind = fp_signatures[signature_id].type
    if kind == c'd':
        return result.f64
    return result.f32 if kind == c'f' else result.i64


cdef PyObject *_box_call(py_native_call *base) except NULL:
    cdef kernel_call *call = <kernel_call *>base
    result = _box(call.signature_id, call.result)
    Py_INCREF(result)
    return <PyObject *>result


cdef int _check_count(Kernel k, Py_ssize_t count) except -1:
    if k.signature_id == FP_SIG_RANGE or k.signature_id == FP_SIG_INNER:
        method = "parallel_for" if k.signature_id == FP_SIG_RANGE else "map_array"
        raise TypeError(f"{k!r} is no job by itself: it is for {method}()")
    if count != fp_signatures[k.signature_id].inputs:
        raise TypeError(f"{k!r} takes {fp_signatures[k.signature_id].inputs} scalars, got {count}")
    return 0


cdef int _convert_scalar(Kernel k, Py_ssize_t i, value, fp_scalar *scalar) except -1:
    cdef char kind = fp_signatures[k.signature_id].type
    try:
        if kind == c'q':
            scalar.i64 = _operator.index(value)
        elif kind == c'd':
            scalar.f64 = value
        else:
            scalar.f32 = value
    except TypeError:
        wanted = "an integer" if kind == c'q' else "a real number"
        raise TypeError(f"argument {i} of {k!r} must be {wanted}, not {type(value).__name__}") from None
    except OverflowError:
        raise OverflowError(f"argument {i} of {k!r} does not fit: {value!r}") from None
    return 0


cdef py_native_call *_prepare(PyObject *kernel, PyObject *const *args, Py_ssize_t count) except NULL:
    """A call of `kernel` on these scalars; freed with the future."""
    cdef Kernel k = <Kernel><object>kernel
    cdef Py_ssize_t i
    _check_count(k, count)
    cdef kernel_call *call = <kernel_call *>PyMem_RawCalloc(1, sizeof(kernel_call))
    if call is NULL:
        raise MemoryError
    try:
        for i in range(count):
            _convert_scalar(k, i, <object>args[i], &call.args[i])
    except BaseException:
        PyMem_RawFree(call)
        raise
    call.base.invoke, call.base.box = _invoke, _box_call
    call.fn, call.data, call.signature_id = k.fn, k.data, k.signature_id
    return &call.base


# ---- arrays ----

def _as_input(value, dtype, str name):
    """`value` as an aligned native array of `dtype`, by safe casting."""
    array = _np.asarray(value)
    if array.dtype != dtype:
        if not _np.can_cast(array.dtype, dtype, "safe"):
            raise TypeError(f"{name} has dtype {array.dtype}, which does not safely cast to the kernel's {dtype}")
        array = array.astype(dtype)
    return array if array.flags.aligned and array.dtype.isnative else array.astype(dtype)


def _check_out(out, shape, dtype, inputs):
    if not isinstance(out, _np.ndarray):
        raise TypeError(f"out must be a numpy array, not {type(out).__name__}")
    if out.dtype != dtype or not out.dtype.isnative:
        raise TypeError(f"out has dtype {out.dtype}, the kernel's result is {dtype}")
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}, the result has {shape}")
    if not out.flags.writeable:
        raise ValueError("out is read-only")
    if not out.flags.aligned:
        raise ValueError("out is not aligned for its dtype")
    if _overlaps_itself(out):
        raise ValueError("out has elements that share memory (a broadcast array)")
    for i, array in enumerate(inputs):
        same = (array.__array_interface__["data"] == out.__array_interface__["data"] and array.shape == out.shape
                and _steps(array) == _steps(out))
        if not same and _overlap(array, out):
            raise ValueError(f"out overlaps input {i} partly; give the same array, or one apart from it")
    return out


def _steps(array):
    """Its strides, those of single elements being no matter."""
    return [stride for stride, count in zip(array.strides, array.shape) if count > 1]


def _overlaps_itself(array):
    """Whether elements share memory; True too for a few layouts that only could, and that nobody makes."""
    reach = array.itemsize  # bytes that the dimensions so far span
    for stride, count in sorted((abs(stride), count) for stride, count in zip(array.strides, array.shape) if count > 1):
        if stride < reach:
            return True
        reach += stride * (count - 1)
    return False


def _overlap(a, b):
    """Whether two arrays share an element; True too where that is too hard to tell."""
    try:
        return _np.shares_memory(a, b, max_work=1000000)
    except _np.exceptions.TooHardError:
        return True


cdef int _set_operand(fp_elementwise *work, int k, array) except -1:
    """Operand k's address and strides; 0 where it is broadcast."""
    cdef cnp.ndarray a = array
    cdef int d, missing = work.dims - cnp.PyArray_NDIM(a)  # dimensions that the array lacks come first
    work.base[k] = <char *>cnp.PyArray_DATA(a)
    for d in range(work.dims):
        if d < missing or cnp.PyArray_DIM(a, d - missing) == 1:
            work.stride[k][d] = 0
        else:
            work.stride[k][d] = cnp.PyArray_STRIDE(a, d - missing)
    return 0


def submit_array(Core pool, Kernel k, tuple values, out, int64_t grain, bint wait):
    """Queues one job for each element: the future of the output array; or waits, and returns the array."""
    cdef int inputs = fp_signatures[k.signature_id].inputs, i
    cdef bytes kind = bytes([fp_signatures[k.signature_id].type])
    pool_of(pool)
    if kind not in _DTYPES:
        raise TypeError(f"{k!r} is not for arrays: its signature returns a status, not an element")
    if len(values) != inputs:
        raise TypeError(f"{k!r} takes {inputs} arrays, got {len(values)}")
    dtype = _DTYPES[kind]
    arrays = [None] * inputs  # filled in place: Cython 3.3's list comprehensions free an item twice when memory runs out
    for i in range(inputs):
        arrays[i] = _as_input(values[i], dtype, f"input {i}")
    shape = _np.broadcast(*arrays).shape
    out = _np.empty(shape, dtype) if out is None else _check_out(out, shape, dtype, arrays)
    cdef py_array_job *job
    capsule = py_array_job_new(&job)
    job.work.signature, job.work.fn, job.work.data = k.signature_id, k.fn, k.data
    job.work.dims = out.ndim
    for i in range(out.ndim):
        job.work.shape[i] = shape[i]
    for i in range(inputs):
        _set_operand(&job.work, i, arrays[i])
    _set_operand(&job.work, inputs, out)
    future = py_array_submit(pool.core, capsule, (k, arrays), out, out.size, grain)
    if not wait:
        return future
    try:
        return future.result()
    except BaseException:
        py_array_cancel(pool.core, capsule)  # interrupted: what has not begun does not begin any more
        raise


cdef object _job_of(future):
    """The capsule of an array's job; None once its future has ended and let go of it."""
    cdef py_future *record = <py_future *><PyObject *>future
    capsule = None
    with cython.critical_section(future):  # where the future's end takes it, too
        if record.kind == PY_ARRAY and record.fn is not NULL:
            capsule = <object>record.fn
    return capsule


def elements_total(future):
    """How many elements the array of a future of submit_array has; 0 once it has ended without them."""
    capsule = _job_of(future)
    if capsule is not None:
        return (<py_array_job *>PyCapsule_GetPointer(capsule, NULL)).range.n
    return 0 if future.cancelled() or future.exception() is not None else future.result().size


def elements_done(future):
    """How many of them have ended, those counted too that a worker has in hand: a chunk each at most."""
    capsule = _job_of(future)
    if capsule is None:
        return elements_total(future)
    cdef py_array_job *job = <py_array_job *>PyCapsule_GetPointer(capsule, NULL)
    return job.range.n - fp_range_left(&job.range)


def cancel_array(Core pool, future):
    """Lets no further element of a future of submit_array begin."""
    capsule = _job_of(future)
    if capsule is not None:
        py_array_cancel(pool.core, capsule)


# ---- the kernels that come with the package ----

def sample_capsules():
    """Capsules of csrc/fp_kernels.c, by name."""
    return {
        "black_scholes_call": PyCapsule_New(<void *>fp_kernel_black_scholes_call,
                                            "double (double, double, double, void *)", NULL),
        "normal_cdf": PyCapsule_New(<void *>fp_kernel_normal_cdf, "double (double)", NULL),
        "polynomial": PyCapsule_New(<void *>fp_kernel_polynomial, "double (double)", NULL),
        "identity": PyCapsule_New(<void *>fp_kernel_identity, "double (double)", NULL),
        "fail": PyCapsule_New(<void *>fp_kernel_fail, "int (void *)", NULL),
    }
