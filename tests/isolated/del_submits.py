"""Destructors and the collector's callbacks may submit, whoever calls them: submitter, worker or collector."""

from __future__ import annotations

import gc
from typing import Any

from support import WAIT, ended

import fastpool

pool = fastpool.Pool(2, queue_size=None)
ran: list[str] = []
destroyed: list[str] = []  # lists, for without the GIL += 1 loses some
collected: list[str] = []


class Submits:
    """Submits when destroyed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.itself: Any = None

    def __del__(self) -> None:
        destroyed.append(self.name)
        pool.submit(ran.append, self.name)


def job(argument: Submits) -> Submits:
    return Submits("result")


def fails(argument: Submits) -> None:
    local = Submits("local")
    raise ValueError(local)


def on_collection(phase: str, info: dict[str, int]) -> None:
    collected.append(phase)
    pool.submit(ran.append, "collected")


gc.callbacks.append(on_collection)
gc.set_threshold(20)
for _ in range(500):
    cycle = Submits("cycle")
    cycle.itself = cycle
    pool.submit(job, Submits("argument"))
    pool.submit(fails, Submits("argument"))
    pool.submit(job, Submits("one"), *[Submits("more")]).cancel()
    pool.submit_many(job, [Submits("many"), Submits("many")])
    list(pool.map(job, [Submits("mapped")]))
    gc.collect(0)
gc.set_threshold(700, 10, 10)
gc.callbacks.remove(on_collection)
del cycle
gc.collect()
before = -1
while before != len(destroyed):  # what a destructor has submitted drops more
    before = len(destroyed)
    assert pool.wait_idle(WAIT)
    gc.collect()
assert len(collected) > 100, collected
assert len(ran) == len(destroyed) + len(collected), (len(ran), len(destroyed), len(collected))
metrics = pool.metrics()
assert metrics.jobs_submitted == ended(metrics), metrics
gc.collect()
print("ok")
