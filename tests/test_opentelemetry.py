"""fastpool.opentelemetry against OpenTelemetry's own SDK: what a reader collects is held against metrics()."""

from __future__ import annotations

import gc
import importlib
import os
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import WAIT, Held, ended, idle_metrics, in_thread
from test_isolated import check

import fastpool

pytest.importorskip("opentelemetry.sdk.metrics")

from opentelemetry.metrics import CallbackOptions, NoOpMeter, NoOpMeterProvider, Observation
from opentelemetry.sdk.metrics import MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics import export as sdk
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader

import fastpool.opentelemetry
from fastpool.opentelemetry import instrument

MakePool = Callable[..., fastpool.Pool]

# An observation: the instrument's name, and the attribute that is not the pool's.
Key = tuple[str, Any]
Provide = Callable[..., tuple[MeterProvider, InMemoryMetricReader]]


@pytest.fixture
def provide() -> Iterator[Provide]:
    """Makes providers, each with a reader."""
    made = []

    def make(**options: Any) -> tuple[MeterProvider, InMemoryMetricReader]:
        reader = InMemoryMetricReader(**options)
        provider = MeterProvider([reader])
        made.append(provider)
        return provider, reader

    yield make
    for provider in made:
        provider.shutdown()


@pytest.fixture
def provided(provide: Provide) -> tuple[MeterProvider, InMemoryMetricReader]:
    return provide()


@pytest.fixture
def provider(provided: tuple[MeterProvider, InMemoryMetricReader]) -> MeterProvider:
    return provided[0]


