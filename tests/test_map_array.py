"""map_array and submit_array: one native job per element of the arrays."""

from __future__ import annotations

import ctypes
import functools
import gc
import math
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import native
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.lib.stride_tricks import as_strided
from support import WAIT, Held, ended, idle_metrics, in_thread, reached

import fastpool
from fastpool import kernels

MakePool = Callable[..., fastpool.Pool]

SIGNATURES = {
    f"{letter}{inputs}": f"{name} ({', '.join([name] * inputs)})"
    for name, (_, letter) in native.SCALARS.items()
    for inputs in (1, 2, 3)
    if (letter, inputs) != ("q", 3)
}
DTYPES = {"d": np.dtype(np.float64), "f": np.dtype(np.float32), "q": np.dtype(np.int64)}
SAFE = {
    "d": ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", ">f8", ">f4", ">i4"],
    "f": ["?", "i1", "u1", "i2", "u2", "f2", "f4", ">f4", ">i2", ">f2"],
    "q": ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", ">i8", ">u4"],
}
# float32 holds few integers, and no timedelta is a number.
UNSAFE = {
    "d": ["c8", "c16", "g", "O", "S3", "U3", "M8[s]", "m8[s]", "V8", [("x", "f8")]],
    "f": ["i4", "u4", "i8", "u8", "f8", ">f8", "c8", "O", "U3", "M8[s]", "m8[s]"],
    "q": ["u8", "f2", "f4", "f8", "c8", "O", "U3", "M8[s]", "V8"],
}


@functools.cache
def kernel(name: str) -> fastpool.Kernel:
    return fastpool.kernel(native.capsule(name, SIGNATURES[name]))


def formula(name: str, arrays: list[Any]) -> Any:
    """What `name` computes, in NumPy; exact for small integers."""
    arrays = [np.asarray(array).astype(DTYPES[name[0]]) for array in arrays]
    if name.endswith("1"):
        return 3 * arrays[0] + 1
    return sum(weight * array for weight, array in zip((1, -2, 8), arrays, strict=False))


def same_bits(a: Any, b: Any) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.fixture(scope="module")
def workers() -> Iterator[fastpool.Pool]:
    """A pool for many examples."""
    with fastpool.Pool(3) as pool:
        yield pool
        metrics = idle_metrics(pool)
        assert metrics.jobs_failed == metrics.jobs_cancelled == 0


@pytest.fixture
def two(make_pool: MakePool) -> fastpool.Pool:
    return make_pool(2)


# --- what comes out ---


@st.composite
def laid_out(draw: st.DrawFn, shape: tuple[int, ...], dtype: str) -> Any:
    """An array of `shape`: contiguous, or with steps of either sign, or its dimensions in another order in memory."""
    order = draw(st.permutations(range(len(shape))))
    steps = [draw(st.sampled_from([1, 1, -1, 2, -3])) for _ in shape]
    stored = tuple(shape[d] * abs(steps[d]) for d in order)
    values = np.arange(math.prod(stored)) % 101 % (2 if dtype == "?" else 101)
    array = values.astype(dtype).reshape(stored).transpose(np.argsort(order) if order else None)
    return array[(*(slice(None, None, step) for step in steps), ...)]


@st.composite
def operands(draw: st.DrawFn) -> tuple[str, list[Any], tuple[int, ...]]:
    """A kernel's name, arrays for it that broadcast, and the common shape."""
    name = draw(st.sampled_from(sorted(SIGNATURES)))
    shapes = draw(npst.mutually_broadcastable_shapes(num_shapes=int(name[1]), max_dims=4, min_side=0, max_side=4))
    arrays = [draw(laid_out(shape, draw(st.sampled_from(SAFE[name[0]])))) for shape in shapes.input_shapes]
    return name, arrays, shapes.result_shape


@given(given=operands(), grain=st.none() | st.integers(1, 30))
def test_arrays_of_any_layout_give_what_numpy_gives(
    workers: fastpool.Pool, given: tuple[str, list[Any], tuple[int, ...]], grain: int | None
) -> None:
    name, arrays, shape = given
    result = workers.map_array(kernel(name), *arrays, grain=grain)
    assert type(result) is np.ndarray
    assert result.shape == shape
    assert same_bits(result, np.ascontiguousarray(np.broadcast_to(formula(name, arrays), shape)).reshape(shape))


