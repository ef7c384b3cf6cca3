"""parallel_for: a kernel over the pieces of a range."""

from __future__ import annotations

import ctypes
import gc
import math
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import native
import numpy as np
import pytest
from support import WAIT, Held, idle_metrics, in_thread, reached

import fastpool
from fastpool import NativeJobError, kernels

MakePool = Callable[..., fastpool.Pool]
RANGE = "int (int64_t, int64_t, void *)"
PYTHON = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)


def ranged(function: str, data: Any = None) -> fastpool.Kernel:
    return fastpool.kernel(native.capsule(function, RANGE), data=data)


def of_python(function: Callable[[int, int], int]) -> fastpool.Kernel:
    return fastpool.kernel(PYTHON(lambda begin, end, data: function(begin, end)))


def buffers() -> Any:
    """Something with a buffer that shows whether it is held: it cannot be resized then."""
    return bytearray(8 * 1000)


@pytest.fixture
def warm(make_pool: MakePool) -> fastpool.Pool:
    """A pool of several workers one of which is set up, so that the caller may begin by itself."""
    pool = make_pool(3)
    pool.submit(int).result(WAIT)
    idle_metrics(pool)
    return pool


# --- each i once ---


@pytest.mark.parametrize("grain", [None, 1, 7, 1000, 2**62, np.int64(64)])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 1000, 1001])
def test_each_i_is_in_one_piece_once(pool: fastpool.Pool, n: int, grain: Any) -> None:
    counts = np.zeros(n + 1, np.int32)
    assert pool.parallel_for(ranged("count_each"), n, counts, grain) is None  # type: ignore[func-returns-value]
    assert counts.tolist() == [1] * n + [0]
    metrics = idle_metrics(pool)
    assert metrics.jobs_submitted == metrics.jobs_processed == metrics.job_duration.count == n


@pytest.mark.parametrize("grain", [None, 64, 10_000])
def test_each_of_a_million_is_in_one_piece_once(pool: fastpool.Pool, grain: int | None) -> None:
    counts = np.zeros(10**6, np.int32)
    for expected in (1, 2):  # the second time with workers that are there already
        pool.parallel_for(ranged("count_each"), 10**6, data=counts, grain=grain)
        assert np.all(counts == expected)
    assert idle_metrics(pool).jobs_processed == 2 * 10**6


@pytest.mark.parametrize("grain", [1, 7, 100, 1001])
def test_no_piece_is_longer_than_the_grain(pool: fastpool.Pool, grain: int) -> None:
    seen = np.array([0, 0, 2**62, -1, 0, 0])
    pool.parallel_for(ranged("measure_pieces", seen), 1000, grain=grain)
    longest = min(grain, 1000)
    assert seen.tolist() == [1000, math.ceil(1000 / grain), 0, 1000, longest, 0]


def test_a_range_may_be_longer_than_any_int32(pool: fastpool.Pool) -> None:
    n = 2**31 + 1000
    seen = np.array([0, 0, 2**62, -1, 0, 0])
    for _ in range(2):
        seen[:] = [0, 0, 2**62, -1, 0, 0]
        pool.parallel_for(ranged("measure_pieces", seen), n)
        assert seen[[0, 2, 3, 5]].tolist() == [n, 0, n, 0]
    assert idle_metrics(pool).jobs_processed == 2 * n


def test_the_longest_range_there_may_be_comes_to_its_end(make_pool: MakePool) -> None:
    pool = make_pool(2)
    seen = np.array([0, 0, 2**62, -1, 0, 0])
    pool.parallel_for(ranged("measure_pieces", seen), 2**62)
    assert seen[[0, 2, 3, 5]].tolist() == [2**62, 0, 2**62, 0]
    assert idle_metrics(pool).jobs_processed == 2**62


