"""Each sentence of what is promised (in api.md, "What is promised"), a test of its name, with 1, 2 and 16 workers.

Short and of their own: each promise is tested in breadth elsewhere. They run on every build, free-threaded ones too.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import WAIT, Held, ended, in_thread, reached, until

import fastpool
from fastpool import kernels

MakePool = Callable[..., fastpool.Pool]
WORKERS = pytest.mark.parametrize("workers", [1, 2, 16])
RAISED: list[type[BaseException]] = [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError]


def raises(error: type[BaseException]) -> None:
    raise error


def run_script(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    folder = str(Path(fastpool.__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"PYTHONPATH": folder},
    )


# --- Every accepted job ends exactly once, as one of: done, failed, cancelled, timed out. ---


@WORKERS
def test_every_accepted_job_ends_exactly_once_as_done_failed_cancelled_or_timed_out(
    make_pool: MakePool, workers: int
) -> None:
    pool = make_pool(workers)
    told: list[fastpool.Future] = []
    with Held(pool, workers):
        done = pool.submit_many(int, ["1"] * 50)
        failed = [pool.submit(raises, error) for error in RAISED]
        late = [pool.options(timeout=0.005).submit(int) for _ in range(5)]
        cancelled = [pool.submit(int) for _ in range(20)]
        for future in [*done, *failed, *late, *cancelled]:
            future.add_done_callback(told.append)
        assert all(future.cancel() for future in cancelled)
        for future in late:
            assert isinstance(future.exception(WAIT), fastpool.JobTimeout)
    assert [future.result(WAIT) for future in done] == [1] * 50
    assert [type(future.exception(WAIT)) for future in failed] == RAISED
    assert all(future.cancelled() for future in cancelled)
    assert pool.wait_idle(WAIT)
    until(lambda: len(told) == 80)
    assert len(set(map(id, told))) == 80, "each told of its end once"
    metrics = pool.metrics()
    assert metrics.jobs_processed == workers + 50
    assert (metrics.jobs_failed, metrics.jobs_cancelled, metrics.jobs_timed_out) == (5, 20, 5)


# --- Once the pool is idle, jobs_submitted == jobs_processed + jobs_failed + jobs_cancelled + jobs_timed_out. ---


@WORKERS
def test_once_the_pool_is_idle_as_many_have_ended_as_were_submitted(
    make_pool: MakePool, fast_switching: None, workers: int
) -> None:
    pool = make_pool(workers, queue_size=30)

    def produce(seed: int) -> None:
        for i in range(40):
            pool.submit(raises if (i + seed) % 5 == 0 else str, ValueError)
            pool.submit(int).cancel()
            pool.options(timeout=0.0 if i % 2 else 0.001).submit(int)
            sum(pool.options(priority="high").map(int, ["1"] * 5))
            pool.submit_array(kernels.identity, np.ones(20)).cancel()

    for finish in [in_thread(produce, seed) for seed in range(3)]:
        finish()
    assert pool.wait_idle(WAIT)
    metrics = pool.metrics()
    assert metrics.jobs_submitted == ended(metrics) == 3 * 40 * (3 + 5 + 20)


# --- A job that raises (SystemExit and KeyboardInterrupt too) never ends its worker; ---
# --- the future carries the exception with its traceback. ---


@WORKERS
def test_a_job_that_raises_never_ends_its_worker(make_pool: MakePool, workers: int) -> None:
    pool = make_pool(workers)

    def idents() -> set[int]:
        barrier = threading.Barrier(workers)

        def ident() -> int:
            barrier.wait(WAIT)
            return threading.get_ident()

        return {future.result(WAIT) for future in [pool.submit(ident) for _ in range(workers)]}

    before = idents()
    for error in RAISED * 10:
        assert type(pool.submit(raises, error).exception(WAIT)) is error
    assert idents() == before


@WORKERS
def test_the_future_carries_the_exception_with_its_traceback(make_pool: MakePool, workers: int) -> None:
    pool = make_pool(workers)
    for future in [pool.submit(raises, error) for error in RAISED]:
        error = future.exception(WAIT)
        trace = error.__traceback__
        assert trace is not None
        while trace.tb_next is not None:
            trace = trace.tb_next
        assert trace.tb_frame.f_code is raises.__code__


# --- Jobs of one submitter with one priority start in the order of their submits. ---


@WORKERS
@pytest.mark.parametrize("priority", ["high", "normal", "low"])
def test_jobs_of_one_submitter_with_one_priority_start_in_the_order_of_their_submits(
    make_pool: MakePool, workers: int, priority: str
) -> None:
    """With several workers a job can say only what has started before it: seen here by the order in which it is queued."""
    pool = make_pool(workers, queue_size=None)
    view, n = pool.options(priority=priority), 1000
    started: list[list[int]] = [[] for _ in range(3)]
    tickets = threading.Lock()

    def job(who: int, i: int) -> None:
        with tickets:
            started[who].append(i)

    def produce(who: int) -> None:
        for i in range(n):
            view.post(job, who, i)

    for finish in [in_thread(produce, who) for who in range(3)]:
        finish()
    assert pool.wait_idle(WAIT)
    for seen in started:
        assert sorted(seen) == list(range(n))
        if workers == 1:
            assert seen == list(range(n))


# --- A job may submit to, and wait on, its own pool: this never deadlocks, even with one worker and a full queue. ---


@WORKERS
@pytest.mark.parametrize("queue_size", [1, 8192, None])
def test_a_job_may_submit_to_and_wait_on_its_own_pool(
    make_pool: MakePool, workers: int, queue_size: int | None
) -> None:
    pool = make_pool(workers, queue_size=queue_size)

    def job(depth: int) -> int:
        if depth == 0:
            return 1
        futures = [pool.submit(job, depth - 1) for _ in range(3)]
        return sum(future.result(WAIT) for future in futures) + sum(pool.map(int, "111")) - 3

    futures = [pool.submit(job, 4) for _ in range(workers + 2)]
    assert [future.result(WAIT) for future in futures] == [81] * (workers + 2)


# --- deadline: a queued job past it never starts; a running one sees current_job().cancelled; ---
# --- its future ends with JobTimeout at the deadline either way. ---


@WORKERS
def test_a_queued_job_past_its_deadline_never_starts(make_pool: MakePool, workers: int) -> None:
    pool = make_pool(workers)
    ran: list[int] = []
    with Held(pool, workers):
        late = pool.options(timeout=0.005)
        futures = [late.submit(ran.append, i) for i in range(10)]
        for future in futures:
            assert isinstance(future.exception(WAIT), fastpool.JobTimeout)
    assert pool.wait_idle(WAIT)
    assert ran == []
    assert pool.metrics().jobs_timed_out == 10


@WORKERS
def test_a_running_job_past_its_deadline_sees_that_it_is_cancelled_and_its_future_ends_at_once(
    make_pool: MakePool, workers: int
) -> None:
    pool = make_pool(workers)
    saw, go = threading.Event(), threading.Event()

    def job() -> None:
        current = fastpool.current_job()
        assert current is not None
        until(lambda: current.cancelled)
        saw.set()
        reached(go)

    began = time.monotonic()
    future = pool.options(timeout=0.02).submit(job)
    assert isinstance(future.exception(WAIT), fastpool.JobTimeout)
    assert time.monotonic() - began >= 0.02
    reached(saw)
    assert pool.metrics().active_workers == 1, "it still runs"
    go.set()
    assert pool.wait_idle(WAIT)
    assert pool.metrics().jobs_timed_out == 1


# --- Ctrl-C interrupts any wait. ---


@WORKERS
@pytest.mark.parametrize("wait", ["result", "shutdown", "wait_idle", "map", "submit", "map_array", "group"])
def test_ctrl_c_interrupts_any_wait(make_pool: MakePool, workers: int, wait: str) -> None:
    """As everywhere a signal's handler runs while the main thread waits, and what it raises ends the wait."""
    pool = make_pool(workers, queue_size=1)
    sent = threading.Event()
    with Held(pool, workers) as held:
        queued = pool.submit(int)

        def in_group() -> None:
            with pool.group(on_error="continue") as group:
                group._add([held.futures[0]])

        waits: dict[str, Callable[[], Any]] = {
            "result": queued.result,
            "shutdown": pool.shutdown,
            "wait_idle": pool.wait_idle,
            "map": lambda: list(pool.options(on_full="discard_oldest").map(int, "12")),
            "submit": lambda: pool.submit(int),
            "map_array": lambda: pool.map_array(kernels.identity, np.ones(9)),
            "group": in_group,
        }

        def interrupt() -> None:
            while not sent.wait(0.01):
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        interrupter = threading.Thread(target=interrupt)
        try:
            with pytest.raises(KeyboardInterrupt):
                interrupter.start()
                try:
                    waits[wait]()
                finally:
                    sent.set()
                    interrupter.join()
        finally:
            signal.signal(signal.SIGINT, before)


