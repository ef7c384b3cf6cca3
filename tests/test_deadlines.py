"""Deadlines: what is queued past one never starts, what runs is told, and each future ends with JobTimeout, once."""

from __future__ import annotations

import asyncio
import concurrent.futures
import ctypes
import gc
import logging
import math
import random
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import capi
import native
import numpy as np
import pytest
from support import WAIT, Held, ended, idle_metrics, in_thread, reached
from test_isolated import check

import fastpool
from fastpool import JobTimeout, kernels

MakePool = Callable[..., fastpool.Pool]

# Seconds. Short, for it has to pass in each test; nothing is asserted to be done within it.
SOON = 0.02

# The same of jobs that are to have started by then.
LATER = 0.1

# So long that it does not pass.
FAR = 600.0

ELEMENT, STATUS, RANGE = "double (double, void *)", "int (void *)", "int (int64_t, int64_t, void *)"


class Running:
    """A job that runs until it is released, and what it saw."""

    def __init__(self) -> None:
        self.started, self.release = threading.Event(), threading.Event()
        self.job: Any = None

    def __call__(self, *args: Any) -> str:
        self.job = fastpool.current_job()
        self.started.set()
        reached(self.release)
        return "late"


class Target:
    """What a test holds weakly."""


def timed_out(future: Any) -> JobTimeout:
    """The JobTimeout that `future` ends with."""
    error = future.exception(WAIT)
    assert type(error) is JobTimeout, error
    with pytest.raises(JobTimeout):
        future.result()
    return error


def starts(running: Running, future: Any) -> None:
    """Wait until it runs; where its time was over before, the machine is too slow for this test."""
    end = time.monotonic() + WAIT
    while not running.started.wait(0.001):
        assert time.monotonic() < end, "it does not start"
        if future.done():
            pytest.skip("it was late before it could start")


def pass_by(job: Any) -> None:
    """Wait until a job's deadline has passed."""
    while job.remaining() > 0:
        time.sleep(job.remaining())


def gone(reference: weakref.ref[Any], pool: fastpool.Pool) -> bool:
    """Whether what it refers to dies without the collector's help; workers drop what they hold a moment after the end."""
    end = time.monotonic() + WAIT
    while reference() is not None and time.monotonic() < end:
        pool.submit(int).result(WAIT)
    return reference() is None


# ---- a queued job ----


def test_a_queued_job_past_its_deadline_ends_and_never_starts(single: fastpool.Pool) -> None:
    ran: list[int] = []
    with Held(single):
        future = single.options(timeout=SOON).submit(ran.append, 1)
        assert "before it could start" in str(timed_out(future))
        assert future.done() and not future.cancelled() and not future.running() and not future.cancel()
        assert single.metrics().jobs_timed_out == 0, "it is queued still"
    metrics = idle_metrics(single)
    assert ran == []
    assert (metrics.jobs_timed_out, metrics.jobs_processed, metrics.jobs_submitted) == (1, 1, 2)


def test_timeout_0_is_over_at_once_whoever_comes_first(pool: fastpool.Pool) -> None:
    ran: list[int] = []
    view = pool.options(timeout=0)
    futures = view.submit_many(ran.append, range(100))
    for future in futures:
        timed_out(future)
    view.post(ran.append, 1)
    for call in (lambda: list(view.map(ran.append, [1, 2])), lambda: list(view.imap_unordered(ran.append, [1, 2]))):
        with pytest.raises(JobTimeout):
            call()
    timed_out(view.submit(kernels.identity, 1.0))
    assert idle_metrics(pool).jobs_processed == 0
    assert ran == []


@pytest.mark.parametrize("timeout", [None, math.inf, 1e300, 10**400])
def test_no_timeout_is_none(make_pool: MakePool, timeout: Any) -> None:
    pool = make_pool(1, job_timeout=SOON)
    view = pool.options(timeout=timeout)
    job = view.submit(fastpool.current_job).result(WAIT)
    assert job is not None and job.deadline is None and job.remaining() is None


def test_the_pools_own_timeout_is_that_of_all_its_jobs(make_pool: MakePool) -> None:
    pool = make_pool(1, job_timeout=LATER)
    running = Running()
    with Held(pool) as held:
        futures = [pool.submit(running), *pool.submit_many(int, "123")]
        for future in futures:
            timed_out(future)
        timed_out(held.futures[0])
    running.release.set()
    assert idle_metrics(pool).jobs_timed_out == 5


@pytest.mark.parametrize("bad", [math.nan, -1, -0.001, -math.inf, -(10**400)])
def test_a_time_that_is_none_is_a_value_error_that_names_it(make_pool: MakePool, bad: Any) -> None:
    with pytest.raises(ValueError, match="job_timeout"):
        make_pool(1, job_timeout=bad)
    with pytest.raises(ValueError, match=r"^timeout"):
        make_pool(1).options(timeout=bad)


