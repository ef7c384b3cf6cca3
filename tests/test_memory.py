"""Nothing is held longer than it is needed, and nothing leaks."""

from __future__ import annotations

import contextvars
import gc
import logging
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from support import WAIT, Held, idle_metrics, reached

import fastpool
from fastpool import kernels

MakePool = Callable[..., fastpool.Pool]
# On a free-threaded build the counts of objects that several threads use are split, and None and the like have none.
GIL = getattr(sys, "_is_gil_enabled", lambda: True)()


class Thing:
    """Something to have a weak reference to."""

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        pass


def settle(pool: fastpool.Pool) -> None:
    """After this the workers have let go of whatever earlier jobs were made of; and, on a free-threaded build, have freed
    what they have made and others have let go of."""
    for _ in range(2):
        idle_metrics(pool)
        barrier = threading.Barrier(pool._max_workers + 1)
        futures = [pool.submit(barrier.wait, WAIT) for _ in range(pool._max_workers)]
        barrier.wait(WAIT)
        for future in futures:
            future.result(WAIT)


def assert_gone(reference: weakref.ref[Any], pool: fastpool.Pool) -> None:
    settle(pool)
    gc.collect()
    assert reference() is None


@pytest.fixture
def no_gc() -> Iterator[None]:
    """Whatever dies in here dies by its count alone: it was in no cycle."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Boom(ValueError):
    """One that takes weak references, which built-in exceptions do not."""


def raises(thing: Any) -> None:
    raise Boom


# --- what a job is made of ---


@pytest.mark.parametrize(
    "start",
    [
        lambda pool, thing: pool.submit(id, thing),
        lambda pool, thing: pool.submit(id, thing).result(WAIT) and None,
        lambda pool, thing: pool.submit(len, (thing, thing)),
        lambda pool, thing: pool.submit(lambda a, b: None, thing, 2),
        lambda pool, thing: pool.submit(dict, key=thing).exception(WAIT),
        lambda pool, thing: pool.submit(thing),
        lambda pool, thing: pool.submit(thing, thing, thing=thing),
        lambda pool, thing: pool.submit(raises, thing).exception(WAIT) and None,
        lambda pool, thing: pool.post(id, thing),
        lambda pool, thing: pool.submit_many(id, [thing] * 3),
        lambda pool, thing: list(pool.map(id, [thing] * 3)) and None,
        lambda pool, thing: list(pool.map(id, [thing] * 3, buffersize=2)) and None,
        lambda pool, thing: list(pool.imap_unordered(id, [thing] * 3)) and None,
        lambda pool, thing: pool.map(id, [thing] * 3) and None,
        lambda pool, thing: next(pool.map(id, [thing] * 3)) and None,
    ],
    ids=["argument", "read", "tuple", "two", "keyword", "callable", "all", "failed", "post", "many", "map", "buffered map",
         "imap", "unread map", "left map"],
)  # fmt: skip
def test_callable_and_arguments_are_let_go_when_the_job_has_run(
    single: fastpool.Pool, no_gc: None, start: Callable[[fastpool.Pool, Any], Any]
) -> None:
    thing = Thing()
    gone = weakref.ref(thing)
    future = start(single, thing)
    del thing
    settle(single)
    assert gone() is None, "with the future still held"
    del future


def test_a_result_lives_as_long_as_its_future(single: fastpool.Pool, no_gc: None) -> None:
    future = single.submit(Thing)
    gone = weakref.ref(future.result(WAIT))
    settle(single)
    assert gone() is not None
    del future
    settle(single)
    assert gone() is None


@pytest.mark.parametrize(
    "start",
    [
        lambda pool: pool.map(lambda _: Thing(), range(5)),
        lambda pool: pool.map(lambda _: Thing(), range(5), buffersize=2),
        lambda pool: pool.imap_unordered(lambda _: Thing(), range(5)),
        lambda pool: pool.imap_unordered(lambda _: Thing(), range(5), chunksize=3),
    ],
    ids=["map", "buffered map", "imap", "imap chunks"],
)
def test_a_map_gives_its_results_away(
    single: fastpool.Pool, no_gc: None, start: Callable[[fastpool.Pool], Iterator[Thing]]
) -> None:
    """As the standard map does: a reader of large results needs room for one."""
    results = start(single)
    for _ in range(5):
        gone = weakref.ref(next(results))
        settle(single)
        assert gone() is None


def test_a_cancelled_job_drops_its_arguments_at_once(single: fastpool.Pool, no_gc: None) -> None:
    """The standard executor keeps them until the queue comes to the job."""
    with Held(single):
        for start in (
            lambda thing: single.submit(id, thing),
            lambda thing: single.submit(thing),
            lambda thing: single.submit(id, thing, other=thing),
            lambda thing: single.submit(id, thing, thing),
        ):
            thing = Thing()
            gone = weakref.ref(thing)
            future = start(thing)
            del thing
            assert gone() is not None
            assert future.cancel()
            assert gone() is None


def test_discarded_jobs_drop_their_arguments_at_once(make_pool: MakePool, no_gc: None) -> None:
    pool = make_pool(1, queue_size=1, on_full="discard_oldest")
    with Held(pool):
        thing = Thing()
        gone = weakref.ref(thing)
        pool.post(id, thing)
        del thing
        pool.post(int)
        assert gone() is None
        other = Thing()
        gone = weakref.ref(other)
        pool.post(id, other)
        del other
        pool.shutdown(wait=False, cancel_futures=True)
        assert gone() is None


def test_a_refused_job_holds_nothing(make_pool: MakePool, no_gc: None) -> None:
    pool = make_pool(1, queue_size=1, on_full="raise")
    thing = Thing()
    with Held(pool):
        pool.post(int)
        before = sys.getrefcount(thing)
        for refused in (
            lambda: pool.submit(thing, thing, key=thing),
            lambda: pool.submit(id, thing, thing),
            lambda: pool.post(id, thing),
            lambda: pool.submit_many(id, [thing] * 3),
            lambda: pool.map(id, [thing] * 3),
            lambda: pool.submit(5, thing),  # type: ignore[arg-type]
        ):
            with pytest.raises((fastpool.PoolOverloaded, TypeError)):
                refused()
        del refused
        assert sys.getrefcount(thing) == before


def test_jobs_that_a_broken_initializer_ends_let_go(make_pool: MakePool) -> None:
    go = threading.Event()

    def initializer() -> None:
        reached(go)
        raise ValueError

    pool = make_pool(1, initializer=initializer)
    thing = Thing()
    gone = weakref.ref(thing)
    future, results = pool.submit(id, thing), pool.map(id, [thing])
    del thing
    go.set()
    future.exception(WAIT)
    assert pool.wait_idle(WAIT)
    pool.shutdown()
    del results
    gc.collect()
    assert gone() is None


# --- exceptions ---


def test_an_exception_is_in_no_cycle_of_the_pools_making(single: fastpool.Pool, no_gc: None) -> None:
    def read() -> weakref.ref[BaseException]:
        try:
            single.submit(raises, None).result(WAIT)
        except ValueError as error:
            return weakref.ref(error)
        raise AssertionError

    def read_map() -> weakref.ref[BaseException]:
        try:
            list(single.map(raises, [None]))
        except ValueError as error:
            return weakref.ref(error)
        raise AssertionError

    for kind in (read, read_map):
        gone = kind()
        settle(single)
        assert gone() is None


def test_an_exceptions_frames_die_with_it(single: fastpool.Pool, no_gc: None) -> None:
    things: list[weakref.ref[Thing]] = []

    def job() -> None:
        local = Thing()
        things.append(weakref.ref(local))
        raise ValueError

    future = single.submit(job)
    assert isinstance(future.exception(WAIT), ValueError)
    assert things[0]() is not None, "the traceback has the frame"
    del future
    settle(single)
    assert things[0]() is None


def test_a_posted_failure_is_not_kept(make_pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("fastpool"), "disabled", True)  # pytest keeps what is logged
    seen: list[weakref.ref[BaseException]] = []
    pool = make_pool(1, on_error=lambda failure: seen.append(weakref.ref(failure.exception)))
    pool.post(raises, None)
    idle_metrics(pool)
    assert_gone(seen[0], pool)


# --- cycles ---


def test_the_collector_frees_a_future_that_is_part_of_a_cycle(single: fastpool.Pool) -> None:
    def with_attribute() -> fastpool.Future:
        future = single.submit(int)
        future.me = future
        return future

    def with_callback() -> fastpool.Future:
        future = single.submit(int)
        future.add_done_callback(lambda _, me=future: None)
        return future

    def with_result() -> fastpool.Future:
        box: list[Any] = []
        future = single.submit(lambda: box)
        box.append(future)
        return future

    def own() -> fastpool.Future:
        future = fastpool.Future()
        future.set_result([future])
        return future

    for make in (with_attribute, with_callback, with_result, own):
        future = make()
        future.result(WAIT)
        gone = weakref.ref(future)
        del future
        assert_gone(gone, single)


def test_the_collector_frees_a_cancelled_future_in_a_cycle(single: fastpool.Pool) -> None:
    with Held(single):
        future = single.submit(int)
        future.me = future
        future.cancel()
        gone = weakref.ref(future)
        del future
    assert_gone(gone, single)


def test_collecting_while_jobs_come_and_go_frees_nothing_too_early(make_pool: MakePool, fast_switching: None) -> None:
    pool = make_pool(2)
    stop = threading.Event()

    def collect() -> None:
        while not stop.is_set():
            gc.collect(0)

    collector = threading.Thread(target=collect)
    collector.start()
    try:
        for i in range(300 if GIL else 30):  # without the GIL each collection stops the world
            future = pool.submit(lambda *a, **k: [a, k], [i], key=[i])
            future.me = future
            assert future.result(WAIT) == [([i],), {"key": [i]}]
    finally:
        stop.set()
        collector.join(WAIT)


# --- leaks ---


@pytest.mark.skipif(not GIL, reason="counts of shared objects are split among threads on a free-threaded build")
def test_ten_thousand_jobs_leave_every_count_as_it_was(single: fastpool.Pool) -> None:
    thing, kernel, array = Thing(), kernels.identity, np.ones(3)

    def everything(times: int) -> None:
        for _ in range(times):
            single.submit(thing, thing, thing, key=thing).result(WAIT)
            single.submit(raises, thing).exception(WAIT)
            single.post(thing, thing)
            single.submit(thing, thing).cancel()
            single.submit(kernel, 1.0).result(WAIT)
            single.submit(kernels.fail).exception(WAIT)
            for future in single.submit_many(thing, [thing] * 2):
                future.add_done_callback(thing)
            list(single.map(thing, [thing] * 2))
            next(single.map(thing, [thing] * 2))
            list(single.map(thing, [thing] * 2, buffersize=1))
            list(single.imap_unordered(thing, [thing] * 2))
            single.map_array(kernel, array)
            single.submit_array(kernel, array).cancel()
        settle(single)
        gc.collect()

    everything(2)
    watched = [thing, kernel, kernels.fail, array, raises, single, fastpool.Future, Thing, fastpool.Kernel]
    before = [sys.getrefcount(each) for each in watched]
    everything(700)  # a little over 10,000 jobs
    assert [sys.getrefcount(each) for each in watched] == before


def test_memory_does_not_grow_with_the_number_of_jobs(single: fastpool.Pool) -> None:
    def everything(times: int) -> None:
        for _ in range(times):
            single.submit(int, "1").result(WAIT)
            single.submit(raises, None).exception(WAIT)
            single.post(int)
            single.submit(int).add_done_callback(id)
            list(single.map(int, "12"))
            single.map_array(kernels.identity, [1.0, 2.0])
        settle(single)
        gc.collect()

    everything(50)
    tracemalloc.start()
    try:
        everything(50)
        before = tracemalloc.get_traced_memory()[0]
        everything(500)
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert after - before < 500 * 6 * 8, "not even a pointer a job"


# --- pools ---


@pytest.mark.parametrize("kind", [fastpool.Pool, fastpool.ThreadPoolExecutor])
def test_a_pool_that_nobody_holds_drains_and_its_threads_end(kind: type[fastpool.Pool]) -> None:
    local, gone = threading.local(), threading.Semaphore(0)

    class Mark:
        def __del__(self) -> None:
            gone.release()

    barrier = threading.Barrier(3)

    def job() -> None:
        local.mark = Mark()
        barrier.wait(WAIT)

    ran: list[int] = []
    pool = kind(3)
    for _ in range(3):
        pool.submit(job)
    futures = pool.submit_many(ran.append, range(300))
    reference = weakref.ref(pool)
    del pool
    gc.collect()
    assert reference() is None
    for _ in range(3):
        assert gone.acquire(timeout=WAIT), "a worker's thread did not end"
    assert sorted(ran) == list(range(300))
    assert all(future.done() for future in futures)


def test_a_pool_in_a_cycle_is_collected() -> None:
    pool = fastpool.Pool(1)
    pool.me = pool  # type: ignore[attr-defined]
    assert pool.submit(int).result(WAIT) == 0
    gone = weakref.ref(pool)
    del pool
    gc.collect()
    assert gone() is None


def test_a_pool_dropped_right_after_its_first_submit_runs_the_job() -> None:
    """Its worker has not yet begun to live by then."""
    for workers in (1, 4):
        for _ in range(300):
            assert fastpool.Pool(workers).submit(int, "5").result(WAIT) == 5


def test_pools_dropped_amid_posts_run_them_all() -> None:
    ran: list[int] = []
    done = threading.Semaphore(0)
    for _ in range(100):
        pool = fastpool.Pool(8)
        for i in range(20):
            pool.post(ran.append, i)
        pool.post(done.release)
        del pool
    for _ in range(100):
        assert done.acquire(timeout=WAIT)


def test_an_iterator_keeps_the_pool_it_reads_from() -> None:
    results = fastpool.Pool(1).map(int, "123")
    lazily = fastpool.Pool(1).map(int, "123", buffersize=1)
    unordered = fastpool.Pool(1).imap_unordered(int, "123")
    gc.collect()
    assert list(results) == list(lazily) == sorted(unordered) == [1, 2, 3]


def test_what_a_pool_was_given_goes_with_it() -> None:
    things = [Thing() for _ in range(3)]
    gone = [weakref.ref(thing) for thing in things]
    with fastpool.Pool(1, initializer=things[0], initargs=(things[1],), on_error=things[2]) as pool:
        pool.submit(int).result(WAIT)
    del pool, things
    gc.collect()
    assert [reference() for reference in gone] == [None] * 3


def test_a_view_in_a_cycle_is_collected_and_leaves_its_pool_alone(make_pool: MakePool) -> None:
    """The collector clears what a view refers to before the view goes, and it must not take itself for the pool then."""
    pool = make_pool(2)
    for options in ({}, {"timeout": 60.0}, {"context": contextvars.copy_context()}, {"priority": "high"}):
        view = pool.options(**options)
        view.options().me = view  # type: ignore[attr-defined]
        view.me = view  # type: ignore[attr-defined]
        gone = weakref.ref(view)
        del view
        gc.collect()
        assert gone() is None
        with pool.group() as group:
            group.submit(int)
        group.me = group  # type: ignore[attr-defined]
        del group
        gc.collect()
        assert pool.submit(int).result(WAIT) == 0
    idle_metrics(pool)


def test_a_view_in_a_cycle_with_its_pool_is_collected_with_it() -> None:
    pool = fastpool.Pool(1)
    pool.submit(int).result(WAIT)
    pool.view = pool.options(timeout=60)  # type: ignore[attr-defined]
    gone = weakref.ref(pool)
    del pool
    gc.collect()
    assert gone() is None
