"""Pools in OpenTelemetry: observable instruments on a meter. Needs ``pip install fastpool[opentelemetry]``."""

from __future__ import annotations

import functools
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

try:
    from opentelemetry import metrics as api
    from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation
except ImportError as error:
    raise ImportError("fastpool.opentelemetry needs opentelemetry-api: pip install fastpool[opentelemetry]") from error

from fastpool._version import __version__
from fastpool._watched import Watched, Watchlist
from fastpool.metrics import Histogram, Metrics
from fastpool.pool import Pool

__all__ = ["Instrumentation", "instrument"]

QUANTILES = (0.5, 0.9, 0.99)

# Seconds for which a snapshot serves the callbacks of other instruments. They are called right after each other.
_FRESH = 0.1

# What one callback observes of one pool: values with attributes of their own.
_Values = Iterable[tuple[float, dict[str, str | float]]]


@dataclass(frozen=True)
class _Instrument:
    """One instrument: `kind` is the Meter's method that makes it, `read` what it observes of a pool."""

    kind: str
    name: str
    unit: str
    description: str
    read: Callable[[Watched, Metrics], _Values]


def _one(read: Callable[[Metrics], int | None]) -> Callable[[Watched, Metrics], _Values]:
    """A reader of a single number; None is no observation."""

    def values(watched: Watched, metrics: Metrics) -> _Values:
        value = read(metrics)
        return [] if value is None else [(value, {})]

    return values


def _workers(watched: Watched, metrics: Metrics) -> _Values:
    # A worker that has just ended may have been seen running before.
    idle = max(0, metrics.workers - metrics.active_workers)
    for state, value in (("active", metrics.active_workers), ("idle", idle)):
        yield value, {"fastpool.worker.state": state}


def _ended(watched: Watched, metrics: Metrics) -> _Values:
    for outcome, value in (
        ("processed", metrics.jobs_processed),
        ("failed", metrics.jobs_failed),
        ("cancelled", metrics.jobs_cancelled),
        ("timed_out", metrics.jobs_timed_out),
    ):
        yield value, {"fastpool.job.outcome": outcome}


def _histogram(name: str, what: str, read: Callable[[Metrics], Histogram]) -> Iterator[_Instrument]:
    """The three instruments that stand for one histogram."""

    def total(watched: Watched, metrics: Metrics) -> _Values:
        return [(read(metrics).sum, {})]

    def quantiles(watched: Watched, metrics: Metrics) -> _Values:
        histogram = read(metrics)
        if histogram.count:
            for q in QUANTILES:
                yield histogram.quantile(q), {"fastpool.quantile": q}
            yield histogram.max, {"fastpool.quantile": 1.0}

    count = _one(lambda metrics: read(metrics).count)
    yield _Instrument("counter", f"{name}.count", "{job}", f"Jobs measured for {name}.sum.", count)
    yield _Instrument("counter", f"{name}.sum", "s", f"Seconds that {what}, of all jobs together.", total)
    yield _Instrument("gauge", f"{name}.quantile", "s", f"Seconds that {what}, since the pool was made.", quantiles)


_INSTRUMENTS = (
    _Instrument("up_down_counter", "fastpool.worker.count", "{worker}", "Worker threads.", _workers),
    _Instrument(
        "up_down_counter",
        "fastpool.queue.size",
        "{place}",
        "Places in use in the queue.",
        _one(lambda m: m.queue_depth),
    ),
    _Instrument(
        "up_down_counter",
        "fastpool.queue.capacity",
        "{place}",
        "Places in the queue; absent where it is unbounded.",
        _one(lambda metrics: metrics.queue_capacity),
    ),
    _Instrument("counter", "fastpool.job.submitted", "{job}", "Accepted jobs.", _one(lambda m: m.jobs_submitted)),
    _Instrument("counter", "fastpool.job.ended", "{job}", "Jobs by how they ended.", _ended),
    _Instrument(
        "counter",
        "fastpool.job.rejected",
        "{job}",
        "Submits refused because the queue was full.",
        _one(lambda metrics: metrics.jobs_rejected),
    ),
    _Instrument(
        "counter",
        "fastpool.panics",
        "{panic}",
        "Failures that no future carried or no handler expects.",
        _one(lambda metrics: metrics.panics),
    ),
    *_histogram("fastpool.job.duration", "jobs ran", lambda metrics: metrics.job_duration),
    *_histogram("fastpool.queue.wait", "jobs were queued", lambda metrics: metrics.queue_wait),
)


