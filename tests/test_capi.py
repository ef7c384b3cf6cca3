"""The C API: fastpool.h from C and from Cython's nogil code, and the two example packages, built on the spot."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import capi
import native
import numpy as np
import pytest
from capi import JOBS_A_PLACE, Group
from support import WAIT, Held, idle_metrics, in_thread, reached
from test_isolated import check

import fastpool

MakePool = Callable[..., fastpool.Pool]

EXAMPLES = Path(__file__).parents[1] / "examples"
SECOND = 10**9

# A wait that would be endless is a failure instead.
LONG = int(WAIT * SECOND)

# One pass with the interpreter let go of, one with it held.
LIBRARIES = pytest.mark.parametrize("library", [capi.free, capi.held], ids=["nogil", "gil"])

# How jobs come into a group.
Way = Callable[[Group, np.ndarray], int]
WAYS: dict[str, Way] = {
    "singly": lambda group, counts: max(group.submit("count", counts[i:]) for i in range(len(counts))),
    "batch": lambda group, counts: group.batch("count", counts, len(counts)),
    "range": lambda group, counts: group.range("count_each", len(counts), counts),
    "range grain": lambda group, counts: group.range("count_each", len(counts), counts, grain=7),
}
EACH_WAY = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())


@pytest.fixture(autouse=True, scope="module")
def compiler() -> str:
    return native.needs_compiler()


def counts_of(n: int) -> np.ndarray:
    return np.zeros(n, np.int64)


class Gate:
    """A job that has started, and does not end before it is released."""

    def __init__(self) -> None:
        self.started, self.release = threading.Event(), threading.Event()

    def job(self, _: Any) -> int:
        self.started.set()
        reached(self.release)
        return 0


# ---- jobs run, once and in order ----


@LIBRARIES
@EACH_WAY
def test_each_job_runs_once(pool: fastpool.Pool, way: Way, library: Callable[[], ctypes.CDLL]) -> None:
    counts = counts_of(1000)
    with Group(pool, library()) as group:
        assert way(group, counts) == capi.OK
        assert group.wait() == capi.OK
    assert counts.tolist() == [1] * 1000
    assert idle_metrics(pool).jobs_processed == 1000


@LIBRARIES
@pytest.mark.parametrize("grain", [0, 1, 2**62])
def test_a_parallel_for_runs_each_index_once(
    pool: fastpool.Pool, grain: int, library: Callable[[], ctypes.CDLL]
) -> None:
    counts = counts_of(1000)
    job, handle = capi.function("count_each"), capi.pool_of(pool)
    assert library().capi_parallel_for(handle, job, 1000, counts.ctypes.data, grain) == capi.OK
    assert library().capi_parallel_for(handle, job, 0, None, grain) == capi.OK
    assert counts.tolist() == [1] * 1000
    assert idle_metrics(pool).jobs_processed == 1000


def test_a_group_is_used_again_after_each_wait(pool: fastpool.Pool) -> None:
    counts = counts_of(50)
    with Group(pool) as group:
        for _ in range(20):
            for way in WAYS.values():
                assert way(group, counts) == capi.OK
            assert group.wait() == capi.OK
    assert counts.tolist() == [80] * 50
    idle_metrics(pool)


def test_nothing_to_do_is_done(pool: fastpool.Pool) -> None:
    with Group(pool) as group:
        assert group.wait() == capi.OK
        assert group.batch("count", None, 0) == capi.OK
        assert group.range("count_each", 0) == capi.OK
        assert group.wait(0) == capi.OK
    assert idle_metrics(pool).jobs_submitted == 0


def test_jobs_of_a_group_start_in_the_order_of_their_submits(single: fastpool.Pool) -> None:
    place, order = counts_of(1), counts_of(600)
    notes = (capi.Note * 600)(*[capi.Note(i, place.ctypes.data, order.ctypes.data) for i in range(600)])
    size = ctypes.sizeof(capi.Note)
    with Group(single) as group:
        with Held(single):
            for i in range(200):
                assert group.submit("note_order", notes[i]) == capi.OK
            assert group.batch("note_order", ctypes.addressof(notes[200]), 200, size) == capi.OK
            for i in range(400, 600):
                assert group.submit("note_order", notes[i]) == capi.OK
        assert group.wait() == capi.OK
    assert order.tolist() == list(range(600))


def test_jobs_may_take_the_interpreter(pool: fastpool.Pool) -> None:
    ran: list[int] = []
    with Group(pool) as group:
        for i in range(20):
            assert group.submit(lambda _, i=i: ran.append(i) or 0) == capi.OK
        assert group.wait(LONG) == capi.OK
    assert sorted(ran) == list(range(20))
    idle_metrics(pool)


def test_groups_of_many_threads_use_one_pool(pool: fastpool.Pool) -> None:
    def use() -> list[int]:
        counts = counts_of(300)
        with Group(pool) as group:
            for way in WAYS.values():
                assert way(group, counts) == capi.OK
            assert group.wait() == capi.OK
        return counts.tolist()

    for result in [in_thread(use) for _ in range(8)]:
        assert result() == [4] * 300
    assert idle_metrics(pool).jobs_processed == 8 * 4 * 300


def test_threads_that_python_has_never_seen_submit_and_wait(pool: fastpool.Pool) -> None:
    counts = [counts_of(100) for _ in range(8)]
    visitors = (capi.Visitor * 8)(*[capi.Visitor(capi.pool_of(pool), one.ctypes.data, -1) for one in counts])
    assert capi.free().in_foreign_threads(ctypes.addressof(visitors), 8) == 0
    assert [visitor.result for visitor in visitors] == [capi.OK] * 8
    assert [one.tolist() for one in counts] == [[4] * 100] * 8
    assert idle_metrics(pool).jobs_processed == 8 * 400


def test_a_thread_that_python_has_never_seen_discards_a_python_job(make_pool: MakePool) -> None:
    pool, counts = make_pool(1, queue_size=1, on_full="discard_oldest"), counts_of(100)
    visitor = capi.Visitor(capi.pool_of(pool), counts.ctypes.data, -1)
    with Held(pool) as held:
        future, discarded = pool.submit(int), threading.Event()
        future.add_done_callback(lambda _: discarded.set())
        visited = in_thread(capi.free().in_foreign_threads, ctypes.addressof(visitor), 1)
        reached(discarded)
        assert future.cancelled()
        held.release()
        assert visited() == 0
    idle_metrics(pool)


# ---- a full queue ----


def fill(group: Group, gate: Gate | None = None) -> None:
    """Take one place of the queue for good, while its workers are held: no more jobs go into it."""
    assert group.batch("count", counts_of(1), 1) == capi.OK


def attempts(group: Group, counts: np.ndarray) -> list[int]:
    return [way(group, counts[:1]) for way in WAYS.values()]


def parallel_for(pool: fastpool.Pool, counts: np.ndarray) -> int:
    return capi.free().capi_parallel_for(
        capi.pool_of(pool), capi.function("count_each"), len(counts), counts.ctypes.data, 0
    )


def test_raise_refuses_what_finds_the_queue_full(make_pool: MakePool) -> None:
    pool, counts = make_pool(1, queue_size=1, on_full="raise"), counts_of(5)
    with Group(pool) as group:
        with Held(pool):
            fill(group)
            assert attempts(group, counts) == [capi.FULL] * 4
            assert parallel_for(pool, counts) == capi.FULL
            assert pool.metrics().jobs_rejected == 5
        assert group.wait() == capi.OK
    assert counts.tolist() == [0] * 5
    assert idle_metrics(pool).jobs_submitted == 2


def test_jobs_one_after_the_other_share_a_place(make_pool: MakePool) -> None:
    pool, counts = make_pool(1, queue_size=1, on_full="raise"), counts_of(1)
    with Group(pool) as group:
        with Held(pool):
            results = [group.submit("count", counts) for _ in range(JOBS_A_PLACE + 1)]
        assert results == [capi.OK] * JOBS_A_PLACE + [capi.FULL]
        assert group.wait() == capi.OK
    assert counts[0] == JOBS_A_PLACE
    assert idle_metrics(pool).jobs_processed == JOBS_A_PLACE + 1


def test_a_submit_gives_up_after_submit_timeout(make_pool: MakePool) -> None:
    pool, counts = make_pool(1, queue_size=1, submit_timeout=0.01), counts_of(5)
    with Group(pool) as group:
        with Held(pool):
            fill(group)
            assert attempts(group, counts) == [capi.TIMED_OUT] * 4
            assert parallel_for(pool, counts) == capi.TIMED_OUT
        assert group.wait() == capi.OK
    assert pool.metrics().jobs_rejected == 5
    assert counts.tolist() == [0] * 5
    idle_metrics(pool)


@LIBRARIES
def test_block_waits_for_room(make_pool: MakePool, library: Callable[[], ctypes.CDLL]) -> None:
    """With the interpreter held, too: room is made by a worker that needs it."""
    pool, counts = make_pool(1, queue_size=1), counts_of(100)
    with Group(pool, library()) as group:
        for way in WAYS.values():
            futures = [pool.submit(int, "1") for _ in range(20)]
            assert way(group, counts) == capi.OK
            assert [future.result(WAIT) for future in futures] == [1] * 20
        assert group.wait(LONG) == capi.OK
    assert counts.tolist() == [4] * 100
    idle_metrics(pool)


@LIBRARIES
def test_caller_runs_what_finds_the_queue_full(make_pool: MakePool, library: Callable[[], ctypes.CDLL]) -> None:
    pool, counts, ran_by = make_pool(1, queue_size=1, on_full="caller_runs"), counts_of(3), []
    with Group(pool, library()) as group:
        with Held(pool):
            fill(group)
            assert attempts(group, counts) == [capi.OK] * 4
            assert group.submit(lambda _: ran_by.append(threading.get_ident()) or 0) == capi.OK
            assert parallel_for(pool, counts) == capi.OK
            assert counts.tolist() == [5, 1, 1]
            assert ran_by == [threading.get_ident()]
        assert group.wait() == capi.OK
    assert idle_metrics(pool).jobs_rejected == 0


def test_caller_runs_remembers_failures(make_pool: MakePool) -> None:
    pool, statuses = make_pool(1, queue_size=1, on_full="caller_runs"), np.array([0, 7], np.int64)
    with Group(pool) as group:
        with Held(pool):
            fill(group)
            assert group.batch("status_at", statuses, 2) == capi.OK
        assert group.wait() == capi.FAILED
        assert group.status() == (7, 1)
    assert idle_metrics(pool).jobs_failed == 1


def test_caller_runs_no_job_of_a_cancelled_group(make_pool: MakePool) -> None:
    pool, counts = make_pool(1, queue_size=1, on_full="caller_runs"), counts_of(1)
    with Group(pool) as group:
        with Held(pool):
            fill(group)
            group.cancel()
            assert attempts(group, counts) == [capi.OK] * 4
            assert counts[0] == 0
        assert group.wait() == capi.CANCELLED
    assert idle_metrics(pool).jobs_cancelled == 5


@LIBRARIES
def test_discard_oldest_cancels_a_python_job(make_pool: MakePool, library: Callable[[], ctypes.CDLL]) -> None:
    pool, counts = make_pool(1, queue_size=1, on_full="discard_oldest"), counts_of(1)
    with Group(pool, library()) as group:
        with Held(pool):
            future = pool.submit(int)
            assert group.submit("count", counts) == capi.OK
            assert future.cancelled()
        assert group.wait() == capi.OK
    assert counts[0] == 1
    metrics = idle_metrics(pool)
    assert (metrics.jobs_cancelled, metrics.jobs_rejected) == (1, 0)


@EACH_WAY
def test_discard_oldest_cancels_jobs_of_the_same_group(make_pool: MakePool, way: Way) -> None:
    pool, counts = make_pool(1, queue_size=1, on_full="discard_oldest"), counts_of(3)
    with Group(pool) as group:
        with Held(pool):
            assert group.batch("status_at", np.ones(4, np.int64), 4) == capi.OK
            assert way(group, counts) == capi.OK
        assert group.wait() == capi.CANCELLED
    assert counts.tolist() == [1] * 3
    assert idle_metrics(pool).jobs_cancelled == 4


# ---- pools that take nothing any more ----


def test_a_pool_that_was_shut_down_is_closed(make_pool: MakePool) -> None:
    pool, counts = make_pool(1), counts_of(2)
    with Group(pool) as group:
        assert pool.shutdown(timeout=WAIT)
        assert attempts(group, counts) == [capi.CLOSED] * 4
        assert parallel_for(pool, counts) == capi.CLOSED
        assert group.batch("count", counts, 0) == capi.CLOSED
        assert group.wait() == capi.OK
    assert counts.tolist() == [0, 0]
    idle_metrics(pool)


def test_a_pool_that_drains_is_closed_for_a_place_that_has_room_too(make_pool: MakePool) -> None:
    pool, counts = make_pool(1), counts_of(1)
    with Group(pool) as group:
        with Held(pool):
            assert group.submit("count", counts) == capi.OK
            pool.shutdown(wait=False)
            assert group.submit("count", counts) == capi.CLOSED
        assert group.wait() == capi.OK
    assert counts[0] == 1
    idle_metrics(pool)


def test_a_group_may_outlive_its_pool(make_pool: MakePool) -> None:
    pool, counts = fastpool.Pool(2), counts_of(1)
    group = Group(pool)
    group._alive.clear()
    assert group.submit("count", counts) == capi.OK
    pool.shutdown()
    del pool
    assert group.submit("count", counts) == capi.CLOSED
    assert group.wait() == capi.OK
    group.free()
    assert counts[0] == 1


def test_a_broken_pool_says_so_and_cancels_what_is_queued(make_pool: MakePool) -> None:
    gate, counts = Gate(), counts_of(3)

    def initializer() -> None:
        gate.job(None)
        raise ValueError("cannot be set up")

    pool = make_pool(1, initializer=initializer)
    with Group(pool) as group:
        for way in WAYS.values():
            assert way(group, counts) == capi.OK
        reached(gate.started)
        gate.release.set()
        assert group.wait(LONG) == capi.CANCELLED
        assert attempts(group, counts) == [capi.BROKEN] * 4
        assert parallel_for(pool, counts) == capi.BROKEN
    assert counts.tolist() == [0] * 3
    assert idle_metrics(pool).jobs_cancelled == 12


# ---- failures ----


def test_a_failed_job_leaves_its_status(pool: fastpool.Pool) -> None:
    statuses = np.array([0, 5, 0], np.int64)
    with Group(pool) as group:
        for i in range(3):
            assert group.submit("status_at", statuses[i:]) == capi.OK
        assert group.wait() == capi.FAILED
        assert group.status() == (5, -1)
    metrics = idle_metrics(pool)
    assert (metrics.jobs_processed, metrics.jobs_failed) == (2, 1)


def test_a_batch_says_which_job_failed(pool: fastpool.Pool) -> None:
    statuses = np.zeros((1000, 3), np.int64)
    statuses[700] = -4
    with Group(pool) as group:
        assert group.batch("status_at", statuses, 1000, stride=24) == capi.OK
        assert group.wait() == capi.FAILED
        assert group.status() == (-4, 700)
    metrics = idle_metrics(pool)
    assert (metrics.jobs_processed, metrics.jobs_failed) == (999, 1)


def test_a_range_says_which_piece_failed(pool: fastpool.Pool) -> None:
    statuses = counts_of(1000)
    statuses[705] = 9
    with Group(pool) as group:
        assert group.range("status_between", 1000, statuses, grain=10) == capi.OK
        assert group.wait() == capi.FAILED
        assert group.status() == (9, 700)
    assert (
        capi.free().capi_parallel_for(
            capi.pool_of(pool), capi.function("status_between"), 1000, statuses.ctypes.data, 10
        )
        == capi.FAILED
    )
    assert idle_metrics(pool).jobs_failed == 20


def test_the_first_failure_stays(single: fastpool.Pool) -> None:
    statuses = np.array([0, 3, 4], np.int64)
    with Group(single) as group:
        with Held(single):
            assert group.batch("status_at", statuses, 3) == capi.OK
            assert group.submit("status_at", statuses[2:]) == capi.OK
        assert group.wait() == capi.FAILED
        assert group.status() == (3, 1)
        assert group.wait() == capi.FAILED, "until the next submit"


@EACH_WAY
def test_the_next_submit_forgets_a_failure(pool: fastpool.Pool, way: Way) -> None:
    with Group(pool) as group:
        assert group.submit("status_at", np.ones(1, np.int64)) == capi.OK
        assert group.wait() == capi.FAILED
        assert way(group, counts_of(5)) == capi.OK
        assert group.wait() == capi.OK
        assert group.status() == (0, -1)


def test_a_failure_counts_for_more_than_a_cancellation(single: fastpool.Pool) -> None:
    counts = counts_of(4)
    with Group(single) as group:
        assert group.submit(lambda _: 6) == capi.OK
        assert group.submit(lambda _: group.cancel() or 0) == capi.OK
        assert group.batch("count", counts, 4) == capi.OK
        assert group.wait() == capi.FAILED
        assert group.status() == (6, -1)
    idle_metrics(single)


# ---- cancelling, waiting with a timeout, freeing ----


@EACH_WAY
def test_what_is_cancelled_in_the_queue_never_starts(pool: fastpool.Pool, way: Way) -> None:
    counts = counts_of(300)
    with Group(pool) as group:
        with Held(pool, pool._max_workers):
            assert way(group, counts) == capi.OK
            assert not group.cancelled()
            group.cancel()
            assert group.cancelled()
            assert group.wait(LONG) == capi.CANCELLED, "while no worker is free"
        assert counts.tolist() == [0] * 300
        assert idle_metrics(pool).jobs_cancelled == 300
        assert way(group, counts) == capi.OK
        assert group.wait() == capi.OK
    assert counts.tolist() == [1] * 300


@EACH_WAY
def test_what_is_submitted_to_a_cancelled_group_is_cancelled(pool: fastpool.Pool, way: Way) -> None:
    counts = counts_of(10)
    with Group(pool) as group:
        for _ in range(2):  # a new group, and one that has been waited for
            group.cancel()
            assert way(group, counts) == capi.OK
            assert group.wait() == capi.CANCELLED
    assert counts.tolist() == [0] * 10
    assert idle_metrics(pool).jobs_cancelled == 20


def test_a_long_job_sees_that_it_is_cancelled(pool: fastpool.Pool) -> None:
    words = counts_of(2)
    with Group(pool) as group:
        words[0] = group.handle
        assert group.submit("until_cancelled", words) == capi.OK
        waited = in_thread(group.wait)
        while words[1] == 0:
            pass
        group.cancel()
        assert waited() == capi.OK, "it has run to its end"
    idle_metrics(pool)


def test_a_wait_gives_up_at_its_timeout(pool: fastpool.Pool) -> None:
    gate = Gate()
    with Group(pool) as group:
        assert group.submit(gate.job) == capi.OK
        reached(gate.started)
        assert [group.wait(0), group.wait(1), group.wait(SECOND // 1000)] == [capi.TIMED_OUT] * 3
        assert group.submit("count", counts_of(1)) == capi.OK
        gate.release.set()
        assert group.wait(LONG) == capi.OK
    idle_metrics(pool)


@pytest.mark.parametrize("workers", [1, 2, 16])
@pytest.mark.parametrize("way", ["submit", "batch", "range"])
def test_a_wait_that_does_not_wait_runs_no_jobs(make_pool: MakePool, workers: int, way: str) -> None:
    """A look at a group must not take as long as its jobs do."""
    pool, ran_by = make_pool(workers), []
    list(pool.map(int, range(100)))  # its workers are there

    def note(*_: Any) -> int:
        ran_by.append(threading.get_ident())
        return 0

    with Group(pool) as group:
        for _ in range(100):
            if way == "range":
                group.range(note, 3, grain=1)
            else:
                group.submit(note) if way == "submit" else group.batch(note, None, 3)
            while group.wait(0) == capi.TIMED_OUT:
                pass
    assert threading.get_ident() not in ran_by


@pytest.mark.parametrize("way", ["submit", "batch", "range"])
def test_a_worker_that_looks_again_and_again_runs_the_jobs(single: fastpool.Pool, way: str) -> None:
    """It is the only one that could."""

    def job() -> int:
        counts = counts_of(200)
        looks = 1
        with Group(single) as group:
            for i in range(200 if way == "submit" else 1):
                if way == "submit":
                    group.submit("count", counts[i:])
                elif way == "batch":
                    group.batch("count", counts, 200)
                else:
                    group.range("count_each", 200, counts)
            while group.wait(0) == capi.TIMED_OUT:
                looks += 1
        assert counts.tolist() == [1] * 200
        return looks

    assert single.submit(job).result(WAIT) <= 201
    idle_metrics(single)


def test_freeing_a_group_cancels_what_is_queued_and_waits_for_what_runs(pool: fastpool.Pool) -> None:
    gate, counts = Gate(), counts_of(500)
    group = Group(pool)
    assert group.submit(gate.job) == capi.OK
    reached(gate.started)
    with Held(pool, pool._max_workers - 1):
        for way in WAYS.values():
            assert way(group, counts) == capi.OK
        freed = in_thread(group.free)
        while not pool.metrics().jobs_cancelled:
            pass
        assert group.handle is not None, "the first job still runs"
        gate.release.set()
        freed()
    assert counts.tolist() == [0] * 500
    metrics = idle_metrics(pool)
    assert (metrics.jobs_cancelled, metrics.jobs_failed) == (2000, 0)


def test_the_first_worker_is_started_by_a_native_job(make_pool: MakePool) -> None:
    for _ in range(20):
        pool, counts = make_pool(2), counts_of(1)
        with Group(pool) as group:
            assert group.submit("count", counts) == capi.OK
            assert group.wait() == capi.OK
        assert pool.shutdown(timeout=WAIT)


# ---- asked to stop ----


def spin_until(words: np.ndarray) -> None:
    """Until a job has begun."""
    end = time.monotonic() + WAIT
    while words[0] == 0:
        assert time.monotonic() < end, "no job has begun"
        time.sleep(0.001)


STOPPING: dict[str, Callable[[Group, str, np.ndarray], int]] = {
    "singly": lambda group, name, words: max(group.submit(name, words) for _ in range(5)),
    "batch": lambda group, name, words: group.batch(name, words, 5, stride=0),
    "range": lambda group, name, words: group.range(f"{name}_range", 5, words, grain=1),
    "one piece": lambda group, name, words: group.range(f"{name}_range", 5, words, grain=5),
}


def test_nothing_runs_so_nothing_should_stop(pool: fastpool.Pool) -> None:
    assert capi.free().capi_should_stop() == capi.held().capi_should_stop() == 0
    assert pool.submit(capi.held().capi_should_stop).result(WAIT) == 0
    assert pool.options(timeout=600).submit(capi.held().capi_should_stop).result(WAIT) == 0
    assert list(pool.map(lambda _: capi.held().capi_should_stop(), range(3))) == [0, 0, 0]


def test_a_job_in_python_may_ask_by_way_of_c(single: fastpool.Pool) -> None:
    ask, begun, asked = capi.held().capi_should_stop, threading.Event(), threading.Event()

    def job() -> int:
        begun.set()
        reached(asked)
        return int(ask())

    future = single.submit(job)
    reached(begun)
    future.cancel()
    asked.set()
    assert future.result(WAIT) == 1


@pytest.mark.parametrize("way", STOPPING.values(), ids=STOPPING.keys())
def test_jobs_of_a_cancelled_group_are_asked_and_end_as_cancelled(pool: fastpool.Pool, way: Any) -> None:
    words = counts_of(2)
    with Group(pool) as group:
        assert way(group, "until_stopped", words) == capi.OK
        spin_until(words)
        group.cancel()
        assert group.wait(LONG) == capi.CANCELLED
        assert group.status() == (0, -1)
        assert way(group, "until_stopped", words) == capi.OK, "the group can be used again"
        group.cancel()
        assert group.wait(LONG) == capi.CANCELLED
    assert words[0] == words[1]
    metrics = idle_metrics(pool)
    assert (metrics.jobs_cancelled, metrics.jobs_failed) == (10, 0)


@pytest.mark.parametrize("way", STOPPING.values(), ids=STOPPING.keys())
def test_jobs_that_stop_well_are_done(single: fastpool.Pool, way: Any) -> None:
    words = counts_of(2)
    with Group(single) as group:
        assert way(group, "until_stopped_well", words) == capi.OK
        spin_until(words)
        group.cancel()
        assert group.wait(LONG) in (capi.OK, capi.CANCELLED)
    metrics = idle_metrics(single)
    assert metrics.jobs_processed >= 1 and metrics.jobs_failed == 0
    assert metrics.jobs_processed + metrics.jobs_cancelled == 5


def test_a_shutdown_asks_the_jobs_of_groups() -> None:
    pool, words = fastpool.Pool(2), counts_of(2)
    with Group(pool) as group:
        assert group.submit("until_stopped", words) == capi.OK
        spin_until(words)
        pool.shutdown(timeout=0)
        assert group.wait(LONG) == capi.CANCELLED
    assert pool.shutdown(timeout=WAIT)
    assert idle_metrics(pool).jobs_cancelled == 1


def test_a_job_that_another_waits_for_is_asked_by_its_own_group(single: fastpool.Pool) -> None:
    """The inner one runs on top of the outer one, and when it has ended the outer one is asked for itself again."""
    seen: list[int] = []
    ask = capi.held().capi_should_stop

    def outer() -> None:
        with Group(single) as group:
            group.submit(lambda _: seen.append(ask()) or group.cancel() or seen.append(ask()) or 0)
            group.wait()
        seen.append(ask())

    single.submit(outer).result(WAIT)
    assert seen == [0, 1, 0]


# ---- with the interpreter held ----


@EACH_WAY
def test_a_wait_with_the_interpreter_held_lets_queued_python_jobs_run(single: fastpool.Pool, way: Way) -> None:
    counts, ran = counts_of(100), []
    with Group(single, capi.held()) as group:
        for i in range(20):
            single.post(ran.append, i)
            assert way(group, counts) == capi.OK
            assert group.wait(LONG) == capi.OK
            assert ran[-1] == i, "it was queued before"
    idle_metrics(single)


def test_jobs_take_the_interpreter_that_the_waiter_held(pool: fastpool.Pool) -> None:
    ran: list[int] = []
    with Group(pool, capi.held()) as group:
        for _ in range(10):
            assert group.submit(lambda _: ran.append(1) or 0) == capi.OK
        assert group.range(lambda *_: ran.append(1) or 0, 10, grain=1) == capi.OK
        assert group.wait(LONG) == capi.OK
        assert group.submit(lambda _: ran.append(1) or 0) == capi.OK
    assert len(ran) in (20, 21)  # the last may have been cancelled
    idle_metrics(pool)


def test_a_group_is_freed_with_the_interpreter_held_while_a_job_wants_it(pool: fastpool.Pool) -> None:
    for _ in range(20):
        group = Group(pool, capi.held())
        assert group.submit(lambda _: 0) == capi.OK
        group.free()
    idle_metrics(pool)


# ---- jobs that submit jobs, and wait ----


@pytest.fixture(params=[(1, 8192), (1, 1), (2, 1), (2, 2), (16, 1), (1, None)], ids=lambda p: f"{p[0]}w-queue{p[1]}")
def tight(request: pytest.FixtureRequest, make_pool: MakePool) -> fastpool.Pool:
    """Pools that deadlock easily."""
    workers, queue_size = request.param
    return make_pool(workers, queue_size=queue_size)


NESTED_WAYS = pytest.mark.parametrize("way", range(4), ids=["singly", "batch", "range", "parallel_for"])


def fibonacci(pool: fastpool.Pool, n: int, way: int, library: ctypes.CDLL) -> int:
    nested = capi.Nested(capi.pool_of(pool), n, way)
    with Group(pool, library) as group:
        assert group.submit("fibonacci", nested) == capi.OK
        assert group.wait() == capi.OK, nested.result
    return nested.value


@NESTED_WAYS
def test_native_jobs_wait_for_their_jobs(tight: fastpool.Pool, way: int) -> None:
    assert fibonacci(tight, 14, way, capi.free()) == 377
    idle_metrics(tight)


@LIBRARIES
@NESTED_WAYS
def test_python_jobs_wait_for_native_jobs_that_wait(
    tight: fastpool.Pool, way: int, library: Callable[[], ctypes.CDLL]
) -> None:
    futures = [tight.submit(fibonacci, tight, n, way, library()) for n in range(12)]
    assert [future.result(WAIT) for future in futures] == [0, 1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89]
    idle_metrics(tight)


@pytest.mark.parametrize("on_full", ["block", "raise", "caller_runs", "discard_oldest"])
@pytest.mark.parametrize("workers", [1, 2])
@NESTED_WAYS
def test_no_policy_deadlocks_a_nested_native_job(make_pool: MakePool, workers: int, on_full: str, way: int) -> None:
    pool = make_pool(workers, queue_size=1, on_full=on_full)
    nested = capi.Nested(capi.pool_of(pool), 10, way)
    with Group(pool) as group:
        assert group.submit("fibonacci", nested) == capi.OK
        assert group.wait(LONG) in (capi.OK, capi.FAILED, capi.CANCELLED)
    if on_full in ("block", "caller_runs"):
        assert nested.value == 55
    idle_metrics(pool)


def test_a_native_job_waits_for_python_jobs(tight: fastpool.Pool) -> None:
    results: list[int] = []

    def job(_: Any) -> int:
        results.append(sum(future.result(WAIT) for future in [tight.submit(int, "1") for _ in range(20)]))
        return 0

    with Group(tight) as group:
        for _ in range(4):
            assert group.submit(job) == capi.OK
        assert group.wait(LONG) == capi.OK
    assert results == [20] * 4
    idle_metrics(tight)


# ---- bad arguments, metrics, versions ----


def test_bad_arguments_are_invalid_and_do_nothing(single: fastpool.Pool) -> None:
    library, handle = capi.free(), capi.pool_of(single)
    too_many = 2**62 + 1
    with Group(single) as group:
        results = [
            library.capi_submit(None, capi.function("count"), None),
            group.submit(None),
            library.capi_submit_batch(None, capi.function("count"), None, 0, 1),
            group.batch(None, None, 1),
            group.batch("count", None, -1),
            group.batch("count", None, too_many),
            library.capi_submit_range(None, capi.function("count_each"), 1, None, 0),
            group.range(None, 1),
            group.range("count_each", -1),
            group.range("count_each", too_many),
            group.range("count_each", 1, grain=-1),
            library.capi_parallel_for(None, capi.function("count_each"), 1, None, 0),
            library.capi_parallel_for(handle, None, 1, None, 0),
            library.capi_parallel_for(handle, capi.function("count_each"), -1, None, 0),
            library.capi_parallel_for(handle, capi.function("count_each"), too_many, None, 0),
            library.capi_parallel_for(handle, capi.function("count_each"), 1, None, -1),
            library.capi_wait(None, 0),
            group.wait(-1),
            library.capi_read_metrics(None, None),
            library.capi_read_metrics(handle, None),
        ]
        assert results == [capi.INVALID] * len(results)
    assert library.capi_group_new(None) is None
    assert library.capi_cancelled(None) == 0
    assert library.capi_status(None, None) == 0
    library.capi_cancel(None)
    library.capi_group_free(None)
    assert idle_metrics(single).jobs_submitted == 0


def test_the_metrics_are_those_of_the_pool(make_pool: MakePool) -> None:
    pool, statuses = make_pool(2, queue_size=77), np.array([0, 1], np.int64)
    with Held(pool, 2):
        pass  # both workers are there
    with Group(pool) as group:
        assert group.batch("status_at", statuses, 2) == capi.OK
        assert group.wait() == capi.FAILED
        group.cancel()
        assert group.batch("status_at", statuses, 2) == capi.OK
        assert group.wait() == capi.CANCELLED
    expected, found = idle_metrics(pool), capi.CMetrics()
    assert capi.free().capi_read_metrics(capi.pool_of(pool), ctypes.addressof(found)) == capi.OK
    values = {name: getattr(found, name) for name, _ in capi.CMetrics._fields_}
    for name in ("queue_depth", "active_workers"):  # a worker may still have to come by what the waiter has ended
        assert values.pop(name) <= 2
    assert values == {name: getattr(expected, name) for name in values}
    assert (values["jobs_failed"], values["jobs_cancelled"], values["queue_capacity"]) == (1, 2, 77)


def test_the_capacity_of_an_unbounded_queue_is_0(make_pool: MakePool) -> None:
    pool, found = make_pool(1, queue_size=None), capi.CMetrics(queue_capacity=1)
    assert capi.free().capi_read_metrics(capi.pool_of(pool), ctypes.addressof(found)) == capi.OK
    assert found.queue_capacity == 0


@pytest.mark.parametrize("what", [None, 1, "pool", object(), fastpool.Pool])
def test_what_is_no_pool_is_a_type_error(what: Any) -> None:
    with pytest.raises(TypeError, match=r"must be a fastpool\.Pool"):
        capi.held().capi_from_object(what)


def test_a_subclass_and_the_drop_in_executor_are_pools(make_pool: MakePool) -> None:
    assert capi.pool_of(make_pool(1, kind=fastpool.ThreadPoolExecutor))


def header_with(tmp_path: Path, pattern: str, replacement: str) -> Path:
    """A folder with a changed fastpool.h."""
    text, changed = re.subn(pattern, replacement, Path(fastpool.get_include(), "fastpool.h").read_text())
    assert changed == 1
    (tmp_path / "fastpool.h").write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        ("(define FASTPOOL_API_VERSION) .*", r"\1 999"),
        (r"(\n\} fastpool_api;)", r"\n    void (*added)(void);\1"),
    ],
    ids=["version", "added"],
)
def test_a_module_for_another_version_cannot_be_imported(tmp_path: Path, pattern: str, replacement: str) -> None:
    folder = header_with(tmp_path, pattern, replacement)
    path = native.compile_library(Path(capi.__file__).with_name("capi.c"), "other.so", *capi.include_flags(str(folder)))
    with pytest.raises(ImportError, match=r"compiled for fastpool's C API \d+ .*, but the one installed is 1 of"):
        ctypes.PyDLL(path).capi_import()


def test_a_module_for_an_older_header_can_be_imported(tmp_path: Path, single: fastpool.Pool) -> None:
    """One that knows less of the metrics gets what it knows."""
    folder = header_with(tmp_path, ", jobs_timed_out, jobs_rejected", "")
    path = native.compile_library(Path(capi.__file__).with_name("capi.c"), "older.so", *capi.include_flags(str(folder)))
    assert ctypes.PyDLL(path).capi_import() == 0
    found = capi.CMetrics(jobs_timed_out=55)
    library = capi.load(ctypes.CDLL, path)
    assert library.capi_read_metrics(capi.pool_of(single), ctypes.addressof(found)) == capi.OK
    assert (found.jobs_timed_out, found.queue_capacity) == (55, 8192)


@pytest.mark.parametrize(
    ("compiler", "options"),
    [("cc", ["-std=c11", "-pedantic"]), ("c++", ["-std=c++11"]), ("c++", ["-std=c++20", "-pedantic"])],
    ids=["c11", "c++11", "c++20"],
)
def test_the_header_compiles_without_a_warning(tmp_path: Path, compiler: str, options: list[str]) -> None:
    path = shutil.which(compiler)
    if path is None:
        pytest.skip(f"no {compiler} on this machine")
    source = tmp_path / ("use.c" if compiler == "cc" else "use.cpp")
    source.write_text(
        "#include <fastpool.h>\n"
        "static int job(void *arg) { return arg == NULL; }\n"
        "fastpool_result use(fastpool_group *group);\n"
        "fastpool_result use(fastpool_group *group) {\n"
        "    return fastpool_import() == 0 ? fastpool_submit(group, job, NULL) : FASTPOOL_INVALID;\n"
        "}\n"
    )
    warnings = ["-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{fastpool.get_include()}"]
    python = ["-isystem", sysconfig.get_paths()["include"]]
    subprocess.run([path, *options, *warnings, *python, str(source)], check=True)


# ---- the process ----


@pytest.fixture(scope="module")
def compiled() -> dict[str, str]:
    return {capi.VARIABLE: capi.library_path()}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_in_a_forked_child_every_call_says_so(compiled: dict[str, str]) -> None:
    check("capi_forked", **compiled)


@pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD is Linux's")
def test_where_no_thread_can_be_started_a_native_job_is_refused(compiled: dict[str, str]) -> None:
    source = Path(__file__).with_name("isolated") / "fail_threads.c"
    check("capi_no_threads", LD_PRELOAD=native.compile_library(source, "fail_threads.so"), **compiled)


@pytest.mark.parametrize("wait", ["wait", "room", "parallel_for"])
def test_ctrl_c_interrupts_calls_of_the_c_api(wait: str, compiled: dict[str, str]) -> None:
    check(f"capi_ctrl_c {wait}", **compiled)


@pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD is Linux's")
@pytest.mark.parametrize("wait", ["singly", "batch", "range", "parallel_for", "pool_parallel_for", "nested"])
def test_ctrl_c_interrupts_a_wait_that_runs_jobs_itself(wait: str, compiled: dict[str, str]) -> None:
    source = Path(__file__).with_name("isolated") / "fail_threads.c"
    library = native.compile_library(source, "fail_threads.so")
    check(f"ctrl_c_while_helping {wait}", LD_PRELOAD=library, **compiled)


# ---- the examples ----


def build(name: str, folder: Path) -> Path:
    """Where the example is now installed."""
    for module in (
        "setuptools",
        "Cython",
        "pip",
    ):  # elsewhere, for here they would change distutils for the other tests
        if subprocess.run([sys.executable, "-c", f"import {module}"], check=False, capture_output=True).returncode:
            pytest.skip(f"no {module} here")
    source, target = folder / "source", folder / "target"
    shutil.copytree(EXAMPLES / name, source, ignore=shutil.ignore_patterns("build", "_paths.c", "*.so", "*.egg-info"))
    options = ["--no-build-isolation", "--no-deps", "--no-index", "--disable-pip-version-check", "--quiet"]
    variables = {
        "PYTHONPATH": str(Path(fastpool.__file__).parents[1]),
        "CFLAGS": "-Werror=implicit-function-declaration",
    }
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | variables, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return target


@pytest.fixture(scope="module")
def pricer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("cython_pricer", tmp_path_factory.mktemp("pricer"))


@pytest.fixture
def montecarlo(pricer: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(pricer))
    return pytest.importorskip("montecarlo")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("plain_c", tmp_path_factory.mktemp("plain"))


@pytest.fixture
def plainc(plain: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(plain))
    return pytest.importorskip("plainc")


def run_module(folder: Path, *arguments: str) -> str:
    path = os.pathsep.join([str(folder), str(Path(fastpool.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-m", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": path},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def option(montecarlo: Any, **changes: Any) -> Any:
    return montecarlo.Option(**{"spot": 100, "strike": 105, "years": 1, "rate": 0.02, "volatility": 0.2, **changes})


@pytest.mark.parametrize(
    "changes",
    [{}, {"is_call": False}, {"strike": 80}, {"volatility": 0.6, "years": 3}, {"rate": -0.01}, {"volatility": 0}],
    ids=str,
)
def test_the_price_is_within_4_standard_errors_of_the_closed_form(
    montecarlo: Any, pool: fastpool.Pool, changes: dict[str, Any]
) -> None:
    it = option(montecarlo, **changes)
    estimate = montecarlo.price(pool, it, paths=200_000, seed=3)
    assert abs(estimate.price - montecarlo.black_scholes(it)) <= 4 * estimate.standard_error + 1e-12
    assert estimate.standard_error < 0.5
    idle_metrics(pool)


def test_the_standard_error_is_that_of_many_prices(montecarlo: Any, single: fastpool.Pool) -> None:
    estimates = [montecarlo.price(single, option(montecarlo), paths=2000, seed=seed) for seed in range(200)]
    spread = np.std([estimate.price for estimate in estimates])
    assert spread == pytest.approx(np.mean([estimate.standard_error for estimate in estimates]), rel=0.2)


def test_a_price_does_not_depend_on_the_workers(montecarlo: Any) -> None:
    it, prices = option(montecarlo, dates=4), set()
    for workers, queue_size in [(1, 8192), (2, 8192), (16, 8192), (1, 1), (2, 1)]:
        with fastpool.Pool(workers, queue_size=queue_size) as pool:
            prices.add(montecarlo.price(pool, it, paths=20_001, seed=9, block=16))
            assert idle_metrics(pool).jobs_processed == 1251
    assert len(prices) == 1
    with fastpool.Pool(2) as pool:
        assert montecarlo.price(pool, it, paths=20_001, seed=10, block=16) not in prices


def test_a_mean_of_more_dates_is_worth_less(montecarlo: Any, single: fastpool.Pool) -> None:
    prices = [montecarlo.price(single, option(montecarlo, dates=dates), paths=20_000).price for dates in (1, 2, 12)]
    assert prices == sorted(prices, reverse=True)
    with pytest.raises(ValueError, match="no closed form"):
        montecarlo.black_scholes(option(montecarlo, dates=2))


def test_the_pricer_works_in_jobs_of_its_own_pool(montecarlo: Any, make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1)
    it = option(montecarlo)
    futures = [pool.submit(montecarlo.price, pool, it, 10_000, seed, 100) for seed in (1, 2, 1)]
    first, second, third = [future.result(WAIT) for future in futures]
    assert first == third != second
    idle_metrics(pool)


def test_the_pricer_raises_what_a_pool_would(montecarlo: Any, make_pool: MakePool) -> None:
    it = option(montecarlo)
    closed, full = make_pool(1), make_pool(1, queue_size=1, on_full="raise")
    slow, dropping = (
        make_pool(1, queue_size=1, submit_timeout=0.01),
        make_pool(1, queue_size=1, on_full="discard_oldest"),
    )
    closed.shutdown()
    with pytest.raises(fastpool.PoolShutdown):
        montecarlo.price(closed, it)
    for pool, error in [(full, fastpool.PoolOverloaded), (slow, fastpool.SubmitTimeout)]:
        with Held(pool), pytest.raises(error):
            montecarlo.price(pool, it, paths=100_000, block=2)
        idle_metrics(pool)
    with Held(dropping) as held:
        priced = in_thread(montecarlo.price, dropping, it, 2 * JOBS_A_PLACE + 2, 0, 2)
        while not dropping.metrics().jobs_cancelled:
            pass
        held.release()
        with pytest.raises(fastpool.CancelledError):
            priced()
    idle_metrics(dropping)
    with pytest.raises(TypeError):
        montecarlo.price(None, it)


def test_the_pricer_says_that_numbers_are_too_large(montecarlo: Any, pool: fastpool.Pool) -> None:
    with pytest.raises(FloatingPointError):
        montecarlo.price(pool, option(montecarlo, spot=1e308), paths=10_000, block=10)
    idle_metrics(pool)


@pytest.mark.parametrize(
    "changes",
    [
        {"spot": 0},
        {"strike": -1},
        {"years": float("nan")},
        {"volatility": -0.1},
        {"dates": 0},
        {"paths": 1},
        {"block": 0},
    ],
    ids=str,
)
def test_the_pricer_refuses_what_is_no_option(montecarlo: Any, single: fastpool.Pool, changes: dict[str, Any]) -> None:
    sizes = {name: changes.pop(name) for name in ("paths", "block") if name in changes}
    with pytest.raises(ValueError, match="must"):
        montecarlo.price(single, option(montecarlo, **changes), **sizes)


@pytest.mark.parametrize("wait", ["wait", "room"])
def test_ctrl_c_interrupts_the_pricer(pricer: Path, wait: str) -> None:
    check(f"capi_ctrl_c_in_cython {wait}", FASTPOOL_TEST_PRICER=str(pricer))


def test_the_pricer_runs_as_a_module(pricer: Path) -> None:
    lines = run_module(pricer, "montecarlo", "50000").splitlines()
    assert len(lines) == 4
    assert "Black-Scholes 6.7048" in lines[0]
    assert all("1 worker" in line and "2 workers" in line for line in lines[1::2])


def test_an_option_can_be_copied_with_a_change(montecarlo: Any) -> None:
    assert dataclasses.replace(option(montecarlo), dates=12).dates == 12


def test_plain_c_counts_primes(plainc: Any, pool: fastpool.Pool) -> None:
    assert [plainc.count_primes(pool, n) for n in (0, 2, 3, 100, 100_000)] == [0, 0, 1, 25, 9592]
    assert idle_metrics(pool).jobs_processed == 100_105


def test_plain_c_places_queens_in_any_pool(plainc: Any, tight: fastpool.Pool) -> None:
    assert [plainc.queens(tight, n) for n in range(1, 10)] == [1, 0, 0, 2, 10, 4, 40, 92, 352]
    assert tight.submit(plainc.queens, tight, 8).result(WAIT) == 92
    metrics = idle_metrics(tight)
    assert plainc.metrics(tight)["jobs_processed"] == metrics.jobs_processed


def test_plain_c_raises_what_a_pool_would(plainc: Any, make_pool: MakePool) -> None:
    closed, full = make_pool(1), make_pool(1, queue_size=1, on_full="raise")
    closed.shutdown()
    for function in (plainc.count_primes, plainc.queens):
        with pytest.raises(fastpool.PoolShutdown):
            function(closed, 5)
        with Held(full):
            future = full.submit(int)
            with pytest.raises(fastpool.PoolOverloaded):
                function(full, 5)
        assert future.result(WAIT) == 0
        with pytest.raises(TypeError):
            function(None, 5)
    for n in (0, 21):
        with pytest.raises(ValueError, match="between 1 and 20"):
            plainc.queens(full, n)
    with pytest.raises(fastpool.PoolError):
        plainc.count_primes(full, -1)


def test_plain_c_runs_as_a_module(plain: Path) -> None:
    text = run_module(plain, "plainc")
    assert text.count(" 78498 in ") == text.count(" 14200 in ") == 2
