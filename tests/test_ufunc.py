"""map_array and submit_array of NumPy's ufuncs: what one call of the ufunc gives, by several workers."""

from __future__ import annotations

import gc
import math
import signal
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.lib.stride_tricks import as_strided
from support import WAIT, Held, ended, idle_metrics, in_thread, reached
from test_map_array import PARTLY, laid_out, same_bits

import fastpool

OLD_NUMPY = np.__version__.startswith("1.")

MakePool = Callable[..., fastpool.Pool]

# Whose results are the same to the last bit in each of NumPy's loops, for vectors and for single elements.
UFUNCS = {1: [np.negative, np.sqrt, np.isnan, np.square], 2: [np.add, np.hypot, np.less, np.maximum, np.copysign]}
DTYPES = ["u1", "i2", "i4", "i8", "f2", "f4", "f8", ">f8", ">i4", "c8"]
SCALARS = [2, -3, 2.5, 1j, True, np.float32(0.1), np.int8(3), np.array(0.1), 10**30]


@pytest.fixture(scope="module")
def workers() -> Iterator[fastpool.Pool]:
    """A pool for many examples."""
    with fastpool.Pool(3) as pool:
        yield pool
        idle_metrics(pool)


@pytest.fixture
def two(make_pool: MakePool) -> fastpool.Pool:
    return make_pool(2)


def python_ufunc(function: Callable[..., Any]) -> np.ufunc:
    return np.frompyfunc(function, function.__code__.co_argcount, 1)


def outcome(compute: Callable[[], Any]) -> Any:
    """What it returns as an array, or the exception."""
    with np.errstate(all="ignore"):
        try:
            return np.asarray(compute())
        except (TypeError, OverflowError) as error:
            return error


def agree(ours: Any, numpys: Any) -> None:
    if isinstance(numpys, Exception):
        assert isinstance(ours, type(numpys)), (ours, numpys)
    elif numpys.dtype == object:
        assert (ours.dtype, ours.tolist()) == (numpys.dtype, numpys.tolist())
    else:
        assert ours.shape == numpys.shape
        assert same_bits(np.ascontiguousarray(ours), np.ascontiguousarray(numpys))


# --- what comes out ---


@st.composite
def operands(draw: st.DrawFn) -> tuple[np.ufunc, list[Any]]:
    """A ufunc and arrays for it that broadcast."""
    inputs = draw(st.sampled_from(sorted(UFUNCS)))
    shapes = draw(npst.mutually_broadcastable_shapes(num_shapes=inputs, max_dims=4, min_side=0, max_side=4))
    arrays = [draw(laid_out(shape, draw(st.sampled_from(DTYPES)))) for shape in shapes.input_shapes]
    return draw(st.sampled_from(UFUNCS[inputs])), arrays


