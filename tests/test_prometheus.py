"""fastpool.prometheus against prometheus_client itself: what it writes is parsed again, and held against metrics()."""

from __future__ import annotations

import bisect
import gc
import importlib
import subprocess
import sys
import time
import urllib.request
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import WAIT, Held, ended, idle_metrics, in_thread
from test_isolated import check

import fastpool
from fastpool import Histogram

pytest.importorskip("prometheus_client")

from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

import fastpool.prometheus
from fastpool.prometheus import BOUNDS, Collector, register

MakePool = Callable[..., fastpool.Pool]

# A sample: its name, and its labels but for the pool's.
Key = tuple[str, str]
OUTCOMES = {
    "processed": "jobs_processed",
    "failed": "jobs_failed",
    "cancelled": "jobs_cancelled",
    "timed_out": "jobs_timed_out",
}
GAUGES = ["fastpool_workers", "fastpool_active_workers", "fastpool_queue_depth", "fastpool_queue_capacity"]
HISTOGRAMS = {"fastpool_job_duration_seconds": "job_duration", "fastpool_queue_wait_seconds": "queue_wait"}


def samples(families: Any) -> dict[str, dict[Key, float]]:
    """By pool and sample."""
    found: dict[str, dict[Key, float]] = {}
    for family in families:
        for sample in family.samples:
            labels = dict(sample.labels)
            of_pool = found.setdefault(labels.pop("pool"), {})
            key = (sample.name, next(iter(labels.values()), ""))
            assert key not in of_pool
            of_pool[key] = sample.value
    return found


def scrape(registry: CollectorRegistry) -> dict[str, dict[Key, float]]:
    return samples(parse(generate_latest(registry).decode()))


def bucket_counts(sample: dict[Key, float], name: str) -> dict[float, float]:
    return {float(le): value for (found, le), value in sample.items() if found == f"{name}_bucket"}


def expected(metrics: fastpool.Metrics) -> dict[Key, float]:
    """What is exported of a pool, but for the buckets."""
    plain = {
        "fastpool_workers": metrics.workers,
        "fastpool_active_workers": metrics.active_workers,
        "fastpool_queue_depth": metrics.queue_depth,
        "fastpool_queue_capacity": metrics.queue_capacity,
        "fastpool_jobs_submitted_total": metrics.jobs_submitted,
        "fastpool_jobs_rejected_total": metrics.jobs_rejected,
        "fastpool_panics_total": metrics.panics,
    }
    values = {(name, ""): float(value) for name, value in plain.items() if value is not None}
    values |= {("fastpool_jobs_ended_total", key): getattr(metrics, name) for key, name in OUTCOMES.items()}
    for name, attribute in HISTOGRAMS.items():
        histogram = getattr(metrics, attribute)
        values |= {(f"{name}_count", ""): histogram.count, (f"{name}_sum", ""): pytest.approx(histogram.sum, rel=1e-3)}
    return values


def without_buckets(sample: dict[Key, float]) -> dict[Key, float]:
    return {key: value for key, value in sample.items() if not key[0].endswith("_bucket")}


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry(auto_describe=True)


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


def test_each_metric_is_what_metrics_says(mixed: fastpool.Pool, registry: CollectorRegistry) -> None:
    register(mixed, registry=registry)
    sample = scrape(registry)["mixed"]
    metrics = mixed.metrics()
    assert (metrics.jobs_failed, metrics.jobs_cancelled, metrics.jobs_rejected, metrics.panics) == (2, 2, 4, 1)
    assert without_buckets(sample) == expected(metrics)


def test_gauges_show_what_is_queued_and_running(make_pool: MakePool, registry: CollectorRegistry) -> None:
    pool = make_pool(2, "busy")
    register(pool, registry=registry)
    with Held(pool, 2):
        for _ in range(5):
            pool.post(int)
        sample = scrape(registry)["busy"]
        assert [sample[name, ""] for name in GAUGES] == [2, 2, 5, 8192]
        assert sample["fastpool_jobs_submitted_total", ""] == 7