@pytest.mark.parametrize("grain", [None, 1])
def test_the_first_of_the_long_pieces_run_at_once(warm: fastpool.Pool, grain: int | None) -> None:
    """Where workers are there already: the caller must not run the first one before it has queued the rest."""
    barrier = threading.Barrier(2, timeout=WAIT)

    def meet() -> int:
        busy_until = time.perf_counter() + 0.002
        while time.perf_counter() < busy_until:
            pass
        return barrier.wait()

    piece = of_python(lambda begin, end: meet() * 0)
    element = fastpool.kernel(ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(lambda x: meet() * x))
    for _ in range(3):  # what it takes is known then
        warm.parallel_for(piece, 2, grain=grain)
        warm.map_array(element, [0.0, 0.0], grain=grain)


# --- data ---


def test_the_data_of_a_call_comes_in_place_of_the_kernels_own(single: fastpool.Pool) -> None:
    own, other = np.zeros(10, np.int32), np.zeros(10, np.int32)
    kernel = ranged("count_each", own)
    single.parallel_for(kernel, 5)
    single.parallel_for(kernel, 7, other)
    single.parallel_for(kernel, 2, data=None)
    assert own.tolist() == [2] * 2 + [1] * 3 + [0] * 5
    assert other.tolist() == [1] * 7 + [0] * 3


def test_data_is_none_where_neither_has_any(single: fastpool.Pool) -> None:
    seen: list[Any] = []
    kernel = fastpool.kernel(PYTHON(lambda begin, end, data: seen.append((begin, end, data)) or 0))
    single.parallel_for(kernel, 3, grain=2)
    assert seen == [(0, 2, None), (2, 3, None)]


def test_data_may_be_a_capsule(single: fastpool.Pool) -> None:
    counts = np.zeros(4, np.int32)
    single.parallel_for(ranged("count_each"), 4, native.capsule_of(counts.ctypes.data, "counts"))
    assert counts.tolist() == [1] * 4


@pytest.mark.parametrize(
    "data",
    [5, "text", [1, 2], object(), np.zeros((4, 4))[:, 1], memoryview(b"12345678")[::2], ranged("count_each"), kernels.fail],
    ids=["int", "str", "list", "object", "a column", "a strided view", "a kernel", "another kernel"],
)  # fmt: skip
def test_data_without_a_contiguous_buffer_is_refused(single: fastpool.Pool, data: Any) -> None:
    for n in (0, 5):
        with pytest.raises(TypeError, match="data must be"):
            single.parallel_for(ranged("count_each"), n, data)
    assert single.metrics().jobs_submitted == 0


def test_data_is_held_while_a_piece_runs_and_free_when_the_call_returns(pool: fastpool.Pool) -> None:
    data = buffers()
    held: list[bool] = []

    def try_to_resize(begin: int, end: int) -> int:
        try:
            data.append(1)
            held.append(False)
        except BufferError:
            held.append(True)
        return 0

    kernel = of_python(try_to_resize)
    for grain in (1, None, 3):
        pool.parallel_for(kernel, 20, data, grain)
        data.append(1)
    assert all(held)
    assert held


def test_data_of_a_failed_or_refused_call_is_free_when_it_returns(make_pool: MakePool) -> None:
    data = buffers()
    pool = make_pool(2)
    fails = of_python(lambda begin, end: 7)
    for n in (1, 100):
        with pytest.raises(NativeJobError):
            pool.parallel_for(fails, n, data, 1)
        data.append(1)
    pool.shutdown()
    with pytest.raises(fastpool.PoolShutdown):
        pool.parallel_for(fails, 1, data)
    data.append(1)


def test_a_kernels_own_data_goes_with_the_kernel(warm: fastpool.Pool) -> None:
    counts = np.zeros(1000, np.int32)
    gone = weakref.ref(counts)
    warm.parallel_for(ranged("count_each", counts), 1000)
    del counts
    gc.collect()
    assert gone() is None


def test_the_arrays_of_map_array_are_free_when_it_returns(pool: fastpool.Pool) -> None:
    """As parallel_for's data: who has waited for the last element owns them alone again."""
    for n in (1, 10, 10_000):
        x, out = np.arange(float(n)), np.zeros(n)
        pool.map_array(kernels.polynomial, x, out=out, grain=3)
        x.resize(2 * n)
        out.resize(2 * n)
    with pytest.raises(TypeError, match="input 0"):
        pool.map_array(kernels.polynomial, np.array(["a"]))