@given(given=operands(), grain=st.none() | st.integers(1, 30))
def test_arrays_of_any_layout_and_dtype_give_what_numpy_gives(
    workers: fastpool.Pool, given: tuple[np.ufunc, list[Any]], grain: int | None
) -> None:
    ufunc, arrays = given
    agree(outcome(lambda: workers.map_array(ufunc, *arrays, grain=grain)), outcome(lambda: ufunc(*arrays)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scalar", SCALARS, ids=repr)
@pytest.mark.parametrize("ufunc", [np.add, np.multiply, np.less], ids=lambda ufunc: ufunc.__name__)
def test_a_scalar_has_the_dtype_that_numpy_lets_it_have(
    workers: fastpool.Pool, ufunc: np.ufunc, scalar: Any, dtype: str
) -> None:
    array = np.arange(10).astype(dtype)
    for values in ((array, scalar), (scalar, array), (array[3], scalar), (scalar, scalar)):
        agree(outcome(lambda v=values: workers.map_array(ufunc, *v, grain=3)), outcome(lambda v=values: ufunc(*v)))


@given(given=operands(), data=st.data())
def test_out_of_any_layout_is_filled(
    workers: fastpool.Pool, given: tuple[np.ufunc, list[Any]], data: st.DataObject
) -> None:
    ufunc, arrays = given
    numpys = outcome(lambda: ufunc(*arrays))
    if isinstance(numpys, Exception):
        return
    out = data.draw(laid_out(numpys.shape, numpys.dtype.str))
    with np.errstate(all="ignore"):
        assert workers.map_array(ufunc, *arrays, out=out, grain=data.draw(st.integers(1, 30))) is out
    assert np.array_equal(out, numpys, equal_nan=True)


@pytest.mark.parametrize("shape", [(300_000,), (600, 500), (3, 100_000), (100_000, 3), (1, 300_000, 1)], ids=str)
@pytest.mark.parametrize(
    "view", [lambda x: x, lambda x: x.T, lambda x: x[::-1], lambda x: np.flip(x), lambda x: x[..., ::2]]
)
def test_large_arrays_are_computed_whole(
    pool: fastpool.Pool, shape: tuple[int, ...], view: Callable[[Any], Any]
) -> None:
    x, y = view(np.arange(300_000.0).reshape(shape)), view(np.arange(300_000.0, 0, -1).reshape(shape))
    assert np.array_equal(pool.map_array(np.hypot, x, y), np.hypot(x, y))
    assert np.array_equal(pool.map_array(np.hypot, x, y[..., :1]), np.hypot(x, y[..., :1]))
    assert np.array_equal(pool.map_array(np.hypot, x, y, grain=70_000), np.hypot(x, y))
    idle_metrics(pool)


@pytest.mark.parametrize("x", [np.ones((4, 5)), np.ones((5, 4)).T, np.ones((2, 3, 4)).transpose(2, 0, 1)])
def test_the_result_lies_in_memory_as_numpys_does(single: fastpool.Pool, x: Any) -> None:
    assert single.map_array(np.sin, x).strides == np.sin(x).strides


@pytest.mark.parametrize("grain", [1, 7, 999, 1000, 1001, 2**62])
def test_every_element_is_computed_once_whatever_the_grain(pool: fastpool.Pool, grain: int) -> None:
    seen: list[int] = []
    count = python_ufunc(lambda x: seen.append(x))
    pool.map_array(count, np.arange(1000), grain=grain)
    assert sorted(seen) == list(range(1000))
    assert idle_metrics(pool).jobs_processed == -(-1000 // grain)


def test_the_chunks_are_several_for_each_worker_and_neither_tiny_nor_huge(make_pool: MakePool) -> None:
    for workers, size, chunks in ((2, 10_000, 1), (2, 2**17, 8), (2, 2**20, 8), (2, 2**24, 16), (8, 2**20, 32)):
        pool = make_pool(workers)
        pool.map_array(np.negative, np.zeros(size, np.int8))
        assert idle_metrics(pool).jobs_processed == chunks


def test_slices_are_never_cut(single: fastpool.Pool) -> None:
    """A grain of less than one slice is one slice."""
    x = np.zeros((50, 20))[:, ::2]
    single.map_array(np.sin, x, grain=3)
    assert idle_metrics(single).jobs_processed == 50


@pytest.mark.parametrize(
    "value",
    [[1.0, 2.0], (1, 2), range(1, 3), np.array([[1.0, 2.0]]).view(np.matrix), np.array([1, 2]).view(np.recarray)],
)
def test_anything_that_is_like_an_array_is_an_input(single: fastpool.Pool, value: Any) -> None:
    result = single.map_array(np.negative, value)
    assert type(result) is np.ndarray
    assert result.ravel().tolist() == [-1, -2]


def test_a_memory_map_is_an_input_and_an_output(two: fastpool.Pool, tmp_path: Path) -> None:
    mapped = np.memmap(tmp_path / "array", np.float64, "w+", shape=(50_000,))
    mapped[:] = 3
    assert two.map_array(np.negative, mapped, out=mapped) is mapped
    assert np.all(mapped == -3)
    mapped._mmap.close()


def test_a_result_of_no_dimension_is_an_array(single: fastpool.Pool) -> None:
    result = single.map_array(np.add, 2, np.float32(1))
    assert isinstance(result, np.ndarray)
    assert (result.shape, result.dtype, result.item()) == ((), np.add(2, np.float32(1)).dtype, 3)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (2, 0, 5)])
def test_an_empty_array_is_done_at_once(single: fastpool.Pool, shape: tuple[int, ...]) -> None:
    with Held(single):
        future = single.submit_array(np.hypot, np.zeros(shape), 1)
        assert future.done()
        assert isinstance(future, fastpool.Future)
        assert future.result().shape == shape == single.map_array(np.sin, np.zeros(shape)).shape
    assert idle_metrics(single).jobs_submitted == 1


def test_texts_times_and_objects_are_elements_too(two: fastpool.Pool) -> None:
    days = np.array(["2020-01-01", "2020-02-01"], "M8[D]")
    assert same_bits(two.map_array(np.subtract, days, days[0], grain=1), days - days[0])
    if not OLD_NUMPY:  # whose ufuncs are not for texts
        assert two.map_array(np.add, ["a", "bc"], "!", grain=1).tolist() == ["a!", "bc!"]
    assert two.map_array(np.multiply, np.array([2**70, "ab"], object), 3, grain=1).tolist() == [3 * 2**70, "ababab"]


def test_a_python_ufunc_gives_objects(two: fastpool.Pool) -> None:
    result = two.map_array(python_ufunc(lambda a, b, c: (a, b, c)), [1, 2], [[3], [4]], 5, grain=1)
    assert result.dtype == object
    assert result.tolist() == [[(1, 3, 5), (2, 3, 5)], [(1, 4, 5), (2, 4, 5)]]


def test_inputs_are_cast_a_chunk_at_a_time(two: fastpool.Pool) -> None:
    """No copy of an input is ever made: the casts take place in NumPy's own small buffers."""
    import tracemalloc

    x, out = np.ones(2_000_000, np.int32), np.empty(2_000_000)
    two.map_array(np.hypot, x, x, out=out)
    tracemalloc.start()
    try:
        two.map_array(np.hypot, x, x, out=out)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.all(out == math.sqrt(2))
    assert peak < 2_000_000


# --- at the same time ---


def test_several_workers_compute_at_once(two: fastpool.Pool) -> None:
    """Each of two chunks waits for the other one."""
    barrier = threading.Barrier(2)
    meet = python_ufunc(lambda x: barrier.wait(WAIT) >= 0)
    assert two.map_array(meet, [1, 2], grain=1).tolist() == [True, True]
    assert two.submit_array(meet, [1, 2], grain=1).result(WAIT).tolist() == [True, True]


def test_the_job_of_a_future_is_one_of_the_workers(two: fastpool.Pool) -> None:
    threads: set[int] = set()
    barrier = threading.Barrier(2)
    meet = python_ufunc(lambda x: (barrier.wait(WAIT), threads.add(threading.get_ident())))
    two.submit_array(meet, np.arange(10), grain=1).result(WAIT)
    assert len(threads) == 2


def test_several_arrays_at_once_do_not_mix(pool: fastpool.Pool) -> None:
    def compute(who: int) -> None:
        x = np.arange(50_000.0) + who
        for grain in (None, 1000):
            assert np.array_equal(pool.map_array(np.hypot, x, who, grain=grain), np.hypot(x, who))
            assert np.array_equal(pool.submit_array(np.hypot, x, who, grain=grain).result(WAIT), np.hypot(x, who))

    for result in [in_thread(compute, who) for who in range(4)]:
        result()
    idle_metrics(pool)


# --- what is refused ---


class Labelled(np.ndarray):
    def __array_ufunc__(self, *arguments: Any, **options: Any) -> Any:
        raise AssertionError("called")


class Wrapped(np.ndarray):
    def __array_wrap__(self, *arguments: Any) -> Any:
        raise AssertionError("called")


class Duck:
    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.ones(2)

    def __array_ufunc__(self, *arguments: Any, **options: Any) -> Any:
        raise AssertionError("called")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (np.ma.array([1.0, 2.0], mask=[True, False]), "masked array"),
        (np.ones(2).view(Labelled), "__array_ufunc__"),
        (np.ones(2).view(Wrapped), "__array_wrap__"),
        (Duck(), "__array_ufunc__"),
    ],
    ids=["masked", "own ufuncs", "own wrap", "duck"],
)
def test_an_array_that_would_lose_what_it_knows_is_refused(single: fastpool.Pool, value: Any, says: str) -> None:
    for method in (single.map_array, single.submit_array):
        with pytest.raises(TypeError, match=f"input 1 is a .*{says}|input 1 is a {says}"):
            method(np.add, 1.0, value)
    if isinstance(value, np.ndarray):
        with pytest.raises(TypeError, match=f"out is a .*{says}|out is a {says}"):
            single.map_array(np.add, 1.0, [1.0, 2.0], out=value)
    assert single.metrics().jobs_submitted == 0


