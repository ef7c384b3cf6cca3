"""What a C function can come in: capsules, SciPy's callables, numba's cfuncs, pointers of ctypes and cffi.

SciPy, numba and cffi are never imported here: who has an object of theirs has imported them.
"""

from __future__ import annotations

import ctypes
import sys
import types
from typing import Any, NamedTuple

from fastpool import _core, _signatures

_CFuncPtr = ctypes._CFuncPtr  # type: ignore[attr-defined]  # the base of all ctypes function types; it has no public name

_PYTHON_API = 4  # ctypes' FUNCFLAG_PYTHONAPI


class Source(NamedTuple):
    """A C function, as found in what the user gave."""

    address: Any  # an int, or a capsule, whose context is then the user data
    declared: str | None  # its signature in its one spelling; None if it says nothing
    says_const: bool  # whether the declaration could have said const
    kind: str  # for messages: "ctypes function"
    name: str  # of the kernel, when it has no "module:function"


def find(obj: Any) -> Source | None:
    """The C function in `obj`, of which the caller keeps `obj` as the owner; None if there is none.

    Raises
    ------
    TypeError
        If there is one, but it cannot be called as a kernel, or its types cannot be told.
    ValueError
        If a capsule's name is no C signature.
    """
    if _core.is_capsule(obj):
        return _capsule(obj)
    if isinstance(obj, _CFuncPtr):
        return _ctypes_function(obj)
    if _is_of(obj, "numba.core.ccallback", "CFunc"):
        return _numba_cfunc(obj)
    if _is_of(obj, "scipy", "LowLevelCallable"):
        return _scipy_callable(obj)
    if _is_of(obj, "_cffi_backend", "FFI", "CData"):
        return _cffi_pointer(obj)
    if isinstance(obj, types.BuiltinFunctionType) and _is_of(obj.__self__, "_cffi_backend", "Lib"):
        raise TypeError(
            f"obj is a Python function round a C function of cffi: give its pointer, ffi.addressof(lib, {obj.__name__!r})"
        )
    return None


def _is_of(obj: Any, module: str, *path: str) -> bool:
    """Whether `obj` is an instance of a class of a library that somebody has imported."""
    found: Any = sys.modules.get(module)
    for attribute in path:
        found = getattr(found, attribute, None)
    return isinstance(found, type) and isinstance(obj, found)


def _capsule(obj: Any) -> Source:
    name = _core.capsule_signature(obj)
    if name is None:
        raise TypeError("obj is a capsule without a name, and its name must be the C signature")
    return Source(obj, _signatures.normalise(name), True, "capsule", f"capsule {name!r}")


def _ctypes_function(obj: Any) -> Source:
    if obj._flags_ & _PYTHON_API:
        raise TypeError("obj is a function of a ctypes.PyDLL, which needs the GIL: a kernel runs without it")
    address = ctypes.cast(obj, ctypes.c_void_p).value or 0
    name = getattr(obj, "__name__", None) or hex(address)
    return Source(address, _signatures.of_ctypes(obj), False, "ctypes function", f"ctypes function {name}")


def _numba_cfunc(obj: Any) -> Source:
    try:
        function = obj.ctypes
    except (TypeError, NotImplementedError) as error:
        raise TypeError(f"obj, a numba cfunc, must have types that ctypes has, pointers as voidptr: {error}") from error
    return Source(obj.address, _signatures.of_ctypes(function), False, "numba cfunc", f"numba cfunc {obj.__name__}")


def _scipy_callable(obj: Any) -> Source:
    """A LowLevelCallable is a tuple: a capsule, made by SciPy; the function it was made of; the user data."""
    found = _capsule(tuple.__getitem__(obj, 0))
    function = obj
    while _is_of(function, "scipy", "LowLevelCallable"):  # one can be made of another
        function = tuple.__getitem__(function, 1)
    # Of a ctypes or cffi function SciPy has made up the name, from types without const.
    says_const = _core.is_capsule(function)
    return found._replace(says_const=says_const, kind="LowLevelCallable", name=f"LowLevelCallable {found.declared!r}")


def _cffi_pointer(obj: Any) -> Source:
    backend: Any = sys.modules["_cffi_backend"]
    ctype = backend.typeof(obj)
    if ctype.kind != "function":
        raise TypeError(f"obj must be a cffi function pointer, such as 'double(*)(double)', not a cffi {ctype.cname!r}")
    if ctype.ellipsis:
        raise TypeError(f"obj must be a cffi function of a fixed number of arguments, not {ctype.cname!r}")
    try:
        declared = _signatures.normalise(f"{ctype.result.cname} ({', '.join(one.cname for one in ctype.args)})")
    except ValueError:
        raise TypeError(f"obj declares the cffi type {ctype.cname!r}, which no kernel has") from None
    address = int(backend.FFI().cast("uintptr_t", obj))
    return Source(address, declared, False, "cffi function", f"cffi function {hex(address)}")