@pytest.fixture
def reader(provided: tuple[MeterProvider, InMemoryMetricReader]) -> InMemoryMetricReader:
    return provided[1]


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The SDK logs what it does not like: names made twice, values that are not finite, callbacks that raise."""
    yield
    assert [record.message for record in caplog.records if record.name.startswith("opentelemetry")] == []


def metrics_of(reader: InMemoryMetricReader) -> list[Any]:
    data = reader.get_metrics_data()
    resources = [] if data is None else data.resource_metrics
    return [metric for resource in resources for scope in resource.scope_metrics for metric in scope.metrics]


def collect(reader: InMemoryMetricReader) -> dict[str, dict[Key, float]]:
    """By pool and observation."""
    found: dict[str, dict[Key, float]] = {}
    for metric in metrics_of(reader):
        for point in metric.data.data_points:
            attributes = dict(point.attributes)
            of_pool = found.setdefault(attributes.pop("fastpool.pool"), {})
            key = (metric.name, next(iter(attributes.values()), None))
            assert key not in of_pool
            of_pool[key] = point.value
    return found


def expected(metrics: fastpool.Metrics) -> dict[Key, float]:
    values: dict[Key, Any] = {
        ("fastpool.worker.count", "active"): metrics.active_workers,
        ("fastpool.worker.count", "idle"): metrics.workers - metrics.active_workers,
        ("fastpool.queue.size", None): metrics.queue_depth,
        ("fastpool.queue.capacity", None): metrics.queue_capacity,
        ("fastpool.job.submitted", None): metrics.jobs_submitted,
        ("fastpool.job.ended", "processed"): metrics.jobs_processed,
        ("fastpool.job.ended", "failed"): metrics.jobs_failed,
        ("fastpool.job.ended", "cancelled"): metrics.jobs_cancelled,
        ("fastpool.job.ended", "timed_out"): metrics.jobs_timed_out,
        ("fastpool.job.rejected", None): metrics.jobs_rejected,
        ("fastpool.panics", None): metrics.panics,
    }
    for name, histogram in (
        ("fastpool.job.duration", metrics.job_duration),
        ("fastpool.queue.wait", metrics.queue_wait),
    ):
        seconds = {(f"{name}.sum", None): histogram.sum}
        if histogram.count:
            seconds |= {(f"{name}.quantile", q): histogram.quantile(q) for q in (0.5, 0.9, 0.99)}
            seconds |= {(f"{name}.quantile", 1.0): histogram.max}
        values |= {key: pytest.approx(value, rel=1e-3) for key, value in seconds.items()}
        values |= {(f"{name}.count", None): histogram.count}
    return {key: value for key, value in values.items() if value is not None}


@pytest.fixture
def mixed(make_pool: MakePool) -> fastpool.Pool:
    """A pool in which something of everything has happened."""
    pool = make_pool(2, "mixed", queue_size=3, on_full="raise")
    for microseconds in [0, 3, 30, 300, 3000] * 6:
        pool.submit(time.sleep, microseconds * 1e-6).result(WAIT)
    pool.submit(int, "x").exception(WAIT)
    pool.post(int, "x")
    with Held(pool, 2):
        for future in [pool.submit(int) for _ in range(3)][1:]:
            future.cancel()
        for _ in range(4):
            with pytest.raises(fastpool.PoolOverloaded):
                pool.submit(int)
    idle_metrics(pool)
    return pool


def test_each_metric_is_what_metrics_says(
    mixed: fastpool.Pool, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    instrument(mixed, meter_provider=provider)
    metrics = mixed.metrics()
    assert (metrics.jobs_failed, metrics.jobs_cancelled, metrics.jobs_rejected, metrics.panics) == (2, 2, 4, 1)
    assert collect(reader) == {"mixed": expected(metrics)}


def test_kinds_and_units(mixed: fastpool.Pool, provider: MeterProvider, reader: InMemoryMetricReader) -> None:
    instrument(mixed, meter_provider=provider)
    found = {}
    for metric in metrics_of(reader):
        assert metric.description
        kind = {sdk.Gauge: "gauge", sdk.Sum: "up-down"}[type(metric.data)]
        found[metric.name] = ("counter" if getattr(metric.data, "is_monotonic", False) else kind, metric.unit)
    assert found == {
        "fastpool.worker.count": ("up-down", "{worker}"),
        "fastpool.queue.size": ("up-down", "{place}"),
        "fastpool.queue.capacity": ("up-down", "{place}"),
        "fastpool.job.submitted": ("counter", "{job}"),
        "fastpool.job.ended": ("counter", "{job}"),
        "fastpool.job.rejected": ("counter", "{job}"),
        "fastpool.panics": ("counter", "{panic}"),
        "fastpool.job.duration.count": ("counter", "{job}"),
        "fastpool.job.duration.sum": ("counter", "s"),
        "fastpool.job.duration.quantile": ("gauge", "s"),
        "fastpool.queue.wait.count": ("counter", "{job}"),
        "fastpool.queue.wait.sum": ("counter", "s"),
        "fastpool.queue.wait.quantile": ("gauge", "s"),
    }


def test_what_is_queued_and_running(make_pool: MakePool, provider: MeterProvider, reader: InMemoryMetricReader) -> None:
    pool = make_pool(3, "busy")
    instrument(pool, meter_provider=provider)
    pool.wait_idle(WAIT)
    with Held(pool, 3):
        for _ in range(5):
            pool.post(int)
        seen = collect(reader)["busy"]
        assert (seen["fastpool.worker.count", "active"], seen["fastpool.worker.count", "idle"]) == (3, 0)
        assert (seen["fastpool.queue.size", None], seen["fastpool.queue.capacity", None]) == (5, 8192)


def test_a_new_pool_has_no_quantiles_and_an_unbounded_queue_no_capacity(
    make_pool: MakePool, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    pool = make_pool(1, "new", queue_size=None)
    instrument(pool, meter_provider=provider)
    seen = collect(reader)["new"]
    assert seen == expected(pool.metrics())
    assert {name for name, _ in seen} & {"fastpool.job.duration.quantile", "fastpool.queue.capacity"} == set()


class Counted(fastpool.Pool):
    """A pool that counts how often it is read."""

    reads = 0

    def metrics(self) -> fastpool.Metrics:
        self.reads += 1
        return super().metrics()

    def metrics_in_a_child(self) -> fastpool.Metrics:
        raise fastpool.PoolError


def test_what_is_collected_together_is_one_snapshot(make_pool: MakePool, provide: Provide) -> None:
    pool = make_pool(1, "counted", kind=Counted)
    provider, reader = provide()
    instrument(pool, meter_provider=provider)
    for reads in range(1, 4):
        pool.submit(int).result(WAIT)
        pool.wait_idle(WAIT)
        assert collect(reader)["counted"]["fastpool.job.submitted", None] == reads
        assert pool.reads == reads  # type: ignore[attr-defined]


class Callbacks(NoOpMeter):
    """A meter by which the instruments' callbacks can be called one by one."""

    def __init__(self) -> None:
        super().__init__("callbacks")
        self.of: dict[str, Callable[[CallbackOptions], list[Observation]]] = {}

    def create_observable_counter(self, name: str, callbacks: Any = None, unit: str = "", description: str = "") -> Any:
        (self.of[name],) = callbacks
        return super().create_observable_counter(name, callbacks, unit, description)

    def pools(self, name: str) -> list[Any]:
        return [(one.attributes or {})["fastpool.pool"] for one in self.of[name](CallbackOptions())]