@pytest.mark.parametrize(
    ("ufunc", "values", "error", "says"),
    [
        (np.matmul, [np.eye(2)] * 2, TypeError, r"kernel matmul is a generalized ufunc"),
        (np.modf, [[1.5]], TypeError, "kernel modf has 2 outputs"),
        (np.divmod, [[1.5], 2], TypeError, "kernel divmod has 2 outputs"),
        (np.frompyfunc(lambda: 1, 0, 1), [], TypeError, "no inputs"),
        (np.hypot, [], TypeError, "kernel hypot takes 2 arrays, got 0"),
        (np.hypot, [[1.0]], TypeError, "kernel hypot takes 2 arrays, got 1"),
        (np.sin, [[1.0], [1.0]], TypeError, "kernel sin takes 1 arrays, got 2"),
        (np.hypot, [np.zeros(2), np.zeros(3)], ValueError, r"\(2,\).*\(3,\)"),
        (np.hypot, [[1j], 1.0], TypeError, "not supported for the input types"),
        (np.sin, ["text"], TypeError, "not supported for the input types|did not contain a loop"),
        pytest.param(
            *(np.add, [np.uint8([1]), 300], OverflowError, "out of bounds"),
            marks=pytest.mark.skipif(OLD_NUMPY, reason="there it fits into an int16"),
        ),
    ],
    ids=str,
)
def test_a_call_that_numpy_or_the_pool_cannot_do_is_refused_before_anything_runs(
    single: fastpool.Pool, ufunc: np.ufunc, values: list[Any], error: type[Exception], says: str
) -> None:
    for method in (single.map_array, single.submit_array):
        with pytest.raises(error, match=says):
            method(ufunc, *values)
    assert single.metrics().jobs_submitted == 0


