"""imap_unordered: results as they come, bounded by the reader."""

from __future__ import annotations

import gc
import itertools
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import WAIT, Held, idle_metrics, in_thread, reached

import fastpool

MakePool = Callable[..., fastpool.Pool]


class Boom(Exception):
    pass


@given(
    columns=st.lists(st.lists(st.integers(), max_size=30), min_size=1, max_size=3),
    workers=st.sampled_from([1, 2, 16]),
    chunksize=st.integers(1, 10),
    buffersize=st.none() | st.integers(1, 10),
)
def test_it_is_map_in_any_order(columns: list[list[int]], workers: int, chunksize: int, buffersize: int | None) -> None:
    def job(*args: int) -> tuple[int, ...]:
        return args

    with fastpool.Pool(workers) as pool:
        results = pool.imap_unordered(job, *columns, chunksize=chunksize, buffersize=buffersize)
        assert Counter(results) == Counter(map(job, *columns))


def test_results_come_as_they_end(make_pool: MakePool) -> None:
    pool = make_pool(2)
    slow = threading.Event()

    def job(i: int) -> int:
        if i == 0:
            reached(slow)
        return i

    results = pool.imap_unordered(job, range(3), buffersize=3)
    assert {next(results), next(results)} == {1, 2}
    slow.set()
    assert list(results) == [0]


@pytest.mark.parametrize(("buffersize", "chunksize"), [(1, 1), (3, 1), (2, 4)])
def test_the_iterables_are_read_no_further_ahead_than_the_buffer(
    make_pool: MakePool, buffersize: int, chunksize: int
) -> None:
    pool = make_pool(2)
    read = 0

    def items() -> Iterator[int]:
        nonlocal read
        for read in itertools.count(1):  # noqa: UP028  the count is what is tested
            yield read

    results = pool.imap_unordered(lambda i: i, items(), buffersize=buffersize, chunksize=chunksize)
    for yielded in range(1, 200):
        next(results)
        assert read <= (buffersize + 1) * chunksize + yielded
        assert pool.metrics().queue_depth <= buffersize
    results.close()
    idle_metrics(pool)


def test_the_default_buffer_is_bounded(make_pool: MakePool) -> None:
    pool = make_pool(2)
    read = itertools.count()
    with Held(pool, 2) as held:
        results = pool.imap_unordered(int, (next(read) for _ in itertools.count()))
        reader = threading.Thread(target=next, args=(results,))
        reader.start()
        held.release()
        reader.join()
    assert next(read) <= 4 * 2 + 1
    results.close()


def test_an_error_comes_and_cancels_the_rest(make_pool: MakePool) -> None:
    pool = make_pool(1)
    ran: list[int] = []

    def job(i: int) -> None:
        ran.append(i)
        raise Boom(i)

    with Held(pool) as held:
        results = pool.imap_unordered(job, range(10), buffersize=10)
        caught = []

        def read() -> None:
            with pytest.raises(Boom) as info:
                list(results)
            caught.append(info.value)

        reader = threading.Thread(target=read)
        reader.start()
        held.release()
        reader.join(WAIT)
    assert len(caught) == 1
    metrics = idle_metrics(pool)
    assert metrics.jobs_failed == len(ran) >= 1
    assert metrics.jobs_cancelled == 10 - len(ran)
    assert list(results) == []


def test_closing_it_cancels_what_has_not_started(make_pool: MakePool) -> None:
    pool = make_pool(1)
    go, ran = threading.Event(), []

    def job(i: int) -> int:
        ran.append(i)
        if i == 1:
            reached(go)
        return i

    results = pool.imap_unordered(job, range(100), buffersize=5)
    assert next(results) == 0
    results.close()
    go.set()
    metrics = idle_metrics(pool)
    assert ran in ([0], [0, 1])
    assert metrics.jobs_cancelled == 5 - len(ran)


def test_an_iterable_that_fails_gives_its_error_and_cancels_the_rest(single: fastpool.Pool) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise Boom

    with Held(single), pytest.raises(Boom):
        next(single.imap_unordered(int, items(), buffersize=5))
    assert idle_metrics(single).jobs_cancelled == 1


def test_a_call_that_raises_stop_iteration_does_not_pass_for_the_end(single: fastpool.Pool) -> None:
    def job(i: int) -> int:
        raise StopIteration

    with pytest.raises(RuntimeError):
        list(single.imap_unordered(job, range(5)))


