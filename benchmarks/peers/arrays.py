"""The sections that apply a function to all elements of an array."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

import fastpool
from benchmarks.peers.compiled import Map
from benchmarks.peers.elements import AFFINE, OPTION, POLYNOMIAL, Element
from benchmarks.peers.native import Library
from benchmarks.peers.scale import Context, settle
from fastpool.bench.measure import Case, WrongResult, timed
from fastpool.bench.section import Section

_ROUNDING = 1e-12
_C_LOOP = "C loop, one thread"
_TWO_THREADS = "C loop, a half in each of two threads"
_CALLER = "OpenMP, TBB, numba, numexpr: the calling thread is one of two; fastpool: two workers, and the caller where it helps"
_POINTER = "fastpool, C, OpenMP and TBB call one and the same function by a pointer; numba and numexpr compile it in"
_INLINED = "inlined: the function is in the loop, for fastpool in a NumPy inner loop that it is given as a kernel"

# What a library is asked for: a row's name, and the function's.
_OPENMP = (
    ("OpenMP static", "peer_map_static"),
    ("OpenMP dynamic (chunks of 1)", "peer_map_dynamic"),
    ("OpenMP dynamic, 1024", "peer_map_chunks"),
    ("OpenMP guided", "peer_map_guided"),
)
_TBB = (
    ("TBB simple_partitioner, grain 1", "peer_map_single"),
    ("TBB auto_partitioner", "peer_map_auto"),
    ("TBB static_partitioner", "peer_map_static"),
)


class _Arrays:
    """One section's work, and its cases.

    Parameters
    ----------
    context : Context
        Who is compared.
    element : Element
        The function.
    count : int
        Elements.
    calls : int
        How often a sample does it all. Where it is more than once, a figure is of a call, and else of an element.
    """

    def __init__(self, context: Context, element: Element, count: int, calls: int = 1) -> None:
        self._peers = context.peers
        self._element = element
        self._calls = calls
        self._x = element.sample(count)
        self._out = np.empty(count)
        self._pointer = self._peers.work.address(element.name)
        self._kernel = self._peers.work.kernel(element.name)
        self._expected = np.empty(count)
        element.in_blocks(self._x, self._expected)

    def _case(self, name: str, run: Callable[[], object]) -> Case:
        def check(_: object) -> None:
            worst = float(np.max(np.abs(self._out - self._expected)))
            if not worst <= _ROUNDING + self._element.numpy_error:  # so written, a NaN fails too
                raise WrongResult(f"off by {worst}")

        def prepare() -> None:
            self._out.fill(np.nan)  # an element left out shows
            settle()

        jobs = self._calls if self._calls > 1 else len(self._x)
        return timed(name, jobs, run, check, prepare)

    def _python(self, name: str, function: Callable[[], object]) -> Case:
        """A case of a function to call from Python."""
        if self._calls == 1:
            return self._case(name, function)
        return self._case(name, partial(_repeat, function, self._calls))

    def map_array(self, name: str, pool: fastpool.Pool, grain: int | None = None) -> Case:
        return self._python(name, partial(pool.map_array, self._kernel, self._x, out=self._out, grain=grain))

    def inlined(self) -> Iterator[Case]:
        """The function in the loop, by those who can have it so from a C compiler."""
        name = self._element.inlined
        assert name is not None
        kernel = self._peers.work.inner_loop(f"work_{name}_loop")
        run = partial(self._peers.pool.map_array, kernel, self._x, out=self._out)
        yield self._python("fastpool map_array, inlined", run)
        yield from self.library(self._peers.openmp, [("OpenMP static, inlined", f"peer_map_{name}")])

    def parallel_for(self, name: str, grain: int = 0) -> Iterator[Case]:
        """fastpool's C API."""
        native_jobs = self._peers.native_jobs
        if native_jobs is not None:
            arrays = self._x.ctypes.data, self._out.ctypes.data, len(self._x)
            yield self._case(
                name, partial(native_jobs.map, self._peers.pool, self._pointer, *arrays, grain, self._calls)
            )

    def library(self, library: Library | None, rows: Sequence[tuple[str, str]]) -> Iterator[Case]:
        """Functions of a library, which make all calls themselves."""
        if library is not None:
            for name, function in rows:
                yield self._case(name, library.map(function, self._pointer, self._x, self._out, self._calls))

    def by_ctypes(self, name: str, library: Library | None, function: str) -> Iterator[Case]:
        """A function of a library, called from Python each time."""
        if library is not None:
            yield self._python(name, library.map(function, self._pointer, self._x, self._out, 1))

    def _map(self, name: str, function: Map) -> Case:
        return self._python(name, partial(function, self._x, self._out))

    def one_thread(self) -> Iterator[Case]:
        yield from self.library(self._peers.work, [(_C_LOOP, "work_map")])

    def two_threads(self) -> Iterator[Case]:
        """The same loop over each half, in two threads that do nothing else: what the machine gives."""
        half = len(self._x) // 2
        parts = [
            self._peers.work.map("work_map", self._pointer, self._x[part], self._out[part], self._calls)
            for part in (slice(half), slice(half, None))
        ]
        yield self._case(_TWO_THREADS, partial(_in_threads, parts))

    def numpy(self, name: str, *, blocks: bool) -> Case:
        return self._map(name, self._element.in_blocks if blocks else self._element.arrays)

    def numba(self) -> Iterator[Case]:
        numba = self._peers.numba
        if numba is not None:
            yield self._map("numba prange", numba.prange(self._element))
            yield self._map("numba vectorize, parallel", numba.vectorize(self._element))

    def numexpr(self) -> Iterator[Case]:
        numexpr = self._peers.numexpr
        if numexpr is not None and self._element.expression is not None:
            yield self._map("numexpr", numexpr.map(self._element.expression))