@pytest.mark.parametrize("bad", ["1", b"1", [], object(), 1j])
def test_what_is_no_number_is_a_type_error_that_names_it(make_pool: MakePool, bad: Any) -> None:
    with pytest.raises(TypeError, match="job_timeout"):
        make_pool(1, job_timeout=bad)
    with pytest.raises(TypeError, match=r"^timeout"):
        make_pool(1).options(timeout=bad)


def test_a_cancelled_job_is_none_that_timed_out(single: fastpool.Pool) -> None:
    with Held(single):
        future = single.options(timeout=SOON).submit(int)
        later = single.options(timeout=2 * SOON).submit(int)
        assert future.cancel()
        timed_out(later)
        with pytest.raises(CancelledError):
            future.result()
    metrics = idle_metrics(single)
    assert (metrics.jobs_cancelled, metrics.jobs_timed_out) == (1, 1)


def test_the_arguments_of_a_queued_job_die_at_its_deadline(single: fastpool.Pool) -> None:
    target = Target()
    reference = weakref.ref(target)
    with Held(single):
        future = single.options(timeout=SOON).submit(id, target)
        del target
        timed_out(future)
        end = time.monotonic() + WAIT
        while reference() is not None and time.monotonic() < end:
            time.sleep(0.001)  # the timer's thread drops what it holds
        assert reference() is None


def test_a_late_timer_starts_nothing(make_pool: MakePool) -> None:
    """It is held up by a callback; the workers look at the clock themselves, and so do those who take pieces."""
    pool, other = make_pool(1), make_pool(1)
    inside, release, ran = threading.Event(), threading.Event(), []
    calls = np.zeros(1, np.int64)
    counted = fastpool.kernel(native.capsule("counted", ELEMENT), data=calls)

    def hold_up(_: object) -> None:
        inside.set()
        reached(release)

    with Held(other):
        with Held(pool):
            view = pool.options(timeout=SOON)
            futures = [
                view.submit(ran.append, 1),
                view.submit(counted, 1.0),
                view.submit_array(counted, np.ones(100)),
                *view.submit_many(counted, np.ones(100)),
            ]
            results = view.map(ran.append, [1, 2])
            other.options(timeout=0).submit(int).add_done_callback(hold_up)
            reached(inside)
            time.sleep(SOON)
        for future in futures:
            timed_out(future)
        with pytest.raises(JobTimeout):
            next(results)
        assert pool.wait_idle(WAIT)
        release.set()
    assert ran == [] and calls[0] == 0
    assert idle_metrics(pool).jobs_timed_out == 204
    idle_metrics(other)


# ---- a running job ----


def test_a_running_jobs_future_ends_at_the_deadline_while_it_runs(single: fastpool.Pool) -> None:
    running = Running()
    future = single.options(timeout=LATER).submit(running)
    starts(running, future)
    error = timed_out(future)
    assert "while it ran" in str(error)
    assert future.done() and not future.running() and not future.cancelled()
    assert running.job.cancelled and running.job.remaining() == 0
    with pytest.raises(JobTimeout):
        running.job.check()
    assert single.metrics().jobs_timed_out == 0, "it runs still"
    assert not single.wait_idle(0)
    assert single.metrics().active_workers == 1
    running.release.set()
    assert idle_metrics(single).jobs_timed_out == 1
    assert future.exception() is error, "its late result is dropped"


def test_wait_idle_waits_for_a_running_job_whose_time_is_over(single: fastpool.Pool) -> None:
    running = Running()
    future = single.options(timeout=LATER).submit(running)
    starts(running, future)
    timed_out(future)
    waiting = in_thread(single.wait_idle, WAIT)
    assert not single.wait_idle(SOON)
    running.release.set()
    assert waiting()


def test_what_a_late_job_was_called_with_dies_when_it_returns(single: fastpool.Pool) -> None:
    running, target = Running(), Target()
    reference = weakref.ref(target)
    future = single.options(timeout=LATER).submit(running, target)
    del target
    starts(running, future)
    timed_out(future)
    assert reference() is not None, "it runs with it"
    running.release.set()
    assert gone(reference, single)
    timed_out(future)


def test_a_late_result_dies(single: fastpool.Pool) -> None:
    references: list[weakref.ref[Target]] = []
    running = Running()

    def job() -> Target:
        running()
        target = Target()
        references.append(weakref.ref(target))
        return target

    future = single.options(timeout=LATER).submit(job)
    starts(running, future)
    timed_out(future)
    running.release.set()
    assert single.wait_idle(WAIT)
    assert gone(references[0], single)


