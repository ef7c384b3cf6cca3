"""How many workers there are: by backlog, by idle time and by resize(); nothing is lost or runs twice meanwhile."""

from __future__ import annotations

import ctypes
import math
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support import WAIT, Held, idle_metrics, in_thread, os_threads, until

import fastpool
from fastpool import BrokenThreadPool, kernels

MakePool = Callable[..., fastpool.Pool]


def bring_up(pool: fastpool.Pool, workers: int) -> None:
    """All of them have started and are free again."""
    barrier = threading.Barrier(workers)
    for future in [pool.submit(barrier.wait, WAIT) for _ in range(workers)]:
        future.result(WAIT)


class Gated:
    """Calls that each wait for a token, of each way to submit many at once; and how many wait at a time."""

    def __init__(self) -> None:
        self.tokens = threading.Semaphore(0)
        self.lock = threading.Lock()
        self.inside = self.ended = 0
        self.seen: Counter[int] = Counter()
        self.kernel = fastpool.kernel(ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(self.call))
        range_type = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
        self.range = fastpool.kernel(range_type(self.call_range))

    def call(self, x: float) -> float:
        with self.lock:
            self.inside += 1
            self.seen[int(x)] += 1
        assert self.tokens.acquire(timeout=WAIT)
        with self.lock:
            self.inside -= 1
            self.ended += 1
        return x

    def call_range(self, begin: int, end: int, _: Any) -> int:
        for i in range(begin, end):
            self.call(i)
        return 0

    def start(self, way: str, pool: fastpool.Pool, n: int) -> Callable[[], Any]:
        """Begin `n` calls; what is returned waits for them."""
        xs = np.arange(float(n))
        if way == "submit":
            futures: list[Any] = [pool.submit(self.call, x) for x in range(n)]
            return lambda: [future.result(WAIT) for future in futures]
        if way == "map":
            results = pool.map(self.call, range(n))
            return lambda: list(results)
        if way == "submit_many":
            futures = pool.submit_many(self.call, range(n))
            return lambda: [future.result(WAIT) for future in futures]
        if way == "kernels":
            futures = pool.submit_many(self.kernel, xs)
            return lambda: [future.result(WAIT) for future in futures]
        if way == "array":
            array = pool.submit_array(self.kernel, xs, grain=1)
            return lambda: list(array.result(WAIT))
        assert way == "range"
        finish = in_thread(lambda: pool.parallel_for(self.range, n, grain=1))
        return lambda: finish() or list(range(n))

    def open(self) -> None:
        self.tokens.release(100_000)


WAYS = ["submit", "map", "submit_many", "kernels", "array", "range"]
# One record for all calls, and each call a piece of its own.
RANGES = ["map", "array", "range"]
EACH_WAY = pytest.mark.parametrize("way", WAYS)


# --- by backlog ---


def test_there_is_a_worker_for_each_job_that_would_wait(make_pool: MakePool) -> None:
    """And one more where a job came before a worker had parked, or its first had started."""
    pool = make_pool(8, min_workers=1)
    held = [Held(pool)]
    for workers in range(1, 9):
        assert workers <= pool.metrics().workers <= 8
        if workers < 8:
            held.append(Held(pool))
    pool.submit(int)
    assert pool.metrics().workers == 8
    for each in held:
        each.release()


@EACH_WAY
def test_workers_blocked_in_io_do_not_keep_a_backlog_from_being_served(make_pool: MakePool, way: str) -> None:
    pool = make_pool(4, min_workers=2)
    with Held(pool, 2):
        gated = Gated()
        finish = gated.start(way, pool, 40)
        until(lambda: gated.inside == 2 or (way == "kernels" and gated.inside))
        gated.open()
        assert finish() == list(range(40))
        assert pool.metrics().active_workers >= 2


def test_one_after_the_other_one_worker_is_enough(make_pool: MakePool) -> None:
    pool = make_pool(8, min_workers=1)
    for _ in range(200):
        pool.submit(int).result(WAIT)
        pool.wait_idle(WAIT)
    assert pool.metrics().workers <= 3, "it may not have been parked yet when the next job came"


def test_growth_takes_less_than_a_millisecond(make_pool: MakePool, capsys: pytest.CaptureFixture[str]) -> None:
    """From the submit that finds all workers blocked to the job's start on a new one. The least of many."""
    took: list[float] = []
    for _ in range(30):
        pool = make_pool(2, min_workers=1)
        with Held(pool):
            began = time.perf_counter()
            took.append(pool.submit(time.perf_counter).result(WAIT) - began)
    took.sort()
    with capsys.disabled():
        print(f" [growth: {took[0] * 1e6:.0f} us at best, {took[15] * 1e6:.0f} us in the middle]", end="")
    assert took[0] < 0.001


