"""A full queue: what each on_full does, and that queue_size is exact."""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from support import WAIT, Held, idle_metrics, in_thread, reached

import fastpool
from fastpool import kernels

MakePool = Callable[..., fastpool.Pool]

# Each way to put jobs into the queue, as (name, call of one job).
WAYS: list[tuple[str, Callable[[fastpool.Pool], Any]]] = [
    ("submit", lambda pool: pool.submit(int)),
    ("post", lambda pool: pool.post(int)),
    ("submit_many", lambda pool: pool.submit_many(int, ["1"])),
    ("map", lambda pool: pool.map(int, ["1"])),
    ("buffered map", lambda pool: pool.map(int, ["1"], buffersize=1)),
    ("imap_unordered", lambda pool: list(pool.imap_unordered(int, ["1"]))),
    ("kernel", lambda pool: pool.submit(kernels.identity, 1.0)),
    ("submit_array", lambda pool: pool.submit_array(kernels.identity, [1.0, 2.0])),
    ("map_array", lambda pool: pool.map_array(kernels.identity, [1.0, 2.0])),
]
EACH_WAY = pytest.mark.parametrize("put", [way for _, way in WAYS], ids=[name for name, _ in WAYS])


# --- queue_size ---


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000, 1024, 1025])
@pytest.mark.parametrize("workers", [1, 2])
def test_the_queue_holds_exactly_queue_size_jobs(make_pool: MakePool, size: int, workers: int) -> None:
    pool = make_pool(workers, queue_size=size, on_full="raise")
    with Held(pool, workers):
        for _ in range(2):  # room comes back as exactly
            futures = [pool.submit(int) for _ in range(size)]
            metrics = pool.metrics()
            assert (metrics.queue_depth, metrics.queue_capacity) == (size, size)
            with pytest.raises(fastpool.PoolOverloaded):
                pool.submit(int)
            assert pool._discard_queued() is None
            assert all(future.cancelled() for future in futures)
            assert pool.metrics().queue_depth == 0


def test_an_unbounded_queue_is_never_full(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=None, on_full="raise")
    with Held(pool):
        futures = pool.submit_many(int, ["1"] * 100_000)
        metrics = pool.metrics()
        assert (metrics.queue_depth, metrics.queue_capacity) == (100_000, None)
    assert sum(future.result(WAIT) for future in futures) == 100_000


def test_running_jobs_take_no_place(make_pool: MakePool) -> None:
    pool = make_pool(4, queue_size=1)
    with Held(pool, 4):
        assert pool.metrics().queue_depth == 0


# --- raise ---


@EACH_WAY
def test_raise_refuses_at_once_and_queues_nothing(make_pool: MakePool, put: Callable[[fastpool.Pool], Any]) -> None:
    pool = make_pool(1, queue_size=1, on_full="raise")
    with Held(pool):
        pool.post(int)
        before = pool.metrics()
        with pytest.raises(fastpool.PoolOverloaded) as caught:
            put(pool)
        assert not isinstance(caught.value, fastpool.SubmitTimeout)
        after = pool.metrics()
        assert (after.jobs_submitted, after.queue_depth) == (before.jobs_submitted, 1)
        assert after.jobs_rejected == before.jobs_rejected + 1
    assert idle_metrics(pool).jobs_processed == 2
    put(pool)
    idle_metrics(pool)


def test_overloaded_is_what_callers_of_queues_and_pools_catch(make_pool: MakePool) -> None:
    assert issubclass(fastpool.PoolOverloaded, (queue.Full, fastpool.PoolError))
    assert issubclass(fastpool.PoolOverloaded, queue.Full) and issubclass(fastpool.PoolOverloaded, fastpool.PoolError)
    assert issubclass(fastpool.SubmitTimeout, fastpool.PoolOverloaded) and issubclass(
        fastpool.SubmitTimeout, TimeoutError
    )
    assert issubclass(fastpool.PoolShutdown, fastpool.PoolError) and issubclass(fastpool.PoolError, RuntimeError)
    assert not issubclass(fastpool.PoolShutdown, fastpool.PoolOverloaded)


