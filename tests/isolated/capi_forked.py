"""In a forked child every call of the C API says so, into a place with room too; and the parent's jobs go on."""

from __future__ import annotations

import ctypes

import capi
import numpy as np
from capi import Group
from forking import in_child
from support import WAIT, Held

import fastpool

pool = fastpool.Pool(1)
counts = np.zeros(3, np.int64)
held = Held(pool)
group = Group(pool)
assert group.submit("count", counts) == capi.OK
handle = capi.pool_of(pool)


def child() -> None:
    library, metrics = capi.free(), capi.CMetrics()
    for one in (group, Group(pool)):
        assert one.submit("count", counts) == capi.FORKED
        assert one.batch("count", counts, 3) == capi.FORKED
        assert one.range("count_each", 3, counts) == capi.FORKED
        assert one.wait() == one.wait(0) == capi.FORKED
        one.cancel()
        assert one.cancelled()
        one.free()
    assert library.capi_parallel_for(handle, capi.function("count_each"), 3, counts.ctypes.data, 0) == capi.FORKED
    assert library.capi_read_metrics(handle, ctypes.addressof(metrics)) == capi.FORKED
    assert counts.tolist() == [0, 0, 0]
    with fastpool.Pool(1) as own, Group(own) as other:
        assert other.submit("count", counts) == capi.OK
        assert other.wait(int(WAIT * 1e9)) == capi.OK
        assert counts[0] == 1


in_child(child)
assert group.submit("count", counts) == capi.OK
held.release()
assert group.wait(int(WAIT * 1e9)) == capi.OK
assert counts[0] == 2
group.free()
assert pool.shutdown()
print("ok")
