"""Making a `Kernel` of what people have: a C function in a capsule or of another library, or the name of one."""

from __future__ import annotations

import importlib
from typing import Any

from fastpool import _core, _dtypes, _signatures, _sources
from fastpool._core import Kernel

__all__ = ["Kernel", "kernel"]


def kernel(obj: Any, signature: str | None = None, *, data: Any = None, dtypes: Any = None) -> Kernel:
    """A native job: a C function of a known signature that a pool runs without the interpreter.

    Parameters
    ----------
    obj : PyCapsule, scipy.LowLevelCallable, numba cfunc, ctypes or cffi function, str or Kernel
        A capsule whose name is the C signature (an entry of a Cython module's ``__pyx_capi__``, for one) or SciPy's
        callable, which has one inside; what numba's ``@cfunc`` makes; a ctypes function that declares ``argtypes`` and
        ``restype``; a cffi function pointer: ``lib.f`` of a library opened by ``dlopen``, ``ffi.addressof(lib, "f")`` of a
        compiled one, ``ffi.callback(...)``, ``ffi.cast("double (*)(double)", address)``. Or ``"module:function"``, naming
        one of these in a module that can be imported; or a kernel, to give it other data. Never an int: an address says
        nothing of what is there.
    signature : str, optional
        What `obj` must be; needed where it does not say so itself. Any spelling: ``long long`` and ``int64_t``,
        ``const double *`` and ``double const *`` are the same.
    data : object with a buffer, or PyCapsule, optional
        For the last argument, ``void *``, of each call, in place of a capsule's or a ``LowLevelCallable``'s own. The
        kernel holds it.
    dtypes : str or sequence of dtypes, optional
        What a NumPy inner loop reads and writes, and needed with one: the dtypes of 1 to 7 inputs, then that of the one
        output. A str has a character for each: ``"dd->d"`` or ``"ddd"``.

    Returns
    -------
    Kernel

    Raises
    ------
    TypeError
        If `obj` is something else, declares no signature, or another one than `signature`; if `data` has no contiguous
        buffer, or there is no ``void *`` for it; or if `dtypes` are missing, are no dtypes, or `obj` is no inner loop.
    ValueError
        If `signature`, or the capsule's name, is no C signature, or none that a pool can call (the message lists those);
        if `dtypes` are too few or too many, or one has objects, no size, or another machine's byte order.
    ImportError, AttributeError
        If "module:function" cannot be found.

    Notes
    -----
    Whether a function is safe without the GIL cannot be checked: it must not touch Python objects, and in Cython it should be
    ``noexcept nogil``. What calls back into Python works (a ctypes or cffi callback made of a Python function; a numba cfunc
    that raises, which prints the error and returns something undefined), and is as slow as Python is.

    A capsule's name must be the signature exactly. ctypes, cffi and numba cannot say ``const``, so there it does not matter.
    Where they declare ``void *`` for another pointer, or a typed pointer for the user data's ``void *``, `signature` must
    say what the function is.

    The kernel holds `obj`, and keeps the shared library loaded that the code is in. But a ctypes function made of a bare
    address (such as a cfunc's ``.ctypes``) does not hold the code that another library compiled there: give the cfunc itself.

    What a capsule's name means is SciPy's convention (``scipy.LowLevelCallable``) and Cython's.

    Examples
    --------
    >>> import ctypes, ctypes.util, fastpool
    >>> cosine = ctypes.CDLL(ctypes.util.find_library("m")).cos
    >>> cosine.argtypes, cosine.restype = [ctypes.c_double], ctypes.c_double
    >>> fastpool.kernel(cosine)(0.0)
    1.0

    An inner loop says by `dtypes` what it works on (this one is a callback, and works on nothing):

    >>> import numpy as np
    >>> pointers, steps = ctypes.POINTER(ctypes.c_char_p), ctypes.POINTER(ctypes.c_ssize_t)
    >>> @ctypes.CFUNCTYPE(None, pointers, steps, steps, ctypes.c_void_p)
    ... def nothing(args, dimensions, strides, data):
    ...     pass
    >>> fastpool.kernel(nothing, dtypes="fd->d").dtypes
    (dtype('float32'), dtype('float64'), dtype('float64'))
    """
    if signature is not None and not isinstance(signature, str):
        raise TypeError(f"signature must be a str, not {type(signature).__name__}")
    wanted = None if signature is None else _signatures.normalise(signature)
    if not isinstance(obj, str):
        return _make(obj, None, wanted, data, dtypes)
    found = _by_name(obj)
    if isinstance(found, Kernel) and found.origin != obj:
        found = _core.name_kernel(found, obj)
    return _make(found, obj, wanted, data, dtypes)