@pytest.mark.parametrize("error", [ValueError, JobTimeout, CancelledError, SystemExit, KeyboardInterrupt])
def test_what_a_late_job_raises_is_dropped(single: fastpool.Pool, error: type[BaseException]) -> None:
    running = Running()

    def job() -> None:
        running()
        raise error

    future = single.options(timeout=LATER).submit(job)
    starts(running, future)
    first = timed_out(future)
    running.release.set()
    metrics = idle_metrics(single)
    assert (metrics.jobs_timed_out, metrics.jobs_failed) == (1, 0)
    assert future.exception() is first


def test_a_job_that_raises_from_check_ends_as_timed_out(make_pool: MakePool) -> None:
    """Whether the timer was first or the job."""
    pool = make_pool(2)

    def job() -> None:
        job = fastpool.current_job()
        assert job is not None
        pass_by(job)
        job.check()

    futures = [pool.options(timeout=SOON).submit(job) for _ in range(20)]
    for future in futures:
        timed_out(future)
    assert idle_metrics(pool).jobs_timed_out == 20


def test_an_error_in_time_is_the_jobs_own(single: fastpool.Pool) -> None:
    def job() -> None:
        raise JobTimeout("of its own")

    future = single.options(timeout=FAR).submit(job)
    with pytest.raises(JobTimeout, match="of its own"):
        future.result(WAIT)
    assert idle_metrics(single).jobs_failed == 1


def test_a_timeout_read_again_has_the_same_traceback(single: fastpool.Pool) -> None:
    future = single.options(timeout=0).submit(int)
    depths = []
    for _ in range(4):
        with pytest.raises(JobTimeout) as caught:
            future.result(WAIT)
        depths.append(len(traceback.extract_tb(caught.value.__traceback__)))
    assert len(set(depths)) == 1


def test_a_deadline_counts_from_the_submit_also_where_that_waits_for_room(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1)
    ran: list[int] = []
    with Held(pool) as held:
        filler = pool.submit(int)
        submitting = in_thread(pool.options(timeout=SOON).submit, ran.append, 1)
        with pytest.raises(concurrent.futures.TimeoutError):
            filler.result(2 * SOON)
        held.release()
        timed_out(submitting())
    assert ran == []
    assert idle_metrics(pool).jobs_timed_out == 1


# ---- who is told ----


def test_callbacks_wait_and_as_completed_see_it(single: fastpool.Pool) -> None:
    running = Running()
    called: list[Any] = []
    view = single.options(timeout=SOON)
    with Held(single):
        futures = [view.submit(running), view.submit(int), view.submit(kernels.identity, 1.0)]
        for future in futures:
            future.add_done_callback(called.append)
        assert set(concurrent.futures.as_completed(futures, WAIT)) == set(futures)
    assert set(concurrent.futures.as_completed(futures, WAIT)) == set(futures)
    assert concurrent.futures.wait(futures, WAIT).not_done == set()
    for future in futures:
        assert future._state == "FINISHED"
        timed_out(future)
    running.release.set()
    assert single.wait_idle(WAIT)
    assert sorted(map(id, called)) == sorted(map(id, futures)), "each once"


def test_an_event_loop_sees_it(make_pool: MakePool) -> None:
    pool = make_pool(1)
    running = Running()

    async def main() -> list[Any]:
        view = pool.options(timeout=SOON)
        waits = [pool.options(timeout=LATER).run(running), view.run(int)]
        waits.append(asyncio.get_running_loop().run_in_executor(view, int))
        return await asyncio.gather(*waits, return_exceptions=True)

    with Held(pool):
        results = asyncio.run(main())
    running.release.set()
    assert [type(result) for result in results] == [JobTimeout] * 3
    assert idle_metrics(pool).jobs_timed_out == 3


def test_the_time_of_run_begins_with_the_call_also_where_it_waits_for_room(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1)
    ran: list[int] = []

    async def main() -> None:
        pool.submit(int)  # fills the queue
        with pytest.raises(JobTimeout):
            await pool.options(timeout=SOON).run(ran.append, 1)

    with Held(pool):
        asyncio.run(main())
    assert ran == []
    assert idle_metrics(pool).jobs_submitted == 2


def test_a_post_tells_on_error(make_pool: MakePool, caplog: pytest.LogCaptureFixture) -> None:
    told: list[fastpool.JobError] = []
    pool = make_pool(1, on_error=told.append)
    running = Running()
    with caplog.at_level(logging.CRITICAL):
        with Held(pool):
            pool.options(timeout=SOON).post(running)
            pool.options(timeout=SOON).post(int)
            pool.options(timeout=SOON).post(kernels.identity, 1.0)
            timed_out(pool.options(timeout=2 * SOON).submit(int))
        running.release.set()
        metrics = idle_metrics(pool)
    assert [type(failure.exception) for failure in told] == [JobTimeout] * 3
    assert {failure.fn for failure in told} == {running, int, kernels.identity}
    assert (metrics.jobs_timed_out, metrics.panics) == (4, 3)


