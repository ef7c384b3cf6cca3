"""submit_many of a kernel: one place in the queue for all calls, and a future for each of them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import ctypes
import gc
import itertools
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

import native
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import WAIT, Held, ended, idle_metrics, in_thread, reached

import fastpool
from fastpool import _core, kernels

MakePool = Callable[..., fastpool.Pool]
SCALAR = [signature for signature in _core.SIGNATURES if signature.partition(" ")[0] in native.SCALARS]
WITH_DATA = "double (double, void *)"


def kernel(signature: str) -> fastpool.Kernel:
    return fastpool.kernel(native.capsule(native.function_name(signature), signature))


def with_data(function: str, data: Any) -> fastpool.Kernel:
    return fastpool.kernel(native.capsule(function, WITH_DATA), data=data)


def counting() -> tuple[fastpool.Kernel, Any]:
    """A kernel that counts its calls, and the count."""
    calls = np.zeros(1, np.int64)
    return with_data("counted", calls), calls


def results(futures: list[Any]) -> list[Any]:
    return [future.result(WAIT) for future in futures]


class Gate:
    """A kernel whose call on `stop` waits until opened; it counts all calls."""

    def __init__(self, stop: float = 0.0) -> None:
        self.inside, self.opened = threading.Event(), threading.Event()
        self.calls: list[float] = []
        self._stop = stop
        self.kernel = fastpool.kernel(ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(self._pass))

    def _pass(self, x: float) -> float:
        self.calls.append(x)
        if x == self._stop:
            self.inside.set()
            self.opened.wait(WAIT)
        return x


# --- arguments and results ---


@pytest.mark.parametrize("signature", SCALAR)
def test_every_signature_gives_what_submit_gives_one_by_one(pool: fastpool.Pool, signature: str) -> None:
    job = kernel(signature)
    result, _, arguments = signature.partition(" (")
    columns = [list(range(start, start + 500)) for start in (-20, 7, 1000)][: arguments.count(result)]
    together = results(pool.submit_many(job, *columns))
    assert together == [pool.submit(job, *row).result(WAIT) for row in zip(*columns, strict=True)]
    arrays = [np.array(column, native.SCALARS[result][1]) for column in columns]
    assert results(pool.submit_many(job, *arrays)) == together
    assert type(together[0]) is (int if result == "int64_t" else float)


@pytest.mark.parametrize("count", [1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 2047, 2049, 5000])
def test_each_call_runs_once_whatever_their_number(pool: fastpool.Pool, count: int) -> None:
    job, calls = counting()
    assert results(pool.submit_many(job, np.arange(float(count)))) == list(map(float, range(count)))
    assert calls[0] == count
    assert idle_metrics(pool).jobs_processed == count


@pytest.mark.parametrize(
    "make",
    [list, tuple, iter, lambda values: (x for x in values), np.array, dict.fromkeys, lambda values: map(float, values)],
    ids=["list", "tuple", "iterator", "generator", "array", "dict", "map"],
)
def test_any_iterable_gives_the_arguments(single: fastpool.Pool, make: Callable[[Any], Any]) -> None:
    assert results(single.submit_many(kernels.identity, make([3.0, 1.0, 2.0]))) == [3.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([1, 2, 3], [10, 20]),
        ([1, 2], itertools.count(10, 10)),
        (itertools.count(1), iter([10, 20])),
        (np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0])),
        (np.array([1.0, 2.0]), itertools.count(10, 10)),
        (np.array([1, 2, 3], np.int8), [10, 20]),
        (np.array([1, 2, 3], np.int8), np.array([10, 20], np.float32)),
    ],
)
def test_the_shortest_iterable_ends_them(single: fastpool.Pool, first: Any, second: Any) -> None:
    job = kernel("double (double, double)")
    assert results(single.submit_many(job, first, second)) == [1 - 20.0, 2 - 40.0]


@pytest.mark.parametrize("empty", [[], (), iter([]), np.zeros(0), np.zeros(0, np.int32), {}])
def test_no_arguments_are_no_jobs(single: fastpool.Pool, empty: Any) -> None:
    assert single.submit_many(kernels.identity, empty) == []
    assert single.submit_many(kernel("double (double, double)"), empty, np.ones(3)) == []
    assert single.metrics().jobs_submitted == 0


LAYOUTS = {
    "int32": np.arange(40, dtype=np.int32),
    "int64": np.arange(40, dtype=np.int64),
    "float16": np.arange(40, dtype=np.float16),
    "big endian": np.arange(40, dtype=">f8"),
    "bool": np.arange(40) % 3 == 0,
    "strided": np.arange(120.0)[::3],
    "reversed": np.arange(40.0)[::-1],
    "a column": np.arange(160.0).reshape(40, 4)[:, 1],
    "broadcast": np.broadcast_to(np.float64(2), 40),
    "read-only": np.frombuffer(np.arange(40.0).tobytes()),
    "misaligned": np.frombuffer(b"x" + np.arange(40.0).tobytes(), np.uint8)[1:].view(np.float64),
    "a record's field": np.array([(1, i) for i in range(40)], [("a", "i1"), ("b", "f8")])["b"],
    "objects": np.arange(40).astype(object),
}


@pytest.mark.parametrize("array", LAYOUTS.values(), ids=LAYOUTS)
def test_an_array_of_any_dtype_and_layout_gives_its_elements(single: fastpool.Pool, array: Any) -> None:
    job = kernel("double (double)")
    assert results(single.submit_many(job, array)) == [3.0 * float(x) + 1 for x in array]
    two = kernel("double (double, double)")
    assert results(single.submit_many(two, array, array)) == [-float(x) for x in array]


def test_doubles_for_a_float_kernel_are_rounded_as_submit_rounds_them(single: fastpool.Pool) -> None:
    job = kernel("float (float)")
    values = np.array([0.1, 1 / 3, 16777217.0, 1e-50, -2.5, np.inf])
    assert results(single.submit_many(job, values)) == [single.submit(job, x).result(WAIT) for x in values]


@given(values=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20))
def test_integers_of_any_size_arrive_whole(values: list[int]) -> None:
    with fastpool.Pool(1) as pool:
        job = kernel("int64_t (int64_t, void *)")
        assert results(pool.submit_many(job, values)) == values
        assert results(pool.submit_many(job, np.array(values, np.int64))) == values


REFUSED = {
    "doubles for an int64 kernel": ("int64_t (int64_t)", [np.array([1.0, 2.0])], TypeError),
    "a double among integers": ("int64_t (int64_t)", [[1, 2.0]], TypeError),
    "beyond int64": ("int64_t (int64_t)", [[1, 2**63]], OverflowError),
    "uint64 beyond int64": ("int64_t (int64_t)", [np.array([1, 2**63], np.uint64)], OverflowError),
    "beyond double": ("double (double)", [[10**400]], OverflowError),
    "complex": ("double (double)", [np.array([1j])], TypeError),
    "complex among others": ("float (float)", [[1.0, np.complex128(2)]], TypeError),
    "strings": ("double (double)", ["12"], TypeError),
    "None": ("double (double)", [[1.0, None]], TypeError),
    "dates": ("double (double)", [np.array(["2020-01-01"], "M8[D]")], TypeError),
    "records": ("double (double)", [np.zeros(2, [("x", "f8")])], TypeError),
    "two dimensions": ("double (double)", [np.zeros((3, 2))], TypeError),
    "a column": ("double (double)", [np.zeros((3, 1))], TypeError),
    "two dimensions of other type": ("double (double)", [np.zeros((3, 1), np.int8)], TypeError),
    "two dimensions beside one": ("double (double, double)", [np.zeros((3, 1)), np.zeros(3)], TypeError),
    "no dimension": ("double (double)", [np.array(1.0)], TypeError),
    "masked": ("double (double)", [np.ma.masked_array([1.0, 2.0], [True, False])], TypeError),
    "no iterable": ("double (double)", [5.0], TypeError),
    "too few": ("double (double, double)", [[1.0]], TypeError),
    "too many": ("double (double)", [[1.0], [2.0]], TypeError),
    "a status": ("int (void *)", [[1.0]], TypeError),
    "a range": ("int (int64_t, int64_t, void *)", [[1], [2]], TypeError),
}  # fmt: skip


@pytest.mark.parametrize(("signature", "iterables", "error"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_convert_queues_nothing(
    single: fastpool.Pool, signature: str, iterables: list[Any], error: type[Exception]
) -> None:
    function = "d1" if "int (" in signature else native.function_name(signature)
    job = fastpool.kernel(native.capsule(function, signature))
    with pytest.raises(error):
        single.submit_many(job, *iterables)
    assert single.metrics().jobs_submitted == 0
    assert results(single.submit_many(kernels.identity, [1.0])) == [1.0]


def test_an_error_in_an_iterable_or_a_conversion_comes_out_and_queues_nothing(single: fastpool.Pool) -> None:
    def broken() -> Any:
        yield 1.0
        raise LookupError("in the iterable")

    class Bad:
        def __float__(self) -> float:
            raise LookupError("in the number")

    for iterable, says in ((broken(), "in the iterable"), ([1.0, Bad()], "in the number")):
        with pytest.raises(LookupError, match=says):
            single.submit_many(kernels.identity, iterable)
    assert single.metrics().jobs_submitted == 0


def test_a_conversion_may_submit_in_its_turn(single: fastpool.Pool) -> None:
    class Nested:
        def __float__(self) -> float:
            return float(sum(results(single.submit_many(kernels.identity, [1.0, 2.0]))))

    assert results(single.submit_many(kernels.identity, [Nested(), 5, Nested()])) == [3.0, 5.0, 3.0]


def test_arrays_may_be_changed_once_they_are_submitted(single: fastpool.Pool) -> None:
    array, listed = np.arange(100.0), list(range(100))
    with Held(single):
        futures = single.submit_many(kernels.identity, array)
        others = single.submit_many(kernels.identity, listed)
        array[:] = -1
        listed.clear()
    array.resize(1000)  # nobody holds it
    assert results(futures) == results(others) == list(map(float, range(100)))


def test_a_million_calls_come_out(make_pool: MakePool) -> None:
    pool = make_pool(2)
    futures = pool.submit_many(kernel("double (double)"), np.arange(1e6))
    assert len(futures) == 10**6
    assert sum(results(futures)) == 3 * (10**6 * (10**6 - 1) // 2) + 10**6
    metrics = idle_metrics(pool)
    assert metrics.jobs_processed == metrics.job_duration.count == 10**6


def test_few_long_calls_are_shared_among_the_workers(make_pool: MakePool) -> None:
    """None of the first two comes to its end before the other has begun."""
    pool = make_pool(2)
    inside = np.array([0, 2])
    assert results(pool.submit_many(with_data("together", inside), np.arange(8.0))) == list(map(float, range(8)))


def test_a_kernel_runs_with_the_interpreter_released(pool: fastpool.Pool) -> None:
    with native.Told() as told:
        futures = pool.submit_many(told.element, np.arange(3.0))
    assert results(futures) == [0.0, 1.0, 2.0]


# --- each future ---


def test_each_future_tells_whether_it_waits_runs_or_has_ended(single: fastpool.Pool) -> None:
    gate = Gate(1.0)
    futures = single.submit_many(gate.kernel, [0.0, 1.0, 2.0])
    reached(gate.inside)
    assert [future.done() for future in futures] == [True, False, False]
    assert [future.running() for future in futures] == [False, True, False]
    assert [future._state for future in futures] == ["FINISHED", "RUNNING", "PENDING"]
    assert futures[0].result(0) == 0.0
    assert futures[0].exception(0) is None
    for future in futures[1:]:
        for method in (future.result, future.exception):
            with pytest.raises(TimeoutError):
                method(0)
            with pytest.raises(TimeoutError):
                method(timeout=0.001)
    gate.opened.set()
    assert results(futures) == [0.0, 1.0, 2.0]
    assert all(future.done() and not future.running() and not future.cancelled() for future in futures)
    assert isinstance(futures[0], fastpool.Future)


def test_a_call_is_cancelled_before_it_starts_and_never_after(single: fastpool.Pool) -> None:
    gate = Gate(1.0)
    futures = single.submit_many(gate.kernel, [0.0, 1.0, 2.0, 3.0])
    reached(gate.inside)
    assert [future.cancel() for future in futures] == [False, False, True, True]
    assert [future.cancelled() for future in futures] == [False, False, True, True]
    assert futures[2].cancel(), "and from then on"
    gate.opened.set()
    assert results(futures[:2]) == [0.0, 1.0]
    for future in futures[2:]:
        for method in (future.result, future.exception):
            with pytest.raises(CancelledError):
                method()
    metrics = idle_metrics(single)
    assert (metrics.jobs_processed, metrics.jobs_cancelled) == (2, 2)
    assert metrics.job_duration.count == 2
    assert gate.calls == [0.0, 1.0]


@pytest.mark.parametrize("count", [40, 5000])
def test_cancelled_calls_never_run_and_the_others_do(pool: fastpool.Pool, count: int) -> None:
    job, calls = counting()
    with Held(pool, pool._max_workers):
        futures = pool.submit_many(job, np.arange(float(count)))
        for i, future in enumerate(futures):
            assert future.cancel() if i % 3 == 0 or i > count - 10 else True
    left = [future for future in futures if not future.cancelled()]
    assert results(left) == [float(i) for i in range(count) if i % 3 != 0 and i <= count - 10]
    metrics = idle_metrics(pool)
    assert calls[0] == len(left)
    assert metrics.jobs_cancelled == count - len(left)
    assert metrics.jobs_processed == len(left) + pool._max_workers


def test_cancelling_while_calls_run_and_workers_race_loses_none(make_pool: MakePool, fast_switching: None) -> None:
    pool = make_pool(2)
    for _ in range(30):
        job, calls = counting()
        futures = pool.submit_many(job, np.arange(3000.0))
        cancelled = [future.cancel() for future in reversed(futures)][::-1]
        for i, future in enumerate(futures):
            if cancelled[i]:
                with pytest.raises(CancelledError):
                    future.result(WAIT)
            else:
                assert future.result(WAIT) == i
        idle_metrics(pool)
        assert calls[0] == cancelled.count(False)


def test_cancelling_a_call_wakes_who_waits_for_it(single: fastpool.Pool) -> None:
    """At once, and not when the queue comes to it: here it never does before the wait is over."""
    with Held(single):
        futures = single.submit_many(kernels.identity, [1.0, 2.0])
        waiting = [in_thread(method) for method in (futures[1].result, futures[1].exception)]
        with pytest.raises(TimeoutError):
            futures[1].result(0.05)  # time for them to fall asleep; should one come later, it must see it all the same
        assert futures[1].cancel()
        for result in waiting:
            with pytest.raises(CancelledError):
                result()
    assert futures[0].result(WAIT) == 1.0


def test_callbacks_run_once_whether_added_before_or_after_the_end(pool: fastpool.Pool) -> None:
    seen: list[Any] = []
    with Held(pool, pool._max_workers):
        futures = pool.submit_many(kernels.identity, np.arange(300.0))
        for future in futures:
            future.add_done_callback(lambda one: seen.append(one.result(0)))
        futures[7].cancel()  # runs it here, where it raises and is logged
    results([future for future in futures if not future.cancelled()])
    idle_metrics(pool)
    assert sorted(seen) == [float(i) for i in range(300) if i != 7]
    late: list[Any] = []
    for future in futures:
        future.add_done_callback(late.append)
    assert late == futures


def test_callbacks_that_raise_harm_nobody(single: fastpool.Pool, caplog: pytest.LogCaptureFixture) -> None:
    with Held(single):
        futures = single.submit_many(kernels.identity, np.arange(50.0))
        for future in futures:
            future.add_done_callback(lambda _: 1 / 0)
    assert results(futures) == list(map(float, range(50)))
    idle_metrics(single)
    assert len(caplog.records) == 50


def test_callbacks_are_added_from_many_threads_while_calls_end(pool: fastpool.Pool, fast_switching: None) -> None:
    futures = pool.submit_many(kernels.polynomial, np.ones(4000))
    seen: list[Any] = []

    def add(who: int) -> None:
        for future in futures[who::2]:
            future.add_done_callback(seen.append)
            future.add_done_callback(seen.append)

    for added in [in_thread(add, who) for who in (0, 1, 0, 1)]:
        added()
    concurrent.futures.wait(futures, WAIT)
    idle_metrics(pool)
    assert len(seen) == 4 * len(futures)


def check_the_standard_waits(pool: fastpool.Pool) -> None:
    with Held(pool, pool._max_workers):
        futures = pool.submit_many(kernels.identity, np.arange(500.0))
        assert concurrent.futures.wait(futures, 0).done == set()
        waits = [in_thread(concurrent.futures.wait, futures[::-1], WAIT) for _ in range(2)]
        firsts = in_thread(concurrent.futures.wait, futures, WAIT, concurrent.futures.FIRST_COMPLETED)
        completed = in_thread(lambda: [future.result() for future in concurrent.futures.as_completed(futures, WAIT)])
    assert sorted(completed()) == list(map(float, range(500)))
    assert all(wait().done == set(futures) for wait in waits)
    assert len(firsts().done) >= 1
    assert concurrent.futures.wait(futures).not_done == set()
    assert len(list(concurrent.futures.as_completed(futures))) == 500


def test_the_standard_waits_take_them_at_any_time(pool: fastpool.Pool) -> None:
    for _ in range(20):  # that no state changes while they hold the conditions shows now and then only
        check_the_standard_waits(pool)


def test_the_standard_wait_sees_cancelled_ones(single: fastpool.Pool) -> None:
    with Held(single):
        futures = single.submit_many(kernels.identity, np.arange(10.0))
        waiting = in_thread(concurrent.futures.wait, futures, WAIT)
        assert all(future.cancel() for future in futures)
        assert waiting().done == set(futures)


def test_asyncio_awaits_them(pool: fastpool.Pool) -> None:
    async def main() -> list[float]:
        futures = pool.submit_many(kernel("double (double)"), np.arange(200.0))
        return await asyncio.gather(*map(asyncio.wrap_future, futures))

    assert asyncio.run(main()) == [3.0 * i + 1 for i in range(200)]


def test_waiting_for_a_hundred_thousand_in_the_standard_ways_takes_no_longer_for_each(make_pool: MakePool) -> None:
    """A hang here means that each block of calls looks at every future that somebody waits for."""
    pool = make_pool(2)
    with Held(pool, 2):
        futures = pool.submit_many(kernels.identity, np.arange(100_000.0))
        waiting = in_thread(concurrent.futures.wait, futures)
        futures[-1].add_done_callback(lambda _: None)
    assert len(waiting().done) == 100_000


def test_results_are_read_in_any_order(pool: fastpool.Pool) -> None:
    futures = pool.submit_many(kernel("double (double)"), np.arange(3000.0))
    order = np.random.default_rng(1).permutation(3000)
    assert [futures[i].result(WAIT) for i in order] == [3.0 * i + 1 for i in order]
    assert results(futures) == [3.0 * i + 1 for i in range(3000)], "and twice"


@pytest.mark.parametrize("count", [16, 400])
def test_several_threads_wait_for_different_calls_and_for_the_same(make_pool: MakePool, count: int) -> None:
    """With blocks of one call and of several: the wake-up reaches everybody, whoever waits for what."""
    pool = make_pool(2)
    for _ in range(20):
        with Held(pool, 2):
            futures = pool.submit_many(kernels.identity, np.arange(float(count)))
            wanted = [0, 0, 1, 2, 7, count // 2, count - 2, count - 1, count - 1]
            waiting = [in_thread(futures[i].result, WAIT) for i in wanted]
        assert [result() for result in waiting] == list(map(float, wanted))


def test_one_who_gives_up_waiting_takes_nobodys_wake_up_along(single: fastpool.Pool) -> None:
    with Held(single):
        futures = single.submit_many(kernels.identity, [1.0, 2.0])
        patient = in_thread(futures[1].result)  # on no main thread: it sleeps until it is woken
        for _ in range(3):
            impatient = [in_thread(futures[1].exception, 0.02) for _ in range(3)]
            for result in impatient:
                with pytest.raises(TimeoutError):
                    result()
    assert patient() == 2.0


def test_the_main_thread_waits_for_the_same_call_as_others(single: fastpool.Pool) -> None:
    """It looks up now and then for signals, and the others must not miss the end for that."""
    for _ in range(5):
        gate = Gate(1.0)
        futures = single.submit_many(gate.kernel, [0.0, 1.0, 2.0])
        reached(gate.inside)
        others = [in_thread(futures[i].result) for i in (1, 1, 2)]
        with pytest.raises(TimeoutError):
            futures[1].result(0.11)
        opened = threading.Timer(0.07, gate.opened.set)
        opened.start()
        assert futures[1].result(WAIT) == 1.0
        assert [result() for result in others] == [1.0, 1.0, 2.0]


# --- who holds what ---


def test_futures_may_be_dropped_while_their_calls_are_queued(pool: fastpool.Pool) -> None:
    job, calls = counting()
    with Held(pool, pool._max_workers):
        pool.submit_many(job, np.arange(1000.0))
    metrics = idle_metrics(pool)
    assert calls[0] == 1000
    assert metrics.jobs_processed == 1000 + pool._max_workers


def test_one_of_many_futures_may_be_kept(pool: fastpool.Pool) -> None:
    futures = pool.submit_many(kernel("double (double)"), np.arange(100_000.0))
    kept = futures[77_777]
    del futures
    gc.collect()
    assert kept.result(WAIT) == 3.0 * 77_777 + 1
    kept.add_done_callback(lambda _: None)
    assert kept.result() == 3.0 * 77_777 + 1


def test_the_kernels_data_lives_until_the_last_call_and_no_longer(single: fastpool.Pool) -> None:
    job, calls = counting()
    gone = weakref.ref(calls)
    with Held(single):
        futures = single.submit_many(job, np.arange(100.0))
        del job, calls
        gc.collect()
        assert gone() is not None
    assert len(results(futures)) == 100
    del futures
    idle_metrics(single)
    single.submit(int).result(WAIT)  # whoever comes next drops what the workers have left
    gc.collect()
    assert gone() is None


WATCHES: dict[str, Callable[[list[Any]], object]] = {
    "nobody": lambda futures: None,
    "a callback": lambda futures: [future.add_done_callback(lambda _: None) for future in futures],
    "a callback in a cycle": lambda futures: [
        future.add_done_callback(lambda _, futures=futures: None)  # type: ignore[misc]
        for future in futures
    ],
    "wait": lambda futures: concurrent.futures.wait(futures, 0),
    "the condition": lambda futures: [future._condition for future in futures],
    "an attribute in a cycle": lambda futures: [setattr(future, "me", futures) for future in futures],
}


@pytest.mark.parametrize("watch", WATCHES.values(), ids=WATCHES)
@pytest.mark.parametrize("when", ["before", "after", "cancelled"])
def test_ended_futures_are_freed_whoever_has_watched_them(
    single: fastpool.Pool, watch: Callable[[list[Any]], object], when: str
) -> None:
    with Held(single):
        futures = single.submit_many(kernels.identity, np.arange(50.0))
        if when != "after":
            watch(futures)
        if when == "cancelled":
            assert all(future.cancel() for future in futures)
    idle_metrics(single)
    assert all(future.done() for future in futures)
    if when == "after":
        watch(futures)
    gone = [weakref.ref(future) for future in futures]
    del futures
    single.submit(int).result(WAIT)
    gc.collect()
    assert [ref for ref in gone if ref() is not None] == []


def test_the_futures_of_calls_that_were_discarded_are_freed(single: fastpool.Pool) -> None:
    held = Held(single)
    futures = single.submit_many(kernels.identity, np.arange(50.0))
    for future in futures[::2]:
        future.add_done_callback(lambda _: None)
    single.shutdown(wait=False, cancel_futures=True)
    held.release()
    assert single.shutdown()
    assert all(future.cancelled() for future in futures)
    for future in futures:
        future.add_done_callback(lambda _, futures=futures: None)  # type: ignore[misc]
    gone = [weakref.ref(future) for future in futures]
    del futures, future
    gc.collect()
    assert [ref for ref in gone if ref() is not None] == []


# --- a pool that is full, broken, shut down, or somebody else's ---


def test_a_shutdown_that_cancels_ends_all_that_has_not_started(make_pool: MakePool) -> None:
    pool = make_pool(1)
    held = Held(pool)
    futures = pool.submit_many(kernels.identity, np.arange(1000.0))
    told: list[Any] = []
    futures[3].add_done_callback(told.append)
    waiting = [in_thread(futures[i].result) for i in (0, 500, 999)]
    pool.shutdown(wait=False, cancel_futures=True)
    assert told == [futures[3]]
    for result in waiting:
        with pytest.raises(CancelledError):
            result()
    assert all(future.cancelled() and future.cancel() for future in futures)
    assert concurrent.futures.wait(futures).not_done == set()
    held.release()
    assert pool.shutdown()
    metrics = pool.metrics()
    assert (metrics.jobs_cancelled, metrics.jobs_submitted) == (1000, 1001)
    with pytest.raises(fastpool.PoolShutdown):
        pool.submit_many(kernels.identity, [1.0])
    assert pool.submit_many(kernels.identity, []) == []


def test_a_shutdown_that_cancels_in_the_midst_keeps_what_has_run(single: fastpool.Pool) -> None:
    gate = Gate(100.0)
    futures = single.submit_many(gate.kernel, np.arange(1000.0))
    reached(gate.inside)
    told: list[Any] = []
    for future in futures[90:140]:
        future.add_done_callback(told.append)
    single.shutdown(wait=False, cancel_futures=True)
    gate.opened.set()
    assert single.shutdown()
    last = len(gate.calls)
    assert 100 < last <= 132, "the block that had begun"
    assert results(futures[:last]) == list(map(float, range(last)))
    assert all(future.cancelled() for future in futures[last:])
    assert len(told) == 50
    metrics = single.metrics()
    assert (metrics.jobs_processed, metrics.jobs_cancelled) == (last, 1000 - last)


def test_a_shutdown_that_drains_runs_them_all(pool: fastpool.Pool) -> None:
    job, calls = counting()
    futures = pool.submit_many(job, np.arange(10_000.0))
    assert pool.shutdown()
    assert calls[0] == 10_000
    assert all(future.done() for future in futures)


def test_calls_that_are_the_oldest_give_way_to_the_next(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1, on_full="discard_oldest")
    with Held(pool):
        futures = pool.submit_many(kernels.identity, np.arange(100.0))
        waiting = in_thread(futures[50].result)
        last = pool.submit(int)
        with pytest.raises(CancelledError):
            waiting()
        assert all(future.cancelled() for future in futures)
    assert last.result(WAIT) == 0
    assert idle_metrics(pool).jobs_cancelled == 100


@pytest.mark.parametrize(
    ("on_full", "error"), [("raise", fastpool.PoolOverloaded), ("block", fastpool.SubmitTimeout)], ids=str
)
def test_a_full_queue_accepts_none_of_them(make_pool: MakePool, on_full: str, error: type[Exception]) -> None:
    pool = make_pool(1, queue_size=1, on_full=on_full, submit_timeout=0.01)
    job, calls = counting()
    gone = weakref.ref(calls)
    with Held(pool):
        pool.submit(int)
        with pytest.raises(error) as caught:
            pool.submit_many(job, np.arange(100.0))
        assert list(caught.value.futures) == []  # type: ignore[attr-defined]
    metrics = idle_metrics(pool)
    assert (metrics.jobs_submitted, metrics.jobs_rejected) == (2, 1)
    assert calls[0] == 0
    del job, calls, caught
    gc.collect()
    assert gone() is None


def test_a_full_queues_caller_runs_them_with_the_interpreter_released(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1, on_full="caller_runs")
    with Held(pool):
        pool.submit(int)
        with native.Told() as told:
            futures = in_thread(lambda: pool.submit_many(told.element, np.arange(3.0)))
        assert results(futures()) == [0.0, 1.0, 2.0]
    assert idle_metrics(pool).jobs_processed == 5


@pytest.mark.filterwarnings("ignore")
def test_calls_for_a_pool_whose_initializer_fails_end_with_that(make_pool: MakePool) -> None:
    gate = threading.Event()

    def fail() -> None:
        reached(gate)
        raise LookupError("in the initializer")

    pool = make_pool(1, initializer=fail)
    futures = pool.submit_many(kernels.identity, np.arange(100.0))
    told: list[Any] = []
    futures[5].add_done_callback(lambda future: told.append(type(future.exception())))
    waiting = in_thread(futures[50].exception)
    assert futures[7].cancel()
    gate.set()
    assert isinstance(waiting(), fastpool.BrokenThreadPool)
    for i, future in enumerate(futures):
        if i == 7:
            assert future.cancelled()
            continue
        with pytest.raises(fastpool.BrokenThreadPool, match="initializer"):
            future.result(WAIT)
        assert isinstance(future.exception(), fastpool.BrokenThreadPool)
    assert futures[1].exception() is futures[1].exception()
    assert told == [fastpool.BrokenThreadPool]
    with pytest.raises(fastpool.BrokenThreadPool):
        pool.submit_many(kernels.identity, [1.0])
    assert pool.shutdown()
    metrics = pool.metrics()
    assert metrics.jobs_submitted == ended(metrics) == 100


def test_a_job_waits_for_calls_on_its_own_one_worker_pool(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1)

    def job(read: Callable[[list[Any]], Any]) -> Any:
        return read(pool.submit_many(kernel("double (double)"), np.arange(100.0)))

    want = [3.0 * i + 1 for i in range(100)]
    assert pool.submit(job, results).result(WAIT) == want
    assert pool.submit(job, lambda futures: results(futures[::-1])[::-1]).result(WAIT) == want
    assert pool.submit(job, lambda futures: futures[60].result(WAIT)).result(WAIT) == want[60]
    assert len(pool.submit(job, concurrent.futures.wait).result(WAIT).done) == 100
    completed = pool.submit(job, lambda futures: [one.result() for one in concurrent.futures.as_completed(futures)])
    assert sorted(completed.result(WAIT)) == want
    idle_metrics(pool)


def test_a_call_that_waits_for_calls_of_its_own_pool_comes_to_its_end(single: fastpool.Pool) -> None:
    @ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)
    def deeper(x: float) -> float:
        return x + sum(results(single.submit_many(inner, [x - 1] * 3))) if x > 0 else 1.0

    inner = fastpool.kernel(deeper)
    assert results(single.submit_many(inner, [2.0, 0.0, 1.0])) == [14.0, 1.0, 4.0]
    idle_metrics(single)


def test_calls_cancelled_before_their_deadline_count_as_cancelled(make_pool: MakePool) -> None:
    pool = make_pool(1)
    with Held(pool):
        futures = pool.options(timeout=0.02).submit_many(kernels.identity, np.arange(100.0))
        chosen = [futures[i] for i in (0, 50, 99)]
        assert all(future.cancel() for future in chosen)
        for future in futures:
            if future not in chosen:
                assert isinstance(future.exception(WAIT), fastpool.JobTimeout)
    assert all(future.cancelled() for future in chosen)
    metrics = idle_metrics(pool)
    assert (metrics.jobs_cancelled, metrics.jobs_timed_out) == (3, 97)
