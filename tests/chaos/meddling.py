"""What is done to a pool while others use it."""

from __future__ import annotations

import gc
import tempfile
import time
from pathlib import Path

import fastpool
from chaos import forks
from chaos.actor import Actor, Table
from chaos.ledger import OUTCOMES


def resize(actor: Actor, pool: fastpool.Pool) -> None:
    actor.world.resized = True
    most = actor.rng.randint(1, 6)
    pool.resize(max_workers=actor.rng.choice((None, most)), min_workers=1 if actor.rng.random() < 0.5 else None)


def pause(actor: Actor, pool: fastpool.Pool) -> None:
    pool.pause()
    try:
        time.sleep(actor.rng.choice((0, 0.001, 0.01)))
        if actor.rng.random() < 0.3:
            pool.wait_idle(0.001)
    finally:
        pool.resume()


def wait_idle(actor: Actor, pool: fastpool.Pool) -> None:
    pool.wait_idle(actor.rng.choice((0, 0.001, 0.02)))


def metrics(actor: Actor, pool: fastpool.Pool) -> None:
    read = pool.metrics()
    ended = sum(getattr(read, f"jobs_{outcome}") for outcome in OUTCOMES)
    if ended > read.jobs_submitted:
        actor.ledger.complain(f"more jobs have ended than were submitted: {read}")
    if read.active_workers > read.workers:
        actor.ledger.complain(f"more workers are active than there are: {read}")


def collect(actor: Actor, pool: fastpool.Pool) -> None:
    gc.collect(actor.rng.randint(0, 2))


def signal(actor: Actor, pool: fastpool.Pool) -> None:
    event = actor.rng.choice(actor.world.events)
    event.set()
    time.sleep(actor.rng.choice((0, 0.001)))
    event.clear()


def trace(actor: Actor, pool: fastpool.Pool) -> None:
    with tempfile.TemporaryDirectory() as folder, pool.trace() as traced:
        time.sleep(0.002)
        traced.save(str(Path(folder, "trace.json")))


def table(fork: bool) -> Table:
    rows: Table = [
        (resize, 4),
        (pause, 4),
        (wait_idle, 2),
        (metrics, 4),
        (collect, 1),
        (signal, 6),
        (trace, 1),
    ]
    return [*rows, (forks.fork, 1)] if fork else rows


def meddle(actor: Actor, rows: Table) -> None:
    for _ in range(actor.world.settings.actions):
        pool = actor.world.pool
        if pool is None:
            return
        action = actor.choose(rows)
        actor.note(action.__name__)
        action(actor, pool)
        del pool
        time.sleep(actor.rng.choice((0, 0.0005)))