def test_submit_many_that_is_refused_half_way_cancels_its_first_half(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=3, on_full="raise")
    ran: list[int] = []
    with Held(pool):
        pool.post(ran.append, -1)
        with pytest.raises(fastpool.PoolOverloaded) as caught:
            pool.submit_many(ran.append, range(5))
        assert len(caught.value.futures) == 2
        assert all(future.cancelled() for future in caught.value.futures)
    metrics = idle_metrics(pool)
    assert ran == [-1]
    assert (metrics.jobs_cancelled, metrics.jobs_processed) == (2, 2)


def test_a_buffered_map_that_is_refused_half_way_cancels_its_first_half(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=3, on_full="raise")
    ran: list[int] = []
    with Held(pool), pytest.raises(fastpool.PoolOverloaded):
        list(pool.map(ran.append, range(5), buffersize=5))
    metrics = idle_metrics(pool)
    assert ran == []
    assert metrics.jobs_cancelled == 3


# --- block ---


@EACH_WAY
def test_block_waits_for_room(make_pool: MakePool, put: Callable[[fastpool.Pool], Any]) -> None:
    pool = make_pool(1, queue_size=1)
    with Held(pool) as held:
        pool.post(int)
        done = in_thread(put, pool)
        assert pool.metrics().queue_depth == 1
        held.release()
        done()
    metrics = idle_metrics(pool)
    assert metrics.jobs_rejected == 0
    assert metrics.jobs_processed == metrics.jobs_submitted >= 3


@EACH_WAY
def test_block_gives_up_after_submit_timeout(make_pool: MakePool, put: Callable[[fastpool.Pool], Any]) -> None:
    pool = make_pool(1, queue_size=1, submit_timeout=0.001)
    with Held(pool):
        pool.post(int)
        before = pool.metrics().jobs_submitted
        with pytest.raises(fastpool.SubmitTimeout):
            put(pool)
        metrics = pool.metrics()
        assert (metrics.jobs_submitted, metrics.jobs_rejected) == (before, 1)
    idle_metrics(pool)


def test_a_submit_timeout_of_zero_does_not_wait(make_pool: MakePool) -> None:
    """None and 0 are different things."""
    pool = make_pool(1, queue_size=1, submit_timeout=0)
    pool.submit(int).result(WAIT)
    with Held(pool):
        pool.post(int)
        with pytest.raises(fastpool.SubmitTimeout):
            pool.submit(int)


def test_every_blocked_submitter_comes_through(make_pool: MakePool) -> None:
    for submit_timeout in (None, math.inf, WAIT):
        pool = make_pool(2, queue_size=1, submit_timeout=submit_timeout)
        ran: list[int] = []
        with Held(pool, 2) as held:
            submitters = [in_thread(pool.submit_many, ran.append, range(i, i + 20)) for i in range(0, 160, 20)]
            held.release()
            for submitter in submitters:
                submitter()
        idle_metrics(pool)
        assert sorted(ran) == list(range(160))


def test_shutdown_ends_the_wait_of_a_blocked_submitter(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1)
    with Held(pool):
        pool.post(int)
        submitters = [in_thread(pool.submit, int) for _ in range(4)]
        pool.shutdown(wait=False)
        for submitter in submitters:
            with pytest.raises(fastpool.PoolShutdown):
                submitter()
    assert pool.shutdown(timeout=WAIT)
    assert pool.metrics().jobs_processed == 2


# --- caller_runs ---


