"""What goes wrong in the usual worker pool and in its peers, a test for each rule that is not tested elsewhere.

Tested elsewhere, as "mistake: file::test" (a file's name without test_ and .py):

The usual pool
    results that nobody reads block shutdown: here
    closing under a live producer crashes: shutdown::test_whatever_way_jobs_come_in_each_is_accepted_and_ends_or_is_refused
    a stop and a job ready at once drop the job: shutdown::test_a_job_is_not_dropped_when_it_and_the_stop_are_there_at_once
    finished results are thrown away: shutdown::test_a_result_that_was_computed_is_never_lost
    a second shutdown crashes: shutdown::test_shutting_down_again_is_harmless
    "accepted" by a dead pool: shutdown::test_after_shutdown_everything_is_refused
    a fixed wait for room: backpressure::test_block_gives_up_after_submit_timeout
    "overloaded" said of a closed pool: shutdown::test_after_shutdown_everything_is_refused, and here of a full one
    a cancelled or refused caller's job is queued: here
    a recovered panic sends no result: recovery::test_a_future_carries_any_exception_and_the_worker_goes_on
    a panic counts as success, or nowhere: metrics::test_panics_are_failures_that_nobody_expects, here
    no wait time, rejected or submitted count: metrics, accounting
    never scales down, minimum never started, two workers per five seconds: scaling
    drain after the cancel: shutdown::test_shutdown_with_a_timeout_drains_then_cancels
    survivors of a drain get a cancelled context: shutdown::test_within_its_time_a_shutdown_lets_all_jobs_end
    a timeout of 0 is none, or none is 0: here
    one stuck job blocks shutdown: shutdown::test_one_stuck_job_does_not_hold_a_shutdown_with_a_timeout

Faults not to repeat
    no thread can be started, and the job runs later: isolated::test_where_no_thread_can_be_started_a_submit_is_refused
    submit in a forked child never runs: promises::test_in_a_forked_child_the_parents_pool_raises_pool_error_and_never_hangs
    nested submit on one worker: promises::test_a_job_may_submit_to_and_wait_on_its_own_pool
    cancelled jobs keep their arguments: memory::test_a_cancelled_job_drops_its_arguments_at_once
    exception cycles: memory::test_an_exception_is_in_no_cycle_of_the_pools_making
    the exit flag is set too early: isolated::test_exit
    finalization: isolated::test_exit
    lost wake-ups: submit::test_no_queued_job_is_left_to_a_worker_that_sleeps, and the C tests
    capacity differs from what was asked for: backpressure::test_the_queue_holds_exactly_queue_size_jobs
    above capacity: submit::test_no_more_jobs_run_at_once_than_there_are_workers
    a flag that breaks the second pool: initializer::test_a_broken_pool_harms_no_other
    exceptions of detached tasks are swallowed: recovery::test_a_posted_jobs_failure_is_logged_counted_and_handed_on
    a destructor deadlocks: shutdown::test_a_destructor_may_shut_down
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import InvalidStateError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import WAIT, Held, idle_metrics, in_thread

import fastpool
from fastpool import kernels

MakePool = Callable[..., fastpool.Pool]


# --- the usual worker pool ---


def test_results_that_nobody_reads_do_not_hold_a_shutdown(make_pool: MakePool) -> None:
    pool = make_pool(2, queue_size=4)
    for _ in range(100):
        pool.submit(bytes, 1000)
    unread = [pool.map(int, "123"), pool.map(int, ["1"] * 50, buffersize=2), pool.imap_unordered(int, ["1"] * 50)]
    next(unread[1])
    assert pool.shutdown(timeout=WAIT) is True
    assert unread


def test_a_full_pool_is_overloaded_a_closed_one_is_shut_down_and_a_slow_one_times_out(make_pool: MakePool) -> None:
    assert not issubclass(fastpool.PoolShutdown, fastpool.PoolOverloaded)
    assert issubclass(fastpool.SubmitTimeout, fastpool.PoolOverloaded)
    pool = make_pool(1, queue_size=1)
    with Held(pool):
        pool.submit(int)
        with pytest.raises(fastpool.SubmitTimeout):
            pool.options(submit_timeout=0.001).submit(int)
        with pytest.raises(fastpool.PoolOverloaded) as overloaded:
            pool.options(on_full="raise").submit(int)
        assert type(overloaded.value) is fastpool.PoolOverloaded
        blocked = in_thread(pool.submit, int)
        pool.shutdown(wait=False)
        with pytest.raises(fastpool.PoolShutdown):
            blocked()
        for on_full in ("block", "raise", "caller_runs", "discard_oldest"):  # full, too
            with pytest.raises(fastpool.PoolShutdown):
                pool.options(on_full=on_full).submit(int)
    assert pool.shutdown(timeout=WAIT)
    assert pool.metrics().jobs_processed == 2


def test_a_caller_that_was_refused_or_cancelled_has_queued_nothing(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1)
    ran: list[int] = []
    held = Held(pool)
    queued = pool.submit(int)

    async def main() -> None:
        waiting = [asyncio.ensure_future(pool.run(ran.append, i)) for i in range(5)]
        await asyncio.sleep(0.01)
        for each in waiting:
            each.cancel()
        await asyncio.wait(waiting)
        assert all(each.cancelled() for each in waiting)

    asyncio.run(main())
    for _ in range(5):
        with pytest.raises(fastpool.SubmitTimeout):
            pool.options(submit_timeout=0.001).submit(ran.append, 9)
    held.release()
    assert queued.result(WAIT) == 0
    assert idle_metrics(pool).jobs_submitted == 2
    assert ran == []


def test_a_timeout_of_0_is_over_at_once_and_none_never(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1)
    held = Held(pool)
    queued = pool.submit(int)
    with pytest.raises(TimeoutError):
        queued.result(0)
    assert pool.wait_idle(0) is False
    with pytest.raises(fastpool.SubmitTimeout):
        pool.options(submit_timeout=0).submit(int)
    waits = [in_thread(queued.result, None), in_thread(pool.wait_idle, None)]
    blocked = in_thread(pool.options(submit_timeout=None).submit, int)
    time.sleep(0.01)
    held.release()
    assert waits[0]() == 0
    assert waits[1]() is True
    assert blocked().result(WAIT) == 0
    assert isinstance(pool.options(timeout=0).submit(int).exception(WAIT), fastpool.JobTimeout)
    assert pool.options(timeout=None).submit(int).result(WAIT) == 0
    with Held(pool), pytest.raises(TimeoutError):
        next(pool.map(int, "1", timeout=0))


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_reader_that_counts_results_never_hangs(make_pool: MakePool, error: type[BaseException]) -> None:
    pool = make_pool(2)

    def job(i: int) -> int:
        if i % 3 == 0:
            raise error
        return i

    futures = pool.submit_many(job, range(30))
    answers = [future.exception(WAIT) or future.result() for future in futures]
    assert sum(isinstance(answer, error) for answer in answers) == 10
    metrics = idle_metrics(pool)
    assert (metrics.jobs_processed, metrics.jobs_failed, metrics.panics) == (20, 10, 10)


# --- the standard library's ---


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("error", [SystemExit, GeneratorExit, ValueError])
def test_a_done_callback_that_raises_does_not_cost_the_worker(make_pool: MakePool, error: type[BaseException]) -> None:
    """ThreadPoolExecutor's worker ends, and a pool of one hangs. KeyboardInterrupt: see future."""
    pool = make_pool(1)
    before = pool.submit(threading.get_ident).result(WAIT)

    def callback(_: Any) -> None:
        raise error

    for _ in range(5):
        with Held(pool):
            future = pool.submit(int)
            future.add_done_callback(callback)
        future.result(WAIT)
    assert pool.submit(threading.get_ident).result(WAIT) == before


