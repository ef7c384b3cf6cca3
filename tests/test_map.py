"""map: Executor.map of Python 3.14."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import WAIT, Held, idle_metrics, in_thread, reached

import fastpool

MakePool = Callable[..., fastpool.Pool]

# map takes two ways, with a buffer and without; what holds for one holds for the other.
BUFFERS = pytest.mark.parametrize("buffersize", [None, 1, 3], ids=["whole", "buffer1", "buffer3"])


class Boom(Exception):
    pass


@given(
    columns=st.lists(st.lists(st.integers(), max_size=30), min_size=1, max_size=4),
    workers=st.sampled_from([1, 2, 16]),
    chunksize=st.integers(1, 40),
    buffersize=st.none() | st.integers(1, 40),
)
def test_map_is_the_builtin_map(columns: list[list[int]], workers: int, chunksize: int, buffersize: int | None) -> None:
    def job(*args: int) -> tuple[int, ...]:
        return args

    with fastpool.Pool(workers) as pool:
        assert list(pool.map(job, *columns, chunksize=chunksize, buffersize=buffersize)) == list(map(job, *columns))


@BUFFERS
def test_map_of_nothing_is_nothing(pool: fastpool.Pool, buffersize: int | None) -> None:
    assert list(pool.map(int, [], buffersize=buffersize)) == []
    assert list(pool.map(int, buffersize=buffersize)) == []
    assert pool.metrics().jobs_submitted == 0


@BUFFERS
def test_results_that_are_none_or_exceptions_are_results(pool: fastpool.Pool, buffersize: int | None) -> None:
    values = [None, Boom(), StopIteration(), ()]
    assert list(pool.map(lambda x: x, values, buffersize=buffersize)) == values


@BUFFERS
def test_an_error_comes_in_the_place_of_its_result_and_ends_the_map(
    pool: fastpool.Pool, buffersize: int | None
) -> None:
    def job(i: int) -> int:
        if i == 3:
            raise Boom(i)
        return i

    results = pool.map(job, range(6), buffersize=buffersize)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(Boom) as caught:
        next(results)
    assert "job" in [entry.name for entry in caught.traceback]
    assert list(results) == []
    idle_metrics(pool)


@BUFFERS
def test_a_call_that_raises_stop_iteration_does_not_pass_for_the_end(
    pool: fastpool.Pool, buffersize: int | None
) -> None:
    """The standard map is a generator, where this is a RuntimeError; silence would lose the results after it."""

    def job(i: int) -> int:
        if i == 2:
            raise StopIteration
        return i

    results = pool.map(job, range(5), buffersize=buffersize)
    with pytest.raises(RuntimeError):
        list(results)


@BUFFERS
def test_each_item_is_called_exactly_once(make_pool: MakePool, buffersize: int | None) -> None:
    pool = make_pool(4)
    calls: list[int] = []
    n = 3000
    assert list(pool.map(lambda i: calls.append(i) or i, range(n), buffersize=buffersize)) == list(range(n))
    assert sorted(calls) == list(range(n))


@pytest.mark.parametrize("workers", [2, 16])
def test_calls_of_a_map_run_side_by_side(make_pool: MakePool, workers: int) -> None:
    barrier = threading.Barrier(workers)
    assert sorted(make_pool(workers).map(lambda _: barrier.wait(WAIT), range(workers))) == list(range(workers))


def test_a_map_takes_one_place_in_the_queue(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1, on_full="raise")
    with Held(pool):
        results = pool.map(int, ["1"] * 1000)
        assert pool.metrics().queue_depth == 1
    assert sum(results) == 1000


def test_the_iterables_are_read_at_once_without_a_buffer(single: fastpool.Pool) -> None:
    read: list[int] = []
    with Held(single):
        results = single.map(int, (read.append(i) or i for i in range(50)))
        assert read == list(range(50))
    assert list(results) == list(range(50))


@pytest.mark.parametrize("buffersize", [1, 2, 7])
def test_with_a_buffer_the_iterables_are_read_no_further_ahead(make_pool: MakePool, buffersize: int) -> None:
    """Exactly: the standard map of 3.14.0 read one too many."""
    pool = make_pool(2)
    read = 0

    def items() -> Iterator[int]:
        nonlocal read
        for read in itertools.count(1):  # noqa: UP028  the count is what is tested
            yield read

    results = pool.map(lambda i: i, items(), buffersize=buffersize)
    for yielded in range(200):
        assert read - yielded <= buffersize
        assert next(results) == yielded + 1
        # The one just given no longer counts, and the next is read when the next is asked for.
        assert read - (yielded + 1) <= buffersize
    results.close()


def test_an_endless_iterable_is_no_trouble_with_a_buffer(pool: fastpool.Pool) -> None:
    results = pool.map(lambda x: x + 1, itertools.count(), buffersize=4)
    assert list(itertools.islice(results, 100)) == list(range(1, 101))


@BUFFERS
def test_closing_the_iterator_cancels_what_has_not_started(make_pool: MakePool, buffersize: int | None) -> None:
    pool = make_pool(1)
    ran: list[int] = []
    first, go = threading.Event(), threading.Event()

    def job(i: int) -> int:
        ran.append(i)
        if i == 1:
            first.set()
            reached(go)
        return i

    results = pool.map(job, range(100), buffersize=buffersize)
    assert next(results) == 0
    if buffersize == 1:
        # Only the next read submits the next call.
        waiter = in_thread(next, results)
        reached(first)
        go.set()
        assert waiter() == 1
    else:
        reached(first)
    results.close()
    go.set()
    metrics = idle_metrics(pool)
    assert ran == [0, 1]
    assert metrics.jobs_processed == 2
    assert metrics.jobs_cancelled == (98 if buffersize is None else max(0, buffersize - 2))
    assert list(results) == []


@BUFFERS
def test_dropping_a_begun_iterator_cancels_what_has_not_started(make_pool: MakePool, buffersize: int | None) -> None:
    pool = make_pool(2)

    def job(i: int) -> int:
        return i

    for _ in range(100):
        results = pool.map(job, range(50), buffersize=buffersize)
        assert next(results) == 0
        del results
    metrics = idle_metrics(pool)
    assert metrics.jobs_failed == 0


def test_an_iterator_that_nobody_began_runs_to_the_end(single: fastpool.Pool) -> None:
    ran: list[int] = []
    single.map(ran.append, range(100))
    idle_metrics(single)
    assert ran == list(range(100))


@BUFFERS
def test_a_map_times_out_from_its_call(make_pool: MakePool, buffersize: int | None) -> None:
    pool = make_pool(1)
    with Held(pool):
        results = pool.map(int, ["1", "2"], timeout=0, buffersize=buffersize)
        with pytest.raises(TimeoutError):
            next(results)
        assert list(results) == []
    metrics = idle_metrics(pool)
    assert metrics.jobs_cancelled == (1 if buffersize == 1 else 2)


@BUFFERS
@pytest.mark.parametrize("timeout", [None, math.inf, 1e300])
def test_a_map_without_end_of_time(pool: fastpool.Pool, timeout: float | None, buffersize: int | None) -> None:
    assert list(pool.map(int, "123", timeout=timeout, buffersize=buffersize)) == [1, 2, 3]


@BUFFERS
@pytest.mark.parametrize(
    ("options", "error", "name"),
    [
        ({"timeout": -1}, ValueError, "timeout"),
        ({"timeout": math.nan}, ValueError, "timeout"),
        ({"timeout": "1"}, TypeError, "timeout"),
        ({"chunksize": 0}, ValueError, "chunksize"),
        ({"chunksize": -1}, ValueError, "chunksize"),
        ({"chunksize": 1.0}, TypeError, "chunksize"),
        ({"chunksize": 10**30}, ValueError, "chunksize"),
    ],
)
def test_a_bad_option_of_map_is_refused_at_the_call(
    single: fastpool.Pool, options: dict[str, Any], error: type[Exception], name: str, buffersize: int | None
) -> None:
    with pytest.raises(error, match=name):
        single.map(int, "123", buffersize=buffersize, **options)
    assert single.metrics().jobs_submitted == 0


@pytest.mark.parametrize("buffersize", [0, -1, 2.0, "3", 10**30])
def test_a_bad_buffersize_is_refused_at_the_call(single: fastpool.Pool, buffersize: Any) -> None:
    for start in (single.map, single.imap_unordered):
        with pytest.raises((TypeError, ValueError), match="buffersize"):
            start(int, "123", buffersize=buffersize)
    assert single.metrics().jobs_submitted == 0


@BUFFERS
def test_what_cannot_be_called_or_iterated_is_refused_at_the_call(
    single: fastpool.Pool, buffersize: int | None
) -> None:
    with pytest.raises(TypeError, match="fn"):
        single.map(5, [1], buffersize=buffersize)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        single.map(int, 5, buffersize=buffersize)  # type: ignore[arg-type]
    assert single.metrics().jobs_submitted == 0


def test_an_iterable_that_fails_half_way_through_a_buffered_map(single: fastpool.Pool) -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise Boom

    results = single.map(int, items(), buffersize=1)
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(Boom):
        next(results)
    idle_metrics(single)
    with Held(single), pytest.raises(Boom):
        single.map(int, items(), buffersize=5)
    assert idle_metrics(single).jobs_cancelled == 2, "what it had submitted is cancelled"


def test_shutdown_with_cancelling_ends_a_map_that_is_being_read(make_pool: MakePool) -> None:
    pool = make_pool(1)
    with Held(pool):
        results = pool.map(int, ["1"] * 10)
        waiter = in_thread(next, results)
        pool.shutdown(wait=False, cancel_futures=True)
        with pytest.raises(CancelledError):
            waiter()


def test_the_iterator_tells_how_much_is_left(single: fastpool.Pool) -> None:
    results = single.map(int, "123")
    assert results.__length_hint__() == 3
    next(results)
    assert results.__length_hint__() == 2


def test_the_iterator_is_neither_pickled_nor_copied(single: fastpool.Pool) -> None:
    """A copy would share the results, and each result is there to be read once."""
    results = single.map(int, "123")
    for clone in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError):
            clone(results)


def test_several_threads_may_share_the_iterator(make_pool: MakePool) -> None:
    """As with any iterator they share the results: none twice, none lost."""
    pool = make_pool(2)
    results = pool.map(int, range(2000))
    seen: list[int] = []

    def read() -> None:
        seen.extend(results)

    readers = [in_thread(read) for _ in range(3)]
    for reader in readers:
        reader()
    assert sorted(seen) == list(range(2000))