# --- by idle time ---


@pytest.mark.parametrize("idle_timeout", [0.0, 0.05])
def test_idle_workers_leave_the_process_down_to_the_fewest(make_pool: MakePool, idle_timeout: float) -> None:
    before = os_threads()
    pool = make_pool(6, min_workers=2, idle_timeout=idle_timeout)
    barrier = threading.Barrier(6)
    for future in [pool.submit(barrier.wait, WAIT) for _ in range(6)]:
        future.result(WAIT)
    began = time.monotonic()
    until(lambda: pool.metrics().workers == 2)
    assert time.monotonic() - began >= idle_timeout / 2 if idle_timeout else True
    if before:
        until(lambda: os_threads() <= before + 2)
    assert pool.submit(int).result(WAIT) == 0


def test_no_worker_leaves_before_its_time(make_pool: MakePool) -> None:
    for idle_timeout in (60.0, math.inf):
        pool = make_pool(4, min_workers=1, idle_timeout=idle_timeout)
        bring_up(pool, 4)
        for _ in range(50):
            pool.submit(int).result(WAIT)
        assert pool.metrics().workers == 4


def test_a_pool_breathes_with_its_load(make_pool: MakePool) -> None:
    pool = make_pool(5, min_workers=1, idle_timeout=0.0)
    for _ in range(10):
        barrier = threading.Barrier(5)
        for future in [pool.submit(barrier.wait, WAIT) for _ in range(5)]:
            future.result(WAIT)
        until(lambda: pool.metrics().workers == 1)
    assert idle_metrics(pool).jobs_processed == 50


def test_workers_that_come_and_go_lose_nothing(make_pool: MakePool, fast_switching: None) -> None:
    """With no idle time they leave at each lull, and each lull is a race of a submit with a worker on its way out."""
    pool = make_pool(4, min_workers=1, idle_timeout=0.0)
    ran: list[int] = []

    def produce(first: int) -> None:
        for i in range(first, first + 300):
            pool.post(ran.append, i)
            if i % 7 == 0:
                pool.submit(int).result(WAIT)

    for finish in [in_thread(produce, first) for first in (0, 300, 600)]:
        finish()
    idle_metrics(pool)
    assert sorted(ran) == list(range(900))


# --- resize: up ---


@EACH_WAY
def test_resize_up_serves_a_backlog_at_once(make_pool: MakePool, way: str) -> None:
    pool, gated = make_pool(1), Gated()
    finish = gated.start(way, pool, 40)
    until(lambda: gated.inside == 1)
    pool.resize(max_workers=6)
    if way == "kernels":  # how many are taken together is measured by the first, which has not ended
        until(lambda: gated.inside > 1)
    else:
        until(lambda: gated.inside == 6)
        assert pool.metrics().workers == 6
    gated.open()
    assert finish() == list(range(40))
    assert set(gated.seen.values()) == {1}


def test_resize_up_starts_the_fewest_without_a_job(make_pool: MakePool) -> None:
    pool = make_pool(8, min_workers=1, idle_timeout=0.0)
    pool.resize(min_workers=5)
    assert pool.metrics().workers == 0, "a pool has no thread before its first job"
    pool.submit(int).result(WAIT)
    pool.resize(min_workers=3)
    assert pool.metrics().workers >= 3
    until(lambda: pool.metrics().workers == 3)
    pool.resize(min_workers=6)
    assert pool.metrics().workers == 6
    before = os_threads()
    pool.resize(min_workers=1)
    until(lambda: pool.metrics().workers == 1)
    if before:
        until(lambda: os_threads() <= before - 5)


def test_resize_up_of_an_idle_pool_waits_for_work(make_pool: MakePool) -> None:
    pool = make_pool(2, min_workers=1)
    pool.submit(int).result(WAIT)
    before = pool.metrics().workers
    pool.resize(max_workers=8)
    assert pool.metrics().workers == before
    bring_up(pool, 8)


def test_resize_up_after_having_been_down_starts_workers_anew(make_pool: MakePool) -> None:
    pool = make_pool(6)
    for _ in range(10):
        bring_up(pool, 6)
        pool.resize(max_workers=1)
        until(lambda: pool.metrics().workers == 1)
        assert pool.submit(int).result(WAIT) == 0
        pool.resize(max_workers=6)
    assert idle_metrics(pool).jobs_processed == 70