@pytest.mark.parametrize("value", [math.hypot, None, 5, "hypot", np.vectorize(math.hypot), np.mean])
def test_what_is_no_kernel_and_no_ufunc_is_refused(single: fastpool.Pool, value: Any) -> None:
    for method in (single.map_array, single.submit_array):
        with pytest.raises(TypeError, match=r"kernel must be made by fastpool.kernel\(\) or a NumPy ufunc, not "):
            method(value, [1.0])


@pytest.mark.parametrize(
    ("out", "error", "says"),
    [
        ([0.0] * 4, TypeError, "out must be a numpy array, not list"),
        ((np.zeros(4),), TypeError, "out must be a numpy array, not tuple"),
        (np.zeros(4, np.float32), TypeError, "out has dtype float32"),
        (np.zeros(4, complex), TypeError, "out has dtype complex128"),
        (np.zeros(4, ">f8"), TypeError, "out has dtype >f8"),
        (np.zeros(5), ValueError, r"out has shape \(5,\)"),
        (np.zeros((2, 4)), ValueError, r"out has shape \(2, 4\)"),
        (np.frombuffer(bytes(32)), ValueError, "out is read-only"),
        (np.zeros(33, np.uint8)[1:].view(np.float64), ValueError, "out is not aligned"),
        (as_strided(np.zeros(1), (4,), (0,)), ValueError, "out has elements that share memory"),
    ],
    ids=lambda value: None,
)
def test_an_out_that_does_not_fit_is_refused(
    single: fastpool.Pool, out: Any, error: type[Exception], says: str
) -> None:
    for method in (single.map_array, single.submit_array):
        with pytest.raises(error, match=says):
            method(np.sin, np.arange(4.0), out=out)
    assert single.metrics().jobs_submitted == 0


