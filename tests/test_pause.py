"""pause and resume: nothing starts in between, everything is accepted, and nothing is lost."""

from __future__ import annotations

import asyncio
import concurrent.futures
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import WAIT, Held, idle_metrics, in_thread, reached, until
from test_scaling import RANGES, WAYS, Gated, bring_up

import fastpool
from fastpool import kernels

MakePool = Callable[..., fastpool.Pool]
# Seconds in which a worker that wrongly goes on would be seen to.
GRACE = 0.02


def test_what_is_queued_waits_for_resume(pool: fastpool.Pool) -> None:
    pool.submit(int).result(WAIT)
    pool.pause()
    ran: list[int] = []
    futures = pool.submit_many(ran.append, range(20))
    pool.post(ran.append, 20)
    results = pool.map(ran.append, range(21, 40))
    native = pool.submit(kernels.identity, 5.0)
    natives = pool.submit_many(kernels.identity, [1.0] * 9)
    array = pool.submit_array(kernels.identity, np.ones(50))
    ufunc = pool.submit_array(np.sqrt, np.ones(50))
    assert not pool.wait_idle(GRACE)
    assert ran == []
    assert not any(future.done() or future.running() for future in [*futures, native, *natives, array, ufunc])
    metrics = pool.metrics()
    assert (metrics.jobs_processed, metrics.active_workers, metrics.queue_depth) == (1, 0, 20 + 1 + 1 + 1 + 1 + 1 + 1)
    pool.resume()
    assert list(results) == [None] * 19
    assert native.result(WAIT) == 5.0
    assert sum(future.result(WAIT) for future in natives) == 9.0
    assert array.result(WAIT).sum() == ufunc.result(WAIT).sum() == 50
    idle_metrics(pool)
    assert sorted(ran) == list(range(40))


def test_what_has_started_goes_on(make_pool: MakePool) -> None:
    pool = make_pool(2)
    held = Held(pool, 2)
    queued = pool.submit(int)
    pool.pause()
    held.release()
    assert [future.result(WAIT) for future in held.futures] == [None] * 2
    until(lambda: pool.metrics().active_workers == 0)
    assert not queued.done()
    pool.resume()
    assert queued.result(WAIT) == 0


@pytest.mark.parametrize("way", WAYS)
def test_a_long_run_pauses_between_two_of_its_jobs(make_pool: MakePool, way: str) -> None:
    pool, gated = make_pool(3), Gated()
    bring_up(pool, 3)
    finish = gated.start(way, pool, 60)
    until(lambda: gated.inside == 3 or (way == "kernels" and gated.inside))
    pool.pause()
    inside = gated.inside
    gated.open()
    until(lambda: pool.metrics().active_workers == 0)
    time.sleep(GRACE)
    if way in RANGES or way == "submit":
        assert (gated.ended, gated.inside) == (inside, 0)
    ended = gated.ended
    assert ended < 60
    assert not pool.wait_idle(0)
    pool.resume()
    assert finish() == list(range(60))
    assert set(gated.seen.values()) == {1}
    idle_metrics(pool)


def test_paused_again_and_again_a_long_run_still_comes_to_its_end(make_pool: MakePool) -> None:
    pool = make_pool(3)
    for way in WAYS:
        gated = Gated()
        gated.open()
        finish = gated.start(way, pool, 200)
        while gated.ended < 200:
            pool.pause()
            time.sleep(0)
            pool.resume()
        assert finish() == list(range(200))
        assert set(gated.seen.values()) == {1}


@pytest.mark.parametrize(
    "call",
    [
        lambda pool: pool.map_array(kernels.identity, np.ones(1000)).sum() == 1000,
        lambda pool: pool.map_array(np.sqrt, np.ones(1000)).sum() == 1000,
        lambda pool: sum(pool.map(int, ["1"] * 1000)) == 1000,
        lambda pool: sum(pool.map(int, ["1"] * 100, buffersize=7)) == 100,
        lambda pool: sum(pool.imap_unordered(int, ["1"] * 100)) == 100,
        lambda pool: pool.parallel_for(fastpool.kernel(Gated().range), 0) is None,
    ],
    ids=["map_array", "ufunc", "map", "buffered map", "imap_unordered", "parallel_for of nothing"],
)
def test_a_call_that_waits_waits_for_resume(make_pool: MakePool, call: Callable[[fastpool.Pool], bool]) -> None:
    """The thread that waits does not run the jobs itself, though it is idle and may help at other times."""
    pool = make_pool(2)
    bring_up(pool, 2)
    pool.pause()
    finish = in_thread(call, pool)
    if call is not None and not pool.wait_idle(0):
        assert pool.metrics().jobs_processed == 2
    pool.resume()
    assert finish()
    idle_metrics(pool)


