"""What a round is like: the pool's arguments, who is at work, and how it ends."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from random import Random
from typing import Any

from chaos.endings import ENDINGS
from chaos.ledger import Ledger

ON_FULL = ("block", "raise", "caller_runs", "discard_oldest")
QUEUE_SIZES = (1, 1, 2, 3, 10, 100, None)
TIMES = (None, None, None, 0, 0.001, 0.02)  # seconds


class Broken(Exception):
    """What an initializer raises that is to fail."""


class Initializer:
    """Counts the threads that it was called in; from the `fails_at`-th on it fails."""

    def __init__(self, ledger: Ledger, fails_at: int | None) -> None:
        self._ledger = ledger
        self._fails_at = fails_at
        self._local = threading.local()
        self.calls: list[int] = []

    def __call__(self) -> None:
        if getattr(self._local, "called", False):
            self._ledger.complain("the initializer was called twice in a worker")
        self._local.called = True
        self.calls.append(threading.get_ident())
        if self._fails_at is not None and len(self.calls) >= self._fails_at:
            raise Broken


@dataclass
class Settings:
    """All of it by the round's generator, in one order, so that it depends on nothing else."""

    pool: dict[str, Any]
    fails_at: int | None
    has_initializer: bool
    producers: int
    actions: int
    loops: int
    meddlers: int
    switch_interval: float  # seconds after which the interpreter lets another thread in
    ending: str
    ends_early: float | None  # after so many seconds, whoever is at work

    @classmethod
    def draw(cls, rng: Random, workers: tuple[int, ...], fork: bool) -> Settings:
        most = rng.choice(workers)
        pool = {
            "max_workers": most,
            "min_workers": rng.choice((None, None, 1, rng.randint(1, most))),
            "queue_size": rng.choice(QUEUE_SIZES),
            "on_full": rng.choice(ON_FULL),
            "submit_timeout": rng.choice(TIMES),
            "job_timeout": rng.choice((None, None, None, None, 0.001, 0.02, 0.5)),
            "idle_timeout": rng.choice((0, 0.001, 0.02, 5.0)),
        }
        has_initializer = rng.random() < 0.3
        return cls(
            pool=pool,
            fails_at=rng.randint(1, 3) if has_initializer and rng.random() < 0.2 else None,
            has_initializer=has_initializer,
            producers=rng.randint(1, 4),
            actions=rng.choice((3, 15, 40)),
            loops=rng.choice((0, 1, 1)),
            meddlers=rng.choice((0, 1, 1)),
            switch_interval=rng.choice((0.005, 0.005, 1e-5)),
            ending=rng.choice(sorted(ENDINGS)),
            ends_early=rng.choice((None, None, None, 0.0, 0.005, 0.05)),
        )
