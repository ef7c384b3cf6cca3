"""A job may submit to, and wait on, its own pool: never a deadlock, even with one worker and a full queue.

Nothing here waits without a bound, so what would be a deadlock is a failure.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import threading
from collections.abc import Callable
from typing import Any

import capi
import native
import numpy as np
import pytest
from support import WAIT, Held, idle_metrics, reached

import fastpool
from fastpool import kernels

MakePool = Callable[..., fastpool.Pool]


@pytest.fixture(params=[(1, 8192), (1, 1), (2, 1), (2, 2), (1, None)], ids=lambda p: f"{p[0]}w-queue{p[1]}")
def tight(request: pytest.FixtureRequest, make_pool: MakePool) -> fastpool.Pool:
    """Pools that deadlock easily."""
    workers, queue_size = request.param
    return make_pool(workers, queue_size=queue_size)


def fibonacci(pool: fastpool.Pool, n: int) -> int:
    if n < 2:
        return n
    first, second = pool.submit(fibonacci, pool, n - 1), pool.submit(fibonacci, pool, n - 2)
    return first.result(WAIT) + second.result(WAIT)


def test_jobs_wait_for_their_jobs(tight: fastpool.Pool) -> None:
    assert tight.submit(fibonacci, tight, 12).result(WAIT) == 144
    idle_metrics(tight)


def test_many_jobs_wait_for_their_jobs_at_once(tight: fastpool.Pool) -> None:
    futures = tight.submit_many(fibonacci, [tight] * 10, range(10))
    assert [future.result(WAIT) for future in futures] == [0, 1, 1, 2, 3, 5, 8, 13, 21, 34]
    idle_metrics(tight)


def test_a_long_chain_of_jobs_that_wait(tight: fastpool.Pool) -> None:
    def job(depth: int) -> int:
        return 0 if depth == 0 else 1 + tight.submit(job, depth - 1).result(WAIT)

    assert tight.submit(job, 100).result(WAIT) == 100


def test_a_chain_too_long_for_the_stack_is_an_error_and_no_crash(single: fastpool.Pool) -> None:
    def job(depth: int) -> int:
        return 0 if depth == 0 else 1 + single.submit(job, depth - 1).result(WAIT)

    error = single.submit(job, 100_000).exception(WAIT)
    assert isinstance(error, RecursionError)
    assert single.submit(int).result(WAIT) == 0
    idle_metrics(single)


def test_jobs_that_fill_the_queue_and_wait_afterwards(tight: fastpool.Pool) -> None:
    def job() -> int:
        return sum(future.result(WAIT) for future in [tight.submit(int, "1") for _ in range(200)])

    assert [future.result(WAIT) for future in [tight.submit(job) for _ in range(4)]] == [200] * 4
    idle_metrics(tight)


def test_jobs_that_submit_without_waiting(tight: fastpool.Pool) -> None:
    ran: list[int] = []

    def job(depth: int) -> None:
        ran.append(depth)
        if depth:
            tight.post(job, depth - 1)
            tight.post(job, depth - 1)

    tight.submit(job, 8).result(WAIT)
    idle_metrics(tight)
    assert len(ran) == 2**9 - 1


@pytest.mark.parametrize(
    "inner",
    [
        lambda pool: sum(pool.map(int, ["1"] * 50)),
        lambda pool: sum(pool.map(int, ["1"] * 50, buffersize=3)),
        lambda pool: sum(pool.imap_unordered(int, ["1"] * 50)),
        lambda pool: sum(pool.imap_unordered(int, ["1"] * 50, chunksize=7, buffersize=2)),
        lambda pool: sum(future.result(WAIT) for future in pool.submit_many(int, ["1"] * 50)),
        lambda pool: len(concurrent.futures.wait(pool.submit_many(int, ["1"] * 50), WAIT).done),
        lambda pool: sum(done.result() for done in concurrent.futures.as_completed(pool.submit_many(int, ["1"] * 50), WAIT)),
        lambda pool: sum(pool.submit(kernels.identity, 1.0).result(WAIT) for _ in range(50)),
        lambda pool: sum(future.result(WAIT) for future in pool.submit_many(kernels.identity, [1.0] * 50)),
        lambda pool: pool.map_array(kernels.identity, np.ones(50)).sum(),
        lambda pool: pool.map_array(kernels.identity, np.ones(50), grain=1).sum(),
        lambda pool: pool.submit_array(kernels.identity, np.ones(50)).result(WAIT).sum(),
        lambda pool: sum(1 for future in pool.submit_many(int, ["1"] * 50) if future.exception(WAIT) is None),
    ],
    ids=["map", "buffered map", "imap", "imap chunks", "many", "wait", "as_completed", "kernel", "kernels", "map_array",
         "map_array grain 1", "submit_array", "exception"],
)  # fmt: skip
def test_every_way_to_wait_works_in_a_job(tight: fastpool.Pool, inner: Callable[[fastpool.Pool], int]) -> None:
    futures = [tight.submit(inner, tight) for _ in range(5)]
    assert [future.result(WAIT) for future in futures] == [50] * 5
    # and one level further down
    assert tight.submit(lambda: tight.submit(inner, tight).result(WAIT)).result(WAIT) == 50
    idle_metrics(tight)


def count_each(pool: fastpool.Pool, grain: int | None) -> int:
    counts = np.zeros(50, np.int64)
    kernel = fastpool.kernel(capi.RANGE(("count_each", capi.held())), data=counts)
    pool.parallel_for(kernel, 50, grain=grain)
    return int(counts.sum())


@pytest.mark.parametrize("grain", [None, 1])
def test_a_parallel_for_works_in_a_job(tight: fastpool.Pool, grain: int | None) -> None:
    native.needs_compiler()
    futures = [tight.submit(count_each, tight, grain) for _ in range(5)]
    assert [future.result(WAIT) for future in futures] == [50] * 5
    assert tight.submit(lambda: tight.submit(count_each, tight, grain).result(WAIT)).result(WAIT) == 50
    idle_metrics(tight)


@pytest.mark.parametrize("on_full", ["block", "raise", "caller_runs", "discard_oldest"])
def test_no_policy_deadlocks_a_nested_submit(make_pool: MakePool, on_full: str) -> None:
    pool = make_pool(1, queue_size=1, on_full=on_full)

    def job() -> int:
        count = 0
        for _ in range(30):
            with contextlib.suppress(fastpool.PoolOverloaded, fastpool.CancelledError):
                count += pool.submit(int, "1").result(WAIT)
        return count

    assert 0 <= pool.submit(job).result(WAIT) <= 30
    idle_metrics(pool)


# --- waiting for what others have submitted ---


def waits_for(pool: fastpool.Pool, make: Callable[[], Any], read: Callable[[Any], Any]) -> Any:
    """In the pool's one worker, `read` what is made after that job has started: it is queued behind the reader."""
    started, go = threading.Event(), threading.Event()
    box: list[Any] = []

    def job() -> Any:
        started.set()
        reached(go)
        return read(box[0])

    future = pool.submit(job)
    reached(started)
    box.append(make())
    go.set()
    return future.result(WAIT)