def test_an_async_job_waits_for_resume_and_the_loop_does_not(make_pool: MakePool) -> None:
    pool = make_pool(1)
    pool.pause()

    async def main() -> int:
        job = pool.run(int, "5")
        done, _ = await asyncio.wait([job], timeout=GRACE)
        assert not done
        pool.resume()
        return await asyncio.wait_for(job, WAIT)

    assert asyncio.run(main()) == 5


# --- jobs that wait for jobs ---


def test_a_running_job_that_waits_for_jobs_of_its_pool_runs_them_though_it_is_paused(pool: fastpool.Pool) -> None:
    paused, started = threading.Event(), threading.Event()

    def inner() -> int:
        return pool.submit(int, "1").result(WAIT)

    def job() -> float:
        started.set()
        reached(paused)
        total = pool.submit(inner).result(WAIT) + sum(future.result(WAIT) for future in pool.submit_many(int, "11"))
        total += (
            sum(pool.map(int, "111")) + sum(pool.map(int, "11", buffersize=1)) + sum(pool.imap_unordered(int, "11"))
        )
        total += pool.submit(kernels.identity, 1.0).result(WAIT)
        total += pool.map_array(kernels.identity, np.ones(7)).sum()
        total += pool.submit_array(kernels.identity, np.ones(7)).result(WAIT).sum()
        total += sum(future.result(WAIT) for future in pool.submit_many(kernels.identity, [1.0] * 5))
        with pool.group() as group:
            group.submit(int)
        return total

    future = pool.submit(job)
    reached(started)
    pool.pause()
    outer = pool.submit(int)
    paused.set()
    assert future.result(WAIT) == 1 + 2 + 3 + 2 + 2 + 1 + 7 + 7 + 5
    assert not outer.done(), "that is no job that the running one waits for"
    pool.resume()
    assert outer.result(WAIT) == 0
    idle_metrics(pool)


def test_a_waiting_job_in_a_full_queue_of_a_paused_pool(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1)
    paused, started = threading.Event(), threading.Event()

    def job() -> int:
        started.set()
        reached(paused)
        return sum(future.result(WAIT) for future in [pool.submit(int, "1") for _ in range(10)])

    future = pool.submit(job)
    reached(started)
    queued = pool.submit(int)
    pool.pause()
    paused.set()
    assert future.result(WAIT) == 10
    pool.resume()
    assert queued.result(WAIT) == 0
    idle_metrics(pool)


# --- a full queue ---


def test_a_full_queue_of_a_paused_pool_blocks_its_submitters_until_it_is_resumed(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=2)
    pool.pause()
    futures = [pool.submit(int) for _ in range(2)]
    with pytest.raises(fastpool.SubmitTimeout):
        pool.options(submit_timeout=0.01).submit(int)
    blocked = [in_thread(pool.submit, int) for _ in range(3)]
    assert pool.metrics().queue_depth == 2
    pool.resume()
    futures += [each() for each in blocked]
    assert [future.result(WAIT) for future in futures] == [0] * 5
    assert idle_metrics(pool).jobs_rejected == 1


def test_a_full_queue_of_a_paused_pool_refuses(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=2, on_full="raise")
    pool.pause()
    futures = [pool.submit(int) for _ in range(2)]
    with pytest.raises(fastpool.PoolOverloaded):
        pool.submit(int)
    pool.resume()
    assert [future.result(WAIT) for future in futures] == [0] * 2
    assert idle_metrics(pool).jobs_rejected == 1


def test_a_full_queue_of_a_paused_pool_has_the_caller_run_its_job(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=2, on_full="caller_runs")
    pool.pause()
    futures = [pool.submit(threading.get_ident) for _ in range(3)]
    assert futures[2].result(0) == threading.get_ident()
    assert not futures[0].done() and not futures[1].done()
    pool.resume()
    assert futures[0].result(WAIT) == futures[1].result(WAIT) != threading.get_ident()
    idle_metrics(pool)


def test_a_full_queue_of_a_paused_pool_discards_the_oldest(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=2, on_full="discard_oldest")
    pool.pause()
    futures = [pool.submit(int) for _ in range(7)]
    assert [future.cancelled() for future in futures] == [True] * 5 + [False] * 2
    results = pool.map(int, "123")
    assert futures[5].cancelled()
    pool.resume()
    assert futures[6].result(WAIT) == 0
    assert list(results) == [1, 2, 3]
    assert idle_metrics(pool).jobs_cancelled == 6


# --- waiting and ending ---


def test_wait_idle_of_a_paused_pool_times_out_and_succeeds_after_resume(make_pool: MakePool) -> None:
    pool = make_pool(2)
    pool.pause()
    assert pool.wait_idle(0), "nothing is queued: it is idle"
    future = pool.submit(int)
    assert not pool.wait_idle(0.01)
    waiter = in_thread(pool.wait_idle)
    pool.resume()
    assert waiter() is True
    assert future.done()


