"""Making a `Kernel` of what people have: a capsule, a ctypes function, the name of one of them."""

from __future__ import annotations

import ctypes
import importlib
from typing import Any

from fastpool import _core, _signatures
from fastpool._core import Kernel

__all__ = ["Kernel", "kernel"]

_CFuncPtr = ctypes._CFuncPtr  # type: ignore[attr-defined]  # the base of all ctypes function types; it has no public name

_PYTHON_API = 4  # ctypes' FUNCFLAG_PYTHONAPI


def kernel(obj: Any, signature: str | None = None, *, data: Any = None) -> Kernel:
    """A native job: a C function of a known signature that a pool runs without the interpreter.

    Parameters
    ----------
    obj : PyCapsule, ctypes function, str or Kernel
        A capsule whose name is the C signature (an entry of a Cython module's ``__pyx_capi__``, for one); a ctypes
        function that declares ``argtypes`` and ``restype``; ``"module:function"``, naming one of these in a module that can
        be imported; or a kernel, to give it other data. Never an int: an address says nothing of what is there.
    signature : str, optional
        What `obj` must be; needed where it does not say so itself. Any spelling: ``long long`` and ``int64_t``,
        ``const double *`` and ``double const *`` are the same.
    data : object with a buffer, or PyCapsule, optional
        For the last argument, ``void *``, of each call. The kernel holds it.

    Returns
    -------
    Kernel

    Raises
    ------
    TypeError
        If `obj` is something else, declares no signature, or another one than `signature`; or if `data` has no
        contiguous buffer, or there is no ``void *`` for it.
    ValueError
        If `signature`, or the capsule's name, is no C signature, or none that a pool can call; the message lists those.
    ImportError, AttributeError
        If "module:function" cannot be found.

    Notes
    -----
    Whether a function is safe without the GIL cannot be checked: it must not touch Python objects, and in Cython it should be
    ``noexcept nogil``. A ctypes callback made of a Python function works, and is as slow as Python is.
    What a capsule's name means is SciPy's convention (``scipy.LowLevelCallable``) and Cython's.

    Examples
    --------
    >>> import ctypes, ctypes.util, fastpool
    >>> cosine = ctypes.CDLL(ctypes.util.find_library("m")).cos
    >>> cosine.argtypes, cosine.restype = [ctypes.c_double], ctypes.c_double
    >>> fastpool.kernel(cosine)(0.0)
    1.0
    """
    if signature is not None and not isinstance(signature, str):
        raise TypeError(f"signature must be a str, not {type(signature).__name__}")
    wanted = None if signature is None else _signatures.normalise(signature)
    if isinstance(obj, str):
        return _by_name(obj, wanted, data)
    return _make(obj, wanted, data, None)


def _make(obj: Any, wanted: str | None, data: Any, origin: str | None) -> Kernel:
    if isinstance(obj, Kernel):
        _checked(obj.signature, wanted, obj.name)
        return obj if data is None else _core.rebind_kernel(obj, data)
    if _core.is_capsule(obj):
        name = _core.capsule_signature(obj)
        if name is None:
            raise TypeError("obj is a capsule without a name, and its name must be the C signature")
        declared = _checked(_signatures.normalise(name), wanted, "obj, a capsule,")
        return _core.make_kernel(obj, declared, obj, data, origin or f"capsule {name!r}", origin)
    if isinstance(obj, _CFuncPtr):
        if obj._flags_ & _PYTHON_API:
            raise TypeError("obj is a function of a ctypes.PyDLL, which needs the GIL: a kernel runs without it")
        declared = _checked(_signatures.of_ctypes(obj), wanted, "obj, a ctypes function,")
        address = ctypes.cast(obj, ctypes.c_void_p).value or 0
        name = getattr(obj, "__name__", None)
        return _core.make_kernel(
            address, declared, obj, data, origin or f"ctypes function {name or hex(address)}", origin
        )
    raise TypeError(
        f"obj must be a PyCapsule named by its C signature, a ctypes function or 'module:function', not {type(obj).__name__}"
    )


def _checked(declared: str | None, wanted: str | None, what: str) -> str:
    """The signature to call by: declared, wanted, or both alike; and one that a pool can call."""
    if declared is None and wanted is None:
        raise TypeError(f"{what} declares no argtypes: set argtypes and restype, or give signature=")
    if declared is not None and wanted is not None and declared != wanted:
        raise TypeError(f"{what} is {declared!r}, not {wanted!r}")
    found = declared or wanted or ""
    if found not in _core.SIGNATURES:
        raise ValueError(f"{what} is {found!r}; a pool can call {', '.join(_core.SIGNATURES)}")
    return found


def _by_name(name: str, wanted: str | None, data: Any) -> Kernel:
    module_name, colon, function = name.partition(":")
    if not (colon and module_name and function):
        raise ValueError(f"obj must be 'module:function', got {name!r}")
    module = importlib.import_module(module_name)
    capsules = getattr(module, "__pyx_capi__", {})
    found = capsules[function] if function in capsules else getattr(module, function)
    if not (isinstance(found, (Kernel, _CFuncPtr)) or _core.is_capsule(found)):
        raise TypeError(f"{name} is no kernel but of type {type(found).__name__}")
    return _make(found, wanted, data, name)