@pytest.mark.parametrize("views", PARTLY.values(), ids=PARTLY)
def test_an_out_that_overlaps_an_input_partly_is_refused(single: fastpool.Pool, views: Callable[[Any], Any]) -> None:
    source, out = views(np.arange(20.0))
    with pytest.raises(ValueError, match="out overlaps input 1"):
        single.map_array(np.add, np.zeros(out.shape), source, out=out)


@pytest.mark.parametrize("view", [lambda x: x, lambda x: x[::2], lambda x: x[::-1], lambda x: x.reshape(4, 5).T])
def test_out_may_be_an_input(two: fastpool.Pool, view: Callable[[Any], Any]) -> None:
    x = np.arange(20.0)
    want = np.add(view(x), 1)
    out = view(x)
    assert two.map_array(np.add, view(x), 1, out=out, grain=3) is out
    assert np.array_equal(out, want)


@pytest.mark.parametrize("grain", [0, -1, 2**62 + 1, 1.0, "1"])
def test_a_grain_that_is_no_positive_integer_is_refused(single: fastpool.Pool, grain: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="grain must be"):
        single.map_array(np.sin, [1.0], grain=grain)


# --- floating point errors ---


ZEROS = np.zeros(100_000)


def test_the_callers_errstate_holds_in_the_workers(pool: fastpool.Pool) -> None:
    for method in (pool.map_array, lambda *values: pool.submit_array(*values).result(WAIT)):
        with (
            np.errstate(divide="raise"),
            pytest.raises(FloatingPointError, match="divide by zero encountered in divide"),
        ):
            method(np.divide, 1.0, ZEROS)
        with np.errstate(divide="ignore"):
            assert np.all(np.isinf(method(np.divide, 1.0, ZEROS)))
        # Of the workers nothing has stayed behind.
        with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
            method(np.divide, 1.0, ZEROS)
    idle_metrics(pool)


def test_a_warning_is_given_once_for_the_array_at_the_callers_line(two: fastpool.Pool) -> None:
    x = np.zeros(100_000)
    x[::2] = 1
    for grain in (None, 10_000):
        with np.errstate(all="warn"), warnings.catch_warnings(record=True) as given:
            warnings.simplefilter("always")
            two.map_array(np.divide, x, ZEROS, grain=grain)
        assert [str(warning.message) for warning in given] == [
            "divide by zero encountered in divide",
            "invalid value encountered in divide",
        ]
        assert {warning.category for warning in given} == {RuntimeWarning}
        assert {warning.filename for warning in given} == {__file__}


def test_a_warning_that_is_an_error_comes_when_the_array_is_whole(two: fastpool.Pool) -> None:
    out = np.zeros(100_000)
    with np.errstate(all="warn"), pytest.raises(RuntimeWarning, match="divide by zero encountered in divide"):
        two.map_array(np.divide, 1.0, ZEROS, out=out)
    assert np.all(np.isinf(out))
    with np.errstate(all="warn"), pytest.raises(RuntimeWarning, match="divide by zero encountered in divide"):
        two.submit_array(np.divide, 1.0, ZEROS, out=out).result(WAIT)


