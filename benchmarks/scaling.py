"""What a second worker is worth, where Python jobs can run side by side: on a free-threaded build.

    python benchmarks/scaling.py [microseconds a job]

With one worker and with two, in turns; and beside them the same work in bare threads that have half of it each and no jobs,
which is what the interpreter allows, and in processes that share nothing, which is what the machine gives at that moment:
on a shared one the second CPU is often not a whole one.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import sysconfig
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from time import perf_counter_ns

import fastpool
from fastpool.bench.jobs import calibrate, spin

JOBS = 4_000
ROUNDS = 20


def spin_often(iterations: int, count: int) -> None:
    for _ in range(count):
        spin(iterations)


def in_processes(pool: ProcessPoolExecutor, iterations: int, count: int) -> None:
    """All jobs in `count` processes, each with its part as one call."""
    for future in [pool.submit(spin_often, iterations, JOBS // count) for _ in range(count)]:
        future.result()


def in_threads(iterations: int, count: int) -> None:
    threads = [threading.Thread(target=spin_often, args=(iterations, JOBS // count)) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def in_pool(pool: fastpool.Pool, iterations: int) -> None:
    for future in pool.submit_many(spin, [iterations] * JOBS):
        future.result()


def timed(run: Callable[[], None]) -> float:
    begin = perf_counter_ns()
    run()
    return (perf_counter_ns() - begin) / JOBS


def main(microseconds: float) -> None:
    iterations = max(1, round(microseconds * calibrate()))
    processes = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))
    with processes, fastpool.Pool(1) as one, fastpool.Pool(2) as two:
        cases = {
            "1 process": partial(in_processes, processes, iterations, 1),
            "2 processes": partial(in_processes, processes, iterations, 2),
            "1 thread": partial(in_threads, iterations, 1),
            "2 threads": partial(in_threads, iterations, 2),
            "fastpool, 1 worker": partial(in_pool, one, iterations),
            "fastpool, 2 workers": partial(in_pool, two, iterations),
        }
        rounds = [{name: timed(run) for name, run in cases.items()} for _ in range(ROUNDS + 1)][1:]
    free = "free-threaded" if sysconfig.get_config_var("Py_GIL_DISABLED") else "with the GIL"
    print(
        f"Python jobs of {microseconds:g} us ({iterations} iterations), {free}, {JOBS} jobs, {ROUNDS} rounds in turns"
    )
    for name in cases:
        print(f"  {name:<20} {statistics.median(figures[name] for figures in rounds):9.0f} ns a job, the median")
    names = list(cases)
    for one_of, two_of in zip(names[::2], names[1::2], strict=True):
        # Within a round, for the machine's speed differs from one to the next.
        ratios = sorted(figures[one_of] / figures[two_of] for figures in rounds)
        middle, upper = ratios[len(ratios) // 2], ratios[-len(ratios) // 10]
        print(f"  {two_of}: {middle:.2f} times as fast as {one_of} in the median round, {upper:.2f} in the best tenth")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 10.0)