def test_a_broken_pool_can_be_told_from_one_that_is_shut_down_and_another_one_made(make_pool: MakePool) -> None:
    """ "Initializer failure breaks the pool for good": so it does here, but says so to each, and takes nothing with it."""
    pool = make_pool(1, initializer=int, initargs=("x",))
    with pytest.raises(fastpool.BrokenThreadPool):
        pool.submit(int).result(WAIT)
    with pytest.raises(fastpool.BrokenThreadPool):
        pool.submit(int)
    assert pool.shutdown() is True
    assert make_pool(1).submit(int).result(WAIT) == 0


# --- others ---


def test_cancelling_with_jobs_queued_does_not_hang(make_pool: MakePool) -> None:
    """pond #61, #138."""
    for workers in (1, 4):
        pool = make_pool(workers, queue_size=100)
        with Held(pool, workers):
            futures = [pool.submit(int) for _ in range(100)]
            blocked = [in_thread(pool.submit, int) for _ in range(3)]
            ending = in_thread(lambda pool=pool: pool.shutdown(cancel_futures=True))
            for each in blocked:
                with contextlib.suppress(
                    fastpool.PoolShutdown
                ):  # or there was room for a moment, as others were cancelled
                    futures.append(each())
        assert ending() is True
        assert all(future.done() for future in futures)


