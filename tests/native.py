"""The kernels of native.c, compiled on the spot, and capsules of them."""

from __future__ import annotations

import atexit
import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pytest
from support import WAIT

import fastpool
from fastpool import _signatures

# Where an isolated script finds what its parent has compiled.
VARIABLE = "FASTPOOL_TEST_LIBRARY"

_new = ctypes.pythonapi.PyCapsule_New
_new.restype, _new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_set_context = ctypes.pythonapi.PyCapsule_SetContext
_set_context.restype, _set_context.argtypes = ctypes.c_int, [ctypes.py_object, ctypes.c_void_p]
_names: list[bytes | None] = []  # a capsule points to its name

SCALARS = {"double": (ctypes.c_double, "d"), "float": (ctypes.c_float, "f"), "int64_t": (ctypes.c_int64, "q")}


def needs_compiler() -> str:
    """The path of the C compiler; skips the test where there is none."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler on this machine")
    return compiler


def compile_library(source: Path, name: str, *options: str) -> str:
    """The path of `source` as a shared library; skips the test where there is no compiler."""
    compiler = needs_compiler()
    folder = tempfile.mkdtemp(prefix="fastpool-test-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = os.path.join(folder, name)
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", path, str(source), "-ldl", *options], check=True)
    return path


@functools.cache
def library_path() -> str:
    return os.environ.get(VARIABLE) or compile_library(Path(__file__).with_name("native.c"), "native.so")


@functools.cache
def library() -> ctypes.CDLL:
    return ctypes.CDLL(library_path())


def address(function: str) -> int:
    return ctypes.cast(library()[function], ctypes.c_void_p).value or 0


def capsule(function: str, name: str | None, context: int | None = None) -> Any:
    """A capsule of a function of native.c."""
    return capsule_of(address(function), name, context)


def capsule_of(pointer: int, name: str | None, context: int | None = None) -> Any:
    _names.append(None if name is None else name.encode())
    made = _new(pointer, _names[-1], None)
    _set_context(made, context)
    return made


def function_name(signature: str) -> str:
    """The function of native.c that has `signature`: d2p is ``double (double, double, void *)``."""
    result, _, arguments = signature.partition(" (")
    types = arguments.rstrip(")").split(", ")
    if result == "int":
        return "status"
    return SCALARS[result][1] + str(types.count(result)) + ("p" if types[-1] == "void *" else "")


def expected(scalars: list[Any], data: Any = 0) -> Any:
    """What a function of native.c gives, in Python's arithmetic."""
    if len(scalars) == 1 and data is None:
        return 3 * scalars[0] + 1
    return sum(weight * x for weight, x in zip((1, -2, 8), scalars, strict=False)) + 4 * (data or 0)


class Told:
    """`kernel` spins until this block ends; the block ends only once it does. It gives up with status 1 after some seconds.

    So its success shows that the interpreter was released all the while: otherwise nobody could have ended the block.
    """

    def __init__(self) -> None:
        self._words = np.zeros(2, np.intc)
        self.kernel = fastpool.kernel(capsule("until_told", "int (void *)"), data=self._words)
        self.element = fastpool.kernel(capsule("until_told_element", "double (double, void *)"), data=self._words)

    def __enter__(self) -> Told:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            deadline = time.monotonic() + WAIT
            while self._words[0] == 0 and kind is None:
                assert time.monotonic() < deadline, "the kernel did not start"
        finally:
            self._words[1] = 1


@functools.cache
def _loops() -> ctypes.CDLL:
    return ctypes.CDLL(compile_library(Path(__file__).with_name("native_loops.c"), "native_loops.so"))


def loop(function: str) -> Any:
    """A capsule of a NumPy inner loop in native_loops.c."""
    pointer = ctypes.cast(_loops()[function], ctypes.c_void_p).value or 0
    return capsule_of(pointer, _signatures.INNER_LOOP)
