"""A signal handler may submit and wait, whatever the main thread is in the middle of."""

from __future__ import annotations

import signal
from typing import Any

import fastpool
from fastpool import kernels

pool = fastpool.Pool(2, queue_size=16)
handled = 0


def soon() -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.001)


def handle(*_: Any) -> None:
    global handled
    assert pool.submit(str, handled).result() == str(handled)
    assert pool.map_array(kernels.identity, [1.0]).tolist() == [1.0]
    handled += 1
    soon()


signal.signal(signal.SIGALRM, handle)
soon()
while handled < 50:
    futures = [pool.submit(int) for _ in range(100)]
    assert [future.result() for future in futures] == [0] * 100
    assert list(pool.map(int, range(100))) == list(range(100))
    pool.submit_many(int, range(100))
    assert pool.wait_idle()
signal.setitimer(signal.ITIMER_REAL, 0)
assert pool.shutdown()
print("ok")
