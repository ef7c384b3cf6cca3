"""Pools in Prometheus: a collector for `prometheus_client`. Needs ``pip install fastpool[prometheus]``."""

from __future__ import annotations

import bisect
import contextlib
import itertools
import threading
import weakref
from collections.abc import Callable, Iterable

try:
    from prometheus_client.core import (
        REGISTRY,
        CollectorRegistry,
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
    )
    from prometheus_client.registry import Collector as BaseCollector
except ImportError as error:
    raise ImportError("fastpool.prometheus needs prometheus_client: pip install fastpool[prometheus]") from error

from fastpool._watched import Watched, Watchlist
from fastpool.metrics import Histogram, Metrics
from fastpool.pool import Pool

__all__ = ["BOUNDS", "Collector", "register"]

BOUNDS = (*(float(f"{step}e{exponent}") for exponent in range(-7, 2) for step in ("1", "2.5", "5")), 100.0)
"""Upper bounds of the histograms' buckets, in seconds: from what a native job takes to what nobody should wait for."""

_LE = (*map(str, BOUNDS), "+Inf")

# Name, help, and how it is read. `None`: there is no such thing in this pool, and so no sample.
_GAUGES: tuple[tuple[str, str, Callable[[Metrics], int | None]], ...] = (
    ("fastpool_workers", "Worker threads.", lambda metrics: metrics.workers),
    ("fastpool_active_workers", "Worker threads that run a job.", lambda metrics: metrics.active_workers),
    ("fastpool_queue_depth", "Places in use in the queue.", lambda metrics: metrics.queue_depth),
    (
        "fastpool_queue_capacity",
        "Places in the queue; absent where it is unbounded.",
        lambda metrics: metrics.queue_capacity,
    ),
)
_COUNTERS: tuple[tuple[str, str, Callable[[Metrics], int]], ...] = (
    ("fastpool_jobs_submitted", "Accepted jobs.", lambda metrics: metrics.jobs_submitted),
    ("fastpool_jobs_rejected", "Submits refused because the queue was full.", lambda metrics: metrics.jobs_rejected),
    ("fastpool_panics", "Failures that no future carried or no handler expects.", lambda metrics: metrics.panics),
)
_OUTCOMES: tuple[tuple[str, Callable[[Metrics], int]], ...] = (
    ("processed", lambda metrics: metrics.jobs_processed),
    ("failed", lambda metrics: metrics.jobs_failed),
    ("cancelled", lambda metrics: metrics.jobs_cancelled),
    ("timed_out", lambda metrics: metrics.jobs_timed_out),
)
_HISTOGRAMS: tuple[tuple[str, str, Callable[[Metrics], Histogram]], ...] = (
    ("fastpool_job_duration", "How long jobs ran.", lambda metrics: metrics.job_duration),
    ("fastpool_queue_wait", "How long jobs were queued.", lambda metrics: metrics.queue_wait),
)


class Collector(BaseCollector):
    """What Prometheus asks for the metrics of pools, each with its name in the label ``pool``.

    Parameters
    ----------
    registry : CollectorRegistry or None, optional
        Where it enters itself; None: nowhere. Default: the one that prometheus_client's servers show.

    Raises
    ------
    ValueError
        If the registry has a collector of fastpool's metrics already; `register` finds that one.

    Notes
    -----
    =============================================  =========  ================================================
    metric                                         labels     `Metrics`
    =============================================  =========  ================================================
    ``fastpool_workers``                                      workers
    ``fastpool_active_workers``                               active_workers
    ``fastpool_queue_depth``                                  queue_depth
    ``fastpool_queue_capacity``                               queue_capacity
    ``fastpool_jobs_submitted_total``                         jobs_submitted
    ``fastpool_jobs_ended_total``                  outcome    jobs_processed, _failed, _cancelled, _timed_out
    ``fastpool_jobs_rejected_total``                          jobs_rejected
    ``fastpool_panics_total``                                 panics
    ``fastpool_job_duration_seconds`` (histogram)  le         job_duration
    ``fastpool_queue_wait_seconds`` (histogram)    le         queue_wait
    =============================================  =========  ================================================

    The four outcomes are one metric, for their sum has a meaning: once the pool is idle it is what was submitted. An unbounded
    queue has no capacity rather than an infinite one: that would be the sum over all pools too, and no axis could show it.

    A pool's own buckets are finer than the bounds here (`BOUNDS`). One that straddles a bound is counted where its upper end
    belongs, so what ``le`` says is true of every job counted there; of the jobs at most 6 % below a bound some are counted
    one bucket further up. Count and sum are exact.

    Pools are held weakly: one that is gone is no longer shown; one that is shut down is, for as long as it lives. In a
    forked child the parent's pools are left out. prometheus_client's multiprocess mode has no metrics of this kind: let
    each process be scraped.

    Thread safety: from any thread. Blocking: never. Cost: some 0.2 ms for each pool and scrape.

    Examples
    --------
    >>> import fastpool.prometheus
    >>> collector = fastpool.prometheus.Collector(registry=None)
    >>> with fastpool.Pool(1, "prices") as pool:
    ...     collector.add(pool)
    ...     [metric.name for metric in collector.collect()][:2]
    ['fastpool_workers', 'fastpool_active_workers']
    """

    def __init__(self, registry: CollectorRegistry | None = REGISTRY):
        self._watchlist = Watchlist()
        if registry is not None:
            with _lock:
                registry.register(self)
                _collectors[registry] = self

    def add(self, pool: Pool, name: str | None = None) -> None:
        """Show `pool` from now on.

        Parameters
        ----------
        pool : Pool
        name : str, optional
            For the label ``pool``; any text. Default: the pool's `thread_name_prefix`.

        Raises
        ------
        TypeError
            If `pool` is no pool, or `name` no str.
        ValueError
            If another pool has that `name` (as long as it lives), this one is there under another, or the name is empty.
        """
        self._watchlist.add(pool, name)

    def remove(self, pool: Pool) -> None:
        """Show `pool` no longer.

        Raises
        ------
        ValueError
            If it is not shown.
        """
        if not self._watchlist.remove(pool):
            raise ValueError(f"pool is not in this collector: {pool!r}")

    def describe(self) -> Iterable[Metric]:
        """The metrics without values: by this a registry knows their names and asks no pool."""
        return _families([])

    def collect(self) -> Iterable[Metric]:
        """The metrics of all pools; those of one pool are from one snapshot."""
        return _families(self._watchlist.read())