# --- Interpreter exit drains like ThreadPoolExecutor. ---


@WORKERS
def test_interpreter_exit_drains(workers: int) -> None:
    script = (
        "import os, sys, fastpool\n"
        "pool = fastpool.Pool(int(sys.argv[1]))\n"
        "for i in range(50): pool.post(os.write, 1, b'%d ' % i)\n"
        "os.write(1, b'main ends ')"
    )
    done = run_script(script, str(workers))
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.split()) == sorted(["main", "ends", *map(str, range(50))])


# --- In a forked child the parent's pool raises PoolError, never hangs. ---


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@WORKERS
def test_in_a_forked_child_the_parents_pool_raises_pool_error_and_never_hangs(workers: int) -> None:
    script = """
import asyncio, os, signal, sys, warnings
import fastpool
from fastpool import kernels
warnings.simplefilter("ignore", DeprecationWarning)
pool = fastpool.Pool(int(sys.argv[1]))
view, future = pool.options(timeout=5), pool.submit(int)
future.result()
async def run(): await pool.run(int)
calls = [
    lambda: pool.submit(int), lambda: pool.post(int), lambda: pool.submit_many(int, "1"), lambda: list(pool.map(int, "1")),
    lambda: list(pool.imap_unordered(int, "1")), lambda: pool.map_array(kernels.identity, [1.0]), lambda: view.submit(int),
    lambda: pool.options(timeout=1), lambda: pool.pause(), lambda: pool.resume(), lambda: pool.resize(max_workers=3),
    lambda: pool.wait_idle(), lambda: pool.shutdown(), lambda: pool.metrics(), lambda: pool.group(), lambda: asyncio.run(run()),
]
pool._resizing.acquire()  # as if another thread were in the middle of it, that is not in the child
pool._line._lock.acquire()
child = os.fork()
if child == 0:
    signal.alarm(20)
    import threading
    refused = []
    def call_all():
        for call in calls:
            try: call()
            except fastpool.PoolError: refused.append(call)
    thread = threading.Thread(target=call_all); thread.start(); thread.join()
    os._exit(0 if refused == calls and future.result() == 0 else 1)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
pool._resizing.release(); pool._line._lock.release()
print(code, pool.submit(int, "5").result())
"""
    done = run_script(script, str(workers))
    assert (done.stdout, done.returncode) == ("0 5\n", 0), done.stderr