def test_the_callers_errcall_is_called(two: fastpool.Pool) -> None:
    calls: list[str] = []

    class Log:
        def write(self, message: str) -> None:
            calls.append(message)

    with np.errstate(divide="call", call=lambda error, flags: calls.append(error)):
        two.map_array(np.divide, 1.0, ZEROS, grain=50_000)
    with np.errstate(divide="log", call=Log()):
        two.map_array(np.divide, 1.0, ZEROS, grain=100_000)
    assert calls == ["divide by zero"] * 2 + ["Warning: divide by zero encountered in divide\n"]
    with np.errstate(divide="call", call=None), pytest.raises(NameError, match="seterrcall"):
        two.map_array(np.divide, 1.0, ZEROS)


# --- an array that does not come to its end ---


class Rendezvous(Exception):
    pass


def test_the_first_error_by_position_is_raised_when_nobody_works_any_more(two: fastpool.Pool) -> None:
    """Chunk 1 fails first, and chunk 0 after it: map_array is still there then."""
    later, returned = threading.Event(), threading.Event()
    alone: list[bool] = []

    def fail(x: int) -> None:
        if x == 0:
            reached(later)
            # Were the call to end too early, this would see it.
            alone.append(returned.wait(0.1))
        else:
            later.set()
        raise Rendezvous(x)

    with pytest.raises(Rendezvous) as caught:
        two.map_array(python_ufunc(fail), np.arange(50), grain=1)
    returned.set()
    assert caught.value.args == (0,)
    assert alone == [False]
    idle_metrics(two)


def test_an_error_ends_the_call_only_when_the_chunks_under_way_have_ended(two: fastpool.Pool) -> None:
    """Chunk 0 fails while chunk 1 is under way."""
    inside, failed, returned = threading.Event(), threading.Event(), threading.Event()
    seen: list[Any] = []

    def fail(x: int) -> None:
        seen.append(x)
        if x == 0:
            reached(inside)
            failed.set()
            raise Rendezvous
        inside.set()
        reached(failed)
        seen.append("too late" if returned.wait(0.1) else "in time")

    for call in (two.map_array, lambda *values, grain: two.submit_array(*values, grain=grain).result(WAIT)):
        with pytest.raises(Rendezvous):
            call(python_ufunc(fail), np.arange(50), grain=1)
        returned.set()
        assert "in time" in seen
        assert "too late" not in seen
        for event in (inside, failed, returned):
            event.clear()
        seen.clear()
    idle_metrics(two)


def test_an_error_leaves_out_what_had_not_begun(single: fastpool.Pool) -> None:
    began: list[int] = []

    def fail(x: int) -> None:
        began.append(x)
        if x == 3:
            reached(gate)
            raise Rendezvous
        gate.set()

    gate = threading.Event()
    with pytest.raises(Rendezvous):
        single.map_array(python_ufunc(fail), np.arange(10_000), grain=1)
    idle_metrics(single)
    assert 4 <= len(began) <= 10_000
    assert began == list(range(len(began)))


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, StopIteration])
def test_whatever_a_ufunc_raises_is_raised(single: fastpool.Pool, error: type[BaseException]) -> None:
    def fail(x: int) -> None:
        raise error

    want = RuntimeError if error is StopIteration else error  # as a generator makes of it
    with pytest.raises(want):
        single.map_array(python_ufunc(fail), [1, 2], grain=1)
    with pytest.raises(want):
        single.submit_array(python_ufunc(fail), [1, 2], grain=1).result(WAIT)
    assert single.map_array(np.negative, [1]).tolist() == [-1]
    idle_metrics(single)


