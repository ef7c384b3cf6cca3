"""The peers that are shared libraries: called through ctypes, which releases the GIL for the call."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import fastpool
from benchmarks.peers import build
from benchmarks.peers.build import Missing
from fastpool.bench.black_scholes import Doubles

Pointer = ctypes.c_void_p
Job = Callable[[int], None]


class Library:
    """One of the shared libraries, by the functions that all have in common."""

    def __init__(self, path: Path) -> None:
        self.functions = ctypes.CDLL(str(path))

    def dispatch(self, name: str, job: int) -> Job:
        """Return a function that runs the job at the address `job` as many times as it is told."""
        function = self.functions[name]
        function.argtypes, function.restype = [Pointer, ctypes.c_int64], None
        return lambda count: function(job, count)

    def map(self, name: str, element: int, x: Doubles, out: Doubles, calls: int) -> Callable[[], None]:
        """Return a function that applies the one at the address `element` to all of `x`, and does so `calls` times."""
        function = self.functions[name]
        function.argtypes = [Pointer, Pointer, Pointer, ctypes.c_int64, ctypes.c_int64]
        function.restype = None
        arguments = (element, x.ctypes.data, out.ctypes.data, len(x), calls)
        return lambda: function(*arguments)


class Work(Library):
    """The jobs and element functions that the peers are given, and the loop on one thread."""

    def address(self, name: str) -> int:
        return ctypes.cast(self.functions[name], Pointer).value or 0

    def kernel(self, name: str) -> fastpool.Kernel:
        """An element function as fastpool takes it: the same pointer as the others get."""
        function = self.functions[name]
        function.argtypes, function.restype = [ctypes.c_double], ctypes.c_double
        return fastpool.kernel(function)

    def inner_loop(self, name: str) -> fastpool.Kernel:
        """A NumPy inner loop as fastpool takes it."""
        function = self.functions[name]
        steps = ctypes.POINTER(ctypes.c_int64)
        function.argtypes, function.restype = [ctypes.POINTER(ctypes.c_char_p), steps, steps, Pointer], None
        return fastpool.kernel(function, dtypes="d->d")

    def take_counts(self) -> tuple[int, int]:
        """How many counting jobs ran since the last call, and the sum of the squares of their numbers, modulo 2**64."""
        jobs, squares = ctypes.c_int64(), ctypes.c_uint64()
        self.functions.work_take_counts(ctypes.byref(jobs), ctypes.byref(squares))
        return jobs.value, squares.value


def tbb_version(tbb: Library) -> str:
    function = tbb.functions.peer_version
    function.restype = ctypes.c_char_p
    version: bytes = function()
    return version.decode()


def load_native_jobs() -> ModuleType:
    """Build and import the extension module that uses fastpool's C API.

    Raises
    ------
    Missing
        If it cannot be built, or this fastpool has no such API.
    """
    get_include = getattr(fastpool, "get_include", lambda: str(build.ROOT / "fastpool" / "include"))
    path = build.native_jobs(get_include())
    spec = importlib.util.spec_from_file_location("native_jobs", path)
    assert spec is not None and spec.loader is not None
    try:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except (ImportError, AttributeError) as error:
        raise Missing(f"fastpool's C API: {error}") from error
    return module
