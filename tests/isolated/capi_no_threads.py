"""Where no thread can be started a native job is refused, and nothing is queued; a pool with one goes on with it."""

from __future__ import annotations

import ctypes

import capi
import numpy as np
from capi import Group
from support import idle_metrics

import fastpool

left = ctypes.c_int.in_dll(ctypes.CDLL(None), "threads_left")
pool, counts = fastpool.Pool(4), np.zeros(3, np.int64)


def attempts(group: Group) -> set[int]:
    function, handle = capi.function("count_each"), capi.pool_of(pool)
    return {
        group.submit("count", counts),
        group.batch("count", counts, 3, 0),
        group.range("count_each", 3, counts),
        capi.free().capi_parallel_for(handle, function, 3, counts.ctypes.data, 0),
        group.wait(),
    }


with Group(pool) as group:
    left.value = 0
    assert attempts(group) == {capi.NO_THREAD, capi.OK}, "the last is of the wait"
    assert counts.tolist() == [0, 0, 0]
    left.value = 1  # one can be had, no second
    assert attempts(group) == {capi.OK}
    assert counts.tolist() == [6, 2, 2]
    left.value = -1
    assert attempts(group) == {capi.OK}
assert idle_metrics(pool).jobs_processed == 20
assert pool.shutdown()
print("ok")
