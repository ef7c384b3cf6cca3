"""Callbacks that run before fastpool's own may submit; those that run after it are refused, and nothing hangs."""

from __future__ import annotations

import atexit


@atexit.register
def runs_last() -> None:
    for pool in (shared, fastpool.Pool(1)):
        try:
            pool.submit(int)
        except fastpool.PoolShutdown:
            print("refused")
        pool.shutdown()


import fastpool  # noqa: E402

shared = fastpool.Pool(1)


@atexit.register
def runs_first() -> None:
    print(shared.submit(str, "accepted").result())
    print(list(fastpool.Pool(1).map(str, "ab")))
    shared.post(print, "posted")


print("main ends")