@given(given=operands(), data=st.data())
def test_out_of_any_layout_is_filled_and_nothing_beside_it(
    workers: fastpool.Pool, given: tuple[str, list[Any], tuple[int, ...]], data: st.DataObject
) -> None:
    name, arrays, shape = given
    view = data.draw(laid_out(shape, DTYPES[name[0]].str))
    whole = view if view.base is None else view.base
    before = whole.copy()
    out = view
    assert workers.map_array(kernel(name), *arrays, out=out) is out
    assert np.array_equal(out, np.broadcast_to(formula(name, arrays), shape))
    out[...] = 0
    marks = np.ones_like(before)
    if whole is not view:
        # The same view of another array tells which elements belong to it.
        as_strided(marks.reshape(-1)[_offset(view, whole) :], view.shape, view.strides, writeable=True)[...] = 0
        assert np.array_equal(whole[marks == 1], before[marks == 1])


def _offset(view: Any, whole: Any) -> int:
    start: int = view.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    return start // whole.itemsize if view.size else 0


@given(
    values=st.lists(st.floats(width=64), max_size=40),
    sample=st.sampled_from([kernels.identity, kernels.normal_cdf, kernels.polynomial]),
)
def test_an_element_is_the_kernel_called_on_it_to_the_last_bit(
    workers: fastpool.Pool, values: list[float], sample: fastpool.Kernel
) -> None:
    result = workers.map_array(sample, np.array(values))
    assert [x.hex() for x in result.tolist()] == [sample(x).hex() for x in values]


def test_a_kernel_with_user_data_prices_a_million_ways_alike(two: fastpool.Pool) -> None:
    market = fastpool.kernel(kernels.black_scholes_call, data=np.array([0.01, 0.3]))
    spot = np.linspace(50, 150, 40)[:, None]
    years = np.linspace(0, 2, 30)
    prices = two.map_array(market, spot, 100, years)
    assert prices.shape == (40, 30)
    assert all(prices[i, j] == market(spot[i, 0], 100.0, years[j]) for i in range(0, 40, 7) for j in range(0, 30, 7))


def test_many_dimensions_in_any_order(two: fastpool.Pool) -> None:
    x = np.arange(2.0**10).reshape((2,) * 10).transpose(3, 1, 9, 0, 7, 2, 8, 4, 6, 5)
    y = np.arange(2.0**5).reshape(2, 1, 2, 1, 2, 1, 2, 1, 2, 1)[..., ::-1, :]
    assert np.array_equal(two.map_array(kernel("d2"), x, y), x - 2 * y)
    deep = np.arange(6.0).reshape([1] * 30 + [2, 3])
    assert np.array_equal(two.map_array(kernels.identity, deep), deep)


def test_a_large_array_is_computed_whole(pool: fastpool.Pool) -> None:
    x = np.arange(200_000.0)
    assert np.array_equal(pool.map_array(kernel("d1"), x), 3 * x + 1)
    assert np.array_equal(pool.map_array(kernel("d1"), x[::-2]), 3 * x[::-2] + 1)
    assert idle_metrics(pool).jobs_processed == 300_000


class ArrayLike:
    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.array([1.0, 2.0], dtype)


@pytest.mark.parametrize(
    "value",
    [[1.0, 2.0], (1, 2), range(1, 3), ArrayLike(), np.array([1.0, 2.0]).view(np.recarray), [np.float32(1), 2]],
    ids=["list", "tuple", "range", "array-like", "subclass", "mixed list"],
)
def test_anything_that_is_like_an_array_is_an_input(single: fastpool.Pool, value: Any) -> None:
    result = single.map_array(kernels.identity, value)
    assert type(result) is np.ndarray
    assert result.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("value", [2.0, 2, np.float64(2), np.array(2.0), True + 1])
def test_a_scalar_is_an_array_of_no_dimension(single: fastpool.Pool, value: Any) -> None:
    result = single.map_array(kernels.identity, value)
    assert isinstance(result, np.ndarray)
    assert (result.shape, result.item()) == ((), 2.0)
    assert idle_metrics(single).jobs_processed == 1


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 0), (2, 0, 5)])
def test_an_empty_array_is_done_at_once(single: fastpool.Pool, shape: tuple[int, ...]) -> None:
    with Held(single):
        future = single.submit_array(kernel("d2"), np.zeros(shape), 1.0)
        assert future.done()
        assert future.result().shape == shape
    assert idle_metrics(single).jobs_submitted == 1


