"""metrics(): a snapshot, and histograms that are exact to 5 %. Nothing is timed: the pool's clock is compared with itself."""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import WAIT, Held, idle_metrics, in_thread, reached

import fastpool
from fastpool import Histogram, kernels

MakePool = Callable[..., fastpool.Pool]

# The promise: at most this relative error from 100 ns on.
ERROR, FROM = 0.05, 100e-9


def work(microseconds: float) -> float:
    """Keep busy; how long that was."""
    start = time.perf_counter()
    while time.perf_counter() - start < microseconds * 1e-6:
        pass
    return time.perf_counter() - start


@pytest.fixture
def busy(make_pool: MakePool) -> fastpool.Pool:
    """A pool whose jobs have taken from nothing to some milliseconds."""
    pool = make_pool(2)
    for future in pool.submit_many(work, [0, 1, 3, 10, 30, 100, 300, 1000, 3000] * 10):
        future.result(WAIT)
    idle_metrics(pool)
    return pool


def test_a_snapshot_is_frozen_and_has_the_documented_fields(single: fastpool.Pool) -> None:
    metrics = single.metrics()
    assert [field.name for field in dataclasses.fields(metrics)] == [
        "workers", "active_workers", "queue_depth", "queue_capacity", "jobs_submitted", "jobs_processed", "jobs_failed",
        "jobs_cancelled", "jobs_timed_out", "jobs_rejected", "panics", "job_duration", "queue_wait",
    ]  # fmt: skip
    with pytest.raises(dataclasses.FrozenInstanceError):
        metrics.workers = 5  # type: ignore[misc]
    single.submit(int).result(WAIT)
    idle_metrics(single)
    assert metrics.jobs_submitted == 0, "an old snapshot stays as it was"


def test_a_new_pool_has_counted_nothing(make_pool: MakePool) -> None:
    metrics = make_pool(3, queue_size=7).metrics()
    assert metrics.queue_capacity == 7
    for name in (
        "workers",
        "active_workers",
        "queue_depth",
        "jobs_submitted",
        "jobs_processed",
        "jobs_rejected",
        "panics",
    ):
        assert getattr(metrics, name) == 0
    for histogram in (metrics.job_duration, metrics.queue_wait):
        assert (histogram.count, histogram.sum, histogram.max, histogram.mean, histogram.buckets) == (0, 0, 0, 0, ())
        assert histogram.quantile(0.5) == 0


def test_gauges_show_what_is_queued_and_running(make_pool: MakePool) -> None:
    pool = make_pool(2)
    with Held(pool, 2):
        for _ in range(5):
            pool.post(int)
        metrics = pool.metrics()
        assert (metrics.workers, metrics.active_workers, metrics.queue_depth) == (2, 2, 5)
        assert (metrics.jobs_submitted, metrics.jobs_processed) == (7, 0)
    metrics = idle_metrics(pool)
    assert metrics.queue_depth == 0
    assert (metrics.jobs_submitted, metrics.jobs_processed) == (7, 7)
    pool.shutdown()
    assert (pool.metrics().workers, pool.metrics().active_workers) == (0, 0)


def test_every_job_that_ran_in_a_worker_is_in_the_histograms(make_pool: MakePool) -> None:
    pool = make_pool(2)
    for future in pool.submit_many(int, ["1"] * 100):
        future.result(WAIT)
    with Held(pool, 2):
        pool.submit(int).cancel()
    assert (idle_metrics(pool).job_duration.count, pool.metrics().queue_wait.count) == (102, 103)
    list(pool.map(int, ["1"] * 100))
    pool.map_array(kernels.identity, np.ones(100))
    pool.submit(kernels.identity, 1.0).result(WAIT)
    metrics = idle_metrics(pool)
    assert (metrics.job_duration.count, metrics.jobs_processed) == (303, 303)


def test_a_failed_jobs_time_counts_too(single: fastpool.Pool) -> None:
    single.submit(int, "x").exception(WAIT)
    assert idle_metrics(single).job_duration.count == 1


def test_buckets_are_disjoint_ascending_and_add_up(busy: fastpool.Pool) -> None:
    metrics = busy.metrics()
    for histogram in (metrics.job_duration, metrics.queue_wait):
        assert sum(count for *_, count in histogram.buckets) == histogram.count == 90
        edge = 0.0
        for lower, upper, count in histogram.buckets:
            assert edge <= lower < upper
            assert count > 0
            edge = upper
        assert histogram.buckets[-1][0] <= histogram.max * (1 + 1e-9)
        assert histogram.max <= histogram.buckets[-1][1]
        least = sum(lower * count for lower, _, count in histogram.buckets)
        most = sum(upper * count for _, upper, count in histogram.buckets)
        assert least * (1 - 1e-9) <= histogram.sum <= most
        assert histogram.mean == pytest.approx(histogram.sum / histogram.count)


def test_no_bucket_from_100_ns_on_is_wider_than_the_promise(busy: fastpool.Pool) -> None:
    """Its middle, which quantile() gives, is within 5 % of anything in it."""
    for lower, upper, _ in busy.metrics().job_duration.buckets:
        if lower >= FROM:
            middle = (lower + upper) / 2
            assert (middle - lower) / lower <= ERROR
            assert (upper - middle) / upper <= ERROR


