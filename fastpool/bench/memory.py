"""Memory of a queued job, its future included.

Run as a program, in a process of its own, it blocks the only worker of a pool, queues jobs
behind it, and prints by how many bytes the process grew for each. What it counts starts
before the pool is made: a queue that is allocated in advance is part of the price.
"""

from __future__ import annotations

import concurrent.futures
import gc
import multiprocessing.pool
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import fastpool
from fastpool.bench.jobs import one
from fastpool.bench.measure import Case, WrongResult
from fastpool.bench.peers import FASTPOOL, MP_THREADS, THREADS
from fastpool.bench.section import Context, Section

_STATM = "/proc/self/statm"
_ARGUMENTS = (FASTPOOL, THREADS, MP_THREADS)

Submit = Callable[..., Any]
Fetch = Callable[[Any], Any]


def _resident_bytes() -> int:
    with open(_STATM, encoding="ascii") as file:
        resident_pages = int(file.read().split()[1])
    return resident_pages * os.sysconf("SC_PAGE_SIZE")


def _open_pool(peer: str, jobs: int) -> tuple[Submit, Fetch, Callable[[], object]]:
    """Open a pool of one worker that can hold the jobs: how to submit, fetch and close."""
    if peer == FASTPOOL:
        # Eight to spare: for the job that blocks the worker, until it has been started.
        pool = fastpool.Pool(1, queue_size=jobs + 8)
        return pool.submit, fastpool.Future.result, pool.shutdown
    if peer == THREADS:
        executor = concurrent.futures.ThreadPoolExecutor(1)
        return executor.submit, concurrent.futures.Future.result, executor.shutdown
    threads = multiprocessing.pool.ThreadPool(1)
    return threads.apply_async, multiprocessing.pool.ApplyResult.get, threads.close


def measure_here(peer: str, jobs: int) -> float:
    """Measure in this process, which should have done nothing else.

    Parameters
    ----------
    peer : str
        Which pool.
    jobs : int
        How many jobs wait at once.

    Returns
    -------
    float
        Bytes of a job.

    Raises
    ------
    WrongResult
        If not every job ran in the end.
    """
    futures: list[Any] = [None] * jobs
    started, release = threading.Event(), threading.Event()

    def block() -> None:
        started.set()
        release.wait()

    gc.collect()
    before = _resident_bytes()
    submit, fetch, close = _open_pool(peer, jobs)
    submit(block)
    started.wait()
    for index in range(jobs):
        futures[index] = submit(one)
    grown = _resident_bytes() - before
    release.set()
    done = sum(map(fetch, futures))
    close()
    if done != jobs:
        raise WrongResult(f"{peer}: {done} of {jobs} queued jobs ran")
    return grown / jobs


def _measure_apart(peer: str, jobs: int) -> float | None:
    if not os.path.exists(_STATM):
        return None
    command = [sys.executable, "-m", "fastpool.bench.memory", peer, str(jobs)]
    child = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if child.returncode:
        # Its traceback is on stderr already, which it shares.
        raise WrongResult(f"{' '.join(command[1:])} ended with {child.returncode}")
    return float(child.stdout)


def queued_jobs(context: Context) -> Section:
    """Queue jobs behind a blocked worker, each sample in a fresh process."""
    scale = context.scale
    count = scale.queued
    cases = [Case(peer, count, partial(_measure_apart, peer, count)) for peer in _ARGUMENTS]
    title = f"memory of one of {count:,} queued jobs, with its future"
    # Next to free of noise, and slow: no warm-up, and few samples are enough.
    return Section(title, "B", THREADS, cases, warm_up=False, most_samples=scale.queued_repeat)


if __name__ == "__main__":
    print(measure_here(sys.argv[1], int(sys.argv[2])))
