"""A child made while other threads submit, open and close pools can use pools of its own."""

from __future__ import annotations

import threading

from forking import in_child_of_a_thread
from support import WAIT, in_thread

import fastpool

shared = fastpool.Pool(2, queue_size=8)
stop = threading.Event()


def busy() -> None:
    while not stop.is_set():
        shared.submit(int).result(WAIT)
        with fastpool.Pool(1) as own:
            own.submit(int)


def child() -> None:
    with fastpool.Pool(2) as own:
        assert list(own.map(str, range(10))) == [str(i) for i in range(10)]


results = [in_thread(busy) for _ in range(2)]
for _ in range(20):
    in_child_of_a_thread(child)
stop.set()
for result in results:
    result()
assert shared.shutdown()
print("ok")
