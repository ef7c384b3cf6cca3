"""shutdown: from anywhere, at any time, and each accepted job still ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import signal
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from support import WAIT, Held, ended, in_thread, reached, until

import fastpool
from fastpool import kernels

MakePool = Callable[..., fastpool.Pool]
BOTH = pytest.mark.parametrize("kind", [fastpool.Pool, fastpool.ThreadPoolExecutor])


def assert_refuses(pool: fastpool.Pool) -> None:
    """Whatever would queue a job says PoolShutdown, and queues nothing."""
    before = pool.metrics().jobs_submitted
    for refused in (
        lambda: pool.submit(int),
        lambda: pool.post(int),
        lambda: pool.submit_many(int, ["1"]),
        lambda: list(pool.map(int, ["1"])),
        lambda: list(pool.map(int, ["1"], buffersize=1)),
        lambda: list(pool.imap_unordered(int, ["1"])),
        lambda: pool.submit(kernels.identity, 1.0),
        lambda: pool.submit_array(kernels.identity, [1.0]),
        lambda: pool.map_array(kernels.identity, [1.0]),
    ):
        with pytest.raises(fastpool.PoolShutdown):
            refused()
    assert pool.metrics().jobs_submitted == before


@BOTH
def test_after_shutdown_everything_is_refused(make_pool: MakePool, kind: type[fastpool.Pool]) -> None:
    for started in (False, True):
        pool = make_pool(2, kind=kind)
        if started:
            pool.submit(int).result(WAIT)
        assert pool.shutdown() is True
        assert_refuses(pool)
        assert pool.wait_idle(0)
        assert pool.metrics().workers == 0


@BOTH
def test_shutdown_runs_what_is_queued(make_pool: MakePool, kind: type[fastpool.Pool]) -> None:
    pool = make_pool(2, kind=kind)
    ran: list[int] = []
    futures = pool.submit_many(ran.append, range(500))
    results = pool.map(ran.append, range(500, 1000))
    array = pool.submit_array(kernels.identity, [1.0] * 500)
    assert pool.shutdown() is True
    assert sorted(ran) == list(range(1000))
    assert all(future.done() for future in futures)
    assert list(results) == [None] * 500
    assert array.result(0).sum() == 500
    assert pool.metrics().jobs_processed == 1500


def test_shutting_down_again_is_harmless(make_pool: MakePool) -> None:
    pool = make_pool(2)
    pool.submit_many(int, "123")
    assert [pool.shutdown() for _ in range(3)] == [True, True, True]
    assert pool.shutdown(cancel_futures=True, timeout=0) is True
    assert pool.shutdown(wait=False) is True


def test_without_waiting_shutdown_returns_at_once(make_pool: MakePool) -> None:
    pool = make_pool(1)
    with Held(pool):
        queued = pool.submit(int)
        assert pool.shutdown(wait=False) is False
        assert not queued.done()
        assert_refuses(pool)
    assert queued.result(WAIT) == 0
    assert pool.shutdown() is True


@pytest.mark.parametrize("wait", [False, True])
def test_cancel_futures_cancels_what_has_not_started(make_pool: MakePool, wait: bool) -> None:
    pool = make_pool(1)
    ran: list[int] = []
    with Held(pool) as held:
        futures = pool.submit_many(ran.append, range(20))
        results = pool.map(ran.append, range(20))
        array = pool.submit_array(kernels.identity, [1.0] * 20)
        waiter = in_thread(futures[3].result)
        ending = in_thread(lambda: pool.shutdown(wait, cancel_futures=True))
        with pytest.raises(fastpool.CancelledError):
            waiter()
        with pytest.raises(fastpool.CancelledError):
            array.result(WAIT)
        with pytest.raises(fastpool.CancelledError):
            next(results)
        held.release()
        assert ending() in ((True,) if wait else (True, False))
    assert pool.shutdown() is True
    assert all(future.cancelled() for future in futures)
    assert held.futures[0].result(WAIT) is None, "a running job is never cancelled"
    assert ran == []
    metrics = pool.metrics()
    assert (metrics.jobs_cancelled, metrics.jobs_processed) == (60, 1)


def test_shutdown_with_a_timeout_drains_then_cancels(make_pool: MakePool) -> None:
    pool = make_pool(1)
    with Held(pool) as held:
        queued = pool.submit(int)
        assert pool.shutdown(timeout=0.001) is False
        assert queued.cancelled()
        held.release()
    assert pool.shutdown(timeout=WAIT) is True
    relaxed = make_pool(2)
    futures = relaxed.submit_many(int, "123")
    assert relaxed.shutdown(timeout=WAIT) is True
    assert [future.result(0) for future in futures] == [1, 2, 3]


@pytest.mark.parametrize(
    ("timeout", "error"), [(-1, ValueError), (math.nan, ValueError), ("1", TypeError), ([], TypeError)]
)
def test_a_bad_timeout_is_refused_and_nothing_is_shut_down(
    make_pool: MakePool, timeout: Any, error: type[Exception]
) -> None:
    pool = make_pool(1)
    with pytest.raises(error, match="timeout"):
        pool.shutdown(timeout=timeout)
    with pytest.raises(error, match="timeout"):
        pool.wait_idle(timeout)
    assert pool.submit(int).result(WAIT) == 0


def test_all_who_shut_down_at_once_come_back(make_pool: MakePool) -> None:
    for workers in (1, 2, 16):
        pool = make_pool(workers)
        futures = pool.submit_many(int, ["1"] * 200)
        enders = [in_thread(pool.shutdown) for _ in range(8)]
        assert all(ender() for ender in enders)
        assert sum(future.result(0) for future in futures) == 200


def test_a_job_may_shut_its_pool_down_without_waiting(make_pool: MakePool) -> None:
    pool = make_pool(1)
    future = pool.submit(lambda: pool.shutdown(wait=False))
    assert future.result(WAIT) is False
    assert pool.shutdown(timeout=WAIT) is True
    assert_refuses(pool)


def test_a_job_may_cancel_what_is_queued_behind_it(make_pool: MakePool) -> None:
    pool = make_pool(1)
    with Held(pool):
        ending = pool.submit(pool.shutdown, wait=False, cancel_futures=True)
        queued = pool.submit(int)
    assert ending.result(WAIT) is False
    assert queued.cancelled()


def test_a_job_that_would_wait_for_itself_is_told_so(make_pool: MakePool) -> None:
    pool = make_pool(2)
    for method in (pool.shutdown, pool.wait_idle):
        with pytest.raises(fastpool.PoolError, match="job"):
            pool.submit(method).result(WAIT)
    assert pool.submit(int).result(WAIT) == 0, "and nothing was shut down"


def test_a_job_of_another_pool_may_wait(make_pool: MakePool) -> None:
    one, other = make_pool(1), make_pool(1)
    other.submit_many(int, "123")
    assert one.submit(other.wait_idle).result(WAIT) is True
    assert one.submit(other.shutdown).result(WAIT) is True


def test_a_signal_handler_may_shut_down(make_pool: MakePool) -> None:
    pool = make_pool(1)
    answers: list[bool] = []
    before = signal.signal(signal.SIGUSR1, lambda *_: answers.append(pool.shutdown(wait=False)))
    try:
        with Held(pool):
            queued = pool.submit(int)
            signal.raise_signal(signal.SIGUSR1)
            assert answers == [False]
            assert_refuses(pool)
        assert queued.result(WAIT) == 0
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_destructor_may_shut_down(make_pool: MakePool) -> None:
    pool = make_pool(2)

    class Owner:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            ended.append(pool.shutdown())

    ended: list[bool] = []
    Owner()
    gc.collect()
    assert ended == [True]


def test_the_last_reference_may_go_in_a_job_of_the_pool() -> None:
    """Then the pool ends on its own worker, which cannot wait for itself."""
    pool = fastpool.Pool(2)
    gone = weakref.ref(pool)
    go, ran = threading.Event(), threading.Event()

    def job(box: list[fastpool.Pool]) -> None:
        reached(go)
        box[0].post(ran.set)
        box.clear()
        gc.collect()

    box = [pool]
    future = pool.submit(job, box)
    del pool
    go.set()
    assert future.result(WAIT) is None
    assert gone() is None
    reached(ran)


class Producers:
    """Threads that submit until they are refused, and what they were told."""

    def __init__(self, pool: fastpool.Pool, threads: int = 3) -> None:
        self.pool = pool
        self.ready = threading.Barrier(threads + 1)
        self.futures: list[fastpool.Future] = []
        self.posted = [0] * threads
        self.ran: list[int] = []
        self.finishes = [in_thread(self.produce, who) for who in range(threads)]

    def produce(self, who: int) -> None:
        self.ready.wait(WAIT)
        with contextlib.suppress(fastpool.PoolShutdown):
            while True:
                self.futures.append(self.pool.submit(int))
                self.pool.post(self.ran.append, who)
                self.posted[who] += 1
                self.futures.extend(self.pool.submit_many(int, "12"))


@pytest.mark.parametrize("cancel_futures", [False, True])
@pytest.mark.parametrize("workers", [1, 2, 16])
def test_while_producers_submit_each_job_is_accepted_or_refused_and_each_accepted_one_ends(
    workers: int, cancel_futures: bool
) -> None:
    for _ in range(15):
        pool = fastpool.Pool(workers, queue_size=64)
        producers = Producers(pool)
        producers.ready.wait(WAIT)
        assert pool.shutdown(cancel_futures=cancel_futures, timeout=WAIT) is True
        for finish in producers.finishes:
            finish()
        # A producer that was let in just before the end may have run its job itself; that has ended too.
        assert all(future.done() for future in producers.futures)
        metrics = pool.metrics()
        assert metrics.jobs_submitted == ended(metrics) >= len(producers.futures) + sum(producers.posted)
        if not cancel_futures:
            assert len(producers.ran) == sum(producers.posted)
            # Of a submit_many that was refused half-way, what had not started.
            assert metrics.jobs_cancelled <= len(producers.finishes)


def test_a_pool_may_be_shut_down_before_it_ever_ran() -> None:
    for workers in (1, 16):
        assert fastpool.Pool(workers).shutdown() is True
        assert fastpool.Pool(workers).shutdown(wait=False) is True


def test_hundreds_of_pools_come_and_go() -> None:
    for _ in range(300):
        with fastpool.Pool(2) as pool:
            assert pool.submit(int).result(WAIT) == 0


# --- with, async with ---


@BOTH
def test_with_shuts_down_and_waits(kind: type[fastpool.Pool]) -> None:
    ran: list[int] = []
    with kind(2) as pool:
        assert isinstance(pool, kind)
        pool.submit_many(ran.append, range(100))
    assert sorted(ran) == list(range(100))
    assert_refuses(pool)


def test_with_waits_also_when_its_body_raises() -> None:
    ran: list[int] = []
    with pytest.raises(ZeroDivisionError), fastpool.Pool(1) as pool:
        pool.submit_many(ran.append, range(100))
        raise ZeroDivisionError
    assert ran == list(range(100))


def test_async_with_shuts_down_without_blocking_the_loop() -> None:
    async def main() -> None:
        progressed = asyncio.Event()
        async with fastpool.Pool(1) as pool:
            go = threading.Event()
            future = pool.submit(reached, go)

            async def release() -> None:  # runs only if the loop does while the pool is shut down
                progressed.set()
                go.set()

            task = asyncio.create_task(release())
        assert progressed.is_set()
        assert future.done()
        await task
        assert_refuses(pool)

    asyncio.run(asyncio.wait_for(main(), WAIT))


def test_async_with_works_when_the_pool_is_the_loops_own_executor() -> None:
    async def main() -> int:
        async with fastpool.ThreadPoolExecutor(2) as pool:
            asyncio.get_running_loop().set_default_executor(pool)
            return await asyncio.to_thread(int, "5")

    assert asyncio.run(asyncio.wait_for(main(), WAIT)) == 5


# --- wait_idle ---


def test_wait_idle_waits_for_queued_and_running_jobs(make_pool: MakePool) -> None:
    pool = make_pool(1)
    assert pool.wait_idle(0) is True
    with Held(pool) as held:
        pool.post(int)
        assert pool.wait_idle(0) is False
        assert pool.wait_idle(0.001) is False
        waiters = [in_thread(pool.wait_idle) for _ in range(4)]
        held.release()
        assert [waiter() for waiter in waiters] == [True] * 4
    assert pool.submit(int).result(WAIT) == 0, "the pool stays open"


def test_wait_idle_waits_for_every_kind_of_job(make_pool: MakePool) -> None:
    pool = make_pool(2)
    for _ in range(50):
        pool.submit_many(int, ["1"] * 20)
        pool.map(int, ["1"] * 20)
        array = pool.submit_array(kernels.polynomial, [1.0] * 1000)
        cancelled = pool.submit(int).cancel()
        assert pool.wait_idle(WAIT) is True
        assert array.done()
        metrics = pool.metrics()
        assert metrics.jobs_submitted == ended(metrics)
        assert cancelled in (True, False)


# --- while producers submit in every way ---


class EveryWay:
    """A thread that submits in one way until it is refused; what was accepted, and what of it ran."""

    WAYS = (
        "submit",
        "post",
        "submit_many",
        "map",
        "lazy map",
        "array",
        "kernel",
        "kernels",
        "run",
        "group",
        "high",
        "low",
    )

    def __init__(self, pool: fastpool.Pool, way: str) -> None:
        self.pool, self.way = pool, way
        self.view = pool.options(priority=way) if way in ("high", "low") else pool
        self.ran: list[int] = []
        self.futures: list[Any] = []
        self.accepted = self.posted = 0

    def once(self) -> None:
        n = self.accepted
        match self.way:
            case "submit" | "high" | "low":
                self.futures.append(self.view.submit(self.ran.append, n))
            case "post":
                self.pool.post(self.ran.append, n)
                self.posted += 1
            case "submit_many":
                self.futures += self.pool.submit_many(self.ran.append, [n])
            case "map":
                assert list(self.pool.map(self.ran.append, [n])) == [None]
            case "lazy map":
                assert list(self.pool.map(self.ran.append, [n], buffersize=1)) == [None]
            case "array":
                self.futures.append(self.pool.submit_array(kernels.identity, [1.0] * 5))
                assert self.pool.map_array(kernels.identity, [1.0] * 5).sum() == 5
            case "kernel":
                self.futures.append(self.pool.submit(kernels.identity, 1.0))
            case "kernels":
                self.futures += self.pool.submit_many(kernels.identity, [1.0] * 5)
            case "run":
                asyncio.run(self.run())
            case "group":
                with self.pool.group() as group:
                    self.futures.append(group.submit(self.ran.append, n))
        self.accepted += 1

    async def run(self) -> None:
        await asyncio.wait_for(self.pool.run(self.ran.append, self.accepted), WAIT)

    def until_refused(self, ready: threading.Barrier) -> None:
        ready.wait(WAIT)
        try:
            while True:
                self.once()
        except (fastpool.PoolShutdown, fastpool.CancelledError, asyncio.CancelledError):
            pass


@pytest.mark.parametrize("cancel_futures", [False, True], ids=["drain", "cancel"])
@pytest.mark.parametrize("workers", [1, 2, 16])
@pytest.mark.parametrize("queue_size", [4, 8192, None])
def test_whatever_way_jobs_come_in_each_is_accepted_and_ends_or_is_refused(
    workers: int, cancel_futures: bool, queue_size: int | None
) -> None:
    for start in (0, 4):
        pool = fastpool.Pool(workers, queue_size=queue_size)
        producers = [EveryWay(pool, way) for way in EveryWay.WAYS[start : start + 8]]
        ready = threading.Barrier(9)
        finishes = [in_thread(producer.until_refused, ready) for producer in producers]
        ready.wait(WAIT)
        while pool.metrics().jobs_processed < 20:  # all of them are at it
            pass
        assert pool.shutdown(cancel_futures=cancel_futures) is True
        for finish in finishes:
            finish()
        metrics = pool.metrics()
        assert metrics.jobs_submitted == ended(metrics)
        assert metrics.jobs_failed == metrics.jobs_timed_out == 0
        for producer in producers:
            assert all(future.done() for future in producer.futures), producer.way
            if not cancel_futures:
                assert metrics.jobs_cancelled == 0
                assert not any(future.cancelled() for future in producer.futures)
                assert len(set(producer.ran)) == len(producer.ran)
                if producer.way in ("submit", "post", "submit_many", "map", "high", "low", "group", "run"):
                    assert producer.ran == sorted(producer.ran) or workers > 1
                    assert len(producer.ran) == producer.accepted, producer.way


def test_a_result_that_was_computed_is_never_lost(make_pool: MakePool) -> None:
    """However the shutdown comes, a job that ran has its result in its future, and one that did not is cancelled."""
    for round in range(100):
        pool = make_pool(2)
        ran: list[int] = []
        futures = pool.submit_many(lambda i, ran=ran: ran.append(i) or i, range(100))
        array = pool.submit_array(kernels.identity, [1.0] * 100)
        if round % 2:
            futures[50].result(WAIT)
        assert pool.shutdown(cancel_futures=True) is True
        assert sorted(ran) == [i for i, future in enumerate(futures) if not future.cancelled()]
        assert all(future.cancelled() or future.result(0) == i for i, future in enumerate(futures))
        assert array.cancelled() or array.result(0).sum() == 100


def test_a_job_is_not_dropped_when_it_and_the_stop_are_there_at_once() -> None:
    """A worker that wakes up finds both, and takes the job. Many rounds, for it may come at any moment."""
    for round in range(400):
        pool = fastpool.Pool(1 + round % 3)
        if round % 2:
            pool.submit(int).result(WAIT)
            pool.wait_idle(WAIT)  # its worker spins, or is about to park
        futures = [pool.submit(int, "7") for _ in range(1 + round % 4)]
        assert pool.shutdown() is True
        assert [future.result(0) for future in futures] == [7] * len(futures)


# --- a shutdown with a deadline ---


def test_when_the_time_to_drain_is_over_running_jobs_are_asked_to_stop(make_pool: MakePool) -> None:
    pool = make_pool(2)
    started = threading.Barrier(3)

    def polite() -> str:
        job = fastpool.current_job()
        assert job is not None
        assert not job.cancelled
        started.wait(WAIT)
        while not job.cancelled:
            pass
        return "stopped"

    def checks() -> None:
        job = fastpool.current_job()
        assert job is not None
        started.wait(WAIT)
        while True:
            job.check()

    running = [pool.submit(polite), pool.submit(checks)]
    queued = pool.submit_many(int, "123")
    started.wait(WAIT)
    assert pool.shutdown(timeout=0.01) in (False, True), "they may have ended by the time it looks again"
    assert pool.shutdown(timeout=WAIT) is True
    assert all(future.cancelled() for future in queued)
    assert running[0].result(0) == "stopped"
    assert running[1].cancelled()
    metrics = pool.metrics()
    assert (metrics.jobs_processed, metrics.jobs_cancelled) == (1, 4)


def test_within_its_time_a_shutdown_lets_all_jobs_end(make_pool: MakePool) -> None:
    pool = make_pool(2)
    asked = [pool.submit(lambda: fastpool.current_job().cancelled) for _ in range(50)]  # type: ignore[union-attr]
    assert pool.shutdown(timeout=WAIT) is True
    assert [future.result(0) for future in asked] == [False] * 50


def test_one_stuck_job_does_not_hold_a_shutdown_with_a_timeout(make_pool: MakePool) -> None:
    pool = make_pool(1)
    with Held(pool) as held:
        for timeout in (0, 0.0, 0.002):
            assert pool.shutdown(timeout=timeout) is False
        waiter = in_thread(pool.shutdown)
        held.release()
        assert waiter() is True, "who waits without a limit waits on"


def test_eight_threads_shut_down_at_once_each_in_its_own_way() -> None:
    for round in range(30):
        pool = fastpool.Pool(1 + round % 4)
        futures = pool.submit_many(int, ["1"] * 100)
        ready = threading.Barrier(8)

        def end(who: int, pool: fastpool.Pool = pool, ready: threading.Barrier = ready) -> bool:
            ready.wait(WAIT)
            return pool.shutdown(who % 3 != 0, cancel_futures=who % 2 == 0, timeout=WAIT if who % 4 else None)

        answers = [ender() for ender in [in_thread(end, who) for who in range(8)]]
        assert all(answers[who] for who in range(8) if who % 3)
        assert pool.shutdown() is True
        assert all(future.done() for future in futures)
        metrics = pool.metrics()
        assert (metrics.jobs_submitted, ended(metrics), metrics.workers) == (100, 100, 0)


def test_a_signal_handler_may_shut_down_the_pool_that_its_thread_waits_for(make_pool: MakePool) -> None:
    for wait in ("result", "wait_idle", "shutdown", "submit"):
        pool = make_pool(1, queue_size=1)
        held = Held(pool)
        queued = pool.submit(int)
        answers: list[bool] = []

        def handler(*_: Any, pool: fastpool.Pool = pool, held: Held = held, answers: list[bool] = answers) -> None:
            answers.append(pool.shutdown(wait=False))
            held.release()

        before = signal.signal(signal.SIGALRM, handler)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            if wait == "result":
                assert queued.result(WAIT) == 0
            elif wait == "submit":
                with pytest.raises(fastpool.PoolShutdown):
                    pool.submit(int)
            else:
                assert getattr(pool, wait)() is True
            assert pool.shutdown(timeout=WAIT) is True
            until(lambda answers=answers: answers == [False])
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def test_an_async_with_whose_task_is_cancelled_leaves_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    async def main(held: list[Held]) -> fastpool.Pool:
        async with fastpool.Pool(1) as pool:
            held.append(Held(pool))
            asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)  # type: ignore[union-attr]
        return pool

    for release_in_loop in (False, True):
        held: list[Held] = []

        before = threading.active_count()

        async def outer(held: list[Held] = held, release_in_loop: bool = release_in_loop, before: int = before) -> None:
            task = asyncio.create_task(main(held))
            with pytest.raises(asyncio.CancelledError):
                await task
            if release_in_loop:
                held[0].release()
                while threading.active_count() > before:
                    await asyncio.sleep(0.001)
                await asyncio.sleep(0)

        asyncio.run(outer())
        held[0].release()
        until(lambda before=before: threading.active_count() <= before)
    assert caplog.records == []


@pytest.mark.parametrize("method", ["shutdown", "wait_idle"])
def test_a_job_that_its_submitter_runs_must_not_wait_for_its_own_pool(make_pool: MakePool, method: str) -> None:
    """It would wait for itself, as on a worker."""
    pool = make_pool(1, queue_size=1, on_full="caller_runs")
    with Held(pool):
        pool.submit(int)
        with pytest.raises(fastpool.PoolError, match="wait for itself"):
            pool.submit(getattr(pool, method)).result(0)


def test_a_shutdown_that_is_not_waited_for_keeps_to_its_time(make_pool: MakePool) -> None:
    """In the background: what is queued by then is cancelled, and what runs is asked to stop."""
    pool = make_pool(1)
    started, jobs = threading.Event(), []

    def polling() -> None:
        jobs.append(fastpool.current_job())
        started.set()
        while not jobs[0].cancelled:
            time.sleep(0.001)
        jobs[0].check()

    running = pool.submit(polling)
    reached(started)
    queued = pool.submit(int)
    assert pool.shutdown(wait=False, timeout=0.02) is False
    for future in (queued, running):
        with pytest.raises(fastpool.CancelledError):
            future.result(WAIT)
    assert pool.shutdown(timeout=WAIT)
