"""current_job(): what a running job knows of itself, how it is asked to stop, and what a Job keeps alive: nothing."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any

import capi
import numpy as np
import pytest
from support import WAIT, Held, idle_metrics, in_thread, reached
from test_isolated import check

import fastpool
from fastpool import kernels

MakePool = Callable[..., fastpool.Pool]

FAR = 600.0
STATUS, ELEMENT = "int (void *)", "double (double, void *)"
RANGE = "int (int64_t, int64_t, void *)"


def me() -> fastpool.Job:
    job = fastpool.current_job()
    assert job is not None
    return job


def until_stopped() -> None:
    """A job that runs until it is asked to stop, and says so."""
    job, end = me(), time.monotonic() + WAIT
    while time.monotonic() < end:
        job.check()
        time.sleep(0)
    raise AssertionError("nobody has asked")


class Started:
    """Runs `then` and tells when it begins."""

    def __init__(self, then: Callable[[], Any] = until_stopped) -> None:
        self.event, self.then = threading.Event(), then

    def __call__(self, *_: Any) -> Any:
        self.event.set()
        return self.then()


class Target:
    """What a test holds weakly."""


@contextlib.contextmanager
def no_collector() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def gone(reference: weakref.ref[Any], pool: fastpool.Pool) -> bool:
    end = time.monotonic() + WAIT
    while reference() is not None and time.monotonic() < end:
        pool.submit(int).result(WAIT)
    return reference() is None


# ---- what it is ----


def test_outside_of_jobs_there_is_none(pool: fastpool.Pool) -> None:
    assert fastpool.current_job() is None
    pool.submit(me).result(WAIT)
    assert fastpool.current_job() is None
    assert in_thread(fastpool.current_job)() is None


def test_nor_in_callbacks_initializers_and_error_handlers(make_pool: MakePool, caplog: Any) -> None:
    seen: list[Any] = []

    def note(*_: Any) -> None:
        seen.append(fastpool.current_job())

    with caplog.at_level("CRITICAL"):
        pool = make_pool(1, initializer=note, on_error=note)
        with Held(pool):
            pool.submit(me).add_done_callback(note)
            pool.post(divmod, 1, 0)
        idle_metrics(pool)
    assert seen[0] is None and seen[1] is None
    assert len(seen) == 3


def test_a_job_is_made_by_current_job_only() -> None:
    with pytest.raises(TypeError, match="current_job"):
        fastpool.Job()


def test_its_attributes(pool: fastpool.Pool) -> None:
    job = pool.options(timeout=FAR).submit(me).result(WAIT)
    assert isinstance(job, fastpool.Job)
    assert isinstance(job.id, int) and 0 <= job.worker_id < 16
    assert job.deadline is not None and time.monotonic() < job.deadline <= time.monotonic() + FAR
    remaining = job.remaining()
    assert remaining is not None and FAR - WAIT < remaining <= FAR
    assert job.cancelled is False and job.check() is None
    assert str(job.id) in repr(job)
    for name in ("id", "worker_id", "deadline", "cancelled"):
        with pytest.raises(AttributeError):
            setattr(job, name, 1)


def test_without_a_deadline(pool: fastpool.Pool) -> None:
    job = pool.submit(me).result(WAIT)
    assert (job.deadline, job.remaining(), job.cancelled) == (None, None, False)


def all_ways(pool: fastpool.Pool, fn: Callable[..., Any]) -> list[Any]:
    """Results of `fn` from each way to submit it."""
    kernel = fastpool.kernel(ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(lambda x: results.append(fn()) or x))
    results: list[Any] = [pool.submit(fn).result(WAIT)]
    results += [future.result(WAIT) for future in pool.submit_many(lambda _: fn(), range(3))]
    results += pool.map(lambda _: fn(), range(3))
    results += pool.map(lambda _: fn(), range(3), chunksize=3)
    results += pool.map(lambda _: fn(), range(3), buffersize=2)
    results += pool.imap_unordered(lambda _: fn(), range(3))
    pool.post(lambda: results.append(fn()))
    pool.submit(kernel, 1.0).result(WAIT)
    assert pool.wait_idle(WAIT)
    return results


def test_ids_are_unique_and_stay_within_a_job(pool: fastpool.Pool) -> None:
    ids = all_ways(pool, lambda: (me().id, me().id, me().id))
    assert all(len(set(each)) == 1 for each in ids)
    assert len({each[0] for each in ids}) == len(ids) == 18


def test_ids_are_unique_among_pools(make_pool: MakePool) -> None:
    pools = [make_pool(2) for _ in range(3)]
    ids = [future.result(WAIT) for pool in pools for future in pool.submit_many(lambda _: me().id, range(50))]
    assert len(set(ids)) == 150


def test_the_worker_is_the_one_that_runs_it(make_pool: MakePool) -> None:
    pool = make_pool(4, "named")
    barrier = threading.Barrier(4)

    def job(_: int) -> tuple[str, int]:
        barrier.wait(WAIT)
        return threading.current_thread().name, me().worker_id

    pairs = {future.result(WAIT) for future in pool.submit_many(job, range(4))}
    assert pairs == {(f"named_{i}", i) for i in range(4)}


def test_a_job_that_another_waits_for_is_itself_meanwhile(single: fastpool.Pool) -> None:
    def outer() -> list[Any]:
        before, inner, after = me(), single.submit(me).result(WAIT), me()
        mapped = list(single.map(lambda _: me().id, range(2)))
        return [before.id, inner.id, *mapped, after.id, inner.worker_id, me().id]

    before, inner, first, second, after, worker, last = single.submit(outer).result(WAIT)
    assert before == after == last and len({before, inner, first, second}) == 4
    assert worker == 0


def test_a_job_that_the_caller_runs_has_no_worker(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1, on_full="caller_runs")
    with Held(pool):
        pool.submit(int)
        assert pool.submit(me).result(WAIT).worker_id == -1
        assert fastpool.current_job() is None


def test_a_job_of_one_pool_within_a_worker_of_another(make_pool: MakePool) -> None:
    first, second = make_pool(1), make_pool(1, queue_size=1, on_full="caller_runs")
    with Held(second):
        second.submit(int)
        assert first.submit(lambda: second.submit(me).result(WAIT).worker_id).result(WAIT) == -1


def test_a_kernel_on_scalars_is_a_job_and_elements_of_arrays_are_none(single: fastpool.Pool) -> None:
    seen: list[Any] = []

    def call(x: float) -> float:
        seen.append(fastpool.current_job())
        return x

    kernel = fastpool.kernel(ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(call))
    single.submit(kernel, 1.0).result(WAIT)
    assert isinstance(seen.pop(), fastpool.Job)
    single.map_array(kernel, [1.0])
    single.submit(single.map_array, kernel, [1.0]).result(WAIT)
    single.submit_many(kernel, [1.0])[0].result(WAIT)
    assert seen == [None] * 3


# ---- what it keeps alive ----


def test_a_job_outlives_its_job_and_its_pool() -> None:
    pool = fastpool.Pool(1)
    job = pool.options(timeout=FAR).submit(me).result(WAIT)
    lazy = pool.submit(me).result(WAIT)
    pool.shutdown()
    del pool
    assert not job.cancelled and job.remaining() > 0 and job.deadline > 0
    assert not lazy.cancelled
    job.check(), lazy.check()


def test_a_job_holds_no_future_result_or_argument(single: fastpool.Pool) -> None:
    kept: list[Any] = []

    def work(target: Target) -> Target:
        kept.append(me())
        return target

    with no_collector():
        for view in (single, single.options(timeout=FAR, context=True)):
            target = Target()
            future = view.submit(work, target)
            references = [weakref.ref(target), weakref.ref(future)]
            future.result(WAIT)
            del target, future
            assert all(gone(reference, single) for reference in references)
    assert len(kept) == 2


def test_a_job_in_the_frame_of_its_own_traceback_makes_no_cycle(single: fastpool.Pool) -> None:
    def fail(target: Target) -> None:
        job = me()
        raise ValueError(job.id)

    with no_collector():
        for view in (single, single.options(timeout=FAR)):
            target = Target()
            reference = weakref.ref(target)
            future = view.submit(fail, target)
            assert isinstance(future.exception(WAIT), ValueError)
            del target, future
            assert gone(reference, single)


def test_a_job_that_is_kept_by_a_result_makes_no_cycle(single: fastpool.Pool) -> None:
    with no_collector():
        future = single.submit(lambda: [me(), Target()])
        reference = weakref.ref(future.result(WAIT)[1])
        del future
        assert gone(reference, single)


# ---- asked to stop ----


def test_cancelling_a_running_job_asks_it_to_stop(pool: fastpool.Pool) -> None:
    job = Started()
    future = pool.submit(job)
    reached(job.event)
    assert not future.cancel()
    with pytest.raises(CancelledError):
        future.result(WAIT)
    assert future.cancelled() and future.cancel()
    metrics = idle_metrics(pool)
    assert (metrics.jobs_cancelled, metrics.jobs_failed, metrics.panics) == (1, 0, 0)


def test_it_sees_so_when_it_asks_only_afterwards(single: fastpool.Pool) -> None:
    release = threading.Event()

    def work() -> bool:
        reached(release)
        return me().cancelled

    job = Started(work)
    future = single.submit(job)
    reached(job.event)
    future.cancel()
    release.set()
    assert future.result(WAIT) is True


def test_a_job_that_ignores_it_ends_as_it_would(single: fastpool.Pool) -> None:
    release = threading.Event()
    for outcome in ("result", ValueError):
        release.clear()

        def work(outcome: Any = outcome) -> Any:
            me()
            reached(release)
            if outcome is ValueError:
                raise ValueError
            return outcome

        job = Started(work)
        future = single.submit(job)
        reached(job.event)
        assert not future.cancel() and not future.cancel()
        assert future.running()
        release.set()
        if outcome is ValueError:
            assert type(future.exception(WAIT)) is ValueError
        else:
            assert future.result(WAIT) == "result"
        assert not future.cancelled()
    metrics = idle_metrics(single)
    assert (metrics.jobs_processed, metrics.jobs_failed, metrics.jobs_cancelled) == (1, 1, 0)


def test_cancelled_error_of_a_job_that_nobody_asked_is_a_failure(single: fastpool.Pool) -> None:
    def work() -> None:
        raise CancelledError("of its own")

    future = single.submit(work)
    assert type(future.exception(WAIT)) is CancelledError and not future.cancelled()
    assert idle_metrics(single).jobs_failed == 1


def test_waiters_and_callbacks_see_that_it_was_cancelled(single: fastpool.Pool) -> None:
    job, told = Started(), threading.Event()
    future = single.submit(job)
    future.add_done_callback(lambda ended: told.set() if ended.cancelled() else None)
    waiting = in_thread(future.exception, WAIT)
    reached(job.event)
    future.cancel()
    reached(told)
    with pytest.raises(CancelledError):
        waiting()


def test_its_arguments_die_when_it_has_stopped(single: fastpool.Pool) -> None:
    job, target = Started(), Target()
    reference = weakref.ref(target)
    with no_collector():
        future = single.submit(job, target)
        del target
        reached(job.event)
        future.cancel()
        assert single.wait_idle(WAIT)
        assert gone(reference, single)
    assert future.cancelled()


def test_a_job_that_a_waiting_one_runs_is_asked_alone(single: fastpool.Pool) -> None:
    inner: list[Any] = []
    running = Started()

    def outer() -> tuple[bool, bool]:
        inner.append(single.submit(running))
        with pytest.raises(CancelledError):
            inner[0].result(WAIT)
        return inner[0].cancelled(), me().cancelled

    future = single.submit(outer)
    reached(running.event)
    inner[0].cancel()
    assert future.result(WAIT) == (True, False)
    metrics = idle_metrics(single)
    assert (metrics.jobs_cancelled, metrics.jobs_processed) == (1, 1)


def test_closing_a_map_asks_its_calls_that_run(pool: fastpool.Pool) -> None:
    asks_late, running = threading.Event(), threading.Semaphore(0)
    seen: list[bool] = []

    def call(i: int) -> None:
        if i == 0:
            return
        running.release()
        reached(asks_late)
        seen.append(me().cancelled)  # no job was asked for before
        me().check()

    results = pool.map(call, range(10))
    next(results)
    assert running.acquire(timeout=WAIT)
    results.close()  # type: ignore[attr-defined]
    asks_late.set()
    metrics = idle_metrics(pool)
    assert seen and all(seen)
    assert (metrics.jobs_processed, metrics.jobs_cancelled, metrics.jobs_failed) == (1, 9, 0)


def test_a_shutdown_whose_time_is_over_asks_all_that_run() -> None:
    pool = fastpool.Pool(4)
    words, events = np.zeros(2, np.int64), [Started() for _ in range(2)]
    futures = [pool.submit(job) for job in events]
    for job in events:
        reached(job.event)
    results = pool.map(lambda _: until_stopped(), range(1))
    futures.append(pool.submit(capi.kernel("until_stopped", STATUS, words)))
    while words[0] == 0:
        time.sleep(0.001)
    queued = pool.submit(int)
    pool.shutdown(timeout=0)
    assert pool.shutdown(timeout=WAIT)
    assert all(future.cancelled() for future in [*futures, queued])
    with pytest.raises(CancelledError):
        next(results)
    metrics = idle_metrics(pool)
    assert (metrics.jobs_cancelled, metrics.jobs_failed) == (5, 0)


@pytest.mark.parametrize("name", ["until_stopped_range", "until_stopped_well_range"])
def test_a_shutdown_asks_ranges_too(name: str) -> None:
    pool, words = fastpool.Pool(2), np.zeros(2, np.int64)
    waiting = in_thread(lambda: pool.parallel_for(capi.kernel(name, RANGE, words), 100, grain=1))
    while words[0] == 0:
        time.sleep(0.001)
    pool.shutdown(timeout=0)
    with pytest.raises(CancelledError):
        waiting()
    assert pool.shutdown(timeout=WAIT)
    metrics = idle_metrics(pool)
    assert metrics.jobs_failed == 0 and metrics.jobs_cancelled >= 97
    assert words[0] == words[1]


# ---- kernels ----


def test_a_kernel_that_is_asked_and_returns_a_failure_was_cancelled(single: fastpool.Pool) -> None:
    words = np.zeros(2, np.int64)
    future = single.submit(capi.kernel("until_stopped", STATUS, words))
    while words[0] == 0:
        time.sleep(0.001)
    assert not future.cancel()
    with pytest.raises(CancelledError):
        future.result(WAIT)
    metrics = idle_metrics(single)
    assert (metrics.jobs_cancelled, metrics.jobs_failed) == (1, 0)


@pytest.mark.parametrize(("name", "signature"), [("until_stopped_well", STATUS), ("until_stopped_element", ELEMENT)])
def test_a_kernel_that_is_asked_and_returns_a_result_is_done(single: fastpool.Pool, name: str, signature: str) -> None:
    words = np.zeros(2, np.int64)
    kernel = capi.kernel(name, signature, words)
    future = single.submit(kernel, *[2.5] * (signature == ELEMENT))
    while words[0] == 0:
        time.sleep(0.001)
    assert not future.cancel()
    assert future.result(WAIT) == (2.5 if signature == ELEMENT else 0)
    assert idle_metrics(single).jobs_processed == 1


def test_an_array_that_is_cancelled_is_asked(pool: fastpool.Pool) -> None:
    words = np.zeros(2, np.int64)
    future = pool.submit_array(capi.kernel("until_stopped_element", ELEMENT, words), np.ones(1000), grain=1)
    while words[0] == 0:
        time.sleep(0.001)
    assert future.cancel()
    with pytest.raises(CancelledError):
        future.result(WAIT)
    assert words[0] == words[1] <= 16
    idle_metrics(pool)


# ---- races, forks ----


def test_cancelling_races_with_asking_and_ending(make_pool: MakePool, fast_switching: None) -> None:
    pool = make_pool(2)
    ends: list[bool] = []

    def work(number: int) -> int:
        job = me()
        for _ in range(number % 50):
            job.check()
        ends.append(job.cancelled)
        return number

    futures = [pool.submit(work, i) for i in range(3000)]
    futures += [pool.submit(kernels.identity, 1.0) for _ in range(1000)]
    for wait in [in_thread(lambda: [future.cancel() for future in futures]) for _ in range(3)]:
        wait()
    metrics = idle_metrics(pool)
    cancelled = [future for future in futures if future.cancelled()]
    assert len(cancelled) == metrics.jobs_cancelled
    assert metrics.jobs_failed == 0 and metrics.jobs_processed == 4000 - len(cancelled)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_job_knows_itself_in_the_child() -> None:
    check("current_job_in_a_child")