def test_a_cancelled_job_of_a_paused_pool_has_ended_at_once(make_pool: MakePool) -> None:
    pool = make_pool(1)
    pool.pause()
    future = pool.submit(int)
    assert future.cancel() and future.cancelled()
    assert concurrent.futures.wait([future], WAIT).done == {future}
    pool.resume()
    assert idle_metrics(pool).jobs_cancelled == 1


def test_shutdown_of_a_paused_pool_drains(pool: fastpool.Pool) -> None:
    pool.pause()
    ran: list[int] = []
    futures = pool.submit_many(ran.append, range(50))
    results = pool.map(ran.append, range(50, 100))
    array = pool.submit_array(kernels.identity, np.ones(50))
    assert pool.shutdown(timeout=WAIT) is True
    assert all(future.done() for future in futures)
    assert list(results) == [None] * 50
    assert array.result(0).sum() == 50
    assert sorted(ran) == list(range(100))
    idle_metrics(pool)


def test_shutdown_drains_a_pool_that_was_paused_in_the_middle(make_pool: MakePool) -> None:
    for way in WAYS:
        pool, gated = make_pool(2), Gated()
        finish = gated.start(way, pool, 30)
        until(lambda gated=gated: gated.inside)
        pool.pause()
        gated.open()
        assert pool.shutdown(timeout=WAIT) is True
        assert finish() == list(range(30))


def test_leaving_a_with_block_resumes() -> None:
    with fastpool.Pool(1) as pool:
        pool.pause()
        future = pool.submit(int)
    assert future.result(0) == 0


def test_a_pool_that_is_paused_before_its_first_job_has_it_done_at_shutdown(make_pool: MakePool) -> None:
    pool = make_pool(2)
    pool.pause()
    assert pool.shutdown() is True
    with pytest.raises(fastpool.PoolShutdown):
        pool.submit(int)


@pytest.mark.parametrize("workers", [1, 2, 16])
def test_cancelling_what_is_queued_in_a_paused_pool_runs_nothing_of_it(make_pool: MakePool, workers: int) -> None:
    for _ in range(10):
        pool = make_pool(workers)
        bring_up(pool, workers)
        pool.pause()
        ran: list[int] = []
        futures = pool.submit_many(ran.append, range(50))
        results = pool.map(ran.append, range(50))
        array = pool.submit_array(kernels.identity, np.ones(50))
        assert pool.shutdown(cancel_futures=True) is True
        assert ran == []
        assert all(future.cancelled() for future in futures)
        assert array.cancelled()
        with pytest.raises(fastpool.CancelledError):
            next(results)
        assert idle_metrics(pool).jobs_cancelled == 150


def test_pausing_a_pool_that_has_ended_is_harmless(make_pool: MakePool) -> None:
    pool = make_pool(1)
    pool.submit(int).result(WAIT)
    with Held(pool):
        future = pool.submit(int)
        pool.shutdown(wait=False)
        pool.pause()
    assert future.result(WAIT) == 0, "shutting down has ended all pauses, and there are no new ones"
    assert pool.shutdown() is True
    pool.pause()
    pool.resume()


def test_the_interpreter_ends_with_a_paused_pool_and_its_jobs_run() -> None:
    script = "import fastpool; pool = fastpool.Pool(2); pool.pause(); pool.submit(print, 'ran'); print('main ends')"
    ended = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=Path(fastpool.__file__).parents[1],
    )
    assert ended.stdout.split("\n") == ["main ends", "ran", ""]


# --- when, and from where ---


def test_pausing_twice_is_pausing_once(make_pool: MakePool) -> None:
    pool = make_pool(1)
    pool.pause()
    pool.pause()
    future = pool.submit(int)
    assert not pool.wait_idle(0.005)
    pool.resume()
    assert future.result(WAIT) == 0


def test_resume_without_a_pause_is_harmless(make_pool: MakePool) -> None:
    pool = make_pool(1)
    pool.resume()
    with Held(pool):
        future = pool.submit(int)
        pool.resume()
        assert not future.done()
    pool.resume()
    assert future.result(WAIT) == 0


def test_a_job_may_pause_and_resume_its_pool(pool: fastpool.Pool) -> None:
    workers = pool.metrics().workers or 1
    pool.submit(pool.pause).result(WAIT)
    queued = pool.submit(int)
    assert not pool.wait_idle(0.005)
    pool.resume()
    assert queued.result(WAIT) == 0

    def job() -> int:
        pool.pause()
        try:
            return pool.submit(int, "5").result(WAIT)
        finally:
            pool.resume()

    assert [future.result(WAIT) for future in pool.submit_many(lambda _: job(), range(20))] == [5] * 20
    assert workers


