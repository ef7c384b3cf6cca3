"""A job that runs when the main program ends comes to its end, and so do the threads that wait for it."""

from __future__ import annotations

import threading

from support import WAIT, reached

import fastpool

pool = fastpool.Pool(1)
started = threading.Event()


def job() -> str:
    started.set()
    threading.main_thread().join(WAIT)
    assert not threading.main_thread().is_alive()
    return "job ends"


future = pool.submit(job)
threading.Thread(target=lambda: print(future.result(WAIT))).start()
reached(started)
print("main ends")
