"""Pools instrumented before the program sets its meter provider, and after: all are observed, by one set of instruments."""

from __future__ import annotations

import logging

from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import fastpool.opentelemetry

logging.basicConfig(level=logging.WARNING)  # the SDK says there if an instrument is made twice

first, second, third, fourth = (fastpool.Pool(1, name) for name in ("first", "second", "third", "fourth"))
fastpool.opentelemetry.instrument(first)
fastpool.opentelemetry.instrument(second)
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
fastpool.opentelemetry.instrument(third)
fastpool.opentelemetry.instrument(fourth, meter_provider=metrics.get_meter_provider())

data = reader.get_metrics_data()
assert data is not None
(scope,) = data.resource_metrics[0].scope_metrics
assert (scope.scope.name, scope.scope.version) == ("fastpool", fastpool.__version__)
(submitted,) = (metric for metric in scope.metrics if metric.name == "fastpool.job.submitted")
names = [point.attributes["fastpool.pool"] for point in submitted.data.data_points]
assert names == ["first", "second", "third", "fourth"], names
metrics.get_meter_provider().shutdown()
print("ok")