def test_an_unbounded_queue_has_no_capacity(registry: CollectorRegistry) -> None:
    with fastpool.Pool(1, "unbounded", queue_size=None) as pool:
        register(pool, registry=registry)
        sample = scrape(registry)["unbounded"]
        assert ("fastpool_queue_capacity", "") not in sample
        assert without_buckets(sample) == expected(pool.metrics())


def test_buckets_rise_to_the_count(mixed: fastpool.Pool, registry: CollectorRegistry) -> None:
    register(mixed, registry=registry)
    sample = scrape(registry)["mixed"]
    for name in HISTOGRAMS:
        counts = bucket_counts(sample, name)
        assert list(counts) == [*BOUNDS, float("inf")]
        assert list(counts.values()) == sorted(counts.values())
        assert counts[float("inf")] == sample[f"{name}_count", ""] > 0


def test_the_bounds_are_round_and_cover_what_a_histogram_promises() -> None:
    assert (BOUNDS[0], BOUNDS[-1], len(BOUNDS)) == (1e-7, 100.0, 28)
    assert [f"{bound:.1e}"[:3] for bound in BOUNDS[:4]] == ["1.0", "2.5", "5.0", "1.0"]
    assert list(BOUNDS) == sorted(set(BOUNDS))


def fine_buckets(nanoseconds: list[int]) -> Histogram:
    """As the C side cuts them, 16 to the octave."""
    counted: dict[tuple[int, int], int] = {}
    for value in sorted(nanoseconds):
        octave = max(0, value.bit_length() - 5)
        lower = value >> octave << octave
        counted[lower, lower + (1 << octave)] = counted.get((lower, lower + (1 << octave)), 0) + 1
    return Histogram._from_ns(sum(nanoseconds), max(nanoseconds), [(*edges, n) for edges, n in counted.items()])


@given(st.lists(st.integers(0, 2 * 10**11), min_size=1, max_size=60))
def test_what_a_bucket_says_is_true(nanoseconds: list[int]) -> None:
    """All that it counts are at most its bound; and it counts all that are a fine bucket's width below."""
    counts = fastpool.prometheus._cumulative(fine_buckets(nanoseconds))
    assert counts[-1] == len(nanoseconds)
    for bound, count in zip(BOUNDS, counts, strict=False):
        most = sum(value <= bound * 1e9 for value in nanoseconds)
        least = sum(value < bound * 1e9 * 15 / 16 for value in nanoseconds)
        assert least <= count <= most


def histogram_quantile(q: float, counts: dict[float, float]) -> tuple[float, float, float]:
    """As Prometheus has it: straight lines inside of the buckets. The bucket's bounds, and the quantile."""
    rank = q * counts[float("inf")]
    lower, below = 0.0, 0.0
    for upper, count in counts.items():
        if count >= rank:
            break
        lower, below = upper, count
    if upper == float("inf"):
        return lower, upper, lower
    return lower, upper, lower + (upper - lower) * (rank - below) / (count - below)


def test_a_bucket_that_ends_at_a_bound_is_counted_there() -> None:
    histogram = fine_buckets([96, 99, 100])
    assert [upper for _, upper, _ in histogram.buckets] == [1e-7, 1.04e-7]
    assert fastpool.prometheus._cumulative(histogram)[:2] == [2, 3]


@given(st.lists(st.integers(100, 10**11), min_size=1, max_size=60), st.floats(0.01, 1))
def test_a_quantile_by_prometheus_is_in_the_bucket_of_the_true_one(nanoseconds: list[int], q: float) -> None:
    histogram = fine_buckets(nanoseconds)
    counts = dict(zip([*BOUNDS, float("inf")], fastpool.prometheus._cumulative(histogram), strict=True))
    lower, upper, there = histogram_quantile(q, counts)
    assert lower <= there <= upper
    assert lower * 15 / 16 <= histogram.quantile(q) <= upper


