"""A pool that nobody holds any more runs what was queued and ends: its threads go, its objects too."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref

from support import WAIT

import fastpool
from fastpool import kernels


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def drop_pools(count: int) -> list[fastpool.Future]:
    """Not even the first worker has begun when its pool is gone."""
    futures = []
    for i in range(count):
        futures.append(fastpool.Pool(2).submit(str, i))
        fastpool.Pool(2)
    return futures


class Watched(fastpool.Pool):
    pass


assert fastpool.Pool(1).submit(str, "first").result(WAIT) == "first"
before = threads()
futures = drop_pools(500)
assert [future.result(WAIT) for future in futures] == [str(i) for i in range(500)]
assert fastpool.Pool(1).submit(kernels.identity, 1.0).result(WAIT) == 1.0
assert fastpool.Pool(1).submit_array(kernels.identity, [1.0]).result(WAIT).tolist() == [1.0]
assert list(fastpool.Pool(1).map(str, range(3))) == ["0", "1", "2"]
assert fastpool.Pool(1).map_array(kernels.identity, [1.0]).tolist() == [1.0]
ran = threading.Event()
fastpool.Pool(1).post(ran.set)
assert ran.wait(WAIT)

watched = Watched(1)
gone = weakref.ref(watched)
watched.submit(int).result(WAIT)
cycle = [watched]
cycle.append(cycle)  # type: ignore[arg-type]
del watched, cycle
gc.collect()
assert gone() is None, "a worker keeps its pool"

deadline = time.monotonic() + WAIT
while threads() > before:
    assert time.monotonic() < deadline, f"{threads()} threads, {before} at the start"
assert len(threading.enumerate()) <= 2, threading.enumerate()
print("ok")