# --- what fails ---


@pytest.mark.parametrize("status", [1, -1, 2**31 - 1, -(2**31)])
def test_a_status_other_than_zero_is_an_error_that_says_where(pool: fastpool.Pool, status: int) -> None:
    words = np.array([610, status, 0])
    with pytest.raises(NativeJobError) as caught:
        pool.parallel_for(ranged("fail_at", words), 1000, grain=8)
    assert (caught.value.status, caught.value.index) == (status, 608)
    assert str(caught.value) == f"the kernel returned status {status} at index 608"
    assert words[2] == 992, "the other pieces have run all the same"
    metrics = idle_metrics(pool)
    assert (metrics.jobs_processed, metrics.jobs_failed, metrics.panics) == (992, 8, 0)
    assert metrics.job_duration.count == 1000


@pytest.mark.parametrize("n", [1, 5, 3000])
def test_when_all_pieces_fail_one_of_them_is_told_of(pool: fastpool.Pool, n: int) -> None:
    with pytest.raises(NativeJobError) as caught:
        pool.parallel_for(of_python(lambda begin, end: 1 + begin), n, grain=10)
    assert caught.value.index is not None
    assert caught.value.index % 10 == 0
    assert caught.value.status == 1 + caught.value.index
    assert idle_metrics(pool).jobs_failed == n
    pool.parallel_for(of_python(lambda begin, end: 0), n)  # and the pool goes on


def test_a_failure_far_beyond_int32_says_where(make_pool: MakePool) -> None:
    words = np.array([2**40 + 5, 3, 0])
    with pytest.raises(NativeJobError) as caught:
        make_pool(2).parallel_for(ranged("fail_at", words), 2**41, grain=2**30)
    assert (caught.value.status, caught.value.index) == (3, 2**40)


@pytest.mark.parametrize("n", [-1, -(2**63), -(10**30), 2**62 + 1, 2**63, 10**30])
def test_an_n_out_of_bounds_is_refused(single: fastpool.Pool, n: int) -> None:
    with pytest.raises(ValueError, match=r"n must be at (least 0|most)"):
        single.parallel_for(ranged("count_each"), n)
    assert single.metrics().jobs_submitted == 0


@pytest.mark.parametrize("n", [1.0, math.nan, math.inf, "1", None, [1], 1j, np.float64(3)])
def test_an_n_that_is_no_integer_is_refused(single: fastpool.Pool, n: Any) -> None:
    with pytest.raises(TypeError, match="n must be an integer"):
        single.parallel_for(ranged("count_each"), n)
    assert single.metrics().jobs_submitted == 0


@pytest.mark.parametrize("n", [True, np.uint8(1), np.array(1)])
def test_an_n_is_what_python_takes_for_an_index(single: fastpool.Pool, n: Any) -> None:
    counts = np.zeros(2, np.int32)
    single.parallel_for(ranged("count_each", counts), n)
    assert counts.tolist() == [1, 0]


@pytest.mark.parametrize("grain", [0, -1, 2**62 + 1, 1.0, "1"])
def test_a_grain_that_is_none_is_refused(single: fastpool.Pool, grain: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="grain must be"):
        single.parallel_for(ranged("count_each"), 5, None, grain)
    assert single.metrics().jobs_submitted == 0


def test_the_kernel_must_be_one_for_ranges(single: fastpool.Pool) -> None:
    for no_kernel in (math.cos, None, 5, native.capsule("count_each", RANGE), lambda begin, end: 0):
        with pytest.raises(TypeError, match="kernel must be made by"):
            single.parallel_for(no_kernel, 5)
    for other in (kernels.identity, kernels.fail, kernels.black_scholes_call):
        with pytest.raises(TypeError, match="kernel must have the signature"):
            single.parallel_for(other, 5)
    assert single.metrics().jobs_submitted == 0