def test_an_idle_pool_has_told_of_all_that_timed_out(make_pool: MakePool, caplog: pytest.LogCaptureFixture) -> None:
    """The timer is in on_error when the worker comes to the job, and later when the job returns."""
    told, entered, release = [], threading.Event(), threading.Event()

    def on_error(failure: fastpool.JobError) -> None:
        entered.set()
        reached(release)
        told.append(failure)

    for fn in (int, Running()):
        pool = make_pool(1, on_error=on_error)
        release.clear(), entered.clear(), told.clear()
        held = Held(pool) if fn is int else None
        with caplog.at_level(logging.CRITICAL):
            pool.options(timeout=SOON).post(fn)
            reached(entered)
            held.release() if held is not None else fn.release.set()
            assert not pool.wait_idle(2 * SOON)
            release.set()
            assert pool.wait_idle(WAIT)
        assert len(told) == 1
        idle_metrics(pool)


def test_a_pool_may_go_while_its_timeouts_are_told(caplog: pytest.LogCaptureFixture) -> None:
    told, entered, release = [], threading.Event(), threading.Event()

    def on_error(failure: fastpool.JobError) -> None:
        entered.set()
        reached(release)
        told.append(type(failure.exception))

    pool = fastpool.Pool(1, on_error=on_error)
    running = Running()
    with caplog.at_level(logging.CRITICAL):
        pool.options(timeout=SOON).post(running)
        reached(entered)
        running.release.set()
        while not pool.shutdown(wait=False):
            time.sleep(0.001)
        del pool
        release.set()
        end = time.monotonic() + WAIT
        while not told and time.monotonic() < end:
            time.sleep(0.001)
    assert told == [JobTimeout]


def test_a_callback_of_a_timeout_does_not_wait_for_itself(make_pool: MakePool) -> None:
    pool, refused = make_pool(1), []

    def callback(_: object) -> None:
        for wait in (pool.wait_idle, pool.shutdown):
            try:
                wait()
            except fastpool.PoolError as error:
                refused.append(error)

    with Held(pool):
        pool.options(timeout=SOON).submit(int).add_done_callback(callback)
        timed_out(pool.options(timeout=2 * SOON).submit(int))
    idle_metrics(pool)
    assert len(refused) == 2


# ---- each way a job may end instead: the books balance ----


def test_discard_oldest_discards_what_has_timed_out(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=2, on_full="discard_oldest")
    with Held(pool):
        late = [pool.options(timeout=SOON).submit(int) for _ in range(2)]
        for future in late:
            timed_out(future)
        futures = [pool.submit(int) for _ in range(4)]
    metrics = idle_metrics(pool)
    assert [future.cancelled() for future in futures] == [True, True, False, False]
    assert (metrics.jobs_timed_out, metrics.jobs_cancelled) == (2, 2)


def test_a_job_that_the_caller_runs_has_a_deadline_too(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1, on_full="caller_runs")
    view = pool.options(timeout=SOON)

    def job() -> int:
        job = fastpool.current_job()
        assert job is not None
        ran_on.append(job.worker_id)
        pass_by(job)
        return 1

    ran_on: list[int] = []
    pieces = np.zeros(2, np.int64)
    with Held(pool):
        pool.submit(int)
        timed_out(view.submit(job))
        timed_out(view.submit(capi.kernel("until_stopped_well", STATUS, pieces)))
        with pytest.raises(JobTimeout):
            view.parallel_for(capi.kernel("until_stopped_well_range", RANGE, pieces), 100, grain=1)
        assert pieces.tolist() == [2, 2], "one piece, for it stops at the next"
        with pytest.raises(JobTimeout):
            list(view.map(lambda _: job(), range(3)))
    metrics = idle_metrics(pool)
    assert ran_on == [-1, -1]
    assert metrics.jobs_timed_out == 1 + 1 + 100 + 3


def test_jobs_that_a_waiting_job_runs_have_deadlines_too(single: fastpool.Pool) -> None:
    view = single.options(timeout=SOON)
    inner = Running()
    inner.release.set()

    def slow() -> None:
        job = fastpool.current_job()
        assert job is not None
        pass_by(job)

    def outer() -> list[Any]:
        late = view.submit(slow)
        error = late.exception(WAIT)
        return [type(error), *[type(each.exception(WAIT)) for each in view.submit_many(slow, [])]]

    assert single.submit(outer).result(WAIT) == [JobTimeout]
    metrics = idle_metrics(single)
    assert (metrics.jobs_timed_out, metrics.jobs_processed) == (1, 1)