def test_inputs_are_left_as_they_are(two: fastpool.Pool) -> None:
    x, y = np.arange(1000.0), np.arange(1000.0)[::-1].copy()
    x.flags.writeable = y.flags.writeable = False
    assert np.array_equal(two.map_array(kernel("d2"), x, y), x - 2 * y)


# --- dtypes ---


@pytest.mark.parametrize(("letter", "dtype"), [(letter, dtype) for letter, dtypes in SAFE.items() for dtype in dtypes])
def test_an_input_that_casts_safely_is_cast(workers: fastpool.Pool, letter: str, dtype: str) -> None:
    values = np.array([0, 1, 1, 0, 1]).astype(dtype)
    result = workers.map_array(kernel(f"{letter}1"), values)
    assert result.dtype == DTYPES[letter]
    assert result.tolist() == [1, 4, 4, 1, 4]


@pytest.mark.parametrize(
    ("letter", "dtype"), [(letter, dtype) for letter, dtypes in UNSAFE.items() for dtype in dtypes], ids=str
)
def test_an_input_that_does_not_cast_safely_is_refused(workers: fastpool.Pool, letter: str, dtype: Any) -> None:
    before = workers.metrics().jobs_submitted
    for method in (workers.map_array, workers.submit_array):
        with pytest.raises(TypeError, match=r"input 1 .*does not safely cast"):
            method(kernel(f"{letter}2"), np.zeros(3, DTYPES[letter]), np.zeros(3, dtype))
    assert workers.metrics().jobs_submitted == before


def test_the_extremes_of_int64_pass_through(workers: fastpool.Pool) -> None:
    same = fastpool.kernel(native.capsule("q1p", "int64_t (int64_t, void *)"))
    values = np.array([2**63 - 1, -(2**63), 0, -1])
    assert workers.map_array(same, values).tolist() == values.tolist()


def test_misaligned_inputs_are_read_right(workers: fastpool.Pool) -> None:
    raw = np.zeros(8 * 5 + 1, np.uint8)
    x = raw[1:].view(np.float64)
    x[:] = range(5)
    assert not x.flags.aligned
    assert workers.map_array(kernel("d1"), x).tolist() == [1, 4, 7, 10, 13]


# --- out ---


def with_flag(array: Any, **flags: bool) -> Any:
    for name, value in flags.items():
        setattr(array.flags, name, value)
    return array


REFUSED = {
    "list": ([0.0] * 4, TypeError, "out must be a numpy array, not list"),
    "bytearray": (bytearray(32), TypeError, "out must be a numpy array, not bytearray"),
    "float32": (np.zeros(4, np.float32), TypeError, "out has dtype float32"),
    "int64": (np.zeros(4, np.int64), TypeError, "out has dtype int64"),
    "object": (np.zeros(4, object), TypeError, "out has dtype object"),
    "big endian": (np.zeros(4, ">f8"), TypeError, "out has dtype >f8"),
    "shorter": (np.zeros(3), ValueError, r"out has shape \(3,\)"),
    "longer": (np.zeros(5), ValueError, r"out has shape \(5,\)"),
    "more dimensions": (np.zeros((1, 4)), ValueError, r"out has shape \(1, 4\)"),
    "broadcastable": (np.zeros((2, 4)), ValueError, r"out has shape \(2, 4\)"),
    "no dimension": (np.zeros(()), ValueError, r"out has shape \(\)"),
    "read-only": (with_flag(np.zeros(4), writeable=False), ValueError, "out is read-only"),
    "misaligned": (np.zeros(33, np.uint8)[1:].view(np.float64), ValueError, "out is not aligned"),
    "broadcast": (as_strided(np.zeros(1), (4,), (0,)), ValueError, "out has elements that share memory"),
}


