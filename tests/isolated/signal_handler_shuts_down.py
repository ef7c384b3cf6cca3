"""A signal handler may end the pool that the main thread submits to."""

from __future__ import annotations

import signal
from typing import Any

from support import ended

import fastpool

pool = fastpool.Pool(2, queue_size=16)


def handle(*_: Any) -> None:
    pool.shutdown(wait=False)


signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.01)
futures = []
try:
    while True:
        futures.append(pool.submit(int))
except fastpool.PoolShutdown:
    pass
assert pool.shutdown()
assert all(future.result() == 0 for future in futures)
metrics = pool.metrics()
assert metrics.jobs_processed == metrics.jobs_submitted == ended(metrics) == len(futures), metrics
print("ok")