@pytest.mark.parametrize("on_full", ["raise", "block"])
def test_a_refused_submit_leaves_nothing_armed(make_pool: MakePool, on_full: str) -> None:
    pool = make_pool(1, queue_size=1, on_full=on_full, submit_timeout=SOON)
    ran: list[int] = []
    with Held(pool):
        pool.submit(int)
        for timeout in (FAR, 0, SOON / 2):
            view = pool.options(timeout=timeout)
            target = Target()
            reference = weakref.ref(target)
            for method in (view.submit, view.post):
                with pytest.raises(fastpool.PoolOverloaded):
                    method(ran.append, target)
            with pytest.raises(fastpool.PoolOverloaded):
                view.submit(kernels.identity, 1.0)
            with pytest.raises(fastpool.PoolOverloaded):
                view.submit_array(kernels.identity, [1.0])
            with pytest.raises(fastpool.PoolOverloaded):
                view.submit_many(kernels.identity, [1.0])
            del target, method
            end = time.monotonic() + WAIT
            while reference() is not None and time.monotonic() < end:
                time.sleep(0.001)
            assert reference() is None
    metrics = idle_metrics(pool)
    assert ran == []
    assert (metrics.jobs_submitted, metrics.jobs_rejected) == (2, 15)


def test_jobs_of_a_broken_pool_end_once(make_pool: MakePool, caplog: pytest.LogCaptureFixture) -> None:
    go = threading.Event()

    def initializer() -> None:
        reached(go)
        raise ValueError("on purpose")

    pool = make_pool(1, initializer=initializer)
    with caplog.at_level(logging.CRITICAL + 1):
        view = pool.options(timeout=SOON)
        late = [view.submit(int), view.submit(kernels.identity, 1.0)]
        early = [pool.options(timeout=FAR).submit(int), pool.options(timeout=FAR).submit(kernels.identity, 1.0)]
        for future in late:
            timed_out(future)
        go.set()
        for future in early:
            with pytest.raises(concurrent.futures.thread.BrokenThreadPool):
                future.result(WAIT)
        metrics = idle_metrics(pool)
    assert metrics.jobs_timed_out == 2


@pytest.mark.parametrize("way", [{}, {"cancel_futures": True}, {"wait": False}, {"timeout": 0}, {"timeout": SOON}])
def test_shutting_down_with_deadlines_armed(way: dict[str, Any]) -> None:
    pool = fastpool.Pool(1)
    running = Running()
    futures = [pool.options(timeout=LATER).submit(running)]
    starts(running, futures[0])
    for timeout in (0, SOON, FAR):
        view = pool.options(timeout=timeout)
        futures += [view.submit(int), view.submit(kernels.identity, 1.0), view.submit_array(kernels.identity, [1.0])]
        futures += view.submit_many(int, "123") + view.submit_many(kernels.identity, [1.0] * 3)
    stop = in_thread(lambda: pool.shutdown(**way))
    timed_out(futures[0])
    if way.get("timeout") is not None:
        assert not stop(), "a job runs"
    running.release.set()
    stop()
    assert pool.shutdown(timeout=WAIT)
    assert all(future.done() for future in futures)
    metrics = pool.metrics()
    assert metrics.jobs_submitted == ended(metrics) == 1 + 3 * 9, metrics
    late = [future for future in futures if not future.cancelled() and future.exception() is not None]
    assert metrics.jobs_timed_out == len(late)


def test_ten_thousand_deadlines_take_one_thread_and_each_job_ends_once(make_pool: MakePool) -> None:
    def threads() -> int:
        return len(list(Path("/proc/self/task").iterdir())) if sys.platform == "linux" else 0

    pool = make_pool(2, queue_size=None)
    pool.options(timeout=FAR).submit(int).result(WAIT)
    pool.submit_many(int, [0] * 10)
    pool.wait_idle(WAIT)
    before, random_times = threads(), random.Random(1)
    called: list[Any] = []
    futures = []
    for i in range(10_000):
        view = pool.options(timeout=random_times.random() * 2 * SOON)
        futures.append(view.submit(int) if i % 2 else view.submit(kernels.identity, 1.0))
        if i % 8 == 0:
            futures[-1].add_done_callback(called.append)
    assert threads() <= before + 1
    assert concurrent.futures.wait(futures, WAIT).not_done == set()
    metrics = idle_metrics(pool)
    late = [future for future in futures if future.exception() is not None]
    assert metrics.jobs_timed_out == len(late)
    assert all(type(future.exception()) is JobTimeout for future in late)
    assert len(called) == 1250 and set(called) == set(futures[::8])


# ---- map ----


def test_calls_of_a_map_that_have_not_started_at_its_deadline_never_do(single: fastpool.Pool) -> None:
    running, ran = Running(), []

    def call(i: int) -> None:
        ran.append(i)
        running()

    results = single.options(timeout=SOON).map(call, range(10))
    with pytest.raises(JobTimeout):
        next(results)
    running.release.set()
    metrics = idle_metrics(single)
    assert ran in ([], [0])
    assert (metrics.jobs_timed_out, metrics.jobs_submitted) == (10, 10)
    if ran:
        assert running.job.cancelled
        with pytest.raises(JobTimeout):
            running.job.check()