def test_a_kernel_for_ranges_is_for_nothing_else(single: fastpool.Pool) -> None:
    kernel = ranged("count_each")
    for call in (
        lambda: single.submit(kernel, 1, 2),
        lambda: single.submit(kernel),
        lambda: single.post(kernel, 1, 2),
        lambda: single.submit_many(kernel, [1], [2]),
        lambda: kernel(0, 1),
        lambda: kernel(),
    ):
        with pytest.raises(TypeError, match="parallel_for"):
            call()
    for method in (single.map_array, single.submit_array):
        with pytest.raises(TypeError, match="not for arrays"):
            method(kernel, [1.0])
    assert single.metrics().jobs_submitted == 0


# --- a pool that does not take it, or is the job's own ---


@pytest.mark.parametrize("n", [0, 5])
def test_a_pool_that_was_shut_down_refuses_it(pool: fastpool.Pool, n: int) -> None:
    pool.submit(int).result(WAIT)
    pool.shutdown()
    counts = np.zeros(5, np.int32)
    with pytest.raises(fastpool.PoolShutdown):
        pool.parallel_for(ranged("count_each", counts), n)
    assert counts.sum() == 0
    assert pool.metrics().jobs_submitted == 1


def test_a_full_queue_refuses_it(make_pool: MakePool) -> None:
    pool = make_pool(2, queue_size=1, on_full="raise")
    counts = np.zeros(5, np.int32)
    with Held(pool, 2):
        pool.submit(int)
        with pytest.raises(fastpool.PoolOverloaded):
            pool.parallel_for(ranged("count_each", counts), 5)
    assert counts.sum() == 0
    assert idle_metrics(pool).jobs_submitted == 3


def test_a_full_queues_caller_runs_it(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1, on_full="caller_runs")
    counts = np.zeros(5, np.int32)
    with Held(pool):
        pool.submit(int)
        pool.parallel_for(ranged("count_each", counts), 5)
        assert counts.tolist() == [1] * 5
    assert idle_metrics(pool).jobs_processed == 2 + 5


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("workers", [1, 2, 16])
def test_a_pool_whose_initializer_fails_raises_that(make_pool: MakePool, workers: int) -> None:
    pool = make_pool(workers, initializer=lambda: 1 / 0)
    counts = np.zeros(1000, np.int32)
    for _ in range(2):
        with pytest.raises(fastpool.BrokenThreadPool):
            pool.parallel_for(ranged("count_each", counts), 1000)
        with pytest.raises(fastpool.BrokenThreadPool):
            pool.map_array(kernels.identity, np.zeros(1000))
    assert counts.sum() == 0
    metrics = idle_metrics(pool)
    assert metrics.jobs_processed == metrics.job_duration.count == 0


def test_a_job_runs_a_range_on_its_own_one_worker_pool(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1)
    counts = np.zeros(3000, np.int32)
    for grain in (None, 1, 5000):
        pool.submit(pool.parallel_for, ranged("count_each", counts), 3000, None, grain).result(WAIT)
    assert np.all(counts == 3)
    filled = pool.submit(lambda: [pool.post(int), pool.parallel_for(ranged("count_each", counts), 3000)])
    filled.result(WAIT)
    assert np.all(counts == 4)
    assert idle_metrics(pool).jobs_processed == 3 + 2 + 4 * 3000


def test_a_range_within_a_range_on_its_own_one_worker_pool(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1)
    counts = np.zeros(10, np.int32)

    def outer(begin: int, end: int) -> int:
        pool.parallel_for(ranged("count_each", counts), 10, grain=1)
        return 0

    pool.parallel_for(of_python(outer), 6, grain=2)
    assert counts.tolist() == [3] * 10
    idle_metrics(pool)


def test_several_ranges_at_once_do_not_mix(pool: fastpool.Pool) -> None:
    def run(who: int) -> None:
        for grain in (None, 1, 64):
            counts = np.zeros(2000 + who, np.int32)
            pool.parallel_for(ranged("count_each"), 2000 + who, counts, grain)
            assert np.all(counts == 1)

    for result in [in_thread(run, who) for who in range(4)]:
        result()
    idle_metrics(pool)


def test_a_range_runs_with_the_interpreter_released(pool: fastpool.Pool) -> None:
    with native.Told() as told:
        result = in_thread(lambda: pool.parallel_for(ranged("until_told_range", told._words), 2))
    result()