def test_quantiles_of_a_pool_agree_with_its_own(mixed: fastpool.Pool, registry: CollectorRegistry) -> None:
    register(mixed, registry=registry)
    sample, metrics = scrape(registry)["mixed"], mixed.metrics()
    for name, attribute in HISTOGRAMS.items():
        for q in (0.1, 0.5, 0.9, 0.99, 1):
            lower, upper, there = histogram_quantile(q, bucket_counts(sample, name))
            own = getattr(metrics, attribute).quantile(q)
            assert abs(bisect.bisect_left(BOUNDS, own) - bisect.bisect_left(BOUNDS, there)) <= 1, (name, q, own, there)
            assert lower * 15 / 16 <= own <= upper


def test_no_counter_of_an_idle_pool_changes_but_upwards(mixed: fastpool.Pool, registry: CollectorRegistry) -> None:
    register(mixed, registry=registry)
    before = scrape(registry)["mixed"]
    for _ in range(100):
        after = scrape(registry)["mixed"]
        assert [key for key in before if after[key] < before[key]] == []
        before = after


def test_pools_of_one_registry_are_told_apart_by_their_label(make_pool: MakePool, registry: CollectorRegistry) -> None:
    pools = {name: make_pool(1, name) for name in ("a", "b", "c")}
    collectors = {register(pool, registry=registry) for pool in pools.values()}
    assert len(collectors) == 1
    for number, pool in enumerate(pools.values()):
        for _ in range(number):
            pool.submit(int).result(WAIT)
        idle_metrics(pool)
    text = generate_latest(registry).decode()
    assert text.count("# TYPE fastpool_workers ") == 1
    assert [sample["fastpool_jobs_submitted_total", ""] for sample in scrape(registry).values()] == [0, 1, 2]
    assert list(scrape(registry)) == ["a", "b", "c"]


def test_a_pool_may_be_in_several_registries_under_several_names(single: fastpool.Pool) -> None:
    registries = [CollectorRegistry(), CollectorRegistry()]
    for name, one in zip("ab", registries, strict=True):
        register(single, name, registry=one)
    assert [list(scrape(one)) for one in registries] == [["a"], ["b"]]


def test_a_pool_that_is_gone_is_no_longer_shown(registry: CollectorRegistry) -> None:
    pool = fastpool.Pool(1, "gone")
    with fastpool.Pool(1, "stays") as stays:
        collector = register(pool, registry=registry)
        register(stays, registry=registry)
        pool.submit(int).result(WAIT)
        assert set(scrape(registry)) == {"gone", "stays"}
        alive = weakref.ref(pool)
        pool.shutdown()
        assert set(scrape(registry)) == {"gone", "stays"}, "its counters are readable as long as it lives"
        assert scrape(registry)["gone"]["fastpool_jobs_submitted_total", ""] == 1
        del pool
        gc.collect()
        assert alive() is None, "the collector keeps it"
        assert set(scrape(registry)) == {"stays"}
        with fastpool.Pool(1, "gone") as successor:
            collector.add(successor)
            assert scrape(registry)["gone"]["fastpool_jobs_submitted_total", ""] == 0


def test_what_is_removed_is_no_longer_shown(make_pool: MakePool, registry: CollectorRegistry) -> None:
    pools = [make_pool(1, name) for name in "ab"]
    for pool in pools:
        collector = register(pool, registry=registry)
    collector.remove(pools[0])
    assert set(scrape(registry)) == {"b"}
    with pytest.raises(ValueError, match="pool"):
        collector.remove(pools[0])
    collector.add(pools[0], "again")
    assert set(scrape(registry)) == {"again", "b"}


NAMES = [
    'a "quoted" name',
    "back\\slash",
    "two\nlines",
    "naïve ☃ 名前",
    "tab\tand 'single'",
    " ",
    "pool",
    'trailing\\"\n',
]


@pytest.mark.parametrize("name", NAMES)
def test_any_text_may_be_a_name(make_pool: MakePool, registry: CollectorRegistry, name: str) -> None:
    by_argument, by_prefix = make_pool(1), make_pool(1, name + "2")
    register(by_argument, name, registry=registry)
    register(by_prefix, registry=registry)
    assert list(scrape(registry)) == [name, name + "2"]


