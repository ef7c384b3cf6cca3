"""The interpreter ends while deadlines are armed and jobs run, and jobs are refused from then on."""

from __future__ import annotations

import atexit
import sys
import threading

import fastpool

refused = []


def submit_at_exit() -> None:
    """After the drain: it was registered before fastpool's."""
    for method in (late.submit, late.post):
        try:
            method(int)
        except fastpool.PoolShutdown:
            refused.append(method)
    assert len(refused) == 2


atexit._clear()
atexit.register(submit_at_exit)
atexit.register(fastpool._core.drain_all)

pool = fastpool.Pool(2, queue_size=None)
late = pool.options(timeout=0.05)
hours = pool.options(timeout=3600)
started = threading.Event()


def submit_for_ever() -> None:
    try:
        while True:
            late.submit(int)
            hours.submit(int)
            started.set()
    except fastpool.PoolShutdown:
        pass


def job() -> None:
    threading.Event().wait(0.1)


for view in (late, hours):
    view.submit(job)
    view.submit_many(int, [0] * 500)
threading.Thread(target=submit_for_ever, daemon=True).start()
started.wait()
print("ok")
if sys.argv[1:]:
    sys.exit(0)
