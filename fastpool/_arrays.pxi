# _arrays.pxi - the arrays of a native job: what they may be, and how the workers find their elements; part of _core.pyx.
#
# Journey: [SUBMIT] -> ring -> worker -> kernel -> completion. All that can be wrong with the arrays is found here, before
# anything runs. Inputs of another type stay as they are: the workers convert them, a piece at a time (csrc/fp_cast.h).
import sys as _sys

cdef dict _TYPES = {
    "?": FP_BOOL, "i1": FP_I8, "u1": FP_U8, "i2": FP_I16, "u2": FP_U16, "i4": FP_I32, "u4": FP_U32, "i8": FP_I64, "u8": FP_U64,
    "f2": FP_F16, "f4": FP_F32, "f8": FP_F64, "c8": FP_C64, "c16": FP_C128,
}
cdef dict _CASTABLE = {_np.dtype(name): number for name, number in _TYPES.items()}


def is_masked(value):
    """Whether it is a masked array. Without importing numpy.ma, which NumPy itself does on first use only."""
    masked = getattr(_sys.modules.get("numpy.ma"), "MaskedArray", None)
    return masked is not None and isinstance(value, masked)


def _as_input(value, dtype, int i):
    """Input i, `value`, as an array whose elements the workers can read, or convert to `dtype`."""
    if cnp.PyArray_CheckExact(value) and _is_ready(value, dtype):
        return value
    name = f"input {i}"
    if is_masked(value):
        raise TypeError(f"{name} is a masked array, and a kernel knows no masks: fill it first")
    if type(value) in (bool, int, float, complex):
        return _weak_scalar(value, dtype, name)
    array = _np.asarray(value)
    if array.dtype != dtype and not _np.can_cast(array.dtype, dtype, "safe"):
        raise TypeError(f"{name} has dtype {array.dtype}, which does not safely cast to the kernel's {dtype}")
    if not _is_ready(array, dtype) and _find_cast(array, dtype) is NULL:
        raise TypeError(f"{name} has dtype {array.dtype}, not aligned or not the kernel's {dtype}, and workers have no cast "
                        "for that: convert it first")
    return array


def _weak_scalar(value, dtype, str name):
    """A number of Python's has no dtype: it takes the kernel's, as in NumPy 2, if that is of a kind that can hold it."""
    kinds = {bool: "bifc", int: "ifc", float: "fc", complex: "c"}[type(value)]
    if dtype.kind not in kinds and not (dtype.kind == "u" and type(value) is not float and value >= 0):
        raise TypeError(f"{name} is of type {type(value).__name__}, which does not safely cast to the kernel's {dtype}")
    try:
        return _np.asarray(value, dtype)
    except OverflowError:
        raise OverflowError(f"{name} does not fit the kernel's {dtype}: {value!r}") from None


cdef bint _is_ready(cnp.ndarray array, dtype) except -1:
    """Whether workers can read it in place."""
    cdef bint same = <PyObject *>cnp.PyArray_DESCR(array) is <PyObject *>dtype
    return cnp.PyArray_ISALIGNED(array) and cnp.PyArray_ISNOTSWAPPED(array) and (same or array.dtype == dtype)


cdef fp_cast _find_cast(cnp.ndarray array, dtype) except? NULL:
    source, target = _CASTABLE.get(array.dtype.newbyteorder("=")), _CASTABLE.get(dtype)
    if source is None or target is None:
        return NULL
    return fp_cast_find(source, target, not cnp.PyArray_ISNOTSWAPPED(array))


def _check_out(out, shape, dtype, inputs):
    if not isinstance(out, _np.ndarray):
        raise TypeError(f"out must be a numpy array, not {type(out).__name__}")
    if is_masked(out):
        raise TypeError("out is a masked array, and a kernel knows no masks: give its data")
    if not _is_ready(out, dtype):
        if out.dtype != dtype or not out.dtype.isnative:
            raise TypeError(f"out has dtype {out.dtype}, the kernel's result is {dtype}")
        raise ValueError("out is not aligned for its dtype")
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}, the result has {shape}")
    if not cnp.PyArray_ISWRITEABLE(out):
        raise ValueError("out is read-only")
    if not cnp.PyArray_IS_C_CONTIGUOUS(out) and _overlaps_itself(out):
        raise ValueError("out has elements that share memory (a broadcast array)")
    for i, array in enumerate(inputs):
        if array is not out and not _is_apart(array, out) and not _is_same(array, out) and _overlap(array, out):
            raise ValueError(f"out overlaps input {i} partly; give the same array, or one apart from it")
    return out


cdef bint _is_plain(list arrays, out, dtype) except -1:
    """True where nothing can be wrong: `out` and inputs have one shape and no gaps, and each input is `out` or apart from it.

    _check_out looks at all that may be; this at what mostly is, without asking Python for anything.
    """
    if not (cnp.PyArray_CheckExact(out) and _is_ready(out, dtype) and cnp.PyArray_ISWRITEABLE(out)
            and cnp.PyArray_IS_C_CONTIGUOUS(out)):
        return False
    for array in arrays:
        if not cnp.PyArray_SAMESHAPE(array, out) or (array is not out and not _is_apart(array, out)):
            return False
    return True


