"""Ctrl-C interrupts a call of the C API that waits, and the pool goes on: each would last for ever."""

from __future__ import annotations

import sys

import capi
import numpy as np
from capi import FOREVER, Group
from interrupting import interrupted
from support import WAIT, Held, idle_metrics

import fastpool

pool, counts = fastpool.Pool(1, queue_size=1), np.zeros(3, np.int64)


def of_wait(group: Group) -> None:
    assert group.submit("count", counts) == capi.OK
    interrupted(group.wait)
    interrupted(lambda: group.wait(FOREVER - 1))
    held.release()
    assert group.wait() == capi.OK
    assert counts.tolist() == [1, 0, 0]


def of_room(group: Group) -> None:
    future = pool.submit(str, "queued")
    interrupted(lambda: group.submit("count", counts))
    interrupted(lambda: group.batch("count", counts, 3))
    interrupted(lambda: group.range("count_each", 3, counts))
    held.release()
    assert future.result(WAIT) == "queued"
    assert group.wait() == capi.OK
    assert counts.tolist() == [0, 0, 0]


def of_parallel_for(group: Group) -> None:
    function, handle = capi.function("count_each"), capi.pool_of(pool)
    interrupted(lambda: capi.held().capi_parallel_for(handle, function, 3, counts.ctypes.data, 0))
    assert counts.tolist() == [0, 0, 0]


with Held(pool) as held, Group(pool, capi.held()) as group:
    globals()[f"of_{sys.argv[1]}"](group)
assert pool.submit(str, "goes on").result(WAIT) == "goes on"
idle_metrics(pool)
assert pool.shutdown()
print("ok")