@dataclass
class _Reading:
    """Snapshots of all pools, and which instruments have observed them."""

    snapshots: list[tuple[Watched, Metrics]]
    pid: int = field(default_factory=os.getpid)
    taken: float = field(default_factory=time.monotonic)
    observed: set[str] = field(default_factory=set)

    def serves(self, instrument: _Instrument) -> bool:
        fresh = self.pid == os.getpid() and time.monotonic() - self.taken < _FRESH
        return fresh and instrument.name not in self.observed


class _Observer:
    """The instruments of one meter, for any number of pools: a meter knows each name once."""

    def __init__(self) -> None:
        self.watchlist = Watchlist()
        self._reading: _Reading | None = None

    def add(self, pool: Pool, name: str | None) -> Watched:
        watched = self.watchlist.add(pool, name)
        self._reading = None  # which has not got it
        return watched

    def create(self, meter: Meter) -> None:
        make = {
            "counter": meter.create_observable_counter,
            "up_down_counter": meter.create_observable_up_down_counter,
            "gauge": meter.create_observable_gauge,
        }
        for one in _INSTRUMENTS:
            callback = functools.partial(self.observe, one)
            make[one.kind](one.name, callbacks=[callback], unit=one.unit, description=one.description)

    def observe(self, instrument: _Instrument, options: CallbackOptions) -> list[Observation]:
        return [
            Observation(value, {"fastpool.pool": watched.name, **attributes})
            for watched, metrics in self._read(instrument)
            for value, attributes in instrument.read(watched, metrics)
        ]

    def _read(self, instrument: _Instrument) -> list[tuple[Watched, Metrics]]:
        """A snapshot that `instrument` has not observed yet.

        The interface has no callback for several instruments, so the first to be called takes a snapshot for all: what is
        collected together then belongs together, and is read once. Readers at the same time may take one more.
        """
        reading = self._reading
        if reading is None or not reading.serves(instrument):
            reading = self._reading = _Reading(self.watchlist.read())
        reading.observed.add(instrument.name)
        return [(watched, metrics) for watched, metrics in reading.snapshots if self.watchlist.has(watched)]


# The observer of each meter; neither holds the other alive.
_observers: weakref.WeakKeyDictionary[Meter, _Observer] = weakref.WeakKeyDictionary()
_global_meter: Meter | None = None
_lock = threading.RLock()


class Instrumentation:
    """One pool that is observed, as `instrument` returns it.

    Attributes
    ----------
    name : str
        The value of the attribute ``fastpool.pool``.
    """

    def __init__(self, observer: _Observer, watched: Watched):
        self.name = watched.name
        self._observer = observer
        self._watched = watched

    def uninstrument(self) -> None:
        """Observe the pool no longer. The instruments stay, for a meter cannot forget them, and say nothing of it.

        Notes
        -----
        Thread safety: from any thread; a second time changes nothing.
        """
        self._observer.watchlist.discard(self._watched)


