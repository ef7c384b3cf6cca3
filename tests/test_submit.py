"""submit, submit_many and post: what goes in arrives, and runs in the workers."""

from __future__ import annotations

import concurrent.futures
import functools
import operator
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import WAIT, Held, reached

import fastpool

MakePool = Callable[..., fastpool.Pool]

arguments = st.lists(
    st.none() | st.integers() | st.text(max_size=3) | st.tuples() | st.dictionaries(st.text(), st.none())
)
keywords = st.dictionaries(st.text(max_size=5), st.integers(), max_size=4)


def echo(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


@given(args=arguments, kwargs=keywords)
def test_a_job_gets_the_arguments_it_was_submitted_with(args: list[Any], kwargs: dict[str, Any]) -> None:
    with fastpool.Pool(1) as pool:
        assert pool.submit(echo, *args, **kwargs).result(WAIT) == (tuple(args), kwargs)


@pytest.mark.parametrize("names", [("fn",), ("self",), ("args", "kwargs"), ("timeout", "priority")])
def test_no_keyword_is_kept_from_the_job(single: fastpool.Pool, names: tuple[str, ...]) -> None:
    given = dict.fromkeys(names, 1)
    assert single.submit(echo, **given).result(WAIT) == ((), given)


def test_a_result_is_the_object_itself(pool: fastpool.Pool) -> None:
    thing = object()
    assert pool.submit(lambda x: x, thing).result(WAIT) is thing
    assert pool.submit(lambda: None).result(WAIT) is None


class Adder:
    def __init__(self, base: int = 5) -> None:
        self.base = base

    def __call__(self, x: int) -> int:
        return self.base + x

    def method(self, x: int) -> int:
        return self.base + x

    @classmethod
    def of_class(cls, x: int) -> int:
        return 5 + x

    @staticmethod
    def static(x: int) -> int:
        return 5 + x


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: 5 + x,
        functools.partial(operator.add, 5),
        (5).__add__,
        Adder(),
        Adder().method,
        Adder.of_class,
        Adder.static,
        functools.lru_cache(lambda x: 5 + x),
    ],
    ids=["lambda", "partial", "slot", "object", "method", "classmethod", "staticmethod", "lru_cache"],
)
def test_anything_callable_is_a_job(pool: fastpool.Pool, fn: Callable[[int], int]) -> None:
    assert pool.submit(fn, 2).result(WAIT) == 7
    assert [future.result(WAIT) for future in pool.submit_many(fn, [2, 3])] == [7, 8]
    assert list(pool.map(fn, [2, 3])) == [7, 8]


def test_a_class_is_a_job_too(pool: fastpool.Pool) -> None:
    assert pool.submit(int, "12", base=3).result(WAIT) == 5


def test_a_future_is_one_of_the_standard_library(pool: fastpool.Pool) -> None:
    future = pool.submit(int)
    assert isinstance(future, fastpool.Future)
    assert isinstance(future, concurrent.futures.Future)
    assert future.result(WAIT) == 0


def test_a_job_runs_in_a_worker_and_not_in_its_submitter(pool: fastpool.Pool) -> None:
    assert pool.submit(threading.get_ident).result(WAIT) != threading.get_ident()


def test_as_many_jobs_run_at_once_as_there_are_workers(make_pool: MakePool) -> None:
    for workers in (1, 2, 16):
        barrier = threading.Barrier(workers)
        pool = make_pool(workers)
        futures = [pool.submit(barrier.wait, WAIT) for _ in range(workers)]
        assert sorted(future.result(WAIT) for future in futures) == list(range(workers))


def test_no_queued_job_is_left_to_a_worker_that_sleeps(make_pool: MakePool) -> None:
    """Each round needs all workers at once, in whatever state the last round has left them."""
    for workers, pools, rounds in ((2, 150, 4), (2, 1, 1500), (3, 50, 20)):
        for _ in range(pools):
            with fastpool.Pool(workers) as pool:
                for _ in range(rounds):
                    barrier = threading.Barrier(workers)
                    for future in [pool.submit(barrier.wait, WAIT) for _ in range(workers)]:
                        future.result(WAIT)


def test_no_more_jobs_run_at_once_than_there_are_workers(make_pool: MakePool) -> None:
    pool = make_pool(2)
    running, most, lock = 0, 0, threading.Lock()

    def job() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0)  # let the others in
        with lock:
            running -= 1

    for future in pool.submit_many(lambda _: job(), range(500)):
        future.result(WAIT)
    assert 1 <= most <= 2
    assert pool.metrics().workers <= 2


def test_a_pool_has_no_thread_before_its_first_job(make_pool: MakePool) -> None:
    pool = make_pool(4)
    assert pool.metrics().workers == 0
    assert pool.submit(int).result(WAIT) == 0
    assert pool.metrics().workers >= 1


def test_default_size_is_the_cpus_this_process_may_use() -> None:
    script = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); import fastpool; print(fastpool.Pool())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=WAIT, check=True)
    assert "max_workers=1>" in done.stdout
    with fastpool.Pool() as pool:
        assert 1 <= pool._max_workers <= len(os.sched_getaffinity(0))


# --- submit_many ---


