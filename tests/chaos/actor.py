"""Who does things to a pool: what actors share, and what each has for itself."""

from __future__ import annotations

import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from random import Random
from typing import Any

import native
import numpy as np

import fastpool
from chaos.ledger import Job, Ledger
from chaos.settings import Settings

Table = list[tuple[Callable[..., object], int]]  # what there is to choose from, and how often it is chosen

WORST_DEPTH = 2  # of jobs that submit jobs


class World:
    """What all actors of a round share."""

    def __init__(self, settings: Settings, ledger: Ledger, pool: fastpool.Pool, bodies: Table, ways: Table) -> None:
        self.settings = settings
        self.ledger = ledger
        self.pool: fastpool.Pool | None = pool  # None once it was dropped
        self.bodies = bodies
        self.ways = ways
        self.events = [threading.Event() for _ in range(3)]
        self.resized = False
        self.log: deque[tuple[float, str, str]] = deque(maxlen=400)
        self.calls = np.zeros(1, np.int64)
        self.counted = fastpool.kernel(
            native.capsule_of(native.address("counted"), "double (double, void *)"), data=self.calls
        )

    def note(self, name: str, text: str) -> None:
        self.log.append((time.monotonic(), name, text))


class Actor:
    """A thread, or a job, that does things at random."""

    def __init__(self, world: World, name: str, seed: str, depth: int = 0) -> None:
        self.world = world
        self.ledger = world.ledger
        self.name = name
        self.seed = f"{seed}/{name}"
        self.rng = Random(self.seed)
        self.depth = depth
        self._count = 0

    def note(self, text: str) -> None:
        self.world.note(self.name, text)

    def choose(self, table: Table) -> Callable[..., object]:
        return self.rng.choices([function for function, _ in table], [weight for _, weight in table])[0]

    def act(self) -> None:
        """One thing, unless the pool has been dropped."""
        pool = self.world.pool
        if pool is not None:
            way = self.choose(self.world.ways)
            self.note(way.__name__)
            way(self, pool)

    def new_job(self, without: tuple[str, ...] = ()) -> Job:
        """One whose body has none of these names."""
        table = [(body, weight) for body, weight in self.world.bodies if body.__name__ not in without]
        if self.depth >= WORST_DEPTH:
            table = [(body, weight) for body, weight in table if body.__module__ != "chaos.nesting"]
        self._count += 1
        return self.ledger.new_job(self.choose(table), f"{self.seed}/{self._count}", self.depth)

    def new_jobs(self, most: int) -> list[Job]:
        return [self.new_job() for _ in range(self.rng.randint(0, most))]

    def view(self, pool: fastpool.Pool) -> View:
        """Of the pool: itself, or by options."""
        given: dict[str, Any] = {}
        if self.rng.random() < 0.5:
            return View(self, pool, given)
        if self.rng.random() < 0.4:
            given["timeout"] = self.rng.choice((None, 0, 0.0005, 0.003, 0.02, 60))
        if self.rng.random() < 0.4:
            given["priority"] = self.rng.choice(("high", "normal", "low"))
        if self.rng.random() < 0.3:
            given["context"] = self.rng.choice((None, True, False, contextvars.copy_context()))
        if self.rng.random() < 0.3:
            given["on_full"] = self.rng.choice(("block", "raise", "caller_runs", "discard_oldest"))
        if self.rng.random() < 0.3:
            given["submit_timeout"] = self.rng.choice((None, 0, 0.001, 0.02))
        if isinstance(given.get("context"), contextvars.Context):
            given["context"] = self.rng.choice((True, None))  # one context is entered by one job at a time
        return View(self, pool.options(**given), given)


class View:
    """A way to submit, and what is to be expected of it."""

    def __init__(self, actor: Actor, submitter: Any, given: dict[str, Any]) -> None:
        self.actor = actor
        self.ledger = actor.ledger
        self.given = given
        self.submitter = submitter
        settings = actor.world.settings.pool | given
        self.timed = given.get("timeout", settings["job_timeout"]) is not None
        self.priority = given.get("priority", "normal")
        self.on_full = settings["on_full"]
        self.waits_for_ever = settings["submit_timeout"] is None
        if self.on_full == "discard_oldest":
            self.ledger.discards = True

    def is_refusal(self, error: BaseException) -> bool:
        """True for an error that submitting may raise here."""
        if isinstance(error, fastpool.SubmitTimeout):
            return not self.waits_for_ever and self.on_full != "raise"
        if isinstance(error, fastpool.PoolOverloaded):
            return bool(self.on_full == "raise")
        if isinstance(error, fastpool.PoolShutdown):
            return self.ledger.closing
        return isinstance(error, fastpool.BrokenThreadPool) and self.ledger.breaks

    def refused(self, error: BaseException) -> bool:
        """The same, noting it."""
        if self.is_refusal(error):
            if isinstance(error, fastpool.PoolOverloaded):
                self.ledger.refusals.append(self.actor.name)
            return True
        return False

    def promise(self, jobs: Iterable[Job], accepted: bool | None) -> None:
        """What is known before the submit of what becomes of the jobs."""
        for job in jobs:
            job.timed, job.accepted = self.timed, accepted

    def attempt(self, jobs: list[Job], submit: Callable[[], Any]) -> Any:
        """What `submit` returns, or None where it was refused, and the jobs with it."""
        self.promise(jobs, None)
        try:
            result = submit()
        except BaseException as error:
            if not self.refused(error):
                raise
            for job in jobs:
                job.accepted = False
            return None
        for job in jobs:
            job.accepted = True
        return result

    def line_up(self, jobs: list[Job]) -> None:
        """They start in this order where there is one worker."""
        if self.actor.depth == 0 and self.on_full != "caller_runs":
            for job in jobs:
                job.line = (self.actor.name, self.priority)


def keep(jobs: list[Job], futures: list[Future[Any]]) -> None:
    for job, future in zip(jobs, futures, strict=False):
        job.future = future