@pytest.mark.parametrize(("out", "error", "says"), REFUSED.values(), ids=REFUSED)
def test_an_out_that_does_not_fit_is_refused(
    single: fastpool.Pool, out: Any, error: type[Exception], says: str
) -> None:
    before = np.array(out)
    for method in (single.map_array, single.submit_array):
        with pytest.raises(error, match=says):
            method(kernels.identity, np.arange(4.0), out=out)
    assert single.metrics().jobs_submitted == 0
    assert np.array_equal(out, before)


def test_an_out_whose_windows_overlap_is_refused(single: fastpool.Pool) -> None:
    """Two workers would write one element."""
    windows = as_strided(np.zeros(8), (5, 4), (8, 8))
    with pytest.raises(ValueError, match="out has elements that share memory"):
        single.map_array(kernels.identity, np.ones((5, 4)), out=windows)


class Sub(np.ndarray):
    pass


def test_out_may_be_of_a_subclass_or_a_memory_map(single: fastpool.Pool, tmp_path: Path) -> None:
    mapped = np.memmap(tmp_path / "out", np.float64, "w+", shape=(4,))
    for out in (np.zeros(4).view(Sub), mapped):
        assert single.map_array(kernels.identity, np.arange(4.0), out=out) is out
        assert out.tolist() == [0, 1, 2, 3]
    mapped._mmap.close()


def test_out_none_is_a_new_array(single: fastpool.Pool) -> None:
    x = np.arange(3.0)
    result = single.map_array(kernels.identity, x, out=None)
    assert not np.shares_memory(result, x)


@pytest.mark.parametrize(
    "view", [lambda x: x, lambda x: x[:], lambda x: x[::2], lambda x: x[::-1], lambda x: x.reshape(4, 5).T]
)
def test_out_may_be_an_input(two: fastpool.Pool, view: Callable[[Any], Any]) -> None:
    x = np.arange(20.0)
    want = 3 * view(x) + 1
    out = view(x)
    assert two.map_array(kernel("d1"), view(x), out=out) is out
    assert np.array_equal(out, want)
    x = np.arange(20.0)
    want = view(x) - 2 * view(x)
    assert np.array_equal(two.map_array(kernel("d2"), view(x), view(x), out=view(x)), want)


PARTLY = {
    "shifted": lambda x: (x[:-1], x[1:]),
    "reversed": lambda x: (x, x[::-1]),
    "transposed": lambda x: (x[:16].reshape(4, 4), x[:16].reshape(4, 4).T),
    "a row of out": lambda x: (x[:5], x.reshape(4, 5)),
    "interleaved": lambda x: (x[:10], x[::2]),
    "one element": lambda x: (x[9:10], x),
}


@pytest.mark.parametrize("views", PARTLY.values(), ids=PARTLY)
def test_an_out_that_overlaps_an_input_partly_is_refused(single: fastpool.Pool, views: Callable[[Any], Any]) -> None:
    x = np.arange(20.0)
    source, out = views(x)
    apart = np.zeros(out.shape)
    with pytest.raises(ValueError, match="out overlaps input 0"):
        single.map_array(kernel("d2"), source, apart, out=out)
    with pytest.raises(ValueError, match="out overlaps input 1"):
        single.map_array(kernel("d2"), apart, source, out=out)
    assert np.array_equal(x, np.arange(20.0))
    assert single.metrics().jobs_submitted == 0


def test_an_out_between_the_elements_of_an_input_is_apart_from_it(two: fastpool.Pool) -> None:
    x = np.arange(20.0)
    two.map_array(kernel("d1"), x[::2], out=x[1::2])
    assert np.array_equal(x[1::2], 3 * np.arange(0, 20, 2) + 1)
    assert np.array_equal(x[::2], np.arange(0, 20, 2))


def test_an_input_of_another_dtype_in_the_memory_of_out_is_read_first_or_refused(two: fastpool.Pool) -> None:
    memory = np.zeros(500, np.int64)
    memory[:] = range(500)
    out = memory.view(np.float64)
    try:
        two.map_array(kernel("d1"), memory[::-1], out=out)
    except ValueError as error:
        assert "overlap" in str(error)
        assert memory.tolist() == list(range(500))
    else:
        assert out.tolist() == [3.0 * i + 1 for i in range(499, -1, -1)]


# --- grain ---


