"""What a section is: cases that are compared with one of them, the baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastpool.bench.measure import Case, Figure
from fastpool.bench.peers import Peers
from fastpool.bench.units import show


@dataclass(frozen=True)
class Scale:
    """How many jobs a sample has, by what it measures; all are counts.

    Attributes
    ----------
    repeat : int
        Samples of each case, unless the command line says otherwise.
    jobs : int
        Empty jobs of a thread pool.
    process_jobs : int
        Jobs of a process pool, at most: one costs it far more.
    trips : int
        Round trips.
    work_jobs, work_us : int
        Timed Python jobs, and the microseconds of all of them together, at most.
    options : int
        Options in arrays, one job each.
    single_options : int
        Options that are submitted one by one.
    queued, queued_repeat : int
        Jobs that wait while memory is measured, and how often it is, at most.
    """

    repeat: int
    jobs: int
    process_jobs: int
    trips: int
    work_jobs: int
    work_us: int
    options: int
    single_options: int
    queued: int
    queued_repeat: int


FULL = Scale(
    repeat=5,
    jobs=100_000,
    process_jobs=2_000,
    trips=5_000,
    work_jobs=20_000,
    work_us=100_000,
    options=1_000_000,
    single_options=20_000,
    queued=100_000,
    queued_repeat=3,
)
QUICK = Scale(
    repeat=3,
    jobs=20_000,
    process_jobs=500,
    trips=2_000,
    work_jobs=5_000,
    work_us=30_000,
    options=1_000_000,
    single_options=5_000,
    queued=30_000,
    queued_repeat=1,
)


@dataclass(frozen=True)
class Context:
    """What a section is built from.

    Attributes
    ----------
    peers : Peers
        The open pools.
    scale : Scale
        The counts.
    spins_per_us : float
        This machine's speed, from `fastpool.bench.jobs.calibrate`.
    gil : bool
        Whether Python jobs run one at a time.
    """

    peers: Peers
    scale: Scale
    spins_per_us: float
    gil: bool


def no_notes(figures: Sequence[Figure]) -> list[str]:
    """Have nothing to add to the figures."""
    return []


@dataclass(frozen=True)
class Section:
    """One comparison.

    Attributes
    ----------
    title : str
        What is done, in a few words.
    unit : str
        Of a figure: "ns" or "B", each for one job.
    baseline : str
        The peer that the others' ratios are against.
    cases : sequence of Case
        The rows.
    notes : callable
        Takes the figures and returns what follows from several of them, a line each.
    warm_up : bool
        Whether a round that is not counted comes first.
    most_samples : int, optional
        Of each case, where more would only take longer.
    """

    title: str
    unit: str
    baseline: str
    cases: Sequence[Case]
    notes: Callable[[Sequence[Figure]], list[str]] = no_notes
    warm_up: bool = True
    most_samples: int | None = None

    def samples(self, repeat: int) -> int:
        """How many samples of each case are taken when `repeat` are asked for."""
        return min(repeat, self.most_samples or repeat)


def beyond(own: str, *peers: str) -> Callable[[Sequence[Figure]], list[str]]:
    """Make the note that says what pools add to the time of the work itself.

    Parameters
    ----------
    own : str
        The case that does the work and nothing else.
    *peers : str
        The cases it is subtracted from; all must use one thread at a time, as it does.

    Returns
    -------
    callable
        For `Section.notes`.
    """

    def notes(figures: Sequence[Figure]) -> list[str]:
        best = {figure.peer: figure.best for figure in figures}
        work = best[own]
        added = []
        for peer in peers:
            total = best[peer]
            if work is not None and total is not None:
                added.append(f"{peer} {show(total - work, 'ns', sign=True)}")
        return [f"beyond the work itself ({own}), a job: " + ", ".join(added)]

    return notes
