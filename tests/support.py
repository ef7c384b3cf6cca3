"""What several test files share: an upper bound for waits, held workers, the accounting identity."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import fastpool

# Seconds. No test passes because this time went by: it only turns a hang into a failure.
WAIT = 10.0


def reached(event: threading.Event) -> None:
    """Wait for `event`; fail if it does not come."""
    # In slices, for on a free-threaded build it falls to this thread to free what it has made and others have let go of.
    end = time.monotonic() + WAIT
    while not event.wait(0.05):
        assert time.monotonic() < end, "the event did not come"


class Held:
    """Keeps `workers` of a pool busy until released, so that what is submitted meanwhile stays queued.

    Examples
    --------
    >>> with fastpool.Pool(1) as pool, Held(pool):
    ...     pool.submit(int).running()
    False
    """

    def __init__(self, pool: fastpool.Pool, workers: int = 1) -> None:
        self._release = threading.Event()
        self._started = threading.Semaphore(0)
        self.futures = []
        for _ in range(workers):  # one after the other, for the queue may have room for one only
            self.futures.append(pool.submit(self._hold))
            assert self._started.acquire(timeout=WAIT), "a worker did not start"

    def _hold(self) -> None:
        self._started.release()
        reached(self._release)

    def release(self) -> None:
        self._release.set()

    def __enter__(self) -> Held:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def in_thread(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    """Start `function` in a thread of its own; the return value waits for its result or raises what it raised."""
    box: list[Any] = []

    def run() -> None:
        try:
            box[:] = [function(*arguments), None]
        except BaseException as error:
            box[:] = [None, error]

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def result() -> Any:
        thread.join(WAIT)
        assert box, f"{function} did not come back"
        if box[1] is not None:
            raise box[1]
        return box[0]

    return result


def ended(metrics: fastpool.Metrics) -> int:
    """Jobs that have ended, in whatever way."""
    return metrics.jobs_processed + metrics.jobs_failed + metrics.jobs_cancelled + metrics.jobs_timed_out


def idle_metrics(pool: fastpool.Pool) -> fastpool.Metrics:
    """Wait until `pool` is idle, check the accounting identity, return the metrics."""
    assert pool.wait_idle(WAIT), f"not idle: {pool.metrics()}"
    metrics = pool.metrics()
    assert metrics.jobs_submitted == ended(metrics), metrics
    return metrics


def until(condition: Callable[[], Any]) -> None:
    """Look again and again until `condition` holds: for what nobody tells of. Fail if it does not come to hold."""
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, "it did not come to hold"
        time.sleep(0.0005)


def os_threads() -> int:
    """Threads of this process, as the system counts them; 0 where that cannot be asked."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 0
