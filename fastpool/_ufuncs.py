"""NumPy's ufuncs on a pool: the arrays are cut into chunks, and a chunk is one call of the ufunc in a worker.

NumPy lets go of the interpreter inside a ufunc, so the workers compute at the same time, with a GIL too. Loops over Python
objects are the exception: NumPy keeps it for them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fastpool import _core
from fastpool._core import Future, Gate, named_after
from fastpool._progress import Bar, progress_bar
from fastpool.errors import PoolOverloaded, PoolShutdown

if TYPE_CHECKING:
    from fastpool._submitter import Submitter

Array = np.ndarray[Any, Any]

# A chunk costs some microseconds of Python: in 16 thousand elements that is a few hundredths. A million elements are a
# millisecond or so: how long an interrupt may take, and small beside the whole.
LEAST_CHUNK = 1 << 14
MOST_CHUNK = 1 << 20
CHUNKS_A_WORKER = 4

# Before, a Python number gave way to arrays with dimensions only.
_NUMPY_2 = not np.__version__.startswith("1.")

_FOREVER = _core.deadline_from(None)


# ---- what is to be computed ----


def _check_ufunc(ufunc: np.ufunc, count: int) -> None:
    name = ufunc.__name__
    if ufunc.signature is not None:
        raise TypeError(f"kernel {name} is a generalized ufunc, {ufunc.signature}: it does not work element by element")
    if ufunc.nout != 1:
        raise TypeError(f"kernel {name} has {ufunc.nout} outputs; a ufunc of one output was expected")
    if ufunc.nin == 0:
        raise TypeError(f"kernel {name} has no inputs, so there is nothing to map")
    if count != ufunc.nin:
        raise TypeError(f"kernel {name} takes {ufunc.nin} arrays, got {count}")


# memmap's own turns results into plain arrays, so nothing is lost without it.
_PLAIN_WRAPS = (np.ndarray.__array_wrap__, np.generic.__array_wrap__, np.memmap.__array_wrap__)


def _refuse_what_would_be_lost(value: Any, name: str) -> None:
    """A type with ufuncs of its own has units, labels or a mask; its bare numbers may give a result that looks right."""
    kind = type(value)
    if _core.is_masked(value):
        raise TypeError(f"{name} is a masked array, whose mask would be lost; give its data, or filled() of it")
    if getattr(kind, "__array_ufunc__", np.ndarray.__array_ufunc__) is not np.ndarray.__array_ufunc__:
        raise TypeError(f"{name} is a {kind.__name__}, whose own __array_ufunc__ would not be used; give a plain array")
    if getattr(kind, "__array_wrap__", np.ndarray.__array_wrap__) not in _PLAIN_WRAPS:
        raise TypeError(f"{name} is a {kind.__name__}, whose own __array_wrap__ would not be used; give a plain array")


def _is_weak(value: Any) -> bool:
    """Whether NumPy lets the other operands say what dtype this scalar has."""
    return isinstance(value, (int, float, complex)) and not isinstance(value, (bool, np.generic))


def _operand(value: Any, name: str) -> Any:
    """`value` as an array; a Python number stays what it is, for it is not a float64 or int64 to NumPy."""
    if _is_weak(value):
        return value
    _refuse_what_would_be_lost(value, name)
    return np.asarray(value)


def _result_dtype(ufunc: np.ufunc, operands: list[Any]) -> np.dtype[Any]:
    """What NumPy makes of such operands, and its TypeError if it cannot: the ufunc is called on arrays without elements.

    Unlike `ufunc.resolve_dtypes` this is the same rule as for the chunks in every version, value-based casting included.
    """
    any_array = any(np.ndim(operand) > 0 for operand in operands)
    gives_way = any_array or (_NUMPY_2 and not all(map(_is_weak, operands)))
    empty = []
    for operand in operands:
        keeps = gives_way if _is_weak(operand) else any_array and operand.ndim == 0
        empty.append(operand if keeps else np.empty(0, np.asarray(operand).dtype))
    dtype: np.dtype[Any] = ufunc(*empty).dtype
    return dtype


def _new_output(shape: tuple[int, ...], dtype: np.dtype[Any], arrays: list[Array]) -> Array:
    """With its dimensions in the order in memory that the inputs have, as NumPy does: so they can be read in one go."""
    for array in arrays:
        if array.shape == shape:
            return np.empty_like(array, dtype, order="K", subok=False)
    return np.empty(shape, dtype)


def _output(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], arrays: list[Array]) -> Array:
    if out is None:
        return _new_output(shape, dtype, arrays)
    checked: Array = _core._check_out(out, shape, dtype, arrays)
    _refuse_what_would_be_lost(out, "out")
    return checked


# ---- how it is cut ----


def _chunk_elements(size: int, workers: int) -> int:
    fair = -(-size // (CHUNKS_A_WORKER * workers))
    return min(max(fair, LEAST_CHUNK), MOST_CHUNK)


def _flat_order(arrays: list[Array], out: Array) -> str | None:
    """The order in which all operands of more than one element can be seen as one row without a copy, if there is one."""
    large = [array for array in (*arrays, out) if array.size != 1]
    if any(array.shape != out.shape for array in large):
        return None
    if all(array.flags.c_contiguous for array in large):
        return "C"
    return "F" if all(array.flags.f_contiguous for array in large) else None


def _axis_to_cut(out: Array, chunks: int) -> int:
    """The outermost in memory that is long enough, for that leaves long rows to the ufunc; else the longest."""
    outermost_first = sorted(range(out.ndim), key=lambda axis: -abs(out.strides[axis]))
    for axis in outermost_first:
        if out.shape[axis] >= chunks:
            return axis
    return max(outermost_first, key=lambda axis: out.shape[axis])


def _views(arrays: list[Array], out: Array, chunks: int) -> tuple[list[Array], Array]:
    """The operands as views of one shape in which the first axis is the one to cut."""
    order: Any = _flat_order(arrays, out)
    if order is not None:
        row = out.reshape(-1, order=order)
        return [np.broadcast_to(array.reshape(-1, order=order), row.shape) for array in arrays], row
    axis = _axis_to_cut(out, chunks)
    moved = [np.moveaxis(np.broadcast_to(array, out.shape), axis, 0) for array in arrays]
    return moved, np.moveaxis(out, axis, 0)


# ---- running it ----

# What NumPy says of them, and np.errstate's name for each.
_FLOAT_ERRORS = {"divide by zero": "divide", "overflow": "over", "underflow": "under", "invalid value": "invalid"}


class _FloatErrors:
    """The caller's np.errstate for the workers, whose own threads have another. Warnings are left to the caller.

    So there is one warning for the whole array, as from one call of the ufunc, at the caller's line and by its filters.
    """

    def __init__(self) -> None:
        self._modes: dict[str, Any] = {**np.geterr()}
        self._call: Any = np.geterrcall()
        self._inner: dict[str, Any] = {kind: "call" if mode == "warn" else mode for kind, mode in self._modes.items()}
        self._seen: dict[str, None] = {}

    def state(self) -> Any:
        return np.errstate(call=self, **self._inner)

    def __call__(self, error: str, flags: int) -> None:
        if self._modes[_FLOAT_ERRORS[error]] == "warn":
            self._seen[error] = None
        else:
            self._given()(error, flags)

    def write(self, message: str) -> None:
        """Of the mode "log"."""
        self._given().write(message)

    def _given(self) -> Any:
        if self._call is None:
            raise NameError("np.errstate asks for a call or a log, but np.seterrcall() was given nothing to call")
        return self._call

    def warn(self, ufunc: np.ufunc, stacklevel: int) -> None:
        for error in _FLOAT_ERRORS:
            if error in self._seen:
                warnings.warn(f"{error} encountered in {ufunc.__name__}", RuntimeWarning, stacklevel)


class _Work:
    """A ufunc on arrays, checked and cut; nothing of it done yet."""

    def __init__(self, ufunc: np.ufunc, values: tuple[Any, ...], out: Any, grain: int, workers: int) -> None:
        _check_ufunc(ufunc, len(values))
        operands = [_operand(value, f"input {i}") for i, value in enumerate(values)]
        arrays = [np.asarray(operand) for operand in operands]
        shape = np.broadcast_shapes(*(array.shape for array in arrays))
        self.ufunc = ufunc
        self.out = _output(out, shape, _result_dtype(ufunc, operands), arrays)
        self.size = self.out.size
        self.chunks = 0
        self.errors = _FloatErrors()
        if self.size > 0:
            self._cut(operands, arrays, grain or _chunk_elements(self.size, workers))

    def _cut(self, operands: list[Any], arrays: list[Array], elements: int) -> None:
        views, self._out = _views(arrays, np.asarray(self.out), -(-self.size // elements))
        # What has no dimension goes to each call as it came: its dtype may give way to the others'.
        self._inputs = [view if np.ndim(given) else given for given, view in zip(operands, views, strict=True)]
        self._elements_a_slice = self.size // len(self._out)
        self._step = max(1, elements // self._elements_a_slice)
        self.chunks = -(-len(self._out) // self._step)

    def _compute(self, index: int) -> int:
        """One chunk; how many elements that were."""
        part = slice(index * self._step, (index + 1) * self._step)
        out = self._out[part]
        inputs = [operand[part] if np.ndim(operand) else operand for operand in self._inputs]
        with self.errors.state():
            self.ufunc(*inputs, out=out)
        return out.size

    def _queue(self, pool: Submitter, gate: Gate) -> Iterator[int | None]:
        compute = named_after(partial(gate.run, self._compute), self.ufunc)
        return pool._map(compute, list(range(self.chunks)), False, 1, _FOREVER)

    def _queue_from_job(self, pool: Submitter, gate: Gate) -> Iterator[int | None]:
        """The job was accepted, so it computes the chunks itself where the pool takes no more."""
        if self.chunks > 1:
            try:
                return self._queue(pool, gate)
            except (PoolOverloaded, PoolShutdown):
                pass
        return map(self._compute_in_job, range(self.chunks))

    def _compute_in_job(self, index: int) -> int:
        job = _core.current_job()
        if job is not None:
            job.check()
        return self._compute(index)

    def run(self, pool: Submitter, bar: Bar) -> None:
        """From any thread: has the chunks computed by the pool. However this ends, nobody writes to `out` after it."""
        with Gate() as gate:
            for elements in self._queue(pool, gate):
                bar.advance(elements or 0)

    def run_in_job(self, pool: Submitter) -> Any:
        """As a job, which helps with its chunks while it waits for them. Its deadline is theirs."""
        from fastpool.view import View

        _core.keep_future()
        view = View(pool, {"timeout": None, "until_ns": _core.current_deadline_ns()})
        with Gate() as gate:
            for _ in self._queue_from_job(view, gate):
                pass
        self.errors.warn(self.ufunc, stacklevel=2)
        return self.out


def map_array(pool: Submitter, ufunc: np.ufunc, values: tuple[Any, ...], out: Any, grain: int, progress: bool) -> Any:
    """See `Pool.map_array`, whose caller the warnings point to."""
    work = _Work(ufunc, values, out, grain, pool._pool._max_workers)
    if work.chunks > 0:
        with progress_bar(work.size, shown=progress) as bar:
            bar.label(ufunc.__name__)
            work.run(pool, bar)
        work.errors.warn(ufunc, stacklevel=4)
    return work.out


def submit_array(pool: Submitter, ufunc: np.ufunc, values: tuple[Any, ...], out: Any, grain: int) -> Future[Any]:
    """See `Pool.submit_array`."""
    work = _Work(ufunc, values, out, grain, pool._pool._max_workers)
    if work.chunks > 0:
        return pool.submit(work.run_in_job, pool)
    ended: Future[Any] = Future()
    ended.set_running_or_notify_cancel()
    ended.set_result(work.out)
    return ended