@pytest.mark.parametrize("microseconds", [0, 1, 10, 100, 1000])
def test_a_quantile_of_one_job_is_its_time_to_5_percent(make_pool: MakePool, microseconds: float) -> None:
    """`sum` is exact, so with one job it is the truth to hold the histogram against."""
    for _ in range(10):
        pool = make_pool(1)
        inside = pool.submit(work, microseconds).result(WAIT)
        histogram = idle_metrics(pool).job_duration
        assert histogram.count == 1
        assert histogram.sum == histogram.max == histogram.mean
        assert histogram.sum >= FROM
        for q in (0, 0.5, 1):
            assert histogram.quantile(q) == pytest.approx(histogram.sum, rel=ERROR)
        # The job's own measure cannot be longer than the pool's round it, but for the two clocks' difference.
        assert inside <= histogram.sum * 1.001 + 1e-6


def test_quantiles_rise_from_the_least_to_the_most(busy: fastpool.Pool) -> None:
    histogram = busy.metrics().job_duration
    values = [histogram.quantile(q / 100) for q in range(101)]
    assert values == sorted(values)
    assert values[-1] == pytest.approx(histogram.max, rel=ERROR)
    assert values[-1] <= histogram.max
    assert values[0] <= histogram.mean <= values[-1]


@pytest.mark.parametrize("q", [-0.1, 1.1, math.nan, math.inf, 50])
def test_a_quantile_outside_0_to_1_is_refused(busy: fastpool.Pool, q: float) -> None:
    with pytest.raises(ValueError, match="q"):
        busy.metrics().job_duration.quantile(q)


@given(st.lists(st.integers(100, 10**11), min_size=1, max_size=60), st.floats(0, 1))
def test_a_quantile_is_that_of_the_sorted_values_to_5_percent(nanoseconds: list[int], q: float) -> None:
    """On buckets as the C side cuts them, 16 to the octave."""

    def bucket(value: int) -> tuple[int, int]:
        octave = max(0, value.bit_length() - 5)
        lower = value >> octave << octave
        return lower, lower + (1 << octave)

    counted: dict[tuple[int, int], int] = {}
    for value in sorted(nanoseconds):
        counted[bucket(value)] = counted.get(bucket(value), 0) + 1
    histogram = Histogram._from_ns(sum(nanoseconds), max(nanoseconds), [(*edges, n) for edges, n in counted.items()])
    rank = max(1, math.ceil(q * len(nanoseconds)))
    exact = sorted(nanoseconds)[rank - 1]
    assert histogram.quantile(q) == pytest.approx(exact / 1e9, rel=ERROR)


def test_queue_wait_covers_the_time_in_the_queue(single: fastpool.Pool) -> None:
    with Held(single):
        before = time.perf_counter()
        future = single.submit(int)
        work(2000)
        waited = time.perf_counter() - before
    future.result(WAIT)
    assert idle_metrics(single).queue_wait.max * 1.001 + 1e-6 >= waited - 1e-4


def test_job_duration_is_no_longer_than_the_workers_had(make_pool: MakePool) -> None:
    start = time.perf_counter()
    pool = make_pool(2)
    for future in pool.submit_many(work, [100] * 100):
        future.result(WAIT)
    total = idle_metrics(pool).job_duration.sum
    assert 100 * 100e-6 * 0.999 <= total <= 2 * (time.perf_counter() - start) * 1.001 + 1e-6


def test_panics_are_failures_that_nobody_expects(make_pool: MakePool) -> None:
    def fails(error: type[BaseException]) -> None:
        raise error

    pool = make_pool(1)
    for error, more in [
        (ValueError, 0),
        (SystemExit, 1),
        (KeyboardInterrupt, 1),
        (MemoryError, 1),
        (RecursionError, 0),
    ]:
        before = pool.metrics().panics
        pool.submit(fails, error).exception(WAIT)
        assert idle_metrics(pool).panics == before + more, error
        with pytest.raises(error):
            list(pool.map(fails, [error]))
        assert idle_metrics(pool).panics == before + 2 * more, error
    before = pool.metrics().panics
    pool.post(fails, ValueError)
    assert idle_metrics(pool).panics == before + 1, "no future carries it"


def test_metrics_may_be_read_from_anywhere(make_pool: MakePool) -> None:
    pool = make_pool(1)
    assert pool.submit(pool.metrics).result(WAIT).active_workers == 1
    stop = threading.Event()

    def read() -> int:
        reads = 0
        while True:  # once at least: the jobs may be done before this thread has started
            pool.metrics()
            reads += 1
            if stop.is_set():
                return reads

    readers = [in_thread(read) for _ in range(2)]
    for future in pool.submit_many(int, ["1"] * 2000):
        future.result(WAIT)
    stop.set()
    assert all(reader() > 0 for reader in readers)
    pool.shutdown()
    reached(stop)
    assert pool.metrics().jobs_processed == 2001


def test_the_histograms_of_an_idle_pool_do_not_change(single: fastpool.Pool) -> None:
    """Not by a millionth, as if the clock's rate were measured again: to Prometheus a sum that falls is a restart."""
    single.submit(int).result(WAIT)
    before = idle_metrics(single)
    for _ in range(500):
        after = single.metrics()
        assert (after.job_duration, after.queue_wait) == (before.job_duration, before.queue_wait)


def test_histograms_can_be_switched_off(make_pool: MakePool) -> None:
    pool = make_pool(2, histograms=False)
    pool.submit(int).result(WAIT)
    list(pool.map(int, "123"))
    pool.map_array(kernels.identity, [1.0] * 1000)
    pool.submit(kernels.identity, 1.0).result(WAIT)
    metrics = idle_metrics(pool)
    assert metrics.jobs_processed == 1 + 3 + 1000 + 1
    for histogram in (metrics.job_duration, metrics.queue_wait):
        assert (histogram.count, histogram.sum, histogram.max, histogram.buckets) == (0, 0.0, 0.0, ())