def test_submit_many_is_as_if_zipped(pool: fastpool.Pool) -> None:
    futures = pool.submit_many(echo, range(5), "abc", iter([None] * 9))
    assert [future.result(WAIT) for future in futures] == [((i, "abc"[i], None), {}) for i in range(3)]


def test_submit_many_passes_a_tuple_as_one_argument(pool: fastpool.Pool) -> None:
    futures = pool.submit_many(echo, [(1, 2), (), None])
    assert [future.result(WAIT) for future in futures] == [(((1, 2),), {}), (((),), {}), ((None,), {})]


def test_submit_many_of_nothing_is_no_job(pool: fastpool.Pool) -> None:
    assert pool.submit_many(echo, []) == []
    assert pool.submit_many(echo, [], [1]) == []
    assert pool.metrics().jobs_submitted == 0


def test_an_iterable_that_fails_queues_nothing(pool: fastpool.Pool) -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError

    for start in (pool.submit_many, pool.map):
        with pytest.raises(ZeroDivisionError):
            start(echo, failing())
    assert pool.metrics().jobs_submitted == 0


# --- post ---


def test_post_returns_nothing_and_runs_the_job(pool: fastpool.Pool) -> None:
    ran = threading.Event()
    assert pool.post(ran.set) is None
    reached(ran)


@given(args=arguments, kwargs=keywords)
def test_a_posted_job_gets_its_arguments(args: list[Any], kwargs: dict[str, Any]) -> None:
    seen: list[Any] = []
    with fastpool.Pool(1) as pool:
        pool.post(lambda *a, **k: seen.append((a, k)), *args, **kwargs)
    assert seen == [(tuple(args), kwargs)]


# --- a pool that grows and shrinks ---


def test_a_backlog_brings_up_workers_to_the_most(make_pool: MakePool) -> None:
    pool = make_pool(4, min_workers=1)
    barrier = threading.Barrier(4)
    futures = [pool.submit(barrier.wait, WAIT) for _ in range(4)]
    assert sorted(future.result(WAIT) for future in futures) == [0, 1, 2, 3]


class SaysWhenGone:
    """A thread-local value of this type tells of its thread's end."""

    def __init__(self, gone: threading.Semaphore) -> None:
        self.gone = gone

    def __del__(self) -> None:
        self.gone.release()


def test_surplus_workers_leave_when_idle_and_come_back(make_pool: MakePool) -> None:
    pool = make_pool(3, min_workers=1, idle_timeout=0.0)
    gone = threading.Semaphore(0)
    local = threading.local()

    def job(barrier: threading.Barrier) -> None:
        local.mark = SaysWhenGone(gone)
        barrier.wait(WAIT)

    for _ in range(3):
        barrier = threading.Barrier(3)
        for future in [pool.submit(job, barrier) for _ in range(3)]:
            future.result(WAIT)
        for _ in range(2):
            assert gone.acquire(timeout=WAIT), "a worker that nothing needs did not leave"
    assert pool.submit(int).result(WAIT) == 0


def test_no_worker_of_a_fixed_pool_leaves(make_pool: MakePool) -> None:
    pool = make_pool(2, idle_timeout=0.0)
    barrier = threading.Barrier(2)

    def ident() -> int:
        barrier.wait(WAIT)
        return threading.get_ident()

    rounds = [{future.result(WAIT) for future in [pool.submit(ident) for _ in range(2)]} for _ in range(20)]
    assert all(idents == rounds[0] for idents in rounds)


# --- order ---


def test_jobs_of_one_submitter_start_in_the_order_of_their_submits(single: fastpool.Pool) -> None:
    started: list[int] = []
    for i in range(3000):
        single.post(started.append, i)
    single.submit(int).result(WAIT)
    assert started == list(range(3000))


@pytest.mark.parametrize("queue_size", [3, 8192, None])
def test_each_of_several_submitters_keeps_its_order(make_pool: MakePool, queue_size: int | None) -> None:
    pool = make_pool(1, queue_size=queue_size)
    started: list[tuple[int, int]] = []

    def submit_all(who: int) -> None:
        for i in range(400):
            pool.post(started.append, (who, i))

    threads = [threading.Thread(target=submit_all, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pool.submit(int).result(WAIT)
    assert len(started) == 1600
    for who in range(4):
        assert [i for by, i in started if by == who] == list(range(400))


def test_order_holds_when_the_queue_overflows_its_ring(make_pool: MakePool) -> None:
    """An unbounded pool's ring holds 65,536 jobs; beyond it they go by way of a list."""
    pool = make_pool(1, queue_size=None)
    started: list[int] = []
    n = 70_000
    with Held(pool):
        pool.submit_many(started.append, range(n))
        assert pool.metrics().queue_depth == n
    pool.submit(int).result(WAIT)
    assert started == list(range(n))


def test_with_several_workers_jobs_are_taken_in_order(make_pool: MakePool) -> None:
    """Each worker sees rising numbers, for all take from one queue."""
    pool = make_pool(4)
    seen: dict[int, list[int]] = {}

    def job(i: int) -> None:
        seen.setdefault(threading.get_ident(), []).append(i)

    for future in pool.submit_many(job, range(3000)):
        future.result(WAIT)
    assert sum(map(len, seen.values())) == 3000
    assert all(numbers == sorted(numbers) for numbers in seen.values())
