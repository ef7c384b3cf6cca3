# _kernel.pxi - kernels and their arrays; part of _core.pyx, for there is one extension module.
#
# Journey: submit -> ring -> worker -> [KERNEL] -> completion. What a user may give as a kernel is sorted out in kernel.py; here
# it is an address and a signature. What is checked before a call is checked here: scalars and arrays.
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.pycapsule cimport (
    PyCapsule_CheckExact, PyCapsule_GetContext, PyCapsule_GetName, PyCapsule_GetPointer, PyCapsule_New,
)

from fastpool._loops cimport *

import functools as _functools

import numpy as _np

cdef extern from *:
    """
    enum {
        OFFSETOF_KERNEL_FN = offsetof(py_kernel_object, fn),
        OFFSETOF_KERNEL_SIGNATURE = offsetof(py_kernel_object, signature),
        OFFSETOF_KERNEL_DATA = offsetof(py_kernel_object, data),
        OFFSETOF_KERNEL_CODE = offsetof(py_kernel_object, code),
    };
    """
    Py_ssize_t offsetof_kernel_fn "OFFSETOF_KERNEL_FN"
    Py_ssize_t offsetof_kernel_signature "OFFSETOF_KERNEL_SIGNATURE"
    Py_ssize_t offsetof_kernel_data "OFFSETOF_KERNEL_DATA"
    Py_ssize_t offsetof_kernel_code "OFFSETOF_KERNEL_CODE"

SIGNATURES = {fp_signatures[i].text.decode(): i for i in range(FP_SIGNATURES)}
_DTYPES = {"d": _np.dtype(_np.float64), "f": _np.dtype(_np.float32), "q": _np.dtype(_np.int64)}
# Of the arrays, and of the result as the last, that a kernel of each signature is called with; None: it is not for arrays.
_OPERANDS = [(_DTYPES[chr(fp_signatures[i].type)],) * (fp_signatures[i].inputs + 1) if chr(fp_signatures[i].type) in _DTYPES
             else None for i in range(FP_SIGNATURES)]


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
    cdef fp_function fn               # the code; these four first, for C reads them there: py_kernel_object
    cdef int signature_id             # its index in fp_signatures
    cdef void *data                   # what its last argument points to; NULL without user data
    cdef void *code                   # the three once more, made by py_kernel_publish
    cdef int64_t job_ps               # what an element took the last time (fp_parallel.h); 0: unknown. C's alone, and atomic
    cdef object owner                 # keeps the code: capsule, ctypes function, ...
    cdef object library               # keeps the shared library that the code is in
    cdef object data_owner            # keeps the data: memoryview or capsule
    cdef bint data_is_named           # whether `origin` brings back the data too
    cdef readonly str name
    cdef readonly str signature
    cdef readonly str origin          # "module:function" that brings it back, or None
    cdef readonly tuple dtypes        # of a NumPy inner loop: its inputs' and its output's; else None
    cdef tuple operands               # the same of every kernel that is for arrays

    def __dealloc__(self):
        free(self.code)

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
        return py_scalar_box(fp_signatures[self.signature_id].type, result)

    def __repr__(self):
        return f"<Kernel {self.name}: {self.signature}>"

    def __reduce__(self):
        if self.origin is None:
            raise TypeError(f'cannot pickle {self!r}: it has no "module:function" name')
        if self.data_owner is not None and not self.data_is_named:
            raise TypeError(f"cannot pickle {self!r}: it has user data")
        from fastpool.kernel import kernel
        # The signature goes with the name: some functions declare none, and elsewhere the name may mean another function.
        again = kernel if self.dtypes is None else _functools.partial(kernel, dtypes=self.dtypes)
        return again, (self.origin, self.signature)


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
    k.operands = dtypes if sid == FP_SIG_INNER else _OPERANDS[sid]
    k.library = _LibraryHold.__new__(_LibraryHold)
    (<_LibraryHold>k.library).hold(<void *>k.fn)
    if data is not None:
        _set_data(k, data)
    py_kernel_publish(k)
    return k


cdef Kernel _copy(Kernel k):
    cdef Kernel other = Kernel.__new__(Kernel)
    other.fn, other.signature_id, other.signature = k.fn, k.signature_id, k.signature
    other.owner, other.library, other.name, other.origin = k.owner, k.library, k.name, k.origin
    other.dtypes, other.operands = k.dtypes, k.operands
    other.data, other.data_owner, other.data_is_named = k.data, k.data_owner, k.data_is_named
    return other


def rebind_kernel(Kernel k, data):
    """The same function with other user data."""
    other = _copy(k)
    _set_data(other, data)
    py_kernel_publish(other)
    return other


def name_kernel(Kernel k, str origin):
    """The same function and data, found as "module:function", which brings back both."""
    other = _copy(k)
    other.name, other.origin, other.data_is_named = origin, origin, True
    py_kernel_publish(other)
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
    k.data_is_named = False
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
        if isinstance(value, _np.complexfloating):
            raise TypeError  # it has a __float__, which warns and drops the imaginary part
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


# For C: see _native.c.
cdef int _refuse(PyObject *kernel, Py_ssize_t count) except -1:
    _check_count(<Kernel><object>kernel, count)
    raise SystemError("a kernel was refused for no reason")


cdef int _convert(PyObject *kernel, Py_ssize_t i, PyObject *value, fp_scalar *scalar) except -1:
    return _convert_scalar(<Kernel><object>kernel, i, <object>value, scalar)


cdef int _check_layout() except -1:
    cdef Kernel k = Kernel.__new__(Kernel)
    if (<char *>&k.fn - <char *><PyObject *>k != offsetof_kernel_fn or
            <char *>&k.signature_id - <char *><PyObject *>k != offsetof_kernel_signature or
            <char *>&k.data - <char *><PyObject *>k != offsetof_kernel_data or
            <char *>&k.code - <char *><PyObject *>k != offsetof_kernel_code):
        raise ImportError("fastpool: Kernel is not laid out as _bridge.h says")
    return 0


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