def instrument(
    pool: Pool,
    *,
    meter: Meter | None = None,
    meter_provider: MeterProvider | None = None,
    name: str | None = None,
) -> Instrumentation:
    """Have OpenTelemetry observe `pool`.

    Parameters
    ----------
    pool : Pool
    meter : opentelemetry.metrics.Meter, optional
        What to make the instruments on. Default: the meter ``fastpool`` of `meter_provider`.
    meter_provider : opentelemetry.metrics.MeterProvider, optional
        Default: the global one, be it set before this call or after.
    name : str, optional
        For the attribute ``fastpool.pool``. Default: the pool's `thread_name_prefix`.

    Returns
    -------
    Instrumentation
        By which to stop: ``uninstrument()``. It need not be kept.

    Raises
    ------
    TypeError
        If `pool` is no pool, `name` no str, or both `meter` and `meter_provider` are given.
    ValueError
        If another pool of that meter has that `name` (as long as it lives), this one has another, or the name is empty.

    Notes
    -----
    =============================  ===============  ========  =======================  ============================
    instrument                     kind             unit      attribute                `Metrics`
    =============================  ===============  ========  =======================  ============================
    fastpool.worker.count          up-down counter  {worker}  fastpool.worker.state:   active_workers, and the rest
                                                              active, idle             of workers
    fastpool.queue.size            up-down counter  {place}                            queue_depth
    fastpool.queue.capacity        up-down counter  {place}                            queue_capacity
    fastpool.job.submitted         counter          {job}                              jobs_submitted
    fastpool.job.ended             counter          {job}     fastpool.job.outcome:    jobs_processed, jobs_failed,
                                                              processed, failed,       jobs_cancelled,
                                                              cancelled, timed_out     jobs_timed_out
    fastpool.job.rejected          counter          {job}                              jobs_rejected
    fastpool.panics                counter          {panic}                            panics
    fastpool.job.duration.count    counter          {job}                              job_duration.count
    fastpool.job.duration.sum      counter          s                                  job_duration.sum
    fastpool.job.duration.quantile gauge            s         fastpool.quantile: 0.5,  job_duration.quantile(q),
                                                              0.9, 0.99, 1.0           and .max for 1.0
    fastpool.queue.wait.*          the same three                                      queue_wait
    =============================  ===============  ========  =======================  ============================

    Each has ``fastpool.pool`` too. Names and units follow OpenTelemetry's conventions, as those of its own processors' queues.
    An unbounded queue has no capacity: numbers that are not finite are dropped there.

    A histogram cannot be observed: OpenTelemetry's wants each value at the time of it, which would cost more than a job here.
    So there are its count and its sum, by which a mean over any time can be had, and quantiles, which are of all jobs since the
    pool was made. For quantiles over a time, and over several processes, take `fastpool.prometheus`.

    Pools are held weakly: one that is gone is no longer observed; one that is shut down is, for as long as it lives. In a
    forked child the parent's pools are left out.

    Thread safety: from any thread. Blocking: never. Cost: some 0.2 ms for each pool and collection.

    Examples
    --------
    >>> import fastpool.opentelemetry
    >>> with fastpool.Pool(2, "prices") as pool:
    ...     watching = fastpool.opentelemetry.instrument(pool)
    ...     watching.name
    'prices'
    >>> watching.uninstrument()
    """
    if meter is not None and meter_provider is not None:
        raise TypeError("meter and meter_provider exclude each other: a meter has its provider")
    with _lock:
        if meter is None:
            meter = _meter(meter_provider)
        observer = _observers.get(meter)
        if observer is None:
            # Watched before the instruments are there, so that with a wrong argument there are none.
            observer = _Observer()
            watched = observer.add(pool, name)
            observer.create(meter)
            _observers[meter] = observer
        else:
            watched = observer.add(pool, name)
    return Instrumentation(observer, watched)


def _meter(provider: MeterProvider | None) -> Meter:
    """The meter of `provider`; of the global one always the same, for it has no other once a real provider is set."""
    global _global_meter
    if provider is not None and provider is not api.get_meter_provider():
        return provider.get_meter("fastpool", __version__)
    if _global_meter is None:
        _global_meter = api.get_meter("fastpool", __version__)
    return _global_meter