def test_caller_runs_runs_the_job_in_the_submitter(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1, on_full="caller_runs")
    with Held(pool):
        queued = pool.submit(threading.get_ident)
        here = pool.submit(threading.get_ident)
        assert here.done() and here.result() == threading.get_ident()
        ran: list[int] = []
        assert pool.post(ran.append, 1) is None
        assert ran == [1]
        assert [future.result(0) for future in pool.submit_many(int, "12")] == [1, 2]
        assert list(pool.map(int, "123")) == [1, 2, 3]
        assert list(pool.map(int, "123", buffersize=1)) == [1, 2, 3]
        assert sorted(pool.imap_unordered(int, "123")) == [1, 2, 3]
        assert pool.submit(kernels.polynomial, 0.0).result(0) == 1.0
        assert pool.map_array(kernels.identity, [1.0, 2.0]).tolist() == [1.0, 2.0]
        assert not queued.done()
    assert queued.result(WAIT) != threading.get_ident()
    metrics = idle_metrics(pool)
    assert metrics.jobs_rejected == 0
    assert metrics.jobs_submitted == metrics.jobs_processed == 1 + 2 + 1 + 2 + 3 + 3 + 3 + 1 + 2


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_an_error_in_the_submitter_is_the_futures(make_pool: MakePool, error: type[BaseException]) -> None:
    seen: list[fastpool.JobError] = []
    pool = make_pool(1, queue_size=1, on_full="caller_runs", on_error=seen.append)

    def job() -> None:
        raise error

    with Held(pool):
        pool.post(int)
        future = pool.submit(job)
        assert type(future.exception(0)) is error
        pool.post(job)
        assert (type(seen[0].exception), seen[0].worker_id) == (error, -1)
    assert idle_metrics(pool).jobs_failed == 2


def test_a_callers_jobs_may_submit_in_their_turn(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1, on_full="caller_runs")

    def job(depth: int) -> int:
        return 0 if depth == 0 else 1 + pool.submit(job, depth - 1).result()

    with Held(pool):
        pool.post(int)
        assert pool.submit(job, 50).result(0) == 50


# --- discard_oldest ---


def test_discard_oldest_cancels_the_oldest_and_counts_it(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=2, on_full="discard_oldest")
    with Held(pool):
        futures = [pool.submit(int) for _ in range(5)]
        assert [future.cancelled() for future in futures] == [True, True, True, False, False]
        assert pool.metrics().queue_depth == 2
    metrics = idle_metrics(pool)
    assert (metrics.jobs_cancelled, metrics.jobs_processed, metrics.jobs_rejected) == (3, 3, 0)


@EACH_WAY
def test_discard_oldest_takes_every_kind_of_job(make_pool: MakePool, put: Callable[[fastpool.Pool], Any]) -> None:
    pool = make_pool(1, queue_size=1, on_full="discard_oldest")
    with Held(pool) as held:
        oldest = pool.submit(int)
        done = in_thread(put, pool)
        with pytest.raises(fastpool.CancelledError):
            oldest.result(WAIT)
        held.release()
        done()
    idle_metrics(pool)


def test_discarding_takes_ranges_whole(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1, on_full="discard_oldest")
    with Held(pool):
        results = pool.map(int, ["1"] * 10)
        array = pool.submit_array(kernels.identity, [1.0] * 20)
        last = pool.submit(int)
        with pytest.raises(fastpool.CancelledError):
            next(results)
        with pytest.raises(fastpool.CancelledError):
            array.result(0)
    assert last.result(WAIT) == 0
    metrics = idle_metrics(pool)
    assert (metrics.jobs_cancelled, metrics.jobs_processed) == (30, 2)


def test_a_discarded_job_tells_its_callbacks_and_drops_its_arguments(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1, on_full="discard_oldest")
    called: list[Any] = []
    with Held(pool):
        oldest = pool.submit(int)
        oldest.add_done_callback(called.append)
        pool.post(int)
        assert called == [oldest]


# --- the choice ---


@pytest.mark.parametrize("on_full", ["drop", "", "BLOCK", None, 1, [], b"block"])
def test_another_policy_is_refused(on_full: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="on_full"):
        fastpool.Pool(1, on_full=on_full)


def test_a_full_queue_wakes_a_submitter_as_soon_as_a_job_is_taken(make_pool: MakePool) -> None:
    """Not only when it has ended."""
    pool = make_pool(1, queue_size=1)
    go = threading.Event()
    with Held(pool) as held:
        pool.post(reached, go)
        submitter = in_thread(pool.submit, int)
        held.release()
        future = submitter()
        assert not future.done()
        go.set()
    assert future.result(WAIT) == 0


