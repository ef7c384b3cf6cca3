"""A job that submits to its own pool while the process ends is told so."""

from __future__ import annotations

import atexit
import threading

from support import reached

import fastpool

ending = threading.Event()
pool = fastpool.Pool(1)
other = fastpool.Pool(1)


def job() -> None:
    reached(ending)
    while True:  # fastpool's own callback follows the one that has set the event
        try:
            pool.submit(int).result()
        except fastpool.PoolShutdown:
            print("refused")
            return


pool.post(job)
atexit.register(ending.set)
print("main ends")
