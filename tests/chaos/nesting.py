"""What jobs do that submit others, wait for them, and do to the pool what a job must not."""

from __future__ import annotations

from collections.abc import Callable

import fastpool
from chaos import forks
from chaos.actor import Actor, Table, World
from chaos.ledger import Job


def _refuses(method: Callable[[], object]) -> None:
    try:
        method()
    except fastpool.PoolError:
        return
    raise AssertionError(f"{method} did not raise PoolError in a job")


def table(world: World, fork: bool) -> Table:
    def nests(job: Job) -> None:
        actor = Actor(world, f"job {job.number}", job.seed, job.depth + 1)
        for _ in range(actor.rng.randint(1, 2)):
            actor.act()

    def waits_for_itself(job: Job) -> None:
        """On a worker it must not; where the job's submitter runs it, it may."""
        me, pool = fastpool.current_job(), world.pool
        if me is not None and me.worker_id >= 0 and pool is not None:
            _refuses(pool.wait_idle)
            _refuses(pool.shutdown)

    def forks_(job: Job) -> None:
        forks.fork(Actor(world, f"job {job.number}", job.seed, job.depth + 1), world.pool)

    rows: Table = [(nests, 12), (waits_for_itself, 1)]
    return [*rows, (forks_, 1)] if fork else rows