def test_resize_far_beyond_what_the_pool_was_made_for(make_pool: MakePool) -> None:
    pool = make_pool(1)
    pool.submit(int).result(WAIT)
    pool.resize(max_workers=100)
    barrier = threading.Barrier(100)
    assert sorted(future.result(WAIT) for future in [pool.submit(barrier.wait, WAIT) for _ in range(100)]) == list(
        range(100)
    )
    pool.resize(max_workers=1)
    until(lambda: pool.metrics().workers == 1)


# --- resize: down ---


def test_parked_workers_leave_the_process_at_once(make_pool: MakePool) -> None:
    before = os_threads()
    pool = make_pool(8, idle_timeout=math.inf)
    bring_up(pool, 8)
    pool.resize(max_workers=3)
    until(lambda: pool.metrics().workers == 3)
    if before:
        until(lambda: os_threads() <= before + 3)
    bring_up(pool, 3)


@EACH_WAY
def test_workers_leave_in_the_middle_of_a_long_run(make_pool: MakePool, way: str) -> None:
    """Each after the call that it is at: of six that wait in a call, the first four to come back are gone."""
    pool, gated = make_pool(6), Gated()
    bring_up(pool, 6)
    threads = os_threads()
    finish = gated.start(way, pool, 300)
    if way == "kernels":  # of which a worker takes some together
        until(lambda: gated.inside)
    else:
        until(lambda: gated.inside == 6)
    pool.resize(max_workers=2)
    if way in RANGES or way == "submit":
        assert pool.metrics().workers == 6, "nobody is free yet"
        gated.tokens.release(4)
        until(lambda: pool.metrics().workers == 2)
        until(lambda: gated.inside == 2)
        assert gated.ended == 4
        if threads and way != "range":  # whose caller is a thread too
            until(lambda: os_threads() <= threads - 4)
    gated.open()
    assert finish() == list(map(float, range(300)))
    until(lambda: pool.metrics().workers == 2)
    assert set(gated.seen.values()) == {1}


def test_no_more_run_at_once_than_there_are_places(make_pool: MakePool) -> None:
    pool = make_pool(8)
    bring_up(pool, 8)
    pool.resize(max_workers=3)
    until(lambda: pool.metrics().workers == 3)
    lock, at_once, most = threading.Lock(), 0, 0

    def job(_: int) -> None:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0)
        with lock:
            at_once -= 1

    list(pool.map(job, range(300)))
    for future in pool.submit_many(job, range(300)):
        future.result(WAIT)
    assert most <= 3


def test_down_to_one_with_all_blocked_the_last_one_serves_the_rest(make_pool: MakePool) -> None:
    pool = make_pool(4)
    with Held(pool, 4):
        futures = pool.submit_many(int, ["1"] * 50)
        pool.resize(max_workers=1)
    assert sum(future.result(WAIT) for future in futures) == 50
    until(lambda: pool.metrics().workers == 1)


def test_threads_that_left_take_their_thread_local_values_with_them(make_pool: MakePool) -> None:
    gone, local = threading.Semaphore(0), threading.local()

    class Mark:
        def __del__(self) -> None:
            gone.release()

    pool, barrier = make_pool(4), threading.Barrier(4)

    def job() -> None:
        local.mark = Mark()
        barrier.wait(WAIT)

    for future in [pool.submit(job) for _ in range(4)]:
        future.result(WAIT)
    pool.resize(max_workers=1)
    for _ in range(3):
        assert gone.acquire(timeout=WAIT)
    assert not gone.acquire(blocking=False)


# --- resize: what may be given ---


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ({"max_workers": 0}, ValueError, "max_workers"),
        ({"max_workers": -1}, ValueError, "max_workers"),
        ({"max_workers": 10**9}, ValueError, "max_workers"),
        ({"max_workers": 10**30}, ValueError, "max_workers"),
        ({"max_workers": 1.0}, TypeError, "max_workers"),
        ({"max_workers": "2"}, TypeError, "max_workers"),
        ({"min_workers": 0}, ValueError, "min_workers"),
        ({"min_workers": 5}, ValueError, "min_workers"),
        ({"min_workers": "2"}, TypeError, "min_workers"),
        ({"min_workers": math.nan}, TypeError, "min_workers"),
        ({"max_workers": 2, "min_workers": 3}, ValueError, "min_workers"),
        ({"max_workers": 9, "min_workers": -1}, ValueError, "min_workers"),
    ],
)
def test_a_bad_number_is_refused_by_name_and_changes_nothing(
    make_pool: MakePool, given: dict[str, Any], error: type[Exception], match: str
) -> None:
    pool = make_pool(4, min_workers=1)
    with pytest.raises(error, match=match):
        pool.resize(**given)
    with Held(pool, 4):
        extra = pool.submit(int)
        assert (pool.metrics().workers, pool.metrics().queue_depth) == (4, 1)
    assert extra.result(WAIT) == 0


