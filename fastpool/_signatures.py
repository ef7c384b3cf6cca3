"""C signatures as text: every spelling of a type brought to one, so that they can be compared."""

from __future__ import annotations

import ctypes
import re
from typing import Any

# Names of signed integers whose size depends on the system: those of 8 bytes are int64_t.
_INTEGERS = {
    "int": ctypes.c_int,
    "int32_t": ctypes.c_int32,
    "npy_int32": ctypes.c_int32,
    "npy_int": ctypes.c_int,
    "long": ctypes.c_long,
    "long long": ctypes.c_longlong,
    "PY_LONG_LONG": ctypes.c_longlong,
    "int64_t": ctypes.c_int64,
    "npy_int64": ctypes.c_int64,
    "npy_longlong": ctypes.c_longlong,
    "intptr_t": ctypes.c_ssize_t,
    "npy_intp": ctypes.c_ssize_t,
    "Py_intptr_t": ctypes.c_ssize_t,
    "ptrdiff_t": ctypes.c_ssize_t,
    "ssize_t": ctypes.c_ssize_t,
    "Py_ssize_t": ctypes.c_ssize_t,
}
_SYNONYMS = {"npy_double": "double", "npy_float64": "double", "npy_float": "float", "npy_float32": "float"}
INNER_LOOP = "void (char **, int64_t const *, int64_t const *, void *)"

_SHAPE = re.compile(r"\s*([^()]*?)\s*\(([^()]*)\)\s*")
_NAME = re.compile(r"[A-Za-z_]\w*")


def _integer(words: list[str]) -> str | None:
    """The one spelling of a signed integer type, or None for what is none."""
    plain = [word for word in words if word != "signed"] or ["int"]
    if "long" in plain or "short" in plain:
        plain = [word for word in plain if word != "int"]
    found = _INTEGERS.get(" ".join(plain))
    if found is None:
        return None
    return "int64_t" if ctypes.sizeof(found) == 8 else "int"


def _type(text: str, *, parameter: bool) -> str:
    """One type, as ``double``, ``double const *`` or ``char **``; ValueError if it is not understood."""
    base, *levels = text.split("*")
    words = _NAME.findall(base)
    constant = "const" in words
    words = [word for word in words if word not in ("const", "volatile")]
    if not words or _NAME.sub("", base).strip():
        raise ValueError(f"{text.strip()!r} is not a type")
    name = _integer(words) or _SYNONYMS.get(words[0], " ".join(words))
    if not levels:
        return name  # a const value is a value
    qualifiers = [" const" if "const" in level else "" for level in levels]
    if parameter:
        qualifiers[-1] = ""  # nor does it matter to the caller whether a pointer argument is itself const
    first = f"{name} const *" if constant else f"{name} *"
    return first + qualifiers[0] + "".join(f"*{qualifier}" for qualifier in qualifiers[1:])


def normalise(text: str) -> str:
    """Bring a signature to its one spelling.

    Parameters
    ----------
    text : str
        Such as ``"double(const double*, void*)"``.

    Returns
    -------
    str
        Such as ``"double (double const *, void *)"``.

    Raises
    ------
    ValueError
        If it is not a C function's signature without argument names.

    Examples
    --------
    >>> normalise("PY_LONG_LONG(long long,void*)")
    'int64_t (int64_t, void *)'
    """
    match = _SHAPE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a C signature such as 'double (double, void *)'")
    try:
        result = _type(match[1], parameter=False)
        inside = match[2].strip()
        arguments = [_type(part, parameter=True) for part in inside.split(",")] if inside not in ("", "void") else []
    except ValueError as error:
        raise ValueError(f"{text!r} is not a C signature: {error}") from None
    return f"{result} ({', '.join(arguments)})"


def _types(signature: str) -> list[str]:
    """The types in a signature's one spelling, the result first, without const."""
    result, _, arguments = signature.replace(" const", "").rstrip(")").partition(" (")
    return [result, *arguments.split(", ")]


def _fits(declared: str, wanted: str, untyped: bool) -> bool:
    """Whether two types are one, or, if `untyped`, both are pointers and one of them does not say to what."""
    if declared == wanted:
        return True
    if not (untyped and declared.endswith("*") and wanted.endswith("*")):
        return False
    pairs = ((declared, wanted), (wanted, declared))
    return any(vague.startswith("void *") and vague.count("*") <= other.count("*") for vague, other in pairs)


def agree(declared: str, wanted: str, *, untyped: bool = False) -> bool:
    """Whether a function whose declaration cannot say const is one of signature `wanted`.

    Parameters
    ----------
    declared, wanted : str
        Signatures in their one spelling.
    untyped : bool, default False
        Whether ``void *`` may stand for another pointer, as in C; ``void **`` for a pointer to a pointer.

    Returns
    -------
    bool

    Examples
    --------
    >>> agree("double (double *, void *)", "double (double const *, void *)")
    True
    >>> agree("int (void *)", "int (char *)"), agree("int (void *)", "int (char *)", untyped=True)
    (False, True)
    """
    one, other = _types(declared), _types(wanted)
    return len(one) == len(other) and all(map(_fits, one, other, [untyped] * len(one)))


_CTYPES: dict[object, str] = {
    ctypes.c_double: "double",
    ctypes.c_float: "float",
    ctypes.c_int: "int",
    ctypes.c_int64: "int64_t",
    ctypes.c_long: "long",
    ctypes.c_longlong: "long long",
    ctypes.c_ssize_t: "ssize_t",
    ctypes.c_void_p: "void *",
    None: "void",
}
# What bytes are called matters only to who reads them: numba's char is c_byte.
_CTYPES_POINTED_TO: dict[object, str] = {ctypes.c_char: "char", ctypes.c_byte: "char", ctypes.c_char_p: "char *"}


def _ctypes_name(declared: Any) -> str | None:
    """How C spells a ctypes type; None for one that no kernel has."""
    if declared is not None and not isinstance(declared, type):
        return None  # a restype may be any callable
    if declared is None or not issubclass(declared, ctypes._Pointer):
        return _CTYPES.get(declared)
    target = getattr(declared, "_type_", object)  # none yet, of a pointer to an incomplete type
    name = _CTYPES_POINTED_TO.get(target) or _ctypes_name(target)
    return None if name is None else f"{name} *"


def of_ctypes(function: Any) -> str | None:
    """The signature that a ctypes function declares, in its one spelling; None if it declares no argument types.

    Raises
    ------
    TypeError
        If it declares a type that no kernel has.
    """
    if function.argtypes is None:
        return None
    names = []
    for declared in (function.restype, *function.argtypes):
        name = _ctypes_name(declared)
        if name is None:
            raise TypeError(f"obj declares the ctypes type {declared!r}, which no kernel has")
        names.append(name)
    return normalise(f"{names[0]} ({', '.join(names[1:])})")
