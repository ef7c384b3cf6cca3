"""initializer: once in each worker; if it fails the pool is broken, and nobody waits for ever."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable
from typing import Any

import pytest
from support import WAIT, in_thread, reached

import fastpool
from fastpool import BrokenThreadPool, kernels

MakePool = Callable[..., fastpool.Pool]
BOTH = pytest.mark.parametrize("kind", [fastpool.Pool, fastpool.ThreadPoolExecutor])


@BOTH
def test_it_runs_once_in_each_worker_before_its_first_job(make_pool: MakePool, kind: type[fastpool.Pool]) -> None:
    local = threading.local()
    ran: list[int] = []

    def initializer(value: str, other: str) -> None:
        local.value = value + other
        ran.append(threading.get_ident())

    barrier = threading.Barrier(4)

    def job() -> tuple[int, str]:
        barrier.wait(WAIT)
        return threading.get_ident(), local.value

    pool = make_pool(4, "", initializer, ("a", "b"), kind=kind)
    for _ in range(3):
        seen = [future.result(WAIT) for future in [pool.submit(job) for _ in range(4)]]
        assert {value for _, value in seen} == {"ab"}
        assert sorted(ran) == sorted(ident for ident, _ in seen)


class Refuses:
    """An initializer that fails when it is told to."""

    def __init__(self, error: type[BaseException] = ValueError) -> None:
        self.go = threading.Event()
        self.error = error

    def __call__(self) -> None:
        reached(self.go)
        raise self.error("in the initializer")


@BOTH
@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_if_it_fails_queued_jobs_end_with_broken_thread_pool(
    make_pool: MakePool, kind: type[fastpool.Pool], error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    initializer = Refuses(error)
    pool = make_pool(2, initializer=initializer, kind=kind)
    ran: list[int] = []
    futures = [pool.submit(ran.append, i) for i in range(5)]
    native = pool.submit(kernels.identity, 1.0)
    initializer.go.set()
    for future in [*futures, native]:
        assert isinstance(future.exception(WAIT), BrokenThreadPool)
        with pytest.raises(BrokenThreadPool):
            future.result()
    for submit in (pool.submit, pool.post):
        with pytest.raises(BrokenThreadPool):
            submit(ran.append, 9)
    with pytest.raises(BrokenThreadPool):
        pool.submit_many(ran.append, [1])
    with pytest.raises(BrokenThreadPool):
        list(pool.map(ran.append, [1]))
    with pytest.raises(BrokenThreadPool):
        pool.map_array(kernels.identity, [1.0])
    assert ran == []
    assert pool.shutdown(timeout=WAIT)
    assert "in the initializer" in caplog.text
    assert isinstance(BrokenThreadPool(), concurrent.futures.BrokenExecutor)


def test_if_it_fails_every_kind_of_waiter_is_freed(make_pool: MakePool) -> None:
    initializer = Refuses()
    pool = make_pool(1, initializer=initializer, queue_size=4)
    future = pool.submit(int)
    called = threading.Event()
    future.add_done_callback(lambda _: called.set())
    results = pool.map(int, ["1"] * 5)
    array = pool.submit_array(kernels.identity, [1.0] * 5)
    pool.post(int)
    waiters = [
        in_thread(future.result),
        in_thread(next, results),
        in_thread(array.result),
        in_thread(pool.submit, int),  # blocked: the queue is full
        in_thread(pool.submit_many, int, ["1"]),
    ]
    idle, waited = in_thread(pool.wait_idle), in_thread(concurrent.futures.wait, [future, array], WAIT)
    initializer.go.set()
    for waiter in waiters:
        with pytest.raises(BrokenThreadPool):
            waiter()
    assert idle() is True
    assert waited().done == {future, array}
    reached(called)
    assert pool.wait_idle(WAIT)
    metrics = pool.metrics()
    assert metrics.jobs_submitted == metrics.jobs_failed + metrics.jobs_cancelled == 12


def test_if_it_fails_in_a_later_worker_running_jobs_still_end(make_pool: MakePool) -> None:
    fail, started, go = threading.Event(), threading.Event(), threading.Event()

    def initializer() -> None:
        if fail.is_set():
            raise ValueError

    def job() -> int:
        started.set()
        reached(go)
        return 5

    pool = make_pool(16, initializer=initializer)
    running = pool.submit(job)
    reached(started)
    fail.set()
    # Now there is a backlog, further workers start, and the first of them fails.
    queued: list[Any] = []
    with pytest.raises(BrokenThreadPool):
        while len(queued) < 1000:
            queued.append(pool.submit(reached, go))
            concurrent.futures.wait(queued, 0.01)
    assert not running.done()
    go.set()
    assert running.result(WAIT) == 5
    for future in queued:
        assert isinstance(future.exception(WAIT), (BrokenThreadPool, type(None)))
    assert pool.shutdown(timeout=WAIT)


def test_a_broken_pool_harms_no_other(make_pool: MakePool) -> None:
    """The standard library's process pools once shared a flag."""
    initializer = Refuses()
    broken, good = make_pool(1, initializer=initializer), make_pool(1)
    initializer.go.set()
    with pytest.raises(BrokenThreadPool):
        broken.submit(int).result(WAIT)
    assert good.submit(int).result(WAIT) == 0


def test_an_initializer_may_submit_to_its_pool(make_pool: MakePool) -> None:
    ran = threading.Event()
    pool = make_pool(1, initializer=lambda: pool.post(ran.set))
    assert pool.submit(int).result(WAIT) == 0
    reached(ran)


@BOTH
@pytest.mark.parametrize("initializer", [5, "print", ()])
def test_what_cannot_be_called_is_no_initializer(kind: type[fastpool.Pool], initializer: Any) -> None:
    with pytest.raises(TypeError, match="initializer"):
        kind(1, "", initializer)


def test_initargs_that_do_not_fit_break_the_pool(make_pool: MakePool) -> None:
    pool = make_pool(1, initializer=int, initargs=("1", "2", "3", "4"))
    with pytest.raises(BrokenThreadPool):
        pool.submit(int).result(WAIT)


@BOTH
def test_initargs_that_are_no_sequence_are_refused_by_name(kind: type[fastpool.Pool]) -> None:
    with pytest.raises(TypeError, match="initargs"):
        kind(1, "", print, 5)  # type: ignore[arg-type]