def test_a_job_may_wait_for_a_job_of_another_submitter(single: fastpool.Pool) -> None:
    assert waits_for(single, lambda: single.submit(int, "5"), lambda future: future.result(WAIT / 2)) == 5
    assert (
        waits_for(single, lambda: single.submit(kernels.identity, 5.0), lambda future: future.result(WAIT / 2)) == 5.0
    )


def test_a_job_may_read_a_map_of_another_submitter(single: fastpool.Pool) -> None:
    assert waits_for(single, lambda: single.map(int, "123", timeout=WAIT / 2), list) == [1, 2, 3]
    assert waits_for(single, lambda: single.map(int, "123", timeout=WAIT / 2, buffersize=2), list) == [1, 2, 3]


def test_a_job_may_wait_for_an_array_of_another_submitter(single: fastpool.Pool) -> None:
    array = waits_for(
        single, lambda: single.submit_array(kernels.identity, [1.0, 2.0]), lambda future: future.result(WAIT / 2)
    )
    assert array.tolist() == [1.0, 2.0]


def test_a_job_may_wait_for_all_of_several_kinds(single: fastpool.Pool) -> None:
    def make() -> list[Any]:
        return [single.submit(int), single.submit(kernels.identity, 1.0), single.submit_array(kernels.identity, [1.0])]

    assert len(waits_for(single, make, lambda futures: concurrent.futures.wait(futures, WAIT / 2).done)) == 3


# --- what does not wait must not run other jobs ---


@pytest.mark.parametrize(
    "touch",
    [
        lambda future: future.add_done_callback(lambda _: None),
        repr,
        lambda future: (future.done(), future.running(), future.cancelled()),
        lambda future: future._state,
    ],
    ids=["add_done_callback", "repr", "done", "state"],
)
def test_touching_a_future_in_a_job_does_not_run_it(single: fastpool.Pool, touch: Callable[[Any], Any]) -> None:
    """Only waiting may: this job holds what the other needs until after it has touched the future."""

    def job() -> bool:
        gate = threading.Event()
        future = single.submit(gate.wait, 0.5)
        touch(future)
        gate.set()
        return future.result(WAIT)

    assert single.submit(job).result(WAIT) is True


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_that_holds_a_lock_may_submit_to_its_full_queue(make_pool: MakePool, workers: int) -> None:
    """Were it to run another job to make room, that job might want the lock: rayon's issue 592."""
    pool = make_pool(workers, queue_size=1)
    lock, started, go = threading.Lock(), threading.Event(), threading.Event()

    def wants_lock() -> bool:
        got = lock.acquire(timeout=0.5)
        if got:
            lock.release()
        return got

    def holds_lock() -> None:
        with lock:
            started.set()
            reached(go)
            pool.post(int)

    holder = pool.submit(holds_lock)
    reached(started)
    with Held(pool, workers - 1):
        wanting = pool.submit(wants_lock)
        go.set()
        assert holder.result(WAIT) is None
    assert wanting.result(WAIT) is True


def test_a_kernel_that_calls_back_into_python_may_use_the_pool(single: fastpool.Pool) -> None:
    @ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)
    def callback(x: float) -> float:
        return single.submit(float, x).result(WAIT / 2) + 1 if x > 0 else 0.0

    kernel = fastpool.kernel(callback)
    assert single.submit(kernel, 2.0).result(WAIT) == 3.0
    assert single.map_array(kernel, [1.0, 0.0, 2.0]).tolist() == [2.0, 0.0, 3.0]