cdef bint _is_apart(cnp.ndarray array, cnp.ndarray out) noexcept:
    """True where two arrays without gaps are plainly apart; the common case, and no answer in others."""
    cdef char *a = <char *>cnp.PyArray_DATA(array)
    cdef char *b = <char *>cnp.PyArray_DATA(out)
    if not (cnp.PyArray_IS_C_CONTIGUOUS(array) and cnp.PyArray_IS_C_CONTIGUOUS(out)):
        return False
    return a + cnp.PyArray_NBYTES(array) <= b or b + cnp.PyArray_NBYTES(out) <= a


def _is_same(array, out):
    """Whether each element of `array` lies within that of `out` which takes its place."""
    return (array.__array_interface__["data"][0] == out.__array_interface__["data"][0] and array.shape == out.shape
            and _steps(array) == _steps(out) and array.itemsize <= out.itemsize)


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


cdef tuple _common_shape(list arrays):
    """The shape that the arrays broadcast to; quickly where they have it already."""
    shape = arrays[0].shape
    for array in arrays[1:]:
        if array.shape != shape:
            return _np.broadcast(*arrays).shape
    return shape


cdef int _set_operand(fp_elementwise *work, int k, cnp.ndarray array, dtype) except -1:
    """Operand k: its address and strides, 0 where it is broadcast; and how it becomes `dtype`."""
    cdef int d, missing = work.dims - cnp.PyArray_NDIM(array)  # dimensions that the array lacks come first
    work.base[k] = <char *>cnp.PyArray_DATA(array)
    work.operand_bytes[k] = dtype.itemsize
    work.cast[k] = NULL if _is_ready(array, dtype) else _find_cast(array, dtype)
    for d in range(work.dims):
        if d < missing or cnp.PyArray_DIM(array, d - missing) == 1:
            work.stride[k][d] = 0
        else:
            work.stride[k][d] = cnp.PyArray_STRIDE(array, d - missing)
    return 0


cdef int _fill(py_array_job *job, Kernel k, list arrays, cnp.ndarray out) except -1:
    cdef int i, inputs = len(arrays)
    job.job_ps, job.name = &k.job_ps, py_kernel_name(k)
    job.work.signature, job.work.fn, job.work.data, job.work.inputs = k.signature_id, k.fn, k.data, inputs
    job.work.dims = cnp.PyArray_NDIM(out)
    for i in range(job.work.dims):
        job.work.shape[i] = cnp.PyArray_DIM(out, i)
    for i in range(inputs):
        _set_operand(&job.work, i, arrays[i], k.operands[i])
    return _set_operand(&job.work, inputs, out, k.operands[inputs])


def submit_array(Core pool, Kernel k, tuple values, out, int64_t grain, bint wait):
    """Queues one job for each element: the future of the output array; or waits, and returns the array."""
    cdef py_array_job *job
    cdef int i, inputs
    pool_of(pool)
    if k.operands is None:
        raise TypeError(f"{k!r} is not for arrays: its signature returns a status, not an element")
    inputs = len(k.operands) - 1
    if len(values) != inputs:
        raise TypeError(f"{k!r} takes {inputs} arrays, got {len(values)}")
    arrays = [None] * inputs  # filled in place: Cython 3.3's list comprehensions free an item twice when memory runs out
    for i in range(inputs):
        arrays[i] = _as_input(values[i], k.operands[i], i)
    dtype = k.operands[inputs]
    if out is None:
        out = _np.empty(_common_shape(arrays), dtype)
    elif not _is_plain(arrays, out, dtype):
        out = _check_out(out, _common_shape(arrays), dtype, arrays)
    capsule = py_array_job_new(&job)
    _fill(job, k, arrays, out)
    if wait:
        return py_array_run(&pool.view, capsule, (k, arrays), out, out.size, grain)
    return py_array_submit(&pool.view, capsule, (k, arrays), out, out.size, grain)


def run_range(Core pool, Kernel k, int64_t n, data, int64_t grain):
    """k(begin, end, data) over pieces of 0 .. n."""
    cdef py_array_job *job
    cdef Kernel bound
    pool_of(pool)
    if k.signature_id != FP_SIG_RANGE:
        raise TypeError(f"kernel must have the signature {fp_signatures[FP_SIG_RANGE].text.decode()!r}, not {k.signature!r}")
    bound = k if data is None else rebind_kernel(k, data)
    capsule = py_array_job_new(&job)
    job.range, job.data, job.job_ps = <int (*)(int64_t, int64_t, void *) noexcept nogil>k.fn, bound.data, &k.job_ps
    job.name = py_kernel_name(k)
    py_array_run(&pool.view, capsule, (k, bound), None, n, grain)


def elements_total(future):
    """How many elements the array of a future of submit_array has; 0 once it has ended without them."""
    cdef int64_t started, total
    if py_array_progress(<py_future *><PyObject *>future, &started, &total):
        return total
    return 0 if future.cancelled() or future.exception() is not None else future.result().size


def elements_done(future):
    """How many of them have ended, those counted too that a thread has in hand: a piece each at most."""
    cdef int64_t started, total
    if py_array_progress(<py_future *><PyObject *>future, &started, &total):
        return started
    return elements_total(future)
