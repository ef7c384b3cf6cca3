"""One round: a pool, those who use it, its end, and what is left."""

from __future__ import annotations

import gc
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable
from random import Random
from typing import Any

import fastpool
from chaos import bodies, grouping, looping, meddling, natives, nesting, process, ways
from chaos.actor import Actor, World
from chaos.endings import ENDINGS
from chaos.ledger import Ledger
from chaos.settings import Initializer, Settings
from chaos.watch import Watchdog, last_actions


class Round:
    """What happened is in `complaints`; nothing that a round has made outlives it."""

    def __init__(self, seed: str, workers: tuple[int, ...], fork: bool) -> None:
        self.seed = seed
        self.fork = fork
        self.settings = Settings.draw(Random(seed), workers, fork)
        self.log: list[tuple[float, str, str]] = []
        self.complaints: list[str] = []
        self._world: weakref.ref[World] | None = None

    def describe(self) -> str:
        world = self._world() if self._world is not None else None
        log = list(world.log) if world is not None else self.log
        complaints = list(world.ledger.complaints) if world is not None else self.complaints
        pool = world.pool if world is not None else None
        metrics = "" if pool is None else f"\n{pool.metrics()}"
        return f"{self.seed}\n{self.settings}{metrics}\n{last_actions(log)}\n" + "\n".join(complaints)

    def run(self, watchdog: Watchdog) -> bool:
        """True when all was well."""
        watchdog.begin(self.describe)  # which starts a thread
        baseline = process.Baseline()
        reference = self._play()
        if not process.is_gone(reference):
            self.complaints.append(f"something holds the round's jobs for ever: {process.holders(reference)}")
        self.complaints += baseline.complaints()
        watchdog.end()
        return not self.complaints

    def _play(self) -> weakref.ref[World]:
        settings, ledger = self.settings, Ledger()
        sys.setswitchinterval(settings.switch_interval)
        ledger.breaks = settings.fails_at is not None
        initializer = Initializer(ledger, settings.fails_at) if settings.has_initializer else None
        pool = fastpool.Pool(initializer=initializer, on_error=ledger.tell, **settings.pool)
        world = World(settings, ledger, pool, [], ways.TABLE + natives.TABLE + grouping.TABLE)
        world.bodies += bodies.table(world) + nesting.table(world, self.fork)
        self._world = weakref.ref(world)
        threads = self._start(world)
        del pool  # one of the endings is that nobody holds it
        _end(world, threads)
        _check(world)
        self.log, self.complaints = list(world.log), ledger.complaints
        return self._world

    def _start(self, world: World) -> list[threading.Thread]:
        def produce(actor: Actor) -> None:
            for _ in range(self.settings.actions):
                actor.act()

        rows = meddling.table(self.fork)
        actors: list[tuple[str, Callable[[Actor], Any]]] = []
        actors += [(f"producer {i}", produce) for i in range(self.settings.producers)]
        actors += [(f"loop {i}", looping.run_loop) for i in range(self.settings.loops)]
        actors += [(f"meddler {i}", lambda actor: meddling.meddle(actor, rows)) for i in range(self.settings.meddlers)]
        threads = [threading.Thread(target=_guard, args=(world, self.seed, *one), name=one[0]) for one in actors]
        for thread in threads:
            thread.start()
        return threads


def _guard(world: World, seed: str, name: str, play: Callable[[Actor], Any]) -> None:
    try:
        play(Actor(world, name, seed))
    except BaseException:
        world.ledger.complain(f"{name}: {traceback.format_exc()}")


def _end(world: World, threads: list[threading.Thread]) -> None:
    """The pool's end, which may come while the actors are at work."""
    early = world.settings.ends_early
    if early is None:
        _join(threads)
    else:
        time.sleep(early)
    ending = ENDINGS[world.settings.ending]
    world.note("end", ending.__name__)
    world.ledger.closing = True
    try:
        ending(world)
    except BaseException:
        world.ledger.complain(f"{ending.__name__}: {traceback.format_exc()}")
    _join(threads)
    world.note("end", "all actors have ended")
    if world.pool is None:
        _await_dropped(world.ledger)


def _join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join()


def _await_dropped(ledger: Ledger) -> None:
    """Of a pool that nobody holds any more there is only this to see."""

    def ended() -> bool:
        gc.collect()
        if ledger.are_at_rest():
            ledger.forget_futures()
        return ledger.are_at_rest() and not process.workers()

    if not process.comes_true(ended):
        ledger.complain(f"a pool that was dropped has not ended: {process.thread_names()}")


def _check(world: World) -> None:
    ledger = world.ledger
    # The timer's thread calls callbacks as well, and nobody waits for it.
    process.comes_true(lambda: all(ledger.called))
    natives.check_arrays(ledger)
    sums = ledger.check()
    ledger.check_calls(int(world.calls[0]))
    if world.settings.pool["max_workers"] == 1 and not world.resized:
        ledger.check_order()
    if world.pool is None:
        return
    metrics = world.pool.metrics()
    ledger.check_metrics(metrics)
    for text in sums.check(metrics):
        ledger.complain(text)
