"""fastpool.h through ctypes: capi.c compiled on the spot, each function with the GIL let go of (`free`) or held (`held`)."""

from __future__ import annotations

import ctypes
import functools
import os
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import native
import numpy as np

import fastpool

# Where an isolated script finds what its parent has compiled.
VARIABLE = "FASTPOOL_TEST_CAPI"

(OK, FAILED, CANCELLED, TIMED_OUT, FULL, CLOSED, BROKEN, FORKED, NO_THREAD, NO_MEMORY, INTERRUPTED, INVALID) = range(12)
FOREVER = 2**63 - 1
JOBS_A_PLACE = 128

JOB = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
RANGE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)


class CMetrics(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint64)
        for name in [
            "workers",
            "active_workers",
            "queue_depth",
            "queue_capacity",
            "jobs_submitted",
            "jobs_processed",
            "jobs_failed",
            "jobs_cancelled",
            "jobs_timed_out",
            "jobs_rejected",
        ]
    ]


class Nested(ctypes.Structure):
    _fields_ = [("pool", ctypes.c_void_p)] + [(name, ctypes.c_int64) for name in ("n", "way", "value", "result")]


class Visitor(ctypes.Structure):
    _fields_ = [("pool", ctypes.c_void_p), ("counts", ctypes.c_void_p), ("result", ctypes.c_int64)]


class Note(ctypes.Structure):
    _fields_ = [("number", ctypes.c_int64), ("next", ctypes.c_void_p), ("order", ctypes.c_void_p)]


_POINTER, _NUMBER, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
_TYPES = {
    "capi_group_new": (_POINTER, [_POINTER]),
    "capi_group_free": (None, [_POINTER]),
    "capi_submit": (_INT, [_POINTER, _POINTER, _POINTER]),
    "capi_submit_batch": (_INT, [_POINTER, _POINTER, _POINTER, _NUMBER, _NUMBER]),
    "capi_submit_range": (_INT, [_POINTER, _POINTER, _NUMBER, _POINTER, _NUMBER]),
    "capi_parallel_for": (_INT, [_POINTER, _POINTER, _NUMBER, _POINTER, _NUMBER]),
    "capi_wait": (_INT, [_POINTER, _NUMBER]),
    "capi_cancel": (None, [_POINTER]),
    "capi_cancelled": (_INT, [_POINTER]),
    "capi_status": (_INT, [_POINTER, _POINTER]),
    "capi_read_metrics": (_INT, [_POINTER, _POINTER]),
    "in_foreign_threads": (_INT, [_POINTER, _NUMBER]),
}


def include_flags(*first: str) -> list[str]:
    return [f"-I{folder}" for folder in (*first, fastpool.get_include(), sysconfig.get_paths()["include"])]


def compile_library(name: str = "capi.so", *flags: str) -> str:
    return native.compile_library(Path(__file__).with_name("capi.c"), name, "-pthread", *flags, *include_flags())


@functools.cache
def library_path() -> str:
    return os.environ.get(VARIABLE) or compile_library()


def load(kind: Callable[[str], ctypes.CDLL], path: str) -> ctypes.CDLL:
    library = kind(path)
    for name, (result, arguments) in _TYPES.items():
        function = library[name]
        function.restype, function.argtypes = result, arguments
        setattr(library, name, function)
    return library


@functools.cache
def held() -> ctypes.CDLL:
    """Calls keep the GIL, and exceptions come through."""
    library = load(ctypes.PyDLL, library_path())
    library.capi_from_object.restype, library.capi_from_object.argtypes = _POINTER, [ctypes.py_object]
    library.capi_import()
    return library


@functools.cache
def free() -> ctypes.CDLL:
    """Calls let go of the GIL."""
    held()  # imports fastpool's table, of which there is one a file
    return load(ctypes.CDLL, library_path())


def pool_of(pool: fastpool.Pool) -> int:
    return held().capi_from_object(pool)


def function(name: str) -> int:
    """The address of a job of capi.c."""
    return ctypes.cast(held()[name], ctypes.c_void_p).value or 0


def kernel(name: str, signature: str, data: Any) -> Any:
    """A kernel of a function of capi.c."""
    held()  # imports fastpool's table
    return fastpool.kernel(native.capsule_of(function(name), signature), data=data)


def address(arg: Any) -> int | None:
    if isinstance(arg, np.ndarray):
        return arg.ctypes.data
    return ctypes.addressof(arg) if isinstance(arg, (ctypes.Structure, ctypes.Array)) else arg


class Group:
    """A fastpool_group. Jobs are names of capi.c, or Python functions of the job's argument, which run with the GIL."""

    def __init__(self, pool: fastpool.Pool, library: ctypes.CDLL | None = None) -> None:
        self._library = library or free()
        self._alive: list[Any] = [pool]  # what jobs point to
        self.handle = self._library.capi_group_new(pool_of(pool))
        assert self.handle

    def _job(self, job: Any, kind: Any) -> Any:
        if callable(job):
            self._alive.append(kind(job))
            return ctypes.cast(self._alive[-1], ctypes.c_void_p)
        return None if job is None else function(job)

    def _arg(self, arg: Any) -> Any:
        self._alive.append(arg)
        return address(arg)

    def submit(self, job: Any, arg: Any = None) -> int:
        return self._library.capi_submit(self.handle, self._job(job, JOB), self._arg(arg))

    def batch(self, job: Any, args: Any, count: int, stride: int = 8) -> int:
        return self._library.capi_submit_batch(self.handle, self._job(job, JOB), self._arg(args), stride, count)

    def range(self, job: Any, n: int, arg: Any = None, grain: int = 0) -> int:
        return self._library.capi_submit_range(self.handle, self._job(job, RANGE), n, self._arg(arg), grain)

    def wait(self, timeout_ns: int = FOREVER) -> int:
        return self._library.capi_wait(self.handle, timeout_ns)

    def cancel(self) -> None:
        self._library.capi_cancel(self.handle)

    def cancelled(self) -> bool:
        return bool(self._library.capi_cancelled(self.handle))

    def status(self) -> tuple[int, int]:
        index = ctypes.c_int64(-2)
        return self._library.capi_status(self.handle, ctypes.addressof(index)), index.value

    def free(self) -> None:
        self._library.capi_group_free(self.handle)
        self.handle = None

    def __enter__(self) -> Group:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.free()
