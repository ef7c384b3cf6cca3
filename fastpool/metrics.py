"""What `Pool.metrics()` returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Histogram", "Metrics"]


@dataclass(frozen=True)
class Histogram:
    """Durations in logarithmic buckets, 16 to the octave: any value is known to within 3.2 %.

    Attributes
    ----------
    count : int
        How many were measured.
    sum, max : float
        Seconds.
    buckets : tuple of (float, float, int)
        Lower bound, upper bound (seconds) and count of each bucket that is not empty, ascending.

    Notes
    -----
    The layout is HdrHistogram's (G. Tene, 2012). Jobs of a range that ran as one chunk are counted with the mean of it.
    """

    count: int
    sum: float
    max: float
    buckets: tuple[tuple[float, float, int], ...]

    @property
    def mean(self) -> float:
        """Seconds; 0.0 when nothing was measured."""
        return self.sum / self.count if self.count else 0.0

    def quantile(self, q: float) -> float:
        """The duration, in seconds, that a share `q` of all do not exceed; 0.0 when nothing was measured.

        Raises
        ------
        ValueError
            If `q` is not between 0 and 1.
        """
        if not 0 <= q <= 1:
            raise ValueError(f"q must be between 0 and 1, got {q!r}")
        rank, seen = q * self.count, 0
        for lower, upper, count in self.buckets:
            seen += count
            if seen >= rank:
                return min((lower + upper) / 2, self.max)
        return 0.0

    @classmethod
    def _from_ns(cls, total: float, largest: float, buckets: list[tuple[float, float, int]]) -> Histogram:
        seconds = tuple((lower / 1e9, upper / 1e9, count) for lower, upper, count in buckets)
        return cls(sum(count for _, _, count in seconds), total / 1e9, largest / 1e9, seconds)


@dataclass(frozen=True)
class Metrics:
    """A snapshot of a pool. Once it is idle,
    ``jobs_submitted == jobs_processed + jobs_failed + jobs_cancelled + jobs_timed_out``; before, it is at least that.

    Attributes
    ----------
    workers, active_workers : int
        Threads, and those of them that are running a job.
    queue_depth, queue_capacity : int
        Places in use, and how many there are (None: unbounded). A map or an array takes one place, whatever its length.
    jobs_submitted : int
        Accepted jobs; each call of a map and each element of an array is one.
    jobs_processed, jobs_failed, jobs_cancelled, jobs_timed_out : int
        How they ended. A cancelled job is counted when the queue comes to it.
    jobs_rejected : int
        Submits that were refused because the queue was full.
    panics : int
        Failures that no future carried (`post`), or that no handler expects (SystemExit, KeyboardInterrupt, MemoryError).
    job_duration, queue_wait : Histogram
        How long jobs ran, and how long they were queued. A map or an array has no queue_wait.
    """

    workers: int
    active_workers: int
    queue_depth: int
    queue_capacity: int | None
    jobs_submitted: int
    jobs_processed: int
    jobs_failed: int
    jobs_cancelled: int
    jobs_timed_out: int
    jobs_rejected: int
    panics: int
    job_duration: Histogram
    queue_wait: Histogram

    @classmethod
    def _from_core(cls, counters: dict[str, Any]) -> Metrics:
        for name in ("job_duration", "queue_wait"):
            counters[name] = Histogram._from_ns(*counters[name])
        return cls(**counters)
