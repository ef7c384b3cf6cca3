"""Allocations that fail while a worker starts, runs or announces: what was submitted ends, and the pool goes on."""

from __future__ import annotations

import _testcapi  # type: ignore[import-not-found]
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

from support import WAIT, ended

import fastpool
from fastpool import kernels

ROUNDS = 60
FAILURES = (MemoryError, fastpool.BrokenThreadPool)

logging.getLogger("fastpool").addHandler(logging.NullHandler())
sys.unraisablehook = lambda _: None
kept: list[Any] = [None]


def make(number: int) -> list[Any]:
    return [number, {}]


def fail(number: int) -> None:
    raise ValueError([number])


def keep(future: Any) -> Any:
    """So that it can be looked at when there is memory again."""
    kept[0] = future
    return future


def is_over(future: fastpool.Future[Any]) -> None:
    error = future.exception(WAIT)
    assert error is None or isinstance(error, (*FAILURES, ValueError, fastpool.NativeJobError)), error
    assert future.done()
    assert not future.running()


def refused_or_over(call: Callable[[], object], number: int) -> None:
    kept[0] = None
    _testcapi.set_nomemory(number, number + 1)
    try:
        call()
    except FAILURES:
        pass
    finally:
        _testcapi.remove_mem_hooks()
    if kept[0] is not None:
        is_over(kept[0])


def check_metrics(pool: fastpool.Pool) -> None:
    metrics = pool.metrics()
    assert metrics.jobs_submitted == ended(metrics), metrics


def warm_pool() -> fastpool.Pool:
    pool = fastpool.Pool(1)
    assert pool.submit(int).result(WAIT) == 0
    return pool


def run() -> None:
    """Of a warm worker, in every kind of job."""
    pool = warm_pool()
    calls: list[Callable[[], object]] = [
        lambda: keep(pool.submit(make, 1)).result(WAIT),
        lambda: keep(pool.submit(fail, 1)).exception(WAIT),
        lambda: keep(pool.submit(kernels.identity, 1.0)).result(WAIT),
        lambda: keep(pool.submit(kernels.fail)).exception(WAIT),
        lambda: keep(pool.submit_array(kernels.identity, [1.0, 2.0])).result(WAIT),
        lambda: pool.map_array(kernels.identity, [1.0, 2.0]),
        lambda: list(pool.map(make, range(3))),
        lambda: [future.result(WAIT) for future in pool.submit_many(make, range(3))],
        lambda: (pool.post(make, 1), pool.post(fail, 1), pool.wait_idle(WAIT)),
    ]
    for call in calls:
        for number in range(ROUNDS):
            refused_or_over(call, number)
        assert pool.submit(str, "goes on").result(WAIT) == "goes on"
        assert pool.wait_idle(WAIT), pool.metrics()
        check_metrics(pool)


def announce() -> None:
    """Of a future with callbacks. Whether those are called is another matter: the standard library's condition, which they
    are kept under, stays locked if memory runs out as it is left."""
    pool = warm_pool()
    called: list[Any] = []

    def call() -> None:
        gate.release()
        keep(future).result(WAIT)
        pool.submit(str, "later").result(WAIT)  # by then the announcement has been made, or not

    for number in range(ROUNDS):
        gate = threading.Lock()  # an Event is itself not safe from a failed allocation
        gate.acquire()
        future = pool.submit(gate.acquire, True, WAIT)
        future.add_done_callback(called.append)
        refused_or_over(call, number)
        is_over(future)
    assert called


def start() -> None:
    """Of a worker's thread that is to start."""
    for number in range(ROUNDS):
        pool = fastpool.Pool(1)
        refused_or_over(lambda pool=pool: keep(pool.submit(make, 1)).result(WAIT), number)  # type: ignore[misc]
        assert pool.shutdown(timeout=WAIT)
        check_metrics(pool)


globals()[sys.argv[1]]()
print("ok")