@pytest.mark.parametrize("grain", [1, 7, 999, 1000, 1001, 2**62, np.int64(3)])
def test_every_element_is_computed_once_whatever_the_grain(pool: fastpool.Pool, grain: int) -> None:
    calls = np.zeros(1, np.int64)
    counted = fastpool.kernel(native.capsule("counted", "double (double, void *)"), data=calls)
    x = np.arange(1000.0)
    assert np.array_equal(pool.map_array(counted, x, grain=grain), x)
    assert calls[0] == 1000
    assert idle_metrics(pool).jobs_processed == 1000


@pytest.mark.parametrize("grain", [0, -1, -(2**70), 2**62 + 1, 2**70])
def test_a_grain_out_of_bounds_is_refused(single: fastpool.Pool, grain: int) -> None:
    for method in (single.map_array, single.submit_array):
        with pytest.raises(ValueError, match="grain must be at"):
            method(kernels.identity, [1.0], grain=grain)


@pytest.mark.parametrize("grain", [1.0, math.nan, math.inf, "1", b"1", [1]])
def test_a_grain_that_is_no_integer_is_refused(single: fastpool.Pool, grain: Any) -> None:
    with pytest.raises(TypeError, match="grain must be an integer"):
        single.map_array(kernels.identity, [1.0], grain=grain)


# --- the call itself ---


def test_the_kernel_must_be_a_kernel_for_arrays(single: fastpool.Pool) -> None:
    for no_kernel in (math.cos, None, 5, native.capsule("d1", "double (double)")):
        with pytest.raises(TypeError, match="kernel must be made by"):
            single.map_array(no_kernel, [1.0])
    with pytest.raises(TypeError, match="not for arrays"):
        single.map_array(kernels.fail, [1.0])


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_number_of_arrays_must_be_the_kernels(single: fastpool.Pool, count: int) -> None:
    with pytest.raises(TypeError, match=f"takes 2 arrays, got {count}"):
        single.map_array(kernel("d2"), *[[1.0]] * count)


def test_arrays_that_do_not_broadcast_are_refused(single: fastpool.Pool) -> None:
    with pytest.raises(ValueError, match=r"\(2,\).*\(3,\)"):
        single.map_array(kernel("d2"), np.zeros(2), np.zeros(3))
    assert single.metrics().jobs_submitted == 0


def test_a_result_too_large_for_memory_is_refused(single: fastpool.Pool) -> None:
    x = np.zeros((2**24, 1))
    with pytest.raises((MemoryError, ValueError)):
        single.map_array(kernel("d3"), as_strided(x, (2**24, 1, 1)), as_strided(x, (2**24, 1)), as_strided(x, (2**24,)))
    assert single.metrics().jobs_submitted == 0


def test_a_kernel_on_arrays_runs_with_the_interpreter_released(pool: fastpool.Pool) -> None:
    with native.Told() as told:
        future = pool.submit_array(told.element, np.arange(3.0), grain=1)
    assert future.result(WAIT).tolist() == [0, 1, 2]


def test_a_full_queues_caller_computes_with_the_interpreter_released(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1, on_full="caller_runs")
    with Held(pool):
        pool.submit(int)
        with native.Told() as told:
            result = in_thread(lambda: pool.map_array(told.element, np.arange(3.0)))
        assert result().tolist() == [0, 1, 2]
    assert idle_metrics(pool).jobs_processed == 5


def test_callbacks_made_of_python_functions_work_and_are_slow(pool: fastpool.Pool) -> None:
    python = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(lambda x: x * x)
    assert pool.map_array(fastpool.kernel(python), np.arange(300.0)).tolist() == [i * i for i in range(300)]


def test_several_arrays_at_once_do_not_mix(pool: fastpool.Pool) -> None:
    def compute(who: int) -> None:
        x = np.arange(5000.0) + who
        for grain in (None, 1, 64):
            assert np.array_equal(pool.map_array(kernel("d1"), x, grain=grain), 3 * x + 1)

    results = [in_thread(compute, who) for who in range(4)]
    for result in results:
        result()
    assert idle_metrics(pool).jobs_processed == 4 * 3 * 5000


def test_many_arrays_in_the_queue_each_come_out(two: fastpool.Pool) -> None:
    with Held(two, 2):
        futures = [two.submit_array(kernel("d1"), np.full(10, float(i))) for i in range(300)]
    assert all(future.result(WAIT).tolist() == [3.0 * i + 1] * 10 for i, future in enumerate(futures))