def test_numbers_are_given_by_name(make_pool: MakePool) -> None:
    with pytest.raises(TypeError):
        make_pool(4).resize(2)  # type: ignore[misc]


def test_what_is_not_given_stays_as_it_is(make_pool: MakePool) -> None:
    pool = make_pool(4, min_workers=2)
    pool.resize()
    assert pool._sizes() == (2, 4)
    pool.resize(max_workers=6)
    assert pool._sizes() == (2, 6)
    pool.resize(max_workers=1)
    assert pool._sizes() == (1, 1), "a minimum gives way"
    pool.resize(min_workers=2, max_workers=3)
    assert pool._sizes() == (2, 3)
    assert "max_workers=3" in repr(pool)


def test_a_fixed_pool_stays_a_fixed_one(make_pool: MakePool) -> None:
    pool = make_pool(4, idle_timeout=0.0)
    bring_up(pool, 4)
    pool.resize(max_workers=6)
    assert pool._sizes() == (6, 6)
    assert pool.metrics().workers == 6, "all of them are the fewest"
    bring_up(pool, 6)
    pool.resize(max_workers=2)
    until(lambda: pool.metrics().workers == 2)
    for _ in range(20):
        bring_up(pool, 2)
    pool.resize(min_workers=1)
    until(lambda: pool.metrics().workers == 1)


def test_the_drop_in_is_resized_too(make_pool: MakePool) -> None:
    pool = make_pool(3, kind=fastpool.ThreadPoolExecutor)
    bring_up(pool, 3)
    with Held(pool, 3):
        futures = [pool.submit(int) for _ in range(100)]
        pool.resize(max_workers=5)
        assert [future.result(WAIT) for future in futures] == [0] * 100
    pool.resize(max_workers=1)
    until(lambda: pool.metrics().workers == 1)
    assert list(pool.map(int, "123")) == [1, 2, 3]
    assert list(pool.imap_unordered(int, "111")) == [1, 1, 1]


# --- resize: when, and from where ---


def test_resize_while_the_pool_shuts_down(make_pool: MakePool) -> None:
    for size in (1, 2, 8):
        pool = make_pool(4)
        with Held(pool, 2):
            futures = pool.submit_many(int, ["1"] * 100)
            assert pool.shutdown(wait=False) is False
            pool.resize(max_workers=size)
            pool.resize(min_workers=1)
        assert pool.shutdown(timeout=WAIT) is True
        assert sum(future.result(0) for future in futures) == 100
        assert pool.metrics().workers == 0


def test_resize_in_a_race_with_shutdown() -> None:
    for round in range(60):
        pool = fastpool.Pool(1 + round % 4)
        futures = pool.submit_many(int, ["1"] * 20)
        resizes = [in_thread(lambda n=n, pool=pool: pool.resize(max_workers=n)) for n in (1, 5)]
        assert pool.shutdown(timeout=WAIT) is True
        for resized in resizes:
            resized()
        assert sum(future.result(0) for future in futures) == 20
        assert pool.metrics().workers == 0


def test_resize_of_a_pool_that_has_ended_starts_nothing(make_pool: MakePool) -> None:
    pool = make_pool(2)
    pool.submit(int).result(WAIT)
    assert pool.shutdown() is True
    pool.resize(max_workers=8)
    pool.resize(min_workers=8)
    assert pool.metrics().workers == 0
    assert pool.shutdown() is True


def test_resize_of_a_broken_pool_starts_nothing(make_pool: MakePool) -> None:
    pool = make_pool(1, initializer=int, initargs=("x",))
    with pytest.raises(BrokenThreadPool):
        pool.submit(int).result(WAIT)
    pool.resize(max_workers=4)
    with pytest.raises(BrokenThreadPool):
        pool.submit(int)
    until(lambda: pool.metrics().workers == 0)


def test_the_initializer_runs_in_each_worker_that_resize_starts(make_pool: MakePool) -> None:
    ran: list[int] = []
    local = threading.local()

    def initializer() -> None:
        ran.append(threading.get_native_id())
        local.ready = True

    pool = make_pool(2, initializer=initializer)
    bring_up(pool, 2)
    pool.resize(max_workers=4)
    bring_up(pool, 4)
    pool.resize(max_workers=1)
    until(lambda: pool.metrics().workers == 1)
    pool.resize(max_workers=3)
    bring_up(pool, 3)
    until(lambda: len(ran) == 6)
    assert all(pool.map(lambda _: local.ready, range(50)))


