"""Timing cases against each other: checked, interleaved, best of N.

A machine has slow seconds. Cases of one section therefore take turns (A B C, A B C, ...)
rather than run one after the other, so that a slow second costs each of them a sample and
none of them its best one.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import TypeVar

Result = TypeVar("Result")


class WrongResult(Exception):
    """A measured job computed something else than it should: its time means nothing."""


@dataclass(frozen=True)
class Case:
    """One row of a section.

    Attributes
    ----------
    peer : str
        Who does the work, and by which call.
    jobs : int
        How many jobs one sample runs.
    sample : callable
        Runs them once, checks what came out, and returns the cost of one job; None where it
        cannot be known here.
    """

    peer: str
    jobs: int
    sample: Callable[[], float | None]


@dataclass(frozen=True)
class Figure:
    """The samples of one case, in the order they were taken."""

    peer: str
    jobs: int
    samples: tuple[float, ...]

    @property
    def best(self) -> float | None:
        """The least sample: what the case costs when nothing else disturbs it."""
        return min(self.samples, default=None)

    @property
    def median(self) -> float | None:
        """The middle sample; how far it is from the best shows how noisy the machine was."""
        return statistics.median(self.samples) if self.samples else None


def timed(
    peer: str,
    jobs: int,
    run: Callable[[], Result],
    check: Callable[[Result], None],
    prepare: Callable[[], None] = lambda: None,
) -> Case:
    """Make a case whose sample is the wall time of a call, in nanoseconds a job.

    Parameters
    ----------
    peer : str
        The case's name.
    jobs : int
        How many jobs `run` does.
    run : callable
        What is timed.
    check : callable
        Takes what `run` returned and raises `WrongResult` if it is wrong; not timed.
    prepare : callable, optional
        Called before each run; not timed.

    Returns
    -------
    Case
        The case.
    """

    def sample() -> float:
        prepare()
        # The collector stays on, as in a real program, but nobody pays for the garbage of
        # the case before.
        gc.collect()
        begin = perf_counter_ns()
        result = run()
        elapsed = perf_counter_ns() - begin
        check(result)
        return elapsed / jobs

    return Case(peer, jobs, sample)


def equals(expected: object) -> Callable[[object], None]:
    """Make a check that a result equals `expected`.

    Parameters
    ----------
    expected : object
        The right result.

    Returns
    -------
    callable
        Raises `WrongResult` for any other; long ones are shortened in its message.
    """

    def check(result: object) -> None:
        if result != expected:
            raise WrongResult(f"expected {expected!r:.60}, got {result!r:.60}")

    return check


def _sample(case: Case) -> float | None:
    try:
        return case.sample()
    except WrongResult as error:
        raise WrongResult(f"{case.peer}: {error}") from error


def measure(cases: Sequence[Case], repeat: int, *, warm_up: bool, step: Callable[[Case], None]) -> list[Figure]:
    """Take the samples of all cases, in turns.

    Parameters
    ----------
    cases : sequence of Case
        What is compared.
    repeat : int
        Samples of each, at least 1.
    warm_up : bool
        Whether a round comes first that is checked and not counted: it starts lazy workers
        and fills caches.
    step : callable
        Told each case before it runs.

    Returns
    -------
    list of Figure
        In the order of `cases`.

    Raises
    ------
    WrongResult
        If a job computed something wrong.
    """
    samples: list[list[float]] = [[] for _ in cases]
    for turn in range(-1 if warm_up else 0, repeat):
        for case, own in zip(cases, samples, strict=True):
            step(case)
            value = _sample(case)
            if turn >= 0 and value is not None:
                own.append(value)
    return [Figure(case.peer, case.jobs, tuple(own)) for case, own in zip(cases, samples, strict=True)]