def test_a_shutdown_lets_a_range_come_to_its_end(single: fastpool.Pool) -> None:
    inside, opened = threading.Event(), threading.Event()
    seen: list[int] = []

    def wait(begin: int, end: int) -> int:
        inside.set()
        reached(opened)
        seen.extend(range(begin, end))
        return 0

    result = in_thread(lambda: single.parallel_for(of_python(wait), 50, grain=5))
    reached(inside)
    single.shutdown(wait=False)
    opened.set()
    result()
    assert sorted(seen) == list(range(50))
    assert single.shutdown()


def test_a_shutdown_that_cancels_ends_a_range_with_that(single: fastpool.Pool) -> None:
    inside, opened = threading.Event(), threading.Event()

    def wait(begin: int, end: int) -> int:
        inside.set()
        reached(opened)
        return 0

    result = in_thread(lambda: single.parallel_for(of_python(wait), 50, grain=5))
    reached(inside)
    single.shutdown(wait=False, cancel_futures=True)
    opened.set()
    with pytest.raises(fastpool.CancelledError):
        result()
    assert single.shutdown()
    metrics = single.metrics()
    assert (metrics.jobs_processed, metrics.jobs_cancelled) == (5, 45)


# --- who takes part ---


@pytest.mark.parametrize("n", [1, 100, 20_000])
def test_a_pool_of_one_worker_never_runs_two_at_once_though_the_caller_waits(single: fastpool.Pool, n: int) -> None:
    words = np.zeros(3, np.int64)
    alone = fastpool.kernel(native.capsule("alone", "double (double, void *)"), data=words)
    x = np.zeros(n)
    for grain in (None, 1):
        single.map_array(alone, x, grain=grain)
    callers = [in_thread(lambda: single.map_array(alone, x)) for _ in range(3)]
    futures = [single.submit(alone, 0.0) for _ in range(100)]
    assert single.submit(lambda: float(single.map_array(alone, x).sum())).result(WAIT) == 0.0
    for result in callers:
        result()
    assert [future.result(WAIT) for future in futures] == [0.0] * 100
    idle_metrics(single)
    assert words.tolist() == [0, 0, 6 * n + 100]


def test_the_alone_kernel_sees_two_at_once(make_pool: MakePool) -> None:
    """The test above can fail."""
    words = np.zeros(3, np.int64)
    alone = fastpool.kernel(native.capsule("alone", "double (double, void *)"), data=words)
    words[0] = 1
    make_pool(1).map_array(alone, np.zeros(10))
    assert words[1] == 10


@pytest.mark.parametrize("way", ["map_array", "parallel_for"])
def test_jobs_queued_before_by_the_same_thread_start_first(make_pool: MakePool, way: str) -> None:
    """With a worker to spare: the caller must not begin while its own job waits in the queue."""
    pool = make_pool(2)
    order: list[str] = []
    element = fastpool.kernel(ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(lambda x: order.append("array") or x))
    piece = of_python(lambda begin, end: order.append("array") or 0)

    def both() -> None:
        pool.submit(order.append, "before")
        if way == "map_array":
            pool.map_array(element, np.zeros(5))
        else:
            pool.parallel_for(piece, 5)

    for _ in range(20):
        order.clear()
        held = Held(pool, 2)
        called = in_thread(both)
        metrics = pool.metrics()
        while metrics.queue_depth < 2:
            metrics = pool.metrics()
        assert order == []
        held.release()
        called()
        idle_metrics(pool)
        assert order[0] == "before"
        assert order.count("array") >= 1


def test_histograms_count_each_element_whoever_runs_it(pool: fastpool.Pool) -> None:
    counts = np.zeros(5000, np.int32)
    for grain in (None, 1, 64, 5000):
        before = idle_metrics(pool).job_duration.count
        pool.map_array(kernels.polynomial, np.ones(5000), grain=grain)
        pool.parallel_for(ranged("count_each", counts), 5000, grain=grain)
        assert idle_metrics(pool).job_duration.count - before == 10_000
    metrics = idle_metrics(pool)
    assert sum(bucket[-1] for bucket in metrics.job_duration.buckets) == metrics.job_duration.count == 40_000