# --- many callers at once, as in a server ---


@pytest.mark.parametrize(("on_full", "submit_timeout"), [("raise", None), ("block", 0.02), ("block", 0)])
def test_many_callers_of_a_stuck_pool_are_refused_in_time_and_counted(
    make_pool: MakePool, on_full: str, submit_timeout: float | None
) -> None:
    pool = make_pool(1, queue_size=4, on_full=on_full, submit_timeout=submit_timeout)
    expected = fastpool.PoolOverloaded if on_full == "raise" else fastpool.SubmitTimeout
    ran: list[int] = []

    def handle(me: int) -> list[Any]:
        accepted = []
        for i in range(20):
            before = time.monotonic()
            try:
                accepted.append(pool.submit(ran.append, 100 * me + i))
            except fastpool.PoolOverloaded as error:
                assert type(error) is expected
            assert time.monotonic() - before < WAIT / 2
        return accepted

    with Held(pool):
        callers = [in_thread(handle, me) for me in range(8)]
        accepted = [future for caller in callers for future in caller()]
        assert len(accepted) == 4
        assert pool.metrics().jobs_rejected == 8 * 20 - 4
    assert idle_metrics(pool).jobs_processed == 1 + 4
    assert len(ran) == 4


@pytest.mark.parametrize("on_full", ["raise", "block", "caller_runs", "discard_oldest"])
def test_every_accepted_job_of_many_callers_runs_once_and_no_refused_one(make_pool: MakePool, on_full: str) -> None:
    pool = make_pool(2, queue_size=2, on_full=on_full, submit_timeout=0.001)
    ran: list[int] = []

    def handle(me: int) -> tuple[list[int], int]:
        accepted, refused = [], 0
        for i in range(500):
            try:
                accepted.append((pool.submit(ran.append, 1000 * me + i), 1000 * me + i))
            except fastpool.PoolOverloaded:
                refused += 1
        concurrent.futures.wait([future for future, _ in accepted], WAIT)
        return [call for future, call in accepted if not future.cancelled()], refused

    results = [caller() for caller in [in_thread(handle, me) for me in range(6)]]
    metrics = idle_metrics(pool)
    assert sorted(ran) == sorted(call for accepted, _ in results for call in accepted)
    assert metrics.jobs_rejected == sum(refused for _, refused in results)
    if on_full != "discard_oldest":
        assert metrics.jobs_cancelled == 0


@pytest.mark.parametrize("on_full", ["raise", "block", "caller_runs", "discard_oldest"])
def test_submit_many_under_each_policy(make_pool: MakePool, on_full: str) -> None:
    pool = make_pool(1, queue_size=3, on_full=on_full, submit_timeout=0.01)
    ran: list[int] = []
    futures: list[Any] = []
    with Held(pool):
        try:
            futures = pool.submit_many(ran.append, range(10))
        except fastpool.PoolOverloaded as error:
            futures = error.futures
            assert (on_full in ("raise", "block"), len(futures)) == (True, 3)
            assert all(future.cancelled() for future in futures)
    idle_metrics(pool)
    expected = {"raise": [], "block": [], "caller_runs": [*range(3, 10), *range(3)], "discard_oldest": [7, 8, 9]}
    assert ran == expected[on_full]
    assert sum(future.cancelled() for future in futures) == {"caller_runs": 0, "discard_oldest": 7}.get(on_full, 3)


def test_run_refuses_or_discards_at_once_though_others_wait_for_room(make_pool: MakePool) -> None:
    async def main() -> None:
        waiting = pool.run(int)
        with pytest.raises(fastpool.PoolOverloaded, match="full"):
            await asyncio.wait_for(pool.options(on_full="raise").run(int), WAIT)
        newest = pool.options(on_full="discard_oldest").run(str)
        assert queued.cancelled()
        held.release()
        assert await asyncio.wait_for(newest, WAIT) == ""
        assert await asyncio.wait_for(waiting, WAIT) == 0

    pool = make_pool(1, queue_size=1)
    with Held(pool) as held:
        queued = pool.submit(int)
        asyncio.run(main())