def _in_threads(functions: Sequence[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=function) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _repeat(function: Callable[[], object], calls: int) -> None:
    for _ in range(calls):
        function()


def loop(context: Context) -> Section:
    """Schedule a cheap body over many elements."""
    peers, count = context.peers, context.scale.elements
    arrays = _Arrays(context, POLYNOMIAL, count)
    cases = [
        arrays.map_array("fastpool map_array", peers.pool),
        arrays.map_array("fastpool map_array, grain=1", peers.pool, 1),
        *arrays.parallel_for("fastpool_parallel_for"),
        *arrays.parallel_for("fastpool_parallel_for, grain 1", 1),
        *arrays.library(peers.openmp, _OPENMP),
        *arrays.library(peers.tbb, _TBB),
        *arrays.inlined(),
        *arrays.numba(),
        *arrays.numexpr(),
        arrays.numpy("NumPy in blocks, one thread", blocks=True),
        *arrays.one_thread(),
    ]
    return context.section(f"{count:,} elements, a polynomial each", cases, [_POINTER, _INLINED, _CALLER])


def small(context: Context) -> Section:
    """Call for few elements, where the start and the end are most of it."""
    peers, calls = context.peers, context.scale.calls
    arrays = _Arrays(context, POLYNOMIAL, 1000, calls)
    cases = [
        arrays.map_array("fastpool map_array", peers.pool),
        *arrays.parallel_for("fastpool_parallel_for"),
        *arrays.library(peers.openmp, _OPENMP[:1]),
        *arrays.by_ctypes("OpenMP static, by ctypes", peers.openmp, "peer_map_static"),
        *arrays.library(peers.tbb, [_TBB[1]]),
        *arrays.numba(),
        *arrays.numexpr(),
        arrays.numpy("NumPy, one thread", blocks=False),
        *arrays.one_thread(),
    ]
    notes = [
        "a job is a call here; calls follow each other at once, so peers that spin (OpenMP above all) never fall asleep",
        "fastpool_parallel_for, OpenMP, TBB and the C loop are called from C, but for the row that says by ctypes",
    ]
    return context.section("a call for 1,000 elements, a polynomial each", cases, notes)


def compute_bound(context: Context) -> Section:
    """Spend nearly all of the time in the function."""
    peers, count = context.peers, context.scale.elements
    arrays = _Arrays(context, OPTION, count)
    cases = [
        arrays.map_array("fastpool map_array", peers.pool),
        arrays.map_array("fastpool map_array, one worker", peers.single, count),
        *arrays.one_thread(),
        *arrays.two_threads(),
        *arrays.library(peers.openmp, (_OPENMP[0], _OPENMP[2])),
        *arrays.library(peers.tbb, [_TBB[1]]),
        *arrays.numba(),
        arrays.numpy("NumPy in blocks, one thread", blocks=True),
    ]
    notes = [
        _POINTER,
        f"so a ratio is what the second CPU is worth, but for numba and NumPy; {_TWO_THREADS!r} is what there is to have",
    ]
    return context.section(f"{count:,} elements, a Black-Scholes price each", cases, notes, _C_LOOP)


def memory_bound(context: Context) -> Section:
    """Spend nearly all of the time waiting for memory."""
    peers, count = context.peers, context.scale.long
    arrays = _Arrays(context, AFFINE, count)
    cases = [
        arrays.map_array("fastpool map_array", peers.pool),
        *arrays.library(peers.openmp, _OPENMP[:1]),
        *arrays.inlined(),
        *arrays.numba(),
        *arrays.numexpr(),
        arrays.numpy("NumPy in blocks, one thread", blocks=True),
        arrays.numpy("NumPy, one thread", blocks=False),
        *arrays.one_thread(),
        *arrays.two_threads(),
    ]
    notes = [
        _POINTER,
        _INLINED,
        "each element is read once and written once, 16 bytes; the output's pages were touched before",
    ]
    return context.section(f"{count:,} elements, 1.5 * x + 0.25 each", cases, notes)