@pytest.fixture
def interrupted() -> Iterator[threading.Event]:
    """Set when Ctrl-C has come to the main thread."""
    event = threading.Event()

    def interrupt(*_: object) -> None:
        event.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    yield event
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("times", [1, 3])
def test_ctrl_c_lets_nothing_begin_and_waits_for_what_is_under_way(
    two: fastpool.Pool, interrupted: threading.Event, times: int
) -> None:
    main, returned = threading.main_thread().ident, threading.Event()
    assert main is not None
    began: list[int] = []
    in_time: list[bool] = []

    def interrupt(x: int) -> None:
        began.append(x)
        if x == 0:
            for _ in range(times):  # who does not want to wait for it has to wait all the same
                interrupted.clear()
                signal.pthread_kill(main, signal.SIGINT)
                reached(interrupted)
            in_time.append(not returned.wait(0.1))
        else:
            reached(interrupted)

    with pytest.raises(KeyboardInterrupt):
        two.map_array(python_ufunc(interrupt), np.arange(10_000), grain=1)
    returned.set()
    assert in_time == [True]
    idle_metrics(two)
    assert len(began) < 10_000


def test_cancelling_a_queued_array_leaves_out_untouched(single: fastpool.Pool) -> None:
    out = np.full(1000, -1.0)
    with Held(single):
        future = single.submit_array(np.negative, np.arange(1000.0), out=out, grain=10)
        assert not future.running()
        assert future.cancel()
        with pytest.raises(CancelledError):
            future.result()
    assert idle_metrics(single).jobs_cancelled == 1
    assert np.all(out == -1)


def test_an_array_that_runs_is_not_cancelled(single: fastpool.Pool) -> None:
    inside, opened = threading.Event(), threading.Event()
    future = single.submit_array(python_ufunc(lambda x: (inside.set(), reached(opened))), np.arange(10), grain=1)
    reached(inside)
    assert future.running()
    assert not future.cancel()
    opened.set()
    assert len(future.result(WAIT)) == 10


def test_an_accepted_array_is_computed_though_the_pool_is_shut_down(make_pool: MakePool) -> None:
    pool = make_pool(2)
    x = np.arange(100.0)
    with Held(pool, 2):
        future = pool.submit_array(np.negative, x, grain=10)
        pool.shutdown(wait=False)
    assert np.array_equal(future.result(WAIT), -x)
    assert pool.shutdown()
    metrics = pool.metrics()
    assert metrics.jobs_submitted == ended(metrics)


def test_shutdown_that_cancels_cancels_a_queued_array(make_pool: MakePool) -> None:
    pool = make_pool(1)
    with Held(pool):
        future = pool.submit_array(np.negative, np.arange(100.0))
        pool.shutdown(wait=False, cancel_futures=True)
        assert future.cancelled()


def test_a_shutdown_whose_time_is_over_cancels_what_is_left_of_an_array(single: fastpool.Pool) -> None:
    inside, opened = threading.Event(), threading.Event()
    began: list[int] = []
    wait = python_ufunc(lambda x: (began.append(x), inside.set(), reached(opened)))
    result = in_thread(lambda: single.map_array(wait, np.arange(100), grain=1))
    reached(inside)
    assert not single.shutdown(timeout=0)
    opened.set()
    with pytest.raises(CancelledError):
        result()
    assert single.shutdown()
    assert began == [0]
    metrics = single.metrics()
    assert metrics.jobs_submitted == ended(metrics)


def test_an_array_is_refused_by_a_full_or_ended_pool_and_out_stays(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1, on_full="raise")
    out = np.full(5, -1.0)
    with Held(pool):
        pool.submit(int)
        for method in (pool.map_array, pool.submit_array):
            with pytest.raises(fastpool.PoolOverloaded):
                method(np.negative, np.arange(5.0), out=out)
    pool.shutdown()
    for method in (pool.map_array, pool.submit_array):
        with pytest.raises(fastpool.PoolShutdown):
            method(np.negative, np.arange(5.0), out=out)
    assert np.all(out == -1)


@pytest.mark.parametrize("on_full", ["block", "raise", "caller_runs", "discard_oldest"])
def test_an_accepted_array_is_computed_though_the_queue_is_full_when_it_starts(
    make_pool: MakePool, on_full: str
) -> None:
    pool = make_pool(1, queue_size=2, on_full=on_full)
    x = np.arange(100.0)
    futures: list[Any] = []

    def job() -> Any:
        """Helps with the array, which keeps its place in the queue, and has filled the other one."""
        futures.append(pool.submit(int))
        return futures[0].result(WAIT)

    with Held(pool):
        helper = pool.submit(job)
        futures.append(pool.submit_array(np.negative, x, grain=10))
    assert np.array_equal(helper.result(WAIT), -x)
    assert idle_metrics(pool).jobs_failed == 0


