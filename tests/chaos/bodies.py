"""What jobs do that submit no others."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from random import Random

import fastpool
from chaos.actor import Table, World
from chaos.ledger import Job, Wrong


def returns(job: Job) -> None:
    pass


def raises(job: Job) -> None:
    raise Wrong(job.number)


def leaves(job: Job) -> None:
    raise SystemExit(job.number)


def interrupts(job: Job) -> None:
    raise KeyboardInterrupt(job.number)


def sleeps(job: Job) -> None:
    time.sleep(Random(job.seed).choice((0, 0.0002, 0.005)))


def spins(job: Job) -> None:
    end = time.perf_counter() + Random(job.seed).choice((0.0001, 0.002))
    while time.perf_counter() < end:
        pass


def polls(job: Job) -> None:
    """Asks whether it is to stop, and does."""
    me = fastpool.current_job()
    assert me is not None, "current_job() is None in a job"
    for _ in range(10):
        me.check()
        time.sleep(0.0005)


def ignores(job: Job) -> None:
    """Asks, and goes on."""
    me = fastpool.current_job()
    assert me is not None, "current_job() is None in a job"
    for _ in range(4):
        if me.cancelled and me.deadline is not None:
            assert me.remaining() >= 0
        time.sleep(0.001)


def collects(job: Job) -> None:
    gc.collect(Random(job.seed).randint(0, 2))


def waiting_on(world: World) -> Callable[[Job], None]:
    def waits(job: Job) -> None:
        """For an event, which may not come."""
        Random(job.seed).choice(world.events).wait(0.005)

    return waits


def table(world: World) -> Table:
    return [
        (returns, 30),
        (raises, 6),
        (leaves, 2),
        (interrupts, 2),
        (sleeps, 6),
        (spins, 6),
        (polls, 6),
        (ignores, 3),
        (collects, 1),
        (waiting_on(world), 5),
    ]
