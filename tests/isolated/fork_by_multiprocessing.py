"""multiprocessing's fork with a live pool in the parent: the child has pools of its own, and ends."""

from __future__ import annotations

import multiprocessing
import warnings

from support import WAIT

import fastpool

pool = fastpool.Pool(2)


def child() -> None:
    try:
        pool.submit(int)
    except fastpool.PoolError:
        own = fastpool.Pool(2)
        assert own.submit(str, 5).result(WAIT) == "5"
        own.post(print, "the child's last job", flush=True)
        own.shutdown()


if __name__ == "__main__":
    assert pool.submit(int).result() == 0
    warnings.simplefilter("ignore", DeprecationWarning)
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(WAIT)
    assert process.exitcode == 0, process.exitcode
    assert pool.submit(str, 6).result(WAIT) == "6"
    print("ok")