def test_the_result_of_a_future_is_out_itself(two: fastpool.Pool) -> None:
    out = np.zeros(3)
    future = two.submit_array(kernels.identity, np.arange(3.0), out=out)
    assert isinstance(future, fastpool.Future)
    assert future.result(WAIT) is out is future.result()
    assert future.exception() is None


def test_callbacks_of_an_arrays_future_see_it_whole(two: fastpool.Pool) -> None:
    seen: list[Any] = []
    done = threading.Event()
    with Held(two, 2):
        future = two.submit_array(kernel("d1"), np.arange(5000.0), grain=1)
        future.add_done_callback(lambda ended: (seen.append(ended.result().copy()), done.set()))
    reached(done)
    assert np.array_equal(seen[0], 3 * np.arange(5000.0) + 1)


# --- an array that does not come to its end ---


def test_cancelling_a_queued_array_leaves_out_untouched(single: fastpool.Pool) -> None:
    out = np.full(1000, -1.0)
    with Held(single):
        future = single.submit_array(kernels.identity, np.arange(1000.0), out=out)
        assert future.cancel()
        assert future.cancelled()
        with pytest.raises(CancelledError):
            future.result()
    metrics = idle_metrics(single)
    assert metrics.jobs_cancelled == 1000
    assert np.all(out == -1)
    assert single.map_array(kernels.identity, [1.0]).tolist() == [1.0]


class Gate:
    """A kernel that stops at its first element until opened."""

    def __init__(self) -> None:
        self.inside, self.opened = threading.Event(), threading.Event()
        self.kernel = fastpool.kernel(ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(self._pass))

    def _pass(self, x: float) -> float:
        self.inside.set()
        self.opened.wait(WAIT)
        return x


def test_cancelling_an_array_that_runs_stops_it_at_the_next_piece(single: fastpool.Pool) -> None:
    gate = Gate()
    out = np.full(10, -1.0)
    future = single.submit_array(gate.kernel, np.arange(10.0), out=out, grain=2)
    reached(gate.inside)
    assert future.running()
    assert future.cancel()
    assert not future.done()  # for somebody still writes to the array
    gate.opened.set()
    with pytest.raises(CancelledError):
        future.result(WAIT)
    assert future.cancelled()
    assert out.tolist() == [0, 1, *[-1] * 8]
    metrics = idle_metrics(single)
    assert (metrics.jobs_processed, metrics.jobs_cancelled) == (2, 8)


def test_an_array_whose_last_piece_runs_is_not_cancelled(single: fastpool.Pool) -> None:
    gate = Gate()
    future = single.submit_array(gate.kernel, np.arange(10.0), grain=10)
    reached(gate.inside)
    assert not future.cancel()
    gate.opened.set()
    assert future.result(WAIT).tolist() == list(range(10))


def test_a_shutdown_whose_time_is_over_cancels_what_is_left_of_an_array(single: fastpool.Pool) -> None:
    gate = Gate()
    future = single.submit_array(gate.kernel, np.arange(100.0), grain=1)
    reached(gate.inside)
    assert not single.shutdown(timeout=0)
    gate.opened.set()
    with pytest.raises(CancelledError):
        future.result(WAIT)
    assert single.shutdown()
    metrics = single.metrics()
    assert metrics.jobs_submitted == ended(metrics) == 100
    assert metrics.jobs_cancelled >= 90


@pytest.mark.parametrize("way", ["shutdown", "discard_oldest"])
def test_a_queued_array_that_the_pool_discards_is_cancelled(make_pool: MakePool, way: str) -> None:
    pool = make_pool(1, queue_size=1, on_full="discard_oldest")
    out = np.full(50, -1.0)
    with Held(pool):
        future = pool.submit_array(kernels.identity, np.arange(50.0), out=out)
        if way == "shutdown":
            pool.shutdown(wait=False, cancel_futures=True)
        else:
            pool.submit(int)
        assert future.cancelled()
    assert pool.wait_idle(WAIT)
    metrics = pool.metrics()
    assert metrics.jobs_cancelled == 50
    assert metrics.jobs_submitted == ended(metrics)
    assert np.all(out == -1)