def test_an_initializer_that_fails_in_a_worker_of_resize_breaks_the_pool(make_pool: MakePool) -> None:
    fail = threading.Event()

    def initializer() -> None:
        if fail.is_set():
            raise ValueError

    pool = make_pool(1, initializer=initializer)
    with Held(pool) as held:
        queued = pool.submit(int)
        fail.set()
        pool.resize(max_workers=2)
        assert isinstance(queued.exception(WAIT), BrokenThreadPool)
    assert held.futures[0].exception(WAIT) is None
    assert pool.shutdown(timeout=WAIT)


def test_a_job_may_resize_its_pool(make_pool: MakePool) -> None:
    pool = make_pool(2)

    def job() -> int:
        pool.resize(max_workers=1)
        pool.resize(max_workers=4)
        return pool.submit(int, "5").result(WAIT)

    assert [future.result(WAIT) for future in [pool.submit(job) for _ in range(20)]] == [5] * 20
    pool.submit(lambda: pool.resize(max_workers=1)).result(WAIT)
    until(lambda: pool.metrics().workers == 1)


def test_a_job_that_waits_runs_its_jobs_itself_where_all_others_have_left(make_pool: MakePool) -> None:
    pool = make_pool(4)
    bring_up(pool, 4)

    def job() -> int:
        pool.resize(max_workers=1)
        futures = pool.submit_many(int, ["1"] * 50)
        return sum(future.result(WAIT) for future in futures) + sum(pool.map(int, ["1"] * 50))

    assert pool.submit(job).result(WAIT) == 100


def test_a_signal_handler_may_resize(make_pool: MakePool) -> None:
    """Also one that comes while the main thread is in resize() itself."""
    pool = make_pool(2)
    bring_up(pool, 2)
    before = signal.signal(signal.SIGALRM, lambda *_: pool.resize(max_workers=3))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            pool.resize(max_workers=2)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    pool.resize(max_workers=2)
    until(lambda: pool.metrics().workers == 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # from 3.12 on: fork in a process with threads
def test_resize_in_a_forked_child_is_refused_though_a_thread_was_in_it(make_pool: MakePool) -> None:
    pool = make_pool(2)
    with pool._resizing:  # as another thread of the parent may hold it, that is not in the child
        child = os.fork()
        if child == 0:
            signal.alarm(10)  # ends a child that hangs
            code = 1
            try:
                for method in (pool.resize, pool.pause, pool.resume):
                    finish = in_thread(method)
                    try:
                        finish()
                    except fastpool.PoolError:
                        code = 0
                    else:
                        code = 2
                        break
            finally:
                os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.fixture(params=[1, 2, 3])
def seed(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(request.param)


@pytest.mark.parametrize("idle_timeout", [0.0, 5.0])
def test_resized_at_random_from_four_threads_nothing_is_lost_and_nothing_runs_twice(
    make_pool: MakePool, fast_switching: None, seed: random.Random, idle_timeout: float
) -> None:
    pool = make_pool(4, min_workers=2, queue_size=200, idle_timeout=idle_timeout)
    ran: list[int] = []
    stop = threading.Event()
    xs = np.arange(500.0)

    def resize(random: random.Random) -> int:
        calls = 0
        while not stop.is_set():
            most = random.randint(1, 8)
            match random.randrange(4):
                case 0:
                    pool.resize(max_workers=most)
                case 1:
                    pool.resize(min_workers=random.randint(1, most), max_workers=most)
                case 2:
                    pool.resize(min_workers=1)
                case 3:
                    pool.submit(pool.resize, max_workers=most)
            calls += 1
            assert pool.metrics().workers <= 16
            time.sleep(random.choice([0, 0, 0.0005]))
        return calls

    def produce(first: int) -> None:
        for i in range(first, first + 1500, 100):
            for k in range(i, i + 20):
                pool.post(ran.append, k)
            pool.submit_many(ran.append, range(i + 20, i + 40))
            list(pool.map(ran.append, range(i + 40, i + 100)))
            assert (pool.map_array(kernels.identity, xs, grain=1) == xs).all()
            assert pool.submit_array(kernels.identity, xs).result(WAIT).sum() == xs.sum()

    resizers = [in_thread(resize, random.Random(seed.random())) for _ in range(4)]
    producers = [in_thread(produce, first) for first in (0, 1500, 3000)]
    try:
        for produced in producers:
            produced()
    finally:
        stop.set()
    assert min(resizer() for resizer in resizers) > 0
    idle_metrics(pool)  # so the last of the jobs that resize has done so
    assert sorted(ran) == list(range(4500))
    pool.resize(max_workers=1)
    until(lambda: pool.metrics().workers == 1)