@pytest.mark.parametrize(
    ("name", "error"), [("", ValueError), ("\ud800", ValueError), (5, TypeError), (b"x", TypeError)]
)
def test_other_names_are_refused(single: fastpool.Pool, registry: CollectorRegistry, name: Any, error: type) -> None:
    with pytest.raises(error, match="name"):
        register(single, name, registry=registry)
    assert scrape(registry) == {}


def test_a_name_is_for_one_pool(make_pool: MakePool, registry: CollectorRegistry) -> None:
    first, second = make_pool(1, "twin"), make_pool(1, "twin")
    collector = register(first, registry=registry)
    with pytest.raises(ValueError, match=r"name 'twin' .* name="):
        register(second, registry=registry)
    register(second, "other", registry=registry)
    with pytest.raises(ValueError, match="name"):
        collector.add(first, "other")
    with pytest.raises(ValueError, match="name of this pool is 'twin'"):
        collector.add(first, "third")
    collector.add(first)  # which changes nothing
    assert set(scrape(registry)) == {"twin", "other"}


@pytest.mark.parametrize("pool", [None, 5, "pool", fastpool.Pool])
def test_only_pools_can_be_shown(registry: CollectorRegistry, pool: Any) -> None:
    with pytest.raises(TypeError, match="pool"):
        register(pool, registry=registry)


def test_the_drop_in_is_a_pool_too(registry: CollectorRegistry) -> None:
    with fastpool.ThreadPoolExecutor(1, "drop-in") as pool:
        register(pool, registry=registry)
        assert without_buckets(scrape(registry)["drop-in"]) == expected(pool.metrics())


def test_register_finds_the_collector_that_is_there(make_pool: MakePool, registry: CollectorRegistry) -> None:
    collector = Collector(registry)
    assert register(make_pool(1, "a"), registry=registry) is collector
    with pytest.raises(ValueError):
        Collector(registry)
    registry.unregister(collector)
    assert scrape(registry) == {}
    assert register(make_pool(1, "b"), registry=registry) is collector
    assert set(scrape(registry)) == {"a", "b"}


def test_a_registry_is_not_kept_alive(single: fastpool.Pool) -> None:
    registry = CollectorRegistry()
    register(single, registry=registry)
    alive = weakref.ref(registry)
    del registry
    gc.collect()
    assert alive() is None


def test_a_collector_describes_what_it_collects(mixed: fastpool.Pool) -> None:
    collector = Collector(registry=None)
    collector.add(mixed)
    described, collected = list(collector.describe()), list(collector.collect())
    assert all(family.samples == [] for family in described)
    for before, after in zip(described, collected, strict=True):
        assert (before.name, before.type, before.documentation) == (after.name, after.type, after.documentation)
        assert after.documentation


def test_one_metric_can_be_asked_for_alone(mixed: fastpool.Pool, registry: CollectorRegistry) -> None:
    register(mixed, registry=registry)
    text = generate_latest(registry.restricted_registry(["fastpool_workers"])).decode()
    assert text.splitlines()[2:] == ['fastpool_workers{pool="mixed"} 2.0']


def test_it_is_valid_openmetrics(mixed: fastpool.Pool, make_pool: MakePool, registry: CollectorRegistry) -> None:
    """Whose parser is strict: units, order, buckets."""
    register(mixed, registry=registry)
    register(make_pool(1, "unbounded", queue_size=None), registry=registry)
    families = list(parse_openmetrics(openmetrics.generate_latest(registry).decode()))
    assert without_buckets(samples(families)["mixed"]) == expected(mixed.metrics())
    units = {family.name: family.unit for family in families if family.unit}
    assert units == dict.fromkeys(HISTOGRAMS, "seconds")