def test_an_array_is_refused_by_a_full_or_ended_pool_and_out_stays(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1, on_full="raise")
    out = np.full(5, -1.0)
    with Held(pool):
        pool.submit(int)
        for method in (pool.map_array, pool.submit_array):
            with pytest.raises(fastpool.PoolOverloaded):
                method(kernels.identity, np.arange(5.0), out=out)
    pool.shutdown()
    for method in (pool.map_array, pool.submit_array):
        with pytest.raises(fastpool.PoolShutdown):
            method(kernels.identity, np.arange(5.0), out=out)
    metrics = pool.metrics()
    assert metrics.jobs_submitted == ended(metrics) == 2
    assert np.all(out == -1)


@pytest.mark.filterwarnings("ignore")
def test_an_array_in_a_pool_whose_initializer_fails_ends_with_that(make_pool: MakePool) -> None:
    pool = make_pool(1, initializer=lambda: 1 / 0)
    with pytest.raises(fastpool.BrokenThreadPool):
        pool.submit_array(kernels.identity, np.arange(5.0)).result(WAIT)


# --- within a job ---


def test_a_job_maps_an_array_on_its_own_one_worker_pool(single: fastpool.Pool) -> None:
    x = np.arange(5000.0)
    assert np.array_equal(single.submit(single.map_array, kernel("d1"), x).result(WAIT), 3 * x + 1)
    waits = single.submit(lambda: single.submit_array(kernel("d1"), x).result(WAIT))
    assert np.array_equal(waits.result(WAIT), 3 * x + 1)
    assert idle_metrics(single).jobs_processed == 2 + 10_000


def test_jobs_map_arrays_within_each_other_through_a_full_queue(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1)

    def deeper(depth: int) -> float:
        if depth == 0:
            return 0.0
        below = pool.submit(deeper, depth - 1)
        return float(pool.map_array(kernel("d1"), np.ones(10)).sum()) + below.result(WAIT)

    assert pool.submit(deeper, 10).result(WAIT) == 400.0
    idle_metrics(pool)


# --- who holds what, and how long ---


def test_a_queued_array_holds_its_inputs_and_lets_go_of_them_when_it_has_ended(pool: fastpool.Pool) -> None:
    x = np.arange(1000.0)
    gone = weakref.ref(x)
    with Held(pool, pool._max_workers):
        future = pool.submit_array(kernel("d1"), x[::-1])
        del x
        gc.collect()
        assert gone() is not None
    assert future.result(WAIT)[0] == 2998.0
    idle_metrics(pool)
    pool.submit(int).result(WAIT)  # whoever comes next drops what the kernel's workers have left
    gc.collect()
    assert gone() is None


def test_a_mapped_array_is_its_callers_alone(pool: fastpool.Pool) -> None:
    x = np.arange(1000.0)
    result = pool.map_array(kernel("d1"), x)
    inputs, output = weakref.ref(x), weakref.ref(result)
    del x, result
    idle_metrics(pool)
    pool.submit(int).result(WAIT)
    gc.collect()
    assert inputs() is None
    assert output() is None


def test_a_cancelled_array_lets_go_of_its_arrays_once_the_queue_has_passed_it(single: fastpool.Pool) -> None:
    x, out = np.arange(1000.0), np.zeros(1000)
    gone = weakref.ref(x), weakref.ref(out)
    with Held(single):
        future = single.submit_array(kernels.identity, x, out=out)
        future.cancel()
        del x, out, future
    idle_metrics(single)
    single.submit(int).result(WAIT)
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


def test_the_memory_of_inputs_cannot_be_moved_while_they_are_queued(single: fastpool.Pool) -> None:
    owner = bytearray(np.arange(5.0).tobytes())
    x = np.frombuffer(owner)
    with Held(single):
        future = single.submit_array(kernels.identity, x)
        del x
        with pytest.raises(BufferError):
            owner.clear()
    assert future.result(WAIT).tolist() == list(range(5))


def test_arrays_that_were_refused_are_let_go(single: fastpool.Pool) -> None:
    x = np.arange(10.0)
    gone = weakref.ref(x)
    with pytest.raises(ValueError, match="out overlaps"):
        single.map_array(kernels.identity, x[1:], out=x[:-1])
    del x
    gc.collect()
    assert gone() is None
