"""Ctrl-C interrupts a wait whose thread runs the jobs itself, for no worker is free: between two jobs."""

from __future__ import annotations

import ctypes
import signal
import sys

import capi
import numpy as np
from capi import Group
from support import WAIT, Held, ended

import fastpool

JOBS = 128
left = ctypes.c_int.in_dll(ctypes.CDLL(None), "threads_left")
signal.signal(signal.SIGINT, signal.default_int_handler)
pool, words = fastpool.Pool(2), np.zeros(4, np.int64)  # the first: jobs that have run, has been interrupted


def of_singly(group: Group) -> None:
    for _ in range(JOBS):
        assert group.submit("slow_interrupting", words) == capi.OK
    group.wait()


def of_batch(group: Group) -> None:
    assert group.batch("slow_interrupting", words, JOBS, stride=0) == capi.OK
    group.wait()


def of_range(group: Group) -> None:
    assert group.range("slow_interrupting_each", JOBS, words, grain=1) == capi.OK
    group.wait()


def of_parallel_for(group: Group) -> None:
    function, handle = capi.function("slow_interrupting_each"), capi.pool_of(pool)
    capi.held().capi_parallel_for(handle, function, JOBS, words.ctypes.data, 1)


def of_nested(group: Group) -> None:
    """The job's own wait is not the one to interrupt: it would leave an exception to a caller that knows nothing of it."""
    words[3] = capi.pool_of(pool)
    assert group.submit("interrupting_and_waiting", words) == capi.OK
    assert group.wait() in (capi.OK, capi.INTERRUPTED)


def of_pool_parallel_for(group: Group) -> None:
    function = fastpool.kernel(capi.RANGE(("slow_interrupting_each", capi.held())), data=words)
    pool.parallel_for(function, JOBS, grain=1)


if fastpool._core.usable_cpus() > 1:  # else it waits for a worker
    left.value = 1
    with Held(pool), Group(pool, capi.held()) as group:
        try:
            globals()[f"of_{sys.argv[1]}"](group)
        except KeyboardInterrupt:
            group.free()
        else:
            raise AssertionError("the wait came to its end")
        left.value = -1
        assert words[1] == 1
        assert words[0] < JOBS / 2, "it came late"
        assert words[2] == capi.OK
assert pool.wait_idle(WAIT)
assert pool.shutdown()
metrics = pool.metrics()
assert metrics.jobs_submitted == ended(metrics), metrics
print("ok")