def test_results_that_were_in_time_are_read_later(single: fastpool.Pool) -> None:
    results = single.options(timeout=SOON).map(int, "123")
    if single.wait_idle(SOON / 2):
        time.sleep(2 * SOON)
        assert list(results) == [1, 2, 3]
    else:
        results.close()  # type: ignore[attr-defined]


def test_a_chunk_stops_at_the_deadline(single: fastpool.Pool) -> None:
    ran: list[int] = []

    def call(i: int) -> None:
        ran.append(i)
        job = fastpool.current_job()
        assert job is not None
        pass_by(job)

    with pytest.raises(JobTimeout):
        list(single.options(timeout=SOON).map(call, range(10), chunksize=10))
    assert idle_metrics(single).jobs_timed_out == 10
    assert ran in ([], [0])


def test_a_maps_own_timeout_and_a_jobs_differ(single: fastpool.Pool) -> None:
    view = single.options(timeout=FAR)
    with Held(single):
        with pytest.raises(TimeoutError) as caught:
            next(view.map(int, "1", timeout=SOON))
        assert type(caught.value) is not JobTimeout
    assert idle_metrics(single).jobs_cancelled == 1


@pytest.mark.parametrize("options", [{"buffersize": 3}, {"buffersize": 1}])
def test_a_lazy_map_and_an_unordered_one_time_out(single: fastpool.Pool, options: dict[str, int]) -> None:
    ran: list[int] = []
    view = single.options(timeout=SOON)
    with Held(single):
        with pytest.raises(JobTimeout):
            next(view.map(ran.append, range(9), **options))
        with pytest.raises(JobTimeout):
            next(view.imap_unordered(ran.append, range(9), **options))
    metrics = idle_metrics(single)
    assert ran == []
    assert metrics.jobs_processed == 1


# ---- kernels ----


def test_a_running_kernels_future_ends_at_the_deadline(single: fastpool.Pool) -> None:
    with native.Told() as told:
        future = single.options(timeout=SOON).submit(told.kernel)
        timed_out(future)
    metrics = idle_metrics(single)
    assert (metrics.jobs_timed_out, metrics.jobs_processed) == (1, 0)
    timed_out(future)


def test_a_kernel_is_called_with_its_arguments_though_its_future_has_ended(single: fastpool.Pool) -> None:
    """The timer writes its error where they lie."""
    release, seen = threading.Event(), []

    def call(a: float, b: float, c: float) -> float:
        reached(release)
        seen.append((a, b, c))
        return a

    kernel = fastpool.kernel(ctypes.CFUNCTYPE(*[ctypes.c_double] * 4)(call))
    future = single.options(timeout=SOON).submit(kernel, 1.0, 2.0, 3.0)
    timed_out(future)
    release.set()
    assert single.wait_idle(WAIT)
    assert seen in ([], [(1.0, 2.0, 3.0)])
    timed_out(future)


@pytest.mark.parametrize("name", ["until_stopped", "until_stopped_well"])
def test_a_kernel_that_stops_at_its_deadline_has_timed_out(single: fastpool.Pool, name: str) -> None:
    words = np.zeros(2, np.int64)
    timed_out(single.options(timeout=SOON).submit(capi.kernel(name, STATUS, words)))
    metrics = idle_metrics(single)
    assert (metrics.jobs_timed_out, metrics.jobs_failed) == (1, 0)
    assert words[0] == words[1] <= 1


def test_the_kernel_of_a_job_that_timed_out_dies(single: fastpool.Pool) -> None:
    data = np.zeros(1, np.int64)
    with Held(single):
        for kind in ("submit", "submit_many", "submit_array"):
            kernel = fastpool.kernel(native.capsule("counted", ELEMENT), data=data)
            argument = 1.0 if kind == "submit" else [1.0, 2.0]
            ended_ = getattr(single.options(timeout=SOON), kind)(kernel, argument)
            for future in ended_ if isinstance(ended_, list) else [ended_]:
                assert type(future.exception(WAIT)) is JobTimeout
            del kernel, ended_, future
    reference = weakref.ref(data)
    del data
    assert gone(reference, single)


# ---- arrays, ranges, many calls of a kernel ----


def test_an_array_stops_at_the_next_piece_and_is_not_written_after_its_future_ended(make_pool: MakePool) -> None:
    pool = make_pool(2)
    for _ in range(20):
        out = np.zeros(10_000)
        future = pool.options(timeout=0.001).submit_array(kernels.polynomial, np.ones(10_000), out=out, grain=1)
        error = future.exception(WAIT)
        seen = out.copy()
        if error is not None:
            timed_out(future)
        assert pool.wait_idle(WAIT)
        assert (out == seen).all()
    idle_metrics(pool)