def test_a_signal_handler_may_pause_and_resume(make_pool: MakePool) -> None:
    pool = make_pool(2)
    ran: list[int] = []
    turns = [pool.pause, pool.resume]

    def handler(*_: Any) -> None:
        turns[0]()
        turns.reverse()

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        for i in range(3000):
            pool.post(ran.append, i)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    pool.resume()
    idle_metrics(pool)
    assert sorted(ran) == list(range(3000))


def test_deadlines_pass_while_paused(pool: fastpool.Pool) -> None:
    pool.pause()
    ran: list[int] = []
    late = pool.options(timeout=0.01)
    futures = [late.submit(ran.append, 0), late.submit(kernels.identity, 1.0)]
    array = late.submit_array(kernels.identity, np.ones(5))
    results = late.map(ran.append, range(3))
    in_time = pool.options(timeout=60).submit(int)
    for future in [*futures, array]:
        with pytest.raises(fastpool.JobTimeout):
            future.result(WAIT)
    with pytest.raises(fastpool.JobTimeout):
        next(results)
    pool.resume()
    assert in_time.result(WAIT) == 0
    assert ran == []
    assert idle_metrics(pool).jobs_timed_out == 2 + 5 + 3


def test_group_of_a_paused_pool_times_out(make_pool: MakePool) -> None:
    pool = make_pool(1)
    pool.pause()
    with pytest.raises(ExceptionGroup) as caught, pool.group(timeout=0.01) as group:
        group.submit(int)
    assert isinstance(caught.value.exceptions[0], fastpool.JobTimeout)
    pool.resume()
    assert idle_metrics(pool).jobs_timed_out == 1


@pytest.mark.parametrize("workers", [1, 2, 16])
def test_a_paused_pool_burns_no_cpu(make_pool: MakePool, workers: int) -> None:
    pool = make_pool(workers)
    bring_up(pool, workers)
    pool.pause()
    futures = pool.submit_many(int, ["1"] * 100)
    time.sleep(0.05)  # what spins has stopped by now
    began, wall = time.process_time(), time.monotonic()
    time.sleep(0.25)
    used, wall = time.process_time() - began, time.monotonic() - wall
    assert used < wall / 5, f"{used:.3f} s of CPU in {wall:.3f} s"
    pool.resume()
    assert sum(future.result(WAIT) for future in futures) == 100


def test_paused_pools_scale_down_too(make_pool: MakePool) -> None:
    pool = make_pool(4, min_workers=1, idle_timeout=0.0)
    with Held(pool, 4):
        pool.pause()
        queued = pool.submit_many(int, "111")
    until(lambda: pool.metrics().workers == 1 and pool.metrics().jobs_processed == 4)
    pool.resize(max_workers=2)
    pool.resize(max_workers=6)
    assert pool.metrics().jobs_processed == 4
    pool.resume()
    assert sum(future.result(WAIT) for future in queued) == 3


def test_parked_workers_of_a_paused_pool_leave_when_it_is_resized(make_pool: MakePool) -> None:
    pool = make_pool(6)
    bring_up(pool, 6)
    pool.pause()
    futures = pool.submit_many(int, ["1"] * 50)
    pool.resize(max_workers=2)
    until(lambda: pool.metrics().workers == 2)
    pool.resume()
    assert sum(future.result(WAIT) for future in futures) == 50


@pytest.mark.parametrize("workers", [1, 2, 16])
def test_paused_resumed_and_resized_at_random_nothing_is_lost(
    make_pool: MakePool, fast_switching: None, workers: int
) -> None:
    pool = make_pool(workers, queue_size=50)
    ran: list[int] = []
    stop = threading.Event()

    def chop(*methods: Callable[[], None]) -> None:
        while not stop.is_set():
            for method in methods:
                method()
            time.sleep(0)

    def produce(first: int) -> None:
        for i in range(first, first + 1000, 50):
            for k in range(i, i + 25):
                pool.post(ran.append, k)
            list(pool.map(ran.append, range(i + 25, i + 50)))
            pool.submit(int).result(WAIT)
            pool.map_array(kernels.identity, np.ones(20), grain=1)

    choppers = [
        in_thread(chop, pool.pause, pool.resume),
        in_thread(chop, pool.resume, pool.pause, pool.resume),
        in_thread(chop, lambda: pool.resize(max_workers=2), lambda: pool.resize(max_workers=4)),
    ]
    try:
        for produced in [in_thread(produce, first) for first in (0, 1000)]:
            produced()
    finally:
        stop.set()
        for chopped in choppers:
            chopped()
    pool.resume()
    idle_metrics(pool)
    assert sorted(ran) == list(range(2000))
