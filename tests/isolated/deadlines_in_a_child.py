"""Deadlines are the process's that made them: a child has a timer of its own, whatever was armed when it was forked."""

from __future__ import annotations

import contextlib
import threading

from forking import in_child, in_child_of_a_thread
from support import WAIT, Held, idle_metrics

import fastpool
from fastpool import JobTimeout

pool = fastpool.Pool(1)
far = pool.options(timeout=600)


def times_out(own: fastpool.Pool) -> None:
    with Held(own):
        futures = [own.options(timeout=0.001 * i).submit(int) for i in range(30)]
        for future in futures:
            assert isinstance(future.exception(WAIT), JobTimeout)
    idle_metrics(own)


def child() -> None:
    with fastpool.Pool(1) as own:
        times_out(own)


own_pools: list[fastpool.Pool] = []


def fork_it() -> None:
    """The job's record was armed by the parent; in the child it ends, beside deadlines of the child's own."""
    in_child_of_a_thread(child)


for _ in range(2):
    far.submit(fork_it).result(WAIT)

with Held(pool):
    queued = far.submit_many(int, range(1000))
    in_child(child)
assert [future.result(WAIT) for future in queued] == list(range(1000))

# Forks while the timer is at work.
busy = fastpool.Pool(2)
stop = threading.Event()


def keep_busy() -> None:
    i = 0
    while not stop.is_set():
        i += 1
        with contextlib.suppress(JobTimeout):
            busy.options(timeout=0.0001 * (i % 7)).submit(int).result(WAIT)


thread = threading.Thread(target=keep_busy)
thread.start()
for _ in range(6):
    in_child(child)
stop.set()
thread.join()
times_out(pool)
idle_metrics(busy)
print("ok")