def test_what_cannot_be_used_is_refused_at_the_call(single: fastpool.Pool) -> None:
    with pytest.raises(TypeError, match="fn"):
        single.imap_unordered(5, [1])  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        single.imap_unordered(int, 5)  # type: ignore[arg-type]
    for chunksize in (0, -1, 1.5):
        with pytest.raises((TypeError, ValueError), match="chunksize"):
            single.imap_unordered(int, [1], chunksize=chunksize)  # type: ignore[arg-type]
    assert single.metrics().jobs_submitted == 0


# --- closing early ---

STREAMS = pytest.mark.parametrize(
    "stream",
    [
        lambda pool, fn, items: pool.imap_unordered(fn, items, buffersize=8),
        lambda pool, fn, items: pool.map(fn, items, buffersize=8),
    ],
    ids=["imap_unordered", "map"],
)
Stream = Callable[[fastpool.Pool, Callable[[int], int], Iterator[int]], Iterator[int]]


@STREAMS
@pytest.mark.parametrize("on_full", ["block", "caller_runs"])
def test_a_reader_that_stops_stops_the_pool_from_taking_more(make_pool: MakePool, stream: Stream, on_full: str) -> None:
    pool = make_pool(2, queue_size=2, on_full=on_full)
    taken = itertools.count()
    results = stream(pool, lambda i: i, (next(taken) for _ in itertools.count()))
    for _ in range(100):
        next(results)
    assert pool.wait_idle(WAIT)
    before = pool.metrics().jobs_submitted
    assert before <= 100 + 8
    assert next(taken) <= 100 + 8
    assert pool.wait_idle(WAIT)
    assert pool.metrics().jobs_submitted == before
    results.close()  # type: ignore[attr-defined]
    assert list(results) == []


@STREAMS
def test_closing_one_that_nobody_has_read_cancels_what_is_queued(single: fastpool.Pool, stream: Stream) -> None:
    with Held(single):
        results = stream(single, lambda i: i, iter(range(100)))
        results.close()  # type: ignore[attr-defined]
    assert idle_metrics(single).jobs_cancelled == 8
    assert list(results) == []


@STREAMS
def test_closing_it_from_another_thread_ends_the_readers_wait(single: fastpool.Pool, stream: Stream) -> None:
    read = threading.Event()

    def reader() -> int:
        read.set()
        return next(results)

    with Held(single):
        results = stream(single, lambda i: i, iter(range(100)))
        waiting = in_thread(reader)
        reached(read)
        results.close()  # type: ignore[attr-defined]
        with pytest.raises((fastpool.CancelledError, StopIteration)):
            waiting()
    assert idle_metrics(single).jobs_cancelled == 8


@STREAMS
def test_a_stream_that_is_dropped_leaves_nothing(single: fastpool.Pool, stream: Stream) -> None:
    class Thing:
        pass

    things = [Thing() for _ in range(50)]
    gone = [weakref.ref(thing) for thing in things]
    results = stream(single, id, iter(things))  # type: ignore[arg-type]
    next(results)
    with Held(single):
        del things, results
        gc.collect()
    idle_metrics(single)
    single.submit(int).result(WAIT)
    gc.collect()
    assert not any(reference() for reference in gone)


@STREAMS
@pytest.mark.parametrize(("on_full", "error"), [("raise", fastpool.PoolOverloaded), ("block", fastpool.SubmitTimeout)])
def test_a_stream_that_is_refused_cancels_what_it_has_queued(
    make_pool: MakePool, stream: Stream, on_full: str, error: type[Exception]
) -> None:
    pool = make_pool(1, queue_size=3, on_full=on_full, submit_timeout=0.01)
    with Held(pool):
        with pytest.raises(error):
            stream(pool, lambda i: i, iter(range(100)))
        assert pool.metrics().jobs_rejected == 1
    assert idle_metrics(pool).jobs_cancelled == 3


@STREAMS
def test_a_discarded_job_of_a_stream_is_seen_by_its_reader(make_pool: MakePool, stream: Stream) -> None:
    pool = make_pool(1, queue_size=3, on_full="discard_oldest")
    with Held(pool):
        results = stream(pool, lambda i: i, iter(range(100)))
        with pytest.raises(fastpool.CancelledError):
            next(results)
    idle_metrics(pool)


def test_a_buffer_may_be_larger_than_any_input(single: fastpool.Pool) -> None:
    assert sorted(single.imap_unordered(int, "123", buffersize=2**31)) == [1, 2, 3]
    assert list(single.map(int, "123", buffersize=2**31)) == [1, 2, 3]