def test_the_caller_computes_where_the_queue_is_full_and_the_caller_runs(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1, on_full="caller_runs")
    with Held(pool):
        pool.submit(int)
        assert pool.map_array(np.negative, np.arange(5), grain=1).tolist() == [0, -1, -2, -3, -4]
        future = pool.submit_array(np.negative, np.arange(5), grain=1)
        assert future.done()
        assert future.result().tolist() == [0, -1, -2, -3, -4]
    idle_metrics(pool)


@pytest.mark.filterwarnings("ignore")
def test_an_array_in_a_pool_whose_initializer_fails_ends_with_that(make_pool: MakePool) -> None:
    for start in (lambda p: p.submit_array(np.negative, [1.0]).result(WAIT), lambda p: p.map_array(np.negative, [1.0])):
        with pytest.raises(fastpool.BrokenThreadPool):
            start(make_pool(1, initializer=lambda: 1 / 0))


# --- within a job ---


def test_a_job_maps_an_array_on_its_own_one_worker_pool(single: fastpool.Pool) -> None:
    x = np.arange(50_000.0)
    assert np.array_equal(single.submit(single.map_array, np.negative, x).result(WAIT), -x)
    waits = single.submit(lambda: single.submit_array(np.negative, x, grain=100).result(WAIT))
    assert np.array_equal(waits.result(WAIT), -x)
    idle_metrics(single)


def test_a_ufunc_maps_an_array_on_the_pool_that_it_runs_on(pool: fastpool.Pool) -> None:
    def deeper(depth: int) -> int:
        return 1 if depth == 0 else int(pool.map_array(nested, [depth - 1] * 2, grain=1).sum())

    nested = python_ufunc(deeper)
    assert pool.submit_array(nested, [4], grain=1).result(WAIT).tolist() == [16]
    assert pool.map_array(nested, [4], grain=1).tolist() == [16]
    idle_metrics(pool)


def test_jobs_map_arrays_within_each_other_through_a_full_queue(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1)

    def deeper(depth: int) -> float:
        if depth == 0:
            return 0.0
        below = pool.submit(deeper, depth - 1)
        return float(pool.map_array(np.negative, np.ones(10), grain=2).sum()) + below.result(WAIT)

    assert pool.submit(deeper, 10).result(WAIT) == -100.0
    idle_metrics(pool)


# --- who holds what, and how long ---


def test_a_queued_array_holds_its_inputs_and_lets_go_of_them_when_it_has_ended(pool: fastpool.Pool) -> None:
    x = np.arange(1000.0)
    gone = weakref.ref(x)
    with Held(pool, pool._max_workers):
        future = pool.submit_array(np.negative, x[::-1], grain=100)
        del x
        gc.collect()
        assert gone() is not None
    assert future.result(WAIT)[0] == -999.0
    idle_metrics(pool)
    pool.submit(int).result(WAIT)
    gc.collect()
    assert gone() is None


def test_a_mapped_array_is_its_callers_alone(pool: fastpool.Pool) -> None:
    x = np.arange(1000.0)
    result = pool.map_array(np.negative, x, grain=100)
    inputs, output = weakref.ref(x), weakref.ref(result)
    del x, result
    idle_metrics(pool)
    pool.submit(int).result(WAIT)
    gc.collect()
    assert inputs() is None
    assert output() is None


def test_arrays_that_were_refused_are_let_go(single: fastpool.Pool) -> None:
    x = np.arange(10.0)
    gone = weakref.ref(x)
    with pytest.raises(ValueError, match="out overlaps"):
        single.map_array(np.negative, x[1:], out=x[:-1])
    del x
    gc.collect()
    assert gone() is None