def test_a_server_shows_it(mixed: fastpool.Pool, registry: CollectorRegistry) -> None:
    register(mixed, registry=registry)
    server, thread = start_http_server(0, "127.0.0.1", registry)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=WAIT) as answer:
            text = answer.read().decode()
    finally:
        server.shutdown()
        server.server_close()
        thread.join(WAIT)
    assert without_buckets(samples(parse(text))["mixed"]) == expected(mixed.metrics())


def test_scraping_while_jobs_come_from_four_threads(make_pool: MakePool, registry: CollectorRegistry) -> None:
    pools = [make_pool(2, name) for name in "ab"]
    for pool in pools:
        register(pool, registry=registry)

    def submit() -> None:
        for _ in range(20):
            for pool in pools:
                for future in pool.submit_many(int, ["1"] * 50):
                    future.result(WAIT)
                pool.submit(int, "x").exception(WAIT)

    def read(done: Callable[[], bool]) -> int:
        before = scrape(registry)
        reads = 0
        while not done():
            after = scrape(registry)
            for name in "ab":
                sample = after[name]
                counters = [key for key in sample if key[0] not in GAUGES]
                assert [key for key in counters if sample[key] < before[name][key]] == []
                assert sample["fastpool_jobs_submitted_total", ""] >= sum(
                    sample["fastpool_jobs_ended_total", outcome] for outcome in OUTCOMES
                )
                for histogram in HISTOGRAMS:
                    counts = list(bucket_counts(sample, histogram).values())
                    assert counts == sorted(counts)
                    assert counts[-1] == sample[f"{histogram}_count", ""]
            before = after
            reads += 1
        return reads

    finished: list[bool] = []
    submitters = [in_thread(submit) for _ in range(4)]
    readers = [in_thread(read, lambda: bool(finished)) for _ in range(2)]
    try:
        for submitter in submitters:
            submitter()
    finally:
        finished.append(True)
    for reader in readers:
        reader()
    for pool, name in zip(pools, "ab", strict=True):
        metrics = idle_metrics(pool)
        assert ended(metrics) == 4 * 20 * 51
        assert without_buckets(scrape(registry)[name]) == expected(metrics)


def test_pools_come_and_go_while_they_are_scraped(registry: CollectorRegistry) -> None:
    def come_and_go(name: str) -> None:
        for _ in range(30):
            pool = fastpool.Pool(1)
            register(pool, name, registry=registry).remove(pool)
            register(pool, name, registry=registry)
            pool.submit(int).result(WAIT)
            pool.shutdown()
            del pool

    threads = [in_thread(come_and_go, name) for name in "abcd"]
    for _ in range(50):
        assert set(scrape(registry)) <= set("abcd")
    for thread in threads:
        thread()
    gc.collect()
    assert scrape(registry) == {}


def test_in_a_forked_child_the_parents_pools_are_left_out() -> None:
    pytest.importorskip("opentelemetry.sdk")
    check("fork_exporters")


@pytest.fixture
def without_client(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if prometheus_client were not installed, and nobody had asked before."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "prometheus_client"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "fastpool.prometheus")
    yield


def test_without_prometheus_client_it_says_what_to_install(without_client: None) -> None:
    with pytest.raises(ImportError, match=r"pip install fastpool\[prometheus\]"):
        importlib.import_module("fastpool.prometheus")


def test_fastpool_alone_imports_no_exporter() -> None:
    program = "import sys, fastpool; print([name for name in sys.modules if name.split('.')[0] in sys.argv[1:]])"
    ran = subprocess.run(
        [sys.executable, "-c", program, "prometheus_client", "opentelemetry"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.stdout == "[]\n", ran.stderr


def test_a_scrape_costs_little(mixed: fastpool.Pool) -> None:
    collector = Collector(registry=None)
    collector.add(mixed)
    times = []
    for _ in range(50):
        start = time.perf_counter()
        list(collector.collect())
        times.append(time.perf_counter() - start)
    print(f"collect() of one pool: best {min(times) * 1e6:.0f} us, median {sorted(times)[25] * 1e6:.0f} us")
    assert min(times) < 0.1
