"""Three lanes: higher ones first, none for ever last, each in the order of its submits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support import WAIT, Held, idle_metrics, in_thread, reached, until
from test_scaling import RANGES, Gated

import fastpool
from fastpool import kernels

MakePool = Callable[..., fastpool.Pool]
PRIORITIES = ["high", "normal", "low"]
LOWER = [("high", "normal"), ("normal", "low"), ("high", "low")]


def lanes(pool: fastpool.Pool) -> list[Any]:
    return [pool.options(priority=priority) for priority in PRIORITIES]


@pytest.mark.parametrize(("higher", "lower"), LOWER)
def test_a_job_of_a_higher_lane_starts_before_those_of_a_lower_one(
    single: fastpool.Pool, higher: str, lower: str
) -> None:
    """All but the turns that are the lower lane's: one in 4 is the normal one's first, one in 16 the low one's."""
    ran: list[str] = []
    with Held(single):
        single.options(priority=lower).submit_many(ran.append, [lower] * 20)
        single.options(priority=higher).submit_many(ran.append, [higher] * 20)
    idle_metrics(single)
    assert ran[:20].count(higher) >= (14 if lower == "normal" else 18)
    assert ran[:3].count(higher) >= 2
    assert sorted(ran) == sorted([higher] * 20 + [lower] * 20)


@pytest.mark.parametrize("workers", [1, 2, 16])
def test_of_16_jobs_that_start_one_at_least_is_of_the_low_lane(make_pool: MakePool, workers: int) -> None:
    pool = make_pool(workers, queue_size=None)
    ran: list[str] = []
    with Held(pool, workers):
        for priority in PRIORITIES:
            pool.options(priority=priority).submit_many(ran.append, [priority] * 800)
    idle_metrics(pool)
    window = 16 if workers == 1 else 2 * 16 * workers  # each worker counts for itself
    while_all_have_jobs = ran[:960]
    for start in range(len(while_all_have_jobs) - window):
        part = while_all_have_jobs[start : start + window]
        assert "low" in part and "normal" in part
    if workers == 1:
        head = ran[:640]
        counts = head.count("low"), head.count("normal"), head.count("high")
        assert all(abs(count - due) <= 2 for count, due in zip(counts, (40, 120, 480), strict=True)), counts


def test_low_jobs_are_served_beside_an_endless_stream_of_high_ones(pool: fastpool.Pool) -> None:
    stop = threading.Event()
    high, _, low = lanes(pool)

    def again() -> None:
        if not stop.is_set():
            high.post(again)

    for _ in range(40):
        high.post(again)
    try:
        assert low.submit(int).result(WAIT) == 0
        assert pool.submit(int).result(WAIT) == 0
        assert low.map_array(kernels.identity, np.ones(100), grain=1).sum() == 100
        assert sum(low.map(int, ["1"] * 50)) == 50
    finally:
        stop.set()
    idle_metrics(pool)


@pytest.mark.parametrize("queue_size", [10_000, None])
def test_within_a_lane_jobs_start_in_the_order_of_their_submits(make_pool: MakePool, queue_size: int | None) -> None:
    pool = make_pool(1, queue_size=queue_size)
    ran: dict[str, list[int]] = {priority: [] for priority in PRIORITIES}
    n = 3_000 if queue_size else 40_000  # without a bound more than the ring takes
    with Held(pool):
        for begin in range(0, n, 1000):
            for priority in PRIORITIES:
                pool.options(priority=priority).submit_many(ran[priority].append, range(begin, begin + 1000))
    idle_metrics(pool)
    for priority in PRIORITIES:
        assert ran[priority] == list(range(n))


