"""Every accepted job ends exactly once, and the counters say so: after any chaos the identity holds."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import WAIT, Held, idle_metrics, in_thread, reached

import fastpool
from fastpool import kernels

MakePool = Callable[..., fastpool.Pool]


class Boom(Exception):
    pass


def fails() -> None:
    raise Boom


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Hundreds of posted jobs fail on purpose here."""
    logging.getLogger("fastpool").disabled = True
    yield
    logging.getLogger("fastpool").disabled = False


class Chaos:
    """One producer's random operations on a pool; remembers what must have been counted."""

    def __init__(self, pool: fastpool.Pool, seed: int) -> None:
        self.pool = pool
        self.random = random.Random(seed)
        self.submitted = 0
        self.failing = 0
        self.ran: list[int] = []
        self.futures: list[Any] = []
        self.refused = 0

    def submit(self) -> None:
        self.futures.append(self.pool.submit(self.ran.append, 0))
        self.submitted += 1

    def submit_and_cancel(self) -> None:
        future = self.pool.submit(int)
        self.submitted += 1
        future.cancel()
        self.futures.append(future)

    def cancel_some(self) -> None:
        for future in self.random.sample(self.futures, min(3, len(self.futures))):
            future.cancel()

    def fail(self) -> None:
        self.futures.append(self.pool.submit(fails))
        self.submitted += 1

    def post(self) -> None:
        self.pool.post(self.random.choice([int, fails]))
        self.submitted += 1

    def many(self) -> None:
        try:
            futures = self.pool.submit_many(int, ["1"] * 7)
        except fastpool.PoolOverloaded as error:
            self.submitted += len(error.futures)
            raise
        self.futures += futures
        self.submitted += 7

    def map(self) -> None:
        results = self.pool.map(int, ["1"] * 20, chunksize=self.random.randint(1, 5))
        self.submitted += 20
        try:
            for _ in range(self.random.randint(0, 20)):
                next(results)
            results.close()
        except fastpool.CancelledError:
            pass

    def array(self) -> None:
        future = self.pool.submit_array(kernels.polynomial, np.ones(50), grain=self.random.choice([None, 1, 7]))
        self.submitted += 50
        if self.random.random() < 0.3:
            future.cancel()
        self.futures.append(future)

    def kernel(self) -> None:
        kernel, arguments = self.random.choice([(kernels.identity, (1.0,)), (kernels.fail, ())])
        self.futures.append(self.pool.submit(kernel, *arguments))
        self.submitted += 1

    def nested(self) -> None:
        def job() -> Any:
            try:
                return self.pool.submit(int).result(WAIT)
            except (fastpool.PoolOverloaded, fastpool.CancelledError):
                return None

        self.futures.append(self.pool.submit(job))
        self.submitted += 1

    def run(self, operations: int) -> None:
        kinds = [self.submit, self.submit_and_cancel, self.cancel_some, self.fail, self.post, self.many, self.map, self.array,
                 self.kernel, self.nested]  # fmt: skip
        for _ in range(operations):
            try:
                self.random.choice(kinds)()
            except fastpool.PoolOverloaded:
                self.refused += 1


POLICIES = ["block", "raise", "caller_runs", "discard_oldest"]


@pytest.mark.parametrize("workers", [1, 2, 16])
@pytest.mark.parametrize("queue_size", [1, 8, 8192, None])
@pytest.mark.parametrize("on_full", POLICIES)
def test_the_identity_holds_after_chaos(
    make_pool: MakePool, fast_switching: None, workers: int, queue_size: int | None, on_full: str
) -> None:
    pool = make_pool(workers, queue_size=queue_size, on_full=on_full)
    producers = [Chaos(pool, seed) for seed in range(3)]
    for finish in [in_thread(producer.run, 120) for producer in producers]:
        finish()
    metrics = idle_metrics(pool)
    assert all(future.done() for producer in producers for future in producer.futures)
    # A nested job submits one that no producer has counted.
    assert metrics.jobs_submitted >= sum(producer.submitted for producer in producers)
    assert metrics.jobs_rejected >= sum(producer.refused for producer in producers)
    if queue_size is None or on_full == "caller_runs":
        assert metrics.jobs_rejected == 0
    # Each result came once: what was appended, less what was cancelled before it ran.
    for producer in producers:
        assert len(producer.ran) <= producer.submitted


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32),
    workers=st.sampled_from([1, 2, 16]),
    queue_size=st.sampled_from([1, 2, 100, None]),
    on_full=st.sampled_from(POLICIES),
    cancel=st.booleans(),
)
def test_the_identity_holds_after_shutdown_amid_chaos(
    seed: int, workers: int, queue_size: int | None, on_full: str, cancel: bool
) -> None:
    pool = fastpool.Pool(workers, queue_size=queue_size, on_full=on_full)
    producers = [Chaos(pool, seed + i) for i in range(2)]

    def run(producer: Chaos) -> None:
        with contextlib.suppress(fastpool.PoolShutdown):
            producer.run(60)

    finishes = [in_thread(run, producer) for producer in producers]
    assert pool.shutdown(cancel_futures=cancel, timeout=WAIT) is True
    for finish in finishes:
        finish()
    metrics = idle_metrics(pool)
    assert metrics.workers == 0
    assert all(future.done() for producer in producers for future in producer.futures)


