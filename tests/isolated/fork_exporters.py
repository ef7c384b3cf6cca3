"""In a forked child the exporters leave the parent's pools out, and a pool of the child's may have their names."""

from __future__ import annotations

from forking import in_child
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry, generate_latest
from support import WAIT

import fastpool.opentelemetry
import fastpool.prometheus

registry = CollectorRegistry()
reader = InMemoryMetricReader()
provider = MeterProvider([reader])
pool = fastpool.Pool(1, "prices")
pool.submit(int).result(WAIT)
fastpool.prometheus.register(pool, registry=registry)
fastpool.opentelemetry.instrument(pool, meter_provider=provider)


def scraped() -> dict[str, float]:
    """Submitted jobs by pool, as Prometheus sees them."""
    families = {family.name: family for family in registry.collect()}
    assert generate_latest(registry)
    return {sample.labels["pool"]: sample.value for sample in families["fastpool_jobs_submitted"].samples}


def observed() -> dict[str, float]:
    """Submitted jobs by pool, as OpenTelemetry sees them."""
    data = reader.get_metrics_data()
    if data is None:
        return {}
    return {
        point.attributes["fastpool.pool"]: point.value
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "fastpool.job.submitted"
        for point in metric.data.data_points
    }


def child() -> None:
    assert scraped() == observed() == {}
    with fastpool.Pool(1, "prices") as own:
        fastpool.prometheus.register(own, registry=registry)
        fastpool.opentelemetry.instrument(own, meter_provider=provider)
        assert own.submit(int).result(WAIT) == own.submit(int).result(WAIT) == 0
        assert scraped() == observed() == {"prices": 2}


assert scraped() == observed() == {"prices": 1}  # and just before the fork, so that there are snapshots to forget
in_child(child)
assert scraped() == observed() == {"prices": 1}
print("ok")
