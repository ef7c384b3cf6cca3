"""The sections whose jobs are Python functions: dispatch, map, timed work, round trips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from fastpool.bench.jobs import echo, spin
from fastpool.bench.measure import Case, Figure, equals, timed
from fastpool.bench.peers import (
    FASTPOOL,
    LOOP,
    MP_THREADS,
    PROCESSES,
    THREADS,
    apply_each,
    call_each,
    submit_at_once,
    submit_each,
)
from fastpool.bench.section import Context, Section, beyond
from fastpool.bench.units import show_ratio

FASTPOOL_SUBMIT = f"{FASTPOOL} submit"
FASTPOOL_MANY = f"{FASTPOOL} submit_many"
FASTPOOL_ONE = f"{FASTPOOL_MANY}, 1 worker"


def _dispatch_cases(context: Context, fn: Callable[[int], int], values: list[int], results: list[int]) -> list[Case]:
    """One job per value, by each way there is to submit it."""
    peers, many = context.peers, len(values)
    few = min(many, context.scale.process_jobs)

    def case(peer: str, count: int, run: Callable[..., list[Any]], pool: object) -> Case:
        return timed(peer, count, partial(run, pool, fn, values[:count]), equals(results[:count]))

    return [
        case(FASTPOOL_SUBMIT, many, submit_each, peers.pool),
        case(FASTPOOL_MANY, many, submit_at_once, peers.pool),
        case(f"{FASTPOOL}.ThreadPoolExecutor", many, submit_each, peers.drop_in),
        case(THREADS, many, submit_each, peers.threads),
        case(PROCESSES, few, submit_each, peers.processes),
        case(f"{MP_THREADS} apply_async", many, apply_each, peers.mp_threads),
        timed(LOOP, many, partial(call_each, fn, values), equals(results)),
    ]


def _by_workers(figures: Sequence[Figure]) -> list[str]:
    """Say what a second worker is worth where Python jobs run side by side."""
    best = {figure.peer: figure.best for figure in figures}
    one, all_of_them = best[FASTPOOL_ONE], best[FASTPOOL_MANY]
    if one is None or all_of_them is None:
        return []
    return [f"{FASTPOOL_MANY} with all workers: {show_ratio(one / all_of_them)} as fast as with one"]


def empty(context: Context) -> Section:
    """Submit empty jobs and fetch all results."""
    values = list(range(context.scale.jobs))
    cases = _dispatch_cases(context, echo, values, values)
    return Section("empty Python jobs", "ns", THREADS, cases)


def timed_work(microseconds: int, context: Context) -> Section:
    """Submit jobs that compute for some microseconds each."""
    iterations = max(1, round(microseconds * context.spins_per_us))
    scale = context.scale
    count = min(scale.work_jobs, scale.work_us // microseconds)
    work, results = [iterations] * count, [spin(iterations)] * count
    single = partial(submit_at_once, context.peers.single, spin, work)
    cases = [*_dispatch_cases(context, spin, work, results), timed(FASTPOOL_ONE, count, single, equals(results))]
    return Section(
        f"Python jobs of {microseconds} \N{MICRO SIGN}s ({iterations:,} iterations)",
        "ns",
        THREADS,
        cases,
        # Where jobs run side by side, the loop's time cannot be subtracted from theirs.
        beyond(LOOP, FASTPOOL_SUBMIT, THREADS) if context.gil else _by_workers,
    )


def mapped(context: Context) -> Section:
    """Map an empty job over a range, and fetch all results."""
    peers, count = context.peers, context.scale.jobs
    values = range(count)
    # What multiprocessing's ThreadPool picks by itself: four chunks for each worker.
    chunk = -(-count // (4 * peers.workers))
    check = equals(list(values))

    def case(peer: str, run: Callable[[], Any]) -> Case:
        return timed(peer, count, lambda: list(run()), check)

    cases = [
        case(f"{FASTPOOL} map", lambda: peers.pool.map(echo, values)),
        case(
            f"{FASTPOOL} map, chunks",
            lambda: peers.pool.map(echo, values, chunksize=chunk),
        ),
        case(THREADS, lambda: peers.threads.map(echo, values)),
        case(
            f"{PROCESSES}, chunks",
            lambda: peers.processes.map(echo, values, chunksize=chunk),
        ),
        case(f"{MP_THREADS}, chunks", lambda: peers.mp_threads.map(echo, values)),
        case(LOOP, lambda: map(echo, values)),
    ]
    title = f"map of an empty Python job (chunks of {chunk:,} where said)"
    return Section(title, "ns", THREADS, cases)


def _add_up(count: int, call: Callable[[], int]) -> int:
    return sum(call() for _ in range(count))


def round_trips(context: Context) -> Section:
    """Submit one empty job and wait for it, again and again."""
    peers, count = context.peers, context.scale.trips
    few = min(count, context.scale.process_jobs)

    def case(peer: str, trips: int, call: Callable[[], int]) -> Case:
        return timed(peer, trips, partial(_add_up, trips, call), equals(trips))

    cases = [
        case(FASTPOOL, count, lambda: peers.pool.submit(echo, 1).result()),
        case(THREADS, count, lambda: peers.threads.submit(echo, 1).result()),
        case(PROCESSES, few, lambda: peers.processes.submit(echo, 1).result()),
        case(MP_THREADS, count, lambda: peers.mp_threads.apply(echo, (1,))),
        case(LOOP, count, lambda: echo(1)),
    ]
    return Section("round trip of one empty Python job", "ns", THREADS, cases)