def test_pieces_that_poll_stop_and_no_further_one_starts(pool: fastpool.Pool) -> None:
    words = np.zeros(2, np.int64)
    view = pool.options(timeout=SOON)
    timed_out(view.submit_array(capi.kernel("until_stopped_element", ELEMENT, words), np.ones(1000), grain=1))
    for name in ("until_stopped_range", "until_stopped_well_range"):
        with pytest.raises(JobTimeout):
            view.parallel_for(capi.kernel(name, RANGE, words), 1000, grain=1)
    assert words[0] == words[1] <= 3 * 16
    metrics = idle_metrics(pool)
    assert (metrics.jobs_timed_out, metrics.jobs_processed, metrics.jobs_failed) == (3000, 0, 0)


@pytest.mark.parametrize("name", ["until_stopped_range", "until_stopped_well_range"])
def test_the_last_piece_too_is_asked_to_stop_and_is_late(pool: fastpool.Pool, name: str) -> None:
    words = np.zeros(2, np.int64)
    with pytest.raises(JobTimeout):
        pool.options(timeout=SOON).parallel_for(capi.kernel(name, RANGE, words), 10, grain=10)
    assert words[0] == words[1] <= 1
    metrics = idle_metrics(pool)
    assert (metrics.jobs_timed_out, metrics.jobs_submitted) == (10, 10)


def test_an_array_that_was_in_time_is_whole(pool: fastpool.Pool) -> None:
    view = pool.options(timeout=FAR)
    x = np.arange(1000.0)
    assert (view.map_array(kernels.identity, x) == x).all()
    assert (view.submit_array(kernels.identity, x).result(WAIT) == x).all()
    assert (view.map_array(np.negative, x) == -x).all()
    assert view.submit_array(kernels.identity, []).result(WAIT).size == 0
    assert [future.result(WAIT) for future in view.submit_many(kernels.identity, x)] == x.tolist()
    assert idle_metrics(pool).jobs_timed_out == 0


def test_a_queued_array_ends_at_its_deadline(single: fastpool.Pool) -> None:
    with Held(single):
        view = single.options(timeout=SOON)
        futures = [view.submit_array(kernels.identity, [1.0] * 9), view.submit_array(np.negative, [1.0])]
        futures += view.submit_many(kernels.identity, [1.0] * 9)
        called: list[Any] = []
        for future in futures:
            future.add_done_callback(called.append)
        for future in futures:
            timed_out(future)
        for wait in (
            lambda: view.map_array(kernels.identity, [1.0] * 9),
            lambda: view.map_array(np.negative, [1.0] * 9),
            lambda: view.parallel_for(fastpool.kernel(native.capsule("count_each", RANGE)), 9, np.zeros(9, np.int32)),
        ):
            with pytest.raises(JobTimeout):
                wait()
        assert sorted(map(id, called)) == sorted(map(id, futures))
    assert idle_metrics(single).jobs_processed == 1


def test_a_cancelled_array_is_none_that_timed_out(single: fastpool.Pool) -> None:
    with Held(single):
        future = single.options(timeout=SOON).submit_array(kernels.identity, [1.0] * 9)
        assert future.cancel()
        timed_out(single.options(timeout=2 * SOON).submit(int))
        assert future.cancelled()
    metrics = idle_metrics(single)
    assert (metrics.jobs_cancelled, metrics.jobs_timed_out) == (9, 1)


def test_many_calls_of_a_kernel_end_each_as_it_was(single: fastpool.Pool) -> None:
    """Those before the one that takes too long are done, that one and those after it are timed out."""
    inside, release = threading.Event(), threading.Event()

    def call(x: float) -> float:
        if x == 50:
            inside.set()
            reached(release)
        return x

    kernel = fastpool.kernel(ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(call))
    futures = single.options(timeout=0.2).submit_many(kernel, np.arange(100.0))
    assert futures[70].cancel()
    if not inside.wait(WAIT):
        pytest.skip("this machine is too slow")
    timed_out(futures[99])
    release.set()
    metrics = idle_metrics(single)
    kinds = [type(future.exception()) if not future.cancelled() else CancelledError for future in futures]
    assert kinds[70] is CancelledError
    last = kinds.index(JobTimeout)
    assert last <= 50 and kinds[50] is JobTimeout
    assert {*kinds[:last]} <= {type(None)} and {*kinds[last:70], *kinds[71:]} == {JobTimeout}
    assert [future.result() for future in futures[:last]] == list(np.arange(float(last)))
    assert (metrics.jobs_processed, metrics.jobs_timed_out + metrics.jobs_cancelled) == (last, 100 - last)


