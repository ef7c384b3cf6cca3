"""What the metrics' histograms cost a job: two pools in one process, one with them and one without, in turns.

    python benchmarks/metrics_cost.py [JOBS [ROUNDS]]

Prints, for jobs of each kind, nanoseconds a job with histograms and without, and the difference of a round, as the median of
all rounds and as that of the best rounds.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import fastpool
from fastpool import kernels


def nothing() -> None:
    """Be a job."""


def ns_a_job(work: Callable[[], None], jobs: int) -> float:
    started = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - started) / jobs


def ways(pool: fastpool.Pool, jobs: int) -> dict[str, Callable[[], None]]:
    """How jobs are run, by name."""
    submit = pool.submit

    def python_jobs() -> None:
        for future in [submit(nothing) for _ in range(jobs)]:
            future.result()

    def native_jobs() -> None:
        for future in [submit(kernels.identity, 1.0) for _ in range(jobs)]:
            future.result()

    def calls_of_a_map() -> None:
        for _ in pool.map(abs, range(jobs)):
            pass

    return {"submit(f)": python_jobs, "submit(kernel, x)": native_jobs, "map": calls_of_a_map}


def main(jobs: int = 100_000, rounds: int = 25) -> None:
    with (
        fastpool.Pool(1, queue_size=None) as measured,
        fastpool.Pool(1, queue_size=None, histograms=False) as unmeasured,
    ):
        for name in ways(measured, jobs):
            pair = [ways(pool, jobs)[name] for pool in (measured, unmeasured)]
            timed = [[ns_a_job(work, jobs) for work in pair] for _ in range(rounds)]
            with_ns, without_ns = (min(column) for column in zip(*timed, strict=True))
            median = statistics.median(a - b for a, b in timed)
            print(
                f"{name:18} with {with_ns:6.1f}  without {without_ns:6.1f}  difference: "
                f"of the best {with_ns - without_ns:5.1f}, median {median:5.1f} ns"
            )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