def test_each_way_to_end_is_counted_as_such(make_pool: MakePool) -> None:
    pool = make_pool(1)
    with Held(pool):
        pool.submit(int)
        pool.submit(fails)
        pool.post(fails)
        pool.submit(int).cancel()
        pool.submit(kernels.identity, 1.0)
        pool.submit(kernels.fail)
        results = pool.map(lambda i: 1 / i, [1, 0, 1], chunksize=3)
        pool.submit_array(kernels.identity, [1.0] * 5)
        pool.submit_array(kernels.identity, [1.0] * 5).cancel()
    metrics = idle_metrics(pool)
    del results
    assert metrics.jobs_submitted == 1 + 6 + 3 + 10
    assert metrics.jobs_processed == 1 + 1 + 1 + 2 + 5
    assert metrics.jobs_failed == 4
    assert metrics.jobs_cancelled == 1 + 5
    assert metrics.jobs_timed_out == 0
    assert metrics.panics == 1


def test_a_cancelled_job_is_counted_however_long_its_arguments_take_to_die(single: fastpool.Pool) -> None:
    """cancel() drops the arguments, and their destructor may let a worker come by before the job is marked cancelled."""
    passed = threading.Event()
    held = Held(single)

    class SlowToDie:
        def __del__(self) -> None:
            held.release()
            reached(passed)

    future = single.submit(id, SlowToDie())
    single.submit(passed.set)
    assert future.cancel()
    assert future.cancelled()
    assert single.wait_idle(1), single.metrics()
    assert idle_metrics(single).jobs_cancelled == 1


def test_a_snapshot_never_shows_more_jobs_ended_than_submitted(make_pool: MakePool) -> None:
    pool = make_pool(2)
    stop = threading.Event()

    def produce() -> None:
        while not stop.is_set():
            pool.submit_many(int, ["1"] * 50)
            list(pool.map(int, ["1"] * 50))
            pool.map_array(kernels.identity, [1.0] * 500)

    producer = in_thread(produce)
    try:
        for _ in range(500):
            metrics = pool.metrics()
            ended = metrics.jobs_processed + metrics.jobs_failed + metrics.jobs_cancelled + metrics.jobs_timed_out
            assert ended <= metrics.jobs_submitted
            assert 0 <= metrics.active_workers <= 2
            assert metrics.workers <= 2
    finally:
        stop.set()
        producer()
    idle_metrics(pool)


def test_jobs_submitted_is_exact_while_the_queue_moves_jobs_on(make_pool: MakePool) -> None:
    """Beyond 65,536 an unbounded pool's jobs wait in a list; none counts twice while it goes over into the ring."""
    pool = make_pool(2, queue_size=None)
    n = 90_000
    with Held(pool, 2) as held:
        pool.submit_many(int, ["1"] * n)
        held.release()
        while (metrics := pool.metrics()).queue_depth > 0:
            assert metrics.jobs_submitted == n + 2
    assert idle_metrics(pool).jobs_submitted == n + 2


def test_no_job_runs_twice_and_none_is_lost(make_pool: MakePool, fast_switching: None) -> None:
    for workers in (1, 2, 16):
        pool = make_pool(workers, queue_size=50)
        ran: list[int] = []
        producers = [in_thread(pool.submit_many, ran.append, range(i * 1000, (i + 1) * 1000)) for i in range(4)]
        for producer in producers:
            producer()
        idle_metrics(pool)
        assert sorted(ran) == list(range(4000))