@pytest.mark.parametrize(("queue_size", "queued"), [(None, 100_000), (None, 1000), (8192, 8000)])
def test_a_high_job_overtakes_all_that_are_queued(make_pool: MakePool, queue_size: int | None, queued: int) -> None:
    pool = make_pool(1, queue_size=queue_size)
    with Held(pool) as held:
        futures = pool.submit_many(int, ["1"] * queued)
        urgent = pool.options(priority="high").submit(lambda: pool.metrics().jobs_processed)
        held.release()
        assert urgent.result(WAIT) <= 1 + 4, "its turn comes at the latest after one of the normal lane"
    assert futures[-1].result(WAIT) == 1


@pytest.mark.parametrize("way", RANGES)
def test_a_high_job_overtakes_a_running_range_at_its_next_piece(make_pool: MakePool, way: str) -> None:
    pool, gated = make_pool(1), Gated()
    finish = gated.start(way, pool, 200)
    until(lambda: gated.inside == 1)
    urgent = pool.options(priority="high").submit(lambda: gated.ended)
    gated.tokens.release(3)
    assert urgent.result(WAIT) <= 3
    gated.open()
    assert finish() == list(range(200))
    assert set(gated.seen.values()) == {1}


@pytest.mark.parametrize("priority", PRIORITIES)
def test_every_way_to_submit_has_a_priority(make_pool: MakePool, priority: str) -> None:
    pool = make_pool(1)
    view = pool.options(priority=priority)
    xs = np.ones(5)
    gated = Gated()
    gated.open()

    async def run() -> int:
        return await view.run(int, "1")

    ways: list[Callable[[], Any]] = [
        lambda: view.submit(int).result(WAIT) == 0,
        lambda: [future.result(WAIT) for future in view.submit_many(int, "12")] == [1, 2],
        lambda: list(view.map(int, "12")) == [1, 2],
        lambda: list(view.map(int, "12", buffersize=2)) == [1, 2],
        lambda: list(view.imap_unordered(int, "11")) == [1, 1],
        lambda: view.submit(kernels.identity, 1.0).result(WAIT) == 1.0,
        lambda: sum(future.result(WAIT) for future in view.submit_many(kernels.identity, xs)) == 5,
        lambda: view.map_array(kernels.identity, xs).sum() == 5,
        lambda: view.submit_array(kernels.identity, xs).result(WAIT).sum() == 5,
        lambda: view.map_array(np.sqrt, xs).sum() == 5,
        lambda: view.submit_array(np.sqrt, xs).result(WAIT).sum() == 5,
        lambda: view.parallel_for(gated.range, 5) is None,
        lambda: asyncio.run(run()) == 1,
    ]
    for way in ways:
        tokens = threading.Semaphore(0)
        with Held(pool) as held:
            normal = [pool.submit(tokens.acquire, timeout=WAIT) for _ in range(50)]
            finish = in_thread(way)
            until(lambda: pool.metrics().queue_depth >= 51)
            held.release()
            tokens.release(20)
            if priority == "high":
                assert finish(), "before most of those that were queued before it"
                assert sum(future.done() for future in normal) <= 20
            tokens.release(50)
            assert finish()
        assert all(future.result(WAIT) for future in normal)
    idle_metrics(pool)


def test_the_bound_of_the_queue_is_exact_over_all_lanes(make_pool: MakePool) -> None:
    for size in (1, 2, 7, 100):
        pool = make_pool(1, queue_size=size, on_full="raise")
        views = lanes(pool)
        with Held(pool):
            futures = [views[i % 3].submit(int) for i in range(size)]
            assert pool.metrics().queue_depth == size
            for view in views:
                with pytest.raises(fastpool.PoolOverloaded):
                    view.submit(int)
                with pytest.raises(fastpool.PoolOverloaded):
                    view.map_array(kernels.identity, np.ones(5))
        assert [future.result(WAIT) for future in futures] == [0] * size
        metrics = idle_metrics(pool)
        assert (metrics.jobs_submitted, metrics.jobs_rejected, metrics.queue_depth) == (1 + size, 6, 0)