def test_a_thread_that_waits_with_a_lock_held_runs_no_job_that_wants_it(make_pool: MakePool) -> None:
    """rayon #592: there it steals any job. Here who waits for a job runs that one, or those that it waits for itself."""
    pool, lock = make_pool(2), threading.Lock()

    def wants_lock() -> int:
        assert lock.acquire(timeout=WAIT)
        lock.release()
        return 1

    def holds_lock() -> int:
        with lock:
            return (
                pool.submit(int, "1").result(WAIT)
                + sum(pool.map(int, "111"))
                + int(pool.map_array(kernels.identity, np.ones(100)).sum())
            )

    for _ in range(30):
        futures = [pool.submit(fn) for fn in (wants_lock, holds_lock, wants_lock, holds_lock, wants_lock, wants_lock)]
        assert [future.result(WAIT) for future in futures] == [1, 104, 1, 104, 1, 1]


def test_under_a_quota_of_one_cpu_there_is_one_worker_and_not_none() -> None:
    """oneTBB #2056."""
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("no affinity on this system")
    script = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "import fastpool, numpy\n"
        "with fastpool.Pool() as pool:\n"
        "    print(pool._max_workers, pool.submit(int, '5').result(), pool.map_array(numpy.sqrt, [4.0] * 99).sum())"
    )
    folder = str(Path(fastpool.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=os.environ | {"PYTHONPATH": folder},
    )
    assert done.stdout.split() == ["1", "5", "198.0"]


def test_pools_used_at_the_same_time_by_the_same_threads_do_not_meet(make_pool: MakePool) -> None:
    """numba's workqueue aborts (#8563)."""
    pools = [make_pool(2) for _ in range(4)]
    xs = np.arange(2000.0)

    def use(offset: int) -> bool:
        for i in range(20):
            pool, other = pools[(i + offset) % 4], pools[(i + offset + 1) % 4]
            assert (pool.map_array(kernels.identity, xs) == xs).all()
            assert pool.submit(lambda other=other: other.map_array(kernels.identity, xs).sum()).result(WAIT) == xs.sum()
        return True

    assert all(finish() for finish in [in_thread(use, offset) for offset in range(8)])


def test_a_future_that_is_released_while_it_is_completed_harms_nothing(make_pool: MakePool) -> None:
    """ants #113."""
    pool = make_pool(2)
    for _ in range(2000):
        pool.submit(int)
        pool.submit(kernels.identity, 1.0)
    gc.collect()
    assert idle_metrics(pool).jobs_processed == 4000


def test_nobody_but_the_pool_ends_its_futures(make_pool: MakePool) -> None:
    pool = make_pool(1)
    future = pool.submit(int)
    assert future.result(WAIT) == 0
    with pytest.raises(InvalidStateError):
        future.set_result(5)
    assert future.result(WAIT) == 0


def test_arrays_go_to_workers_and_back_as_they_are(make_pool: MakePool) -> None:
    """InterpreterPoolExecutor refuses them (cpython #143280)."""
    pool, array = make_pool(2), np.arange(10)
    assert pool.submit(lambda: array).result(WAIT) is array
    assert pool.submit(np.sum, array).result(WAIT) == 45


def test_an_idle_pool_burns_no_cpu(make_pool: MakePool) -> None:
    """taskflow #244, #255, #420, #681."""
    pool = make_pool(16)
    for future in pool.submit_many(int, ["1"] * 100):
        future.result(WAIT)
    time.sleep(0.05)
    began, wall = time.process_time(), time.monotonic()
    time.sleep(0.2)
    assert time.process_time() - began < (time.monotonic() - wall) / 5


def test_context_goes_with_the_job_where_it_is_asked_to(make_pool: MakePool) -> None:
    """sentry PR111451, temporal #263, anyio PR390, langchain PR15329."""
    var: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")
    pool = make_pool(2)
    view = pool.options(context=True)
    token = var.set("mine")
    try:
        assert view.submit(var.get).result(WAIT) == "mine"
        assert list(view.map(lambda _: var.get(), range(3))) == ["mine"] * 3
        assert [future.result(WAIT) for future in view.submit_many(lambda _: var.get(), range(3))] == ["mine"] * 3
    finally:
        var.reset(token)
    gone = weakref.ref(view)
    del view
    gc.collect()
    assert gone() is None
