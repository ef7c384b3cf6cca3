"""Ctrl-C interrupts any wait at once, and the pool goes on: each wait here would last for ever."""

from __future__ import annotations

import ctypes
import sys
import threading

from interrupting import interrupted
from support import WAIT, Held, ended, reached

import fastpool

pool = fastpool.Pool(1, queue_size=4)
ran: list[int] = []
release = threading.Event()
inside = threading.Event()


def held_element(x: float) -> float:
    inside.set()
    reached(release)
    return x


def held_range(begin: int, end: int, data: object) -> int:
    held_element(0.0)
    return 0


data = bytearray(8)
slow_range = fastpool.kernel(
    ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)(held_range)
)
slow = fastpool.kernel(ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(held_element))


def fill_queue() -> None:
    pool.submit_many(int, [0] * 4)


def of_result() -> None:
    future = pool.submit(str, "later")
    interrupted(future.result)
    interrupted(lambda: future.result(1e6))
    interrupted(future.exception)
    held.release()
    assert future.result(WAIT) == "later"


def of_wait_idle() -> None:
    interrupted(pool.wait_idle)
    interrupted(lambda: pool.wait_idle(1e6))


def of_shutdown() -> None:
    future = pool.submit(str, "queued")
    interrupted(pool.shutdown)
    interrupted(lambda: pool.shutdown(timeout=1e6))
    held.release()
    assert pool.shutdown()
    assert future.result() == "queued"


def of_map() -> None:
    interrupted(lambda: next(pool.map(ran.append, range(9))))
    interrupted(lambda: next(pool.map(ran.append, range(9), buffersize=2)))


def of_imap_unordered() -> None:
    interrupted(lambda: next(pool.imap_unordered(ran.append, range(9), buffersize=2)))


def of_submit() -> None:
    fill_queue()
    interrupted(lambda: pool.submit(ran.append, 1))
    interrupted(lambda: pool.post(ran.append, 1))
    interrupted(lambda: pool.map(ran.append, [1]))


def of_submit_many() -> None:
    """What it has queued is cancelled, for nobody has its futures."""
    interrupted(lambda: pool.submit_many(ran.append, range(9)))


def of_map_array() -> None:
    held.release()
    interrupted(lambda: pool.map_array(slow, [1.0] * 1000, grain=1), first=inside)
    release.set()


def of_a_queued_map_array() -> None:
    interrupted(lambda: pool.map_array(slow, [1.0] * 1000, grain=1))
    held.release()
    assert pool.wait_idle(WAIT)
    assert not inside.is_set()


def of_parallel_for() -> None:
    """The buffer is the pool's until the piece that runs has ended."""
    held.release()
    interrupted(lambda: pool.parallel_for(slow_range, 1000, data, grain=1), first=inside)
    try:
        data.append(1)
        raise AssertionError("a kernel runs on it")
    except BufferError:
        release.set()
    assert pool.wait_idle(WAIT)
    pool.submit(int).result(WAIT)
    data.append(1)


def of_a_queued_parallel_for() -> None:
    interrupted(lambda: pool.parallel_for(slow_range, 1000, data, grain=1))
    held.release()
    assert pool.wait_idle(WAIT)
    assert not inside.is_set()


def of_submit_many_of_a_kernel() -> None:
    fill_queue()
    interrupted(lambda: pool.submit_many(slow, [1.0] * 9))
    held.release()
    assert pool.wait_idle(WAIT)
    assert not inside.is_set()


def of_a_result_of_many() -> None:
    futures = pool.submit_many(slow, [1.0] * 9)
    release.set()
    interrupted(futures[8].result)
    interrupted(lambda: futures[0].result(1e6))
    held.release()
    assert [future.result(WAIT) for future in futures] == [1.0] * 9


with Held(pool) as held:
    globals()[f"of_{sys.argv[1]}"]()
if sys.argv[1] != "shutdown":
    assert pool.wait_idle(WAIT), pool.metrics()
    assert pool.submit(str, "goes on").result(WAIT) == "goes on"
assert pool.shutdown()
metrics = pool.metrics()
assert metrics.jobs_submitted == ended(metrics), metrics
assert ran == [], ran
print("ok")