def test_discard_oldest_takes_the_oldest_of_the_lowest_lane(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=6, on_full="discard_oldest")
    high, normal, low = lanes(pool)
    with Held(pool):
        futures = [view.submit(int) for view in (low, high, normal, low, normal, high)]
        order = [0, 3, 2, 4, 1, 5]
        for n in range(1, 7):
            high.submit(int)
            assert {i for i in range(6) if futures[i].cancelled()} == set(order[:n])
    assert idle_metrics(pool).jobs_cancelled == 6


@pytest.mark.parametrize("on_full", ["block", "caller_runs"])
def test_a_full_queue_makes_no_difference_between_lanes(make_pool: MakePool, on_full: str) -> None:
    pool = make_pool(2, queue_size=3, on_full=on_full)
    ran: list[int] = []
    producers = [
        in_thread(lambda view=view, k=k: [view.post(ran.append, k * 1000 + i) for i in range(500)])
        for k, view in enumerate(lanes(pool))
    ]
    for produced in producers:
        produced()
    idle_metrics(pool)
    assert sorted(ran) == [k * 1000 + i for k in range(3) for i in range(500)]


def test_the_metrics_count_all_lanes(make_pool: MakePool) -> None:
    pool = make_pool(2)
    views = lanes(pool)
    with Held(pool, 2):
        for view in views:
            view.submit_many(int, ["1"] * 5)
            view.submit(int).cancel()
            view.submit_array(kernels.identity, np.ones(7))
        metrics = pool.metrics()
        assert (metrics.queue_depth, metrics.jobs_submitted) == (21, 2 + 3 * 13)
    metrics = idle_metrics(pool)
    assert (metrics.jobs_processed, metrics.jobs_cancelled) == (2 + 3 * 12, 3)
    assert metrics.queue_wait.count >= 2 + 3 * 5


def test_a_job_that_waits_for_one_of_a_lower_lane_runs_it(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1)
    high, _, low = lanes(pool)

    def job(depth: int) -> int:
        return 0 if depth == 0 else 1 + (low if depth % 2 else high).submit(job, depth - 1).result(WAIT)

    assert high.submit(job, 30).result(WAIT) == 30
    idle_metrics(pool)


@pytest.mark.parametrize("priority", ["urgent", "", None, 1, "HIGH"])
def test_another_priority_is_refused_by_name(single: fastpool.Pool, priority: Any) -> None:
    if priority is None:
        assert single.options(priority=None).submit(int).result(WAIT) == 0
        return
    with pytest.raises(ValueError, match="priority"):
        single.options(priority=priority)


@pytest.mark.parametrize("cancel_futures", [False, True])
def test_shutdown_ends_all_lanes(make_pool: MakePool, cancel_futures: bool) -> None:
    pool = make_pool(2, queue_size=None)
    with Held(pool, 2):
        futures = [future for view in lanes(pool) for future in view.submit_many(int, ["1"] * 100)]
        assert pool.shutdown(wait=False, cancel_futures=cancel_futures) is False
        assert all(future.cancelled() == cancel_futures for future in futures)
    assert pool.shutdown(timeout=WAIT) is True
    assert all(future.done() for future in futures)
    idle_metrics(pool)


def test_nothing_is_lost_where_lanes_come_into_use_in_the_middle(make_pool: MakePool, fast_switching: None) -> None:
    """The first job of another lane changes how workers look, while they are looking."""
    for _ in range(40):
        pool = make_pool(2)
        started = threading.Barrier(4)

        def produce(view: Any, started: threading.Barrier = started) -> int:
            started.wait(WAIT)
            return sum(view.submit(int, "1").result(WAIT) for _ in range(5)) + sum(view.map(int, "11"))

        finishes = [in_thread(produce, view) for view in lanes(pool)]
        started.wait(WAIT)
        assert [finish() for finish in finishes] == [7] * 3
    reached_all = threading.Event()
    pool.options(priority="low").post(reached_all.set)
    reached(reached_all)
