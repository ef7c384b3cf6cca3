"""What a section is built from: the peers and the counts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.peers.peers import Peers
from fastpool.bench.measure import Case
from fastpool.bench.section import Section


@dataclass(frozen=True)
class Scale:
    """How much one sample does, and how many are taken.

    Attributes
    ----------
    repeat : int
        Rounds, unless the command line says otherwise.
    jobs : int
        Jobs without a result.
    results, few : int
        Jobs with one; `few` where one costs many microseconds.
    elements : int
        Of the arrays that are computed.
    long : int
        Of the arrays that do not fit into any cache.
    calls : int
        Of a function whose single call is too short to time.
    """

    repeat: int
    jobs: int
    results: int
    few: int
    elements: int
    long: int
    calls: int


FULL = Scale(repeat=9, jobs=1_000_000, results=100_000, few=2_000, elements=1_000_000, long=10_000_000, calls=500)
QUICK = Scale(repeat=3, jobs=100_000, results=20_000, few=500, elements=200_000, long=2_000_000, calls=100)


@dataclass(frozen=True)
class Context:
    """Who is compared, and by how much work."""

    peers: Peers
    scale: Scale

    def section(self, title: str, cases: Sequence[Case], notes: Sequence[str], baseline: str | None = None) -> Section:
        """Make a section of the cases that there are; the first is the baseline where no other is named."""
        return Section(title, "ns", baseline or (cases[0].peer if cases else ""), cases, lambda _: list(notes))


def settle() -> None:
    """Wait until the threads of the peer before have gone to sleep.

    OpenMP's spin for some milliseconds after their work, and would take a CPU from the next peer.
    """
    time.sleep(0.02)