def test_in_the_middle_of_a_collection_pools_come_and_go(make_pool: MakePool) -> None:
    meter = Callbacks()
    first = instrument(make_pool(1, "a"), meter=meter)
    assert meter.pools("fastpool.job.submitted") == ["a"]
    instrument(make_pool(1, "b"), meter=meter)
    assert meter.pools("fastpool.panics") == ["a", "b"]
    first.uninstrument()
    assert meter.pools("fastpool.job.rejected") == ["b"]


def test_in_the_middle_of_a_collection_a_child_is_forked(make_pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    meter = Callbacks()
    instrument(make_pool(1, "a", kind=Counted), meter=meter)
    assert meter.pools("fastpool.job.submitted") == meter.pools("fastpool.job.rejected") == ["a"]
    monkeypatch.setattr(os, "getpid", lambda: -1)
    monkeypatch.setattr(Counted, "metrics", Counted.metrics_in_a_child)
    assert meter.pools("fastpool.panics") == []


@pytest.mark.parametrize("temporality", [AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA])
def test_no_sum_ever_falls(make_pool: MakePool, provide: Provide, temporality: AggregationTemporality) -> None:
    pool = make_pool(1, "counted")
    pool.submit(time.sleep, 0.001).result(WAIT)
    idle_metrics(pool)
    provider, reader = provide(preferred_temporality={ObservableCounter: temporality})
    instrument(pool, meter_provider=provider)
    first, second = (collect(reader)["counted"]["fastpool.job.duration.sum", None] for _ in range(2))
    assert first > 0
    assert second == (first if temporality is AggregationTemporality.CUMULATIVE else 0)


def test_two_readers_see_the_same(make_pool: MakePool) -> None:
    readers = [InMemoryMetricReader(), InMemoryMetricReader()]
    provider = MeterProvider(readers)
    pool = make_pool(1, "read twice")
    instrument(pool, meter_provider=provider)
    for reads in range(1, 4):
        pool.submit(int).result(WAIT)
        metrics = idle_metrics(pool)
        for reader in readers:
            assert collect(reader)["read twice"] == expected(metrics)
            assert metrics.jobs_submitted == reads
    provider.shutdown()


def test_pools_of_one_meter_share_its_instruments(
    make_pool: MakePool, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    pools = {name: make_pool(1, name) for name in "abc"}
    for number, pool in enumerate(pools.values()):
        instrument(pool, meter_provider=provider)
        for _ in range(number):
            pool.submit(int).result(WAIT)
        idle_metrics(pool)
    names = [metric.name for metric in metrics_of(reader)]
    assert len(names) == len(set(names))
    seen = collect(reader)
    assert {name: seen[name]["fastpool.job.submitted", None] for name in pools} == {"a": 0, "b": 1, "c": 2}


def test_a_meter_of_ones_own(single: fastpool.Pool, provider: MeterProvider, reader: InMemoryMetricReader) -> None:
    instrument(single, meter=provider.get_meter("mine", "1.2"), name="p")
    data = reader.get_metrics_data()
    assert data is not None
    (scope,) = data.resource_metrics[0].scope_metrics
    assert (scope.scope.name, scope.scope.version) == ("mine", "1.2")
    with pytest.raises(TypeError, match="meter and meter_provider"):
        instrument(single, meter=provider.get_meter("mine"), meter_provider=provider)


def test_a_provider_that_does_nothing_will_do(single: fastpool.Pool) -> None:
    instrument(single, meter_provider=NoOpMeterProvider()).uninstrument()


def test_the_global_provider_may_be_set_later() -> None:
    check("global_meter")


def test_what_is_uninstrumented_is_no_longer_observed(
    make_pool: MakePool, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    pools = [make_pool(1, name) for name in "ab"]
    first, second = [instrument(pool, meter_provider=provider) for pool in pools]
    assert (first.name, second.name) == ("a", "b")
    assert set(collect(reader)) == {"a", "b"}
    first.uninstrument()
    first.uninstrument()
    assert set(collect(reader)) == {"b"}
    again = instrument(pools[0], meter_provider=provider)
    first.uninstrument()
    assert set(collect(reader)) == {"a", "b"}, "only what it has begun can it end"
    again.uninstrument()
    second.uninstrument()
    assert collect(reader) == {}


def test_a_pool_that_is_gone_is_no_longer_observed(provider: MeterProvider, reader: InMemoryMetricReader) -> None:
    pool = fastpool.Pool(1, "gone")
    watching = instrument(pool, meter_provider=provider)
    pool.submit(int).result(WAIT)
    pool.shutdown()
    assert collect(reader)["gone"]["fastpool.job.submitted", None] == 1, "shut down, but it lives"
    alive = weakref.ref(pool)
    del pool
    gc.collect()
    assert alive() is None, "the instrumentation keeps it"
    assert collect(reader) == {}
    with fastpool.Pool(1, "gone") as successor:
        instrument(successor, meter_provider=provider)
        assert collect(reader)["gone"]["fastpool.job.submitted", None] == 0
        watching.uninstrument()
        assert set(collect(reader)) == {"gone"}


def test_a_provider_is_not_kept_alive(single: fastpool.Pool) -> None:
    provider = MeterProvider([InMemoryMetricReader()])
    instrument(single, meter_provider=provider)
    alive = weakref.ref(provider.get_meter("fastpool", fastpool.__version__))
    provider.shutdown()
    del provider
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize("name", ['a "quoted" name', "back\\slash", "two\nlines", "naïve ☃ 名前", " "])
def test_any_text_may_be_a_name(
    make_pool: MakePool, provider: MeterProvider, reader: InMemoryMetricReader, name: str
) -> None:
    instrument(make_pool(1), meter_provider=provider, name=name)
    instrument(make_pool(1, name + "2"), meter_provider=provider)
    assert list(collect(reader)) == [name, name + "2"]


@pytest.mark.parametrize(
    ("name", "error"), [("", ValueError), ("\ud800", ValueError), (5, TypeError), (b"x", TypeError)]
)
def test_other_names_are_refused(single: fastpool.Pool, provider: MeterProvider, name: Any, error: type) -> None:
    with pytest.raises(error, match="name"):
        instrument(single, meter_provider=provider, name=name)


def test_a_name_is_for_one_pool(make_pool: MakePool, provider: MeterProvider) -> None:
    first, second = make_pool(1, "twin"), make_pool(1, "twin")
    instrument(first, meter_provider=provider)
    with pytest.raises(ValueError, match=r"name 'twin' .* name="):
        instrument(second, meter_provider=provider)
    with pytest.raises(ValueError, match="name of this pool is 'twin'"):
        instrument(first, meter_provider=provider, name="other")
    instrument(second, meter_provider=provider, name="other")


def test_only_pools_can_be_instrumented(provider: MeterProvider, reader: InMemoryMetricReader) -> None:
    with pytest.raises(TypeError, match="pool"):
        instrument(None, meter_provider=provider)  # type: ignore[arg-type]
    assert metrics_of(reader) == []


def test_collecting_while_jobs_come_from_four_threads(
    make_pool: MakePool, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    pool = make_pool(2, "busy")
    instrument(pool, meter_provider=provider)

    def submit() -> None:
        for _ in range(40):
            for future in pool.submit_many(int, ["1"] * 50):
                future.result(WAIT)
            pool.submit(int, "x").exception(WAIT)

    submitters = [in_thread(submit) for _ in range(4)]
    before = collect(reader)["busy"]
    for _ in range(50):
        after = collect(reader)["busy"]
        rising = [key for key in before if key[0].startswith(("fastpool.job.", "fastpool.queue.wait"))]
        assert [key for key in rising if "quantile" not in key[0] and after[key] < before[key]] == []
        outcomes = [value for (name, _), value in after.items() if name == "fastpool.job.ended"]
        assert after["fastpool.job.submitted", None] >= sum(outcomes), "not of one snapshot"
        before = after
    for submitter in submitters:
        submitter()
    metrics = idle_metrics(pool)
    assert ended(metrics) == 4 * 40 * 51
    assert collect(reader)["busy"] == expected(metrics)


def test_in_a_forked_child_the_parents_pools_are_left_out() -> None:
    pytest.importorskip("prometheus_client")
    check("fork_exporters")


def test_without_the_interface_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "fastpool.opentelemetry")
    with pytest.raises(ImportError, match=r"pip install fastpool\[opentelemetry\]"):
        importlib.import_module("fastpool.opentelemetry")


def test_collecting_costs_little(mixed: fastpool.Pool, provider: MeterProvider, reader: InMemoryMetricReader) -> None:
    instrument(mixed, meter_provider=provider)
    times = []
    for _ in range(50):
        start = time.perf_counter()
        reader.get_metrics_data()
        times.append(time.perf_counter() - start)
    print(f"one collection of one pool: best {min(times) * 1e6:.0f} us, median {sorted(times)[25] * 1e6:.0f} us")
    assert min(times) < 0.1
