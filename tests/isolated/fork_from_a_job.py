"""A job may fork: its thread is then the child's main thread, and no worker of any pool there."""

from __future__ import annotations

import threading

from forking import in_child_of_a_thread, raises
from interrupting import interrupted
from support import WAIT

import fastpool
from fastpool import PoolError, kernels

pool = fastpool.Pool(1)
ran: list[str] = []
queued: list[fastpool.Future] = []


def fork_it() -> None:
    queued.append(pool.submit(ran.append, "queued"))
    queued.append(pool.submit_array(kernels.identity, [1.0]))
    in_child_of_a_thread(child)


def child() -> None:
    for future in queued:
        raises(PoolError, future.result)
    assert ran == [], "a job of the parent ran in the child"
    raises(PoolError, pool.submit, int)
    with fastpool.Pool(1) as own:
        release = threading.Event()
        future = own.submit(release.wait, WAIT)
        interrupted(future.result)
        release.set()
        assert future.result(WAIT)


assert pool.submit(int).result() == 0  # this wait has found out which thread is the main one
pool.submit(fork_it).result(WAIT * 3)
assert queued[0].result(WAIT) is None
assert ran == ["queued"]
assert pool.shutdown()
print("ok")
