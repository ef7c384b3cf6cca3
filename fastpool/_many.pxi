# _many.pxi - submit_many of a kernel: the arguments of all calls into arrays; part of _core.pyx.
#
# Journey: [SUBMIT] -> ring -> worker -> kernel -> completion. All arguments are read and converted before anything is queued.
from libc.string cimport memcpy


def submit_many(Core pool, Kernel k, tuple iterables):
    """Queues k(*args) for each args of zip(*iterables): the list of futures."""
    cdef char *columns[FP_MOST_SCALARS]
    cdef int i
    pool_of(pool)
    _check_count(k, len(iterables))
    for i in range(len(iterables)):
        if isinstance(iterables[i], _np.ndarray):
            _check_array(iterables[i], i)
    if all(_is_column(value, k) for value in iterables):
        return _submit_columns(pool, k, iterables)
    if len(iterables) == 1:
        rows, star = list(iterables[0]), False
    else:
        rows, star = list(zip(*iterables)), True
    capsule = py_many_new(pool.view.core, k, len(rows), columns)
    _fill_rows(k, rows, star, columns)
    return py_many_submit(&pool.view, capsule)


cdef int _check_array(array, int i) except -1:
    """Of arrays that NumPy would convert element by element after all, with a warning at most."""
    if is_masked(array):
        raise TypeError(f"iterable {i} is a masked array, and a kernel knows no masks: fill it first")
    if array.ndim != 1:
        raise TypeError(f"iterable {i} must be an array of one dimension, with a number for each job, not of {array.ndim}")
    return 0


cdef bint _is_column(value, Kernel k) except -1:
    """Whether it is an array of numbers that can be taken as they are."""
    return isinstance(value, _np.ndarray) and _np.can_cast(value.dtype, k.operands[0], "safe")


cdef _submit_columns(Core pool, Kernel k, tuple arrays):
    cdef char *columns[FP_MOST_SCALARS]
    cdef int i
    cdef Py_ssize_t calls = min(map(len, arrays))
    cdef void *source
    cdef size_t size
    dtype = k.operands[0]
    ready = [None] * len(arrays)
    for i in range(len(arrays)):
        ready[i] = _np.ascontiguousarray(arrays[i][:calls], dtype)
    capsule = py_many_new(pool.view.core, k, calls, columns)
    for i in range(len(arrays)):
        source, size = cnp.PyArray_DATA(ready[i]), calls * dtype.itemsize
        memcpy(columns[i], source, size)
    return py_many_submit(&pool.view, capsule)


cdef int _fill_rows(Kernel k, list rows, bint star, char **columns) except -1:
    cdef size_t size = fp_signatures[k.signature_id].element_bytes
    cdef Py_ssize_t row
    cdef int i
    cdef fp_scalar scalar
    for row in range(len(rows)):
        values = rows[row] if star else (rows[row],)
        for i in range(len(values)):
            py_scalar_from(<PyObject *>k, i, <PyObject *>values[i], &scalar)
            memcpy(columns[i] + row * size, &scalar, size)
    return 0