def _make(obj: Any, origin: str | None, wanted: str | None, data: Any, dtypes: Any) -> Kernel:
    if isinstance(obj, Kernel):
        return _again(obj, wanted, data, dtypes)
    source = _sources.find(obj)
    if source is None and origin is not None:
        raise TypeError(f"{origin} is no kernel but of type {type(obj).__name__}")
    if source is None:
        raise TypeError(
            "obj must be a PyCapsule named by its C signature, a scipy.LowLevelCallable, a numba cfunc, a ctypes or cffi "
            f"function pointer, or 'module:function', not {type(obj).__name__}"
        )
    signature = _signature_of(source, wanted)
    operands = _dtypes.checked(dtypes, signature)
    return _core.make_kernel(source.address, signature, obj, data, origin or source.name, origin, operands)


def _again(given: Kernel, wanted: str | None, data: Any, dtypes: Any) -> Kernel:
    _signature(given.signature, wanted, given.name)
    if dtypes is not None and _dtypes.checked(dtypes, given.signature) != given.dtypes:
        raise TypeError(f"dtypes of {given.name} are {given.dtypes}, not {dtypes!r}")
    return given if data is None else _core.rebind_kernel(given, data)


def _signature_of(source: _sources.Source, wanted: str | None) -> str:
    """The signature to call `source` by."""
    what = f"obj, a {source.kind},"
    declared = source.declared
    if declared is not None and not source.says_const:
        declared = _with_const(declared, wanted, what)
    return _signature(declared, wanted, what)


def _with_const(declared: str, wanted: str | None, what: str) -> str:
    """The signature meant by a declaration without const: `declared` itself if that is none a pool can call."""
    if wanted is not None:
        return wanted if _signatures.agree(declared, wanted, untyped=True) else declared
    for known in _core.SIGNATURES:
        if _signatures.agree(declared, known):
            return known
    for known in _core.SIGNATURES:
        if _signatures.agree(declared, known, untyped=True):
            raise TypeError(f"{what} is {declared!r}: if it is {known!r}, say so by signature=")
    return declared


def _signature(declared: str | None, wanted: str | None, what: str) -> str:
    """The signature to call by: declared, wanted, or both alike; and one that a pool can call."""
    if declared is None and wanted is None:
        raise TypeError(f"{what} declares no argtypes: set argtypes and restype, or give signature=")
    if declared is not None and wanted is not None and declared != wanted:
        raise TypeError(f"{what} is {declared!r}, not {wanted!r}")
    found = declared or wanted or ""
    if found not in _core.SIGNATURES:
        raise ValueError(f"{what} is {found!r}; a pool can call {', '.join(_core.SIGNATURES)}")
    return found


def _by_name(name: str) -> Any:
    """What "module:function" names, be it a kernel or not."""
    module_name, colon, function = name.partition(":")
    if not (colon and module_name and function):
        raise ValueError(f"obj must be 'module:function', got {name!r}")
    module = importlib.import_module(module_name)
    capsules = getattr(module, "__pyx_capi__", {})
    return capsules[function] if function in capsules else getattr(module, function)