def test_many_calls_that_poll_stop(pool: fastpool.Pool) -> None:
    words = np.zeros(2, np.int64)
    futures = pool.options(timeout=SOON).submit_many(capi.kernel("until_stopped_element", ELEMENT, words), np.ones(500))
    for future in reversed(futures):
        timed_out(future)
    assert idle_metrics(pool).jobs_timed_out == 500
    assert words[0] == words[1]


# ---- ufuncs ----


def slow_ufunc(started: threading.Event, release: threading.Event) -> Any:
    def call(x: Any) -> Any:
        started.set()
        reached(release)
        return x

    return np.frompyfunc(call, 1, 1)


def test_a_ufunc_stops_at_the_next_chunk_and_writes_no_more(pool: fastpool.Pool) -> None:
    started, release = threading.Event(), threading.Event()
    out = np.zeros(1000, object)
    view = pool.options(timeout=SOON)
    waiting = in_thread(lambda: view.map_array(slow_ufunc(started, release), np.ones(1000, object), out=out, grain=1))
    started.wait(WAIT / 10)
    time.sleep(SOON)
    release.set()
    with pytest.raises(JobTimeout):
        waiting()
    seen = out.copy()
    idle_metrics(pool)
    assert (out == seen).all() and np.count_nonzero(out) <= 16


def test_the_future_of_a_ufunc_ends_when_its_chunks_are_written(make_pool: MakePool) -> None:
    for workers in (1, 2):
        pool = make_pool(workers)
        started, release = threading.Event(), threading.Event()
        out = np.zeros(100, object)
        view = pool.options(timeout=2 * SOON)
        future = view.submit_array(slow_ufunc(started, release), np.ones(100, object), out=out, grain=1)
        if not started.wait(WAIT / 10):
            pytest.skip("it was late before it could start")
        time.sleep(3 * SOON)
        assert not future.done(), "a chunk is being written"
        release.set()
        timed_out(future)
        seen = out.copy()
        assert idle_metrics(pool).jobs_timed_out >= 1
        assert (out == seen).all() and np.count_nonzero(out) <= workers


# ---- races, by the dozen ----


@pytest.mark.parametrize("seed", range(3))
def test_timer_workers_cancellers_and_helpers_at_once(make_pool: MakePool, fast_switching: None, seed: int) -> None:
    rng = random.Random(seed)
    pool = make_pool(
        3, queue_size=rng.choice([4, 64, None]), on_full=rng.choice(["block", "discard_oldest", "caller_runs"])
    )
    views = [pool.options(timeout=rng.random() * 0.002) for _ in range(16)] + [pool]
    called: list[Any] = []
    futures: list[Any] = []

    def nested(depth: int) -> int:
        future = views[depth % len(views)].submit(nested, depth - 1) if depth else pool.submit(int)
        try:
            return int(future.result(WAIT)) + 1
        except (JobTimeout, CancelledError):
            return 0

    def submit(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(400):
            view = rng.choice(views)
            kind = rng.randrange(6)
            if kind == 0:
                made = [view.submit(nested, rng.randrange(3))]
            elif kind == 1:
                made = [view.submit(kernels.identity, 1.0)]
            elif kind == 2:
                made = [view.submit_array(kernels.identity, np.ones(50), grain=1)]
            elif kind == 3:
                made = view.submit_many(kernels.identity, np.ones(20))
            elif kind == 4:
                made = view.submit_many(len, ["a"] * 5)
            else:
                made = [view.submit(fastpool.current_job)]
            if rng.random() < 0.3:
                made[0].add_done_callback(called.append)
                marked.append(made[0])
            if rng.random() < 0.3:
                rng.choice(made).cancel()
            futures.extend(made)

    marked: list[Any] = []
    for wait in [in_thread(submit, seed * 10 + i) for i in range(3)]:
        wait()
    metrics = idle_metrics(pool)
    assert all(future.done() for future in futures)
    assert metrics.jobs_failed == 0
    assert len(called) == len(marked) and set(called) == set(marked)


def test_no_job_with_a_deadline_leaves_anything_behind(make_pool: MakePool) -> None:
    pool = make_pool(1)
    view = pool.options(timeout=SOON, context=True)
    references = []
    for _ in range(5):
        target = Target()
        running = Running()
        references.append(weakref.ref(target))
        future = view.submit(running, target)
        queued = view.submit(id, target)
        timed_out(future), timed_out(queued)
        running.release.set()
        del target, running, future, queued
    gc.disable()
    try:
        assert all(gone(reference, pool) for reference in references)
    finally:
        gc.enable()


# ---- the process: fork, exit, no threads ----


@pytest.mark.parametrize(
    "case", ["deadlines_in_a_child", "exit_with_deadlines_armed", "exit_with_deadlines_armed exit"]
)
def test_the_process(case: str) -> None:
    check(case)


def test_a_timer_that_is_held_up_at_exit_is_interrupted() -> None:
    check("exit_while_a_callback_holds_the_timer", "main ends\ninterrupted\n")