# The collector of each registry; neither holds the other alive.
_collectors: weakref.WeakKeyDictionary[CollectorRegistry, Collector] = weakref.WeakKeyDictionary()
_lock = threading.RLock()


def register(pool: Pool, name: str | None = None, registry: CollectorRegistry = REGISTRY) -> Collector:
    """Show `pool` to Prometheus: with the registry's `Collector`, which is made if there is none.

    Parameters
    ----------
    pool : Pool
    name : str, optional
        For the label ``pool``. Default: the pool's `thread_name_prefix`.
    registry : CollectorRegistry, optional
        Default: the one that prometheus_client's servers show.

    Returns
    -------
    Collector
        To `remove` the pool again.

    Raises
    ------
    TypeError, ValueError
        As `Collector.add`.

    Examples
    --------
    >>> import fastpool.prometheus
    >>> from prometheus_client import CollectorRegistry, generate_latest
    >>> registry = CollectorRegistry()
    >>> with fastpool.Pool(1, "prices") as prices, fastpool.Pool(1, "risk") as risk:
    ...     collector = fastpool.prometheus.register(prices, registry=registry)
    ...     collector is fastpool.prometheus.register(risk, registry=registry)
    ...     b'fastpool_workers{pool="risk"} 0.0' in generate_latest(registry)
    True
    True
    """
    with _lock:
        collector = _collectors.get(registry)
        if collector is None:
            collector = Collector(registry)
        else:
            with contextlib.suppress(ValueError):  # it is there; unless somebody has unregistered it
                registry.register(collector)
    collector.add(pool, name)
    return collector


def _families(pools: list[tuple[Watched, Metrics]]) -> list[Metric]:
    """All metrics of `pools`."""
    return [
        *(_gauge(*gauge, pools) for gauge in _GAUGES),
        *(_counter(*counter, pools) for counter in _COUNTERS),
        _ended(pools),
        *(_histogram(*histogram, pools) for histogram in _HISTOGRAMS),
    ]


def _gauge(
    name: str, text: str, read: Callable[[Metrics], int | None], pools: list[tuple[Watched, Metrics]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=["pool"])
    for watched, metrics in pools:
        value = read(metrics)
        if value is not None:
            family.add_metric([watched.name], value)
    return family


def _counter(
    name: str, text: str, read: Callable[[Metrics], int], pools: list[tuple[Watched, Metrics]]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=["pool"])
    for watched, metrics in pools:
        family.add_metric([watched.name], read(metrics))
    return family


def _ended(pools: list[tuple[Watched, Metrics]]) -> CounterMetricFamily:
    family = CounterMetricFamily("fastpool_jobs_ended", "Jobs by how they ended.", labels=["pool", "outcome"])
    for watched, metrics in pools:
        for outcome, read in _OUTCOMES:
            family.add_metric([watched.name, outcome], read(metrics))
    return family


def _histogram(
    name: str, text: str, read: Callable[[Metrics], Histogram], pools: list[tuple[Watched, Metrics]]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, text, labels=["pool"], unit="seconds")
    for watched, metrics in pools:
        histogram = read(metrics)
        family.add_metric([watched.name], list(zip(_LE, _cumulative(histogram), strict=True)), histogram.sum)
    return family


def _cumulative(histogram: Histogram) -> list[int]:
    """How many were at most each of `BOUNDS`, and at last how many at all."""
    counts = [0] * len(_LE)
    for _, upper, count in histogram.buckets:
        # By `upper` even where no job took that long: a longer job later must not move those that have been counted.
        counts[bisect.bisect_left(BOUNDS, upper)] += count
    return list(itertools.accumulate(counts))
