"""A daemon thread that goes on submitting while the interpreter ends gets its results, or PoolShutdown, and no crash."""

from __future__ import annotations

import sys
import threading

from support import reached

import fastpool

pool = fastpool.Pool(2, queue_size=4)
under_way = threading.Event()
way = sys.argv[1]


def submit_for_ever() -> None:
    try:
        while True:
            if way == "submit":
                pool.submit(int)
            elif way == "wait":
                assert pool.submit(int).result() == 0
            else:
                assert len(pool.submit_many(int, [0] * 10)) == 10
            under_way.set()
    except fastpool.PoolShutdown:
        pass


for _ in range(2):
    threading.Thread(target=submit_for_ever, daemon=True).start()
reached(under_way)
print("main ends")
