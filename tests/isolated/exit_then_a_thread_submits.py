"""Threads that outlive the main program may submit to the last, to pools of any age."""

from __future__ import annotations

import threading

from support import WAIT

import fastpool

pool = fastpool.Pool(1)


def outlive() -> None:
    threading.main_thread().join(WAIT)
    print(pool.submit(sum, range(10)).result(WAIT))
    with fastpool.Pool(1) as late:
        print(late.submit(sum, range(10)).result(WAIT))
    pool.post(print, "posted")


threading.Thread(target=outlive).start()
print("main ends")
