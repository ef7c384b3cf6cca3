"""trace(): which jobs ran, where, and in which order. The file is held against the Chrome trace format."""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import logging
import os
import resource
import subprocess
import sys
import threading
import weakref
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import capi
import numpy as np
import pytest
from support import WAIT, Held, idle_metrics, in_thread, reached

import fastpool
from fastpool import kernels

MakePool = Callable[..., fastpool.Pool]
Event = dict[str, Any]
POLYNOMIAL = "fastpool.kernels:polynomial"


def check_format(events: list[Event]) -> None:
    """Each event is one of the Chrome trace format, and slices of a row lie one in the other or one after the other."""
    rows: dict[int, list[tuple[int, int]]] = defaultdict(list)
    named = {event["tid"] for event in events if event["name"] == "thread_name"}
    for event in events:
        assert event["ph"] in ("X", "C", "M"), event
        assert event["pid"] == os.getpid() and isinstance(event["tid"], int) and event["ts"] >= 0, event
        assert isinstance(event["name"], str) and event["name"] and isinstance(event["args"], dict), event
        if event["ph"] == "X":
            assert event["dur"] >= 0 and event["tid"] in named and event["args"]["jobs"] >= 1, event
            start, end = (round(1000 * time) for time in (event["ts"], event["ts"] + event["dur"]))
            rows[event["tid"]].append((start, -end))
        if event["ph"] == "C":
            assert event["args"]["queued"] >= 0, event
    for slices in rows.values():
        open_ends: list[int] = []
        for start, minus_end in sorted(slices):
            while open_ends and open_ends[-1] <= start:
                open_ends.pop()
            assert not open_ends or -minus_end <= open_ends[-1], "two slices of a row overlap in part"
            open_ends.append(-minus_end)


def slices(trace: fastpool.Trace) -> list[Event]:
    events = trace.events()
    check_format(events)
    return [event for event in events if event["ph"] == "X"]


def names(trace: fastpool.Trace) -> list[str]:
    return [event["name"] for event in slices(trace)]


def jobs(trace: fastpool.Trace, name: str) -> int:
    return sum(event["args"]["jobs"] for event in slices(trace) if event["name"] == name)


def row_names(trace: fastpool.Trace) -> dict[int, str]:
    return {event["tid"]: event["args"]["name"] for event in trace.events() if event["name"] == "thread_name"}


def run_all(pool: fastpool.Pool, fn: Callable[..., Any], count: int) -> None:
    for future in pool.submit_many(fn, range(count)):
        future.result(WAIT)


# ---- names ----


class Machine:
    def method(self, _: Any = None) -> None:
        pass

    def __call__(self) -> None:
        pass


class Liar:
    """Whatever is asked of it runs code that raises."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __call__(self) -> None:
        pass


class Property:
    @property
    def __name__(self) -> str:
        raise RuntimeError("asked")

    def __call__(self) -> None:
        pass


class Labelled:
    def __init__(self, label: Any) -> None:
        self.__qualname__ = label

    def __call__(self) -> None:
        pass


class Part(functools.partial):  # type: ignore[type-arg]
    pass


def plain(*_: Any) -> None:
    pass


CASES = [
    (plain, "plain"),
    (Machine().method, "Machine.method"),
    (Machine(), "Machine"),
    (Machine, "Machine"),
    (dict, "dict"),
    ([].clear, "list.clear"),
    (gc.isenabled, "isenabled"),
    (functools.partial(plain, 1), "plain"),
    (functools.partial(functools.partial(Machine().method, 1)), "Machine.method"),
    (Part(plain), "plain"),
    (functools.update_wrapper(functools.partial(plain), len), "len"),
    (functools.lru_cache(plain), "plain"),
    (Liar(), "Liar"),
    (Property(), "Property"),
    (Labelled("lift"), "lift"),
    (Labelled("größe"), "größe"),
    (Labelled(3), "Labelled"),
    (Labelled(""), "Labelled"),
    (Labelled("\ud800"), "Labelled"),
    (Labelled("ä" * 1000), "ä" * 127),
]


@pytest.mark.parametrize(("fn", "name"), CASES, ids=[f"{i}" for i in range(len(CASES))])
def test_a_job_is_called_by_its_functions_name(single: fastpool.Pool, fn: Callable[[], Any], name: str) -> None:
    with single.trace() as trace:
        single.submit(fn).result(WAIT)
    assert names(trace) == [name]


def test_names_that_are_too_many_are_others() -> None:
    # In a process of its own, for the table of names is never emptied.
    code = """if True:
        import fastpool
        class Named:
            def __init__(self, i): self.__qualname__ = f"n{i}"
            def __call__(self): pass
        with fastpool.Pool(2) as pool, pool.trace() as trace:
            for future in [pool.submit(Named(i)) for i in range(5000)]: future.result()
        names = [event["name"] for event in trace.events() if event["ph"] == "X"]
        assert len(names) == 5000 and 3500 < len(set(names)) <= 4097, len(set(names))
        assert names.count("(other)") == 5000 - len(set(names)) + 1
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# ---- sorts of jobs ----


def test_each_sort_of_job_is_there(pool: fastpool.Pool) -> None:
    with pool.trace() as trace:
        assert list(pool.map(plain, range(20))) == [None] * 20
        run_all(pool, plain, 10)
        pool.submit(kernels.polynomial, 1.0).result(WAIT)
        for future in pool.submit_many(kernels.polynomial, np.arange(50.0)):
            future.result(WAIT)
        pool.map_array(kernels.identity, np.arange(100_000.0))
        pool.submit_array(kernels.normal_cdf, np.arange(3000.0), grain=100).result(WAIT)
        assert sorted(pool.imap_unordered(abs, range(30), chunksize=10)) == list(range(30))
        pool.map_array(np.hypot, np.arange(100_000.0), 3.0, grain=10_000)
        pool.post(len, ())
        idle_metrics(pool)
    assert jobs(trace, "plain") == 30
    assert jobs(trace, "abs") == 3
    assert jobs(trace, "hypot") == 10
    assert jobs(trace, POLYNOMIAL) == 51
    assert jobs(trace, "fastpool.kernels:identity") == 100_000
    assert jobs(trace, "fastpool.kernels:normal_cdf") == 3000
    assert max(event["args"]["jobs"] for event in slices(trace) if event["name"].endswith("normal_cdf")) == 100
    assert jobs(trace, "len") == 1
    assert trace.dropped == 0


def test_jobs_that_fail_are_there_too(pool: fastpool.Pool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.CRITICAL, "fastpool"), pool.trace() as trace:
        assert isinstance(pool.submit(int, "x").exception(WAIT), ValueError)
        assert isinstance(pool.submit(kernels.fail).exception(WAIT), fastpool.NativeJobError)
        with pytest.raises(ValueError, match="invalid literal"):
            list(pool.map(int, ["1", "x"]))
        pool.post(int, "y")
        idle_metrics(pool)
    assert jobs(trace, "int") == 4
    assert jobs(trace, "fastpool.kernels:fail") == 1


def test_cancelled_jobs_are_not(single: fastpool.Pool) -> None:
    with single.trace() as trace:
        with Held(single) as held:
            futures = single.submit_many(plain, range(10))
            assert all(future.cancel() for future in futures)
        held.futures[0].result(WAIT)
        idle_metrics(single)
    assert names(trace) == ["Held._hold"]


def test_jobs_of_c_programs_are_native(pool: fastpool.Pool) -> None:
    counts = np.zeros(2000, np.int64)
    with capi.Group(pool) as group, pool.trace() as trace:
        assert group.range("count_each", 2000, counts.ctypes.data) == capi.OK
        for i in range(300):
            assert group.submit("count", counts.ctypes.data + 8 * i) == capi.OK
        assert group.wait() == capi.OK
    assert counts.sum() == 2300
    assert jobs(trace, "native") == 2300


# ---- rows ----


def test_a_row_is_a_worker(make_pool: MakePool) -> None:
    pool = make_pool(3, "crew")
    barrier = threading.Barrier(3)
    with pool.trace() as trace:
        for future in [pool.submit(lambda: (barrier.wait(WAIT), threading.current_thread().name)[1]) for _ in range(3)]:
            assert future.result(WAIT).startswith("crew_")
    assert row_names(trace) == {0: "crew_0", 1: "crew_1", 2: "crew_2"}
    assert sorted(event["tid"] for event in slices(trace)) == [0, 1, 2]
    assert next(event for event in trace.events() if event["name"] == "process_name")["args"]["name"] == "fastpool crew"


def test_a_job_that_another_waits_for_lies_within_it(single: fastpool.Pool) -> None:
    def outer() -> None:
        single.submit(plain).result(WAIT)
        list(single.map(len, [(), ()]))

    with single.trace() as trace:
        single.submit(outer).result(WAIT)
    inner = [event for event in slices(trace) if not event["name"].endswith("outer")]
    (outside,) = (event for event in slices(trace) if event["name"].endswith("outer"))
    assert [event["name"] for event in inner] == ["plain", "len", "len"]
    for event in inner:
        assert event["tid"] == outside["tid"] == 0
        assert outside["ts"] <= event["ts"] and event["ts"] + event["dur"] <= outside["ts"] + outside["dur"] + 0.001


@pytest.mark.parametrize("ends", [(0, 1), (1, 0)], ids=["crosswise", "within"])
def test_callers_at_the_same_time_have_rows_of_their_own(make_pool: MakePool, ends: tuple[int, int]) -> None:
    pool = make_pool(1, queue_size=1, on_full="caller_runs")
    started, go = [threading.Event(), threading.Event()], [threading.Event(), threading.Event()]

    def meet(i: int) -> None:
        started[i].set()
        reached(go[i])

    with pool.trace() as trace:
        with Held(pool) as held:
            pool.submit(int)
            callers = []
            for i in range(2):
                callers.append(in_thread(pool.submit, meet, i))
                reached(started[i])
            for i in ends:
                go[i].set()
                callers[i]()
        held.futures[0].result(WAIT)
    assert row_names(trace) == {0: f"{pool._thread_name_prefix}_0", 4096: "callers", 4097: "callers 1"}
    assert sorted(event["tid"] for event in slices(trace) if event["name"].endswith("meet")) == [4096, 4097]


def test_a_job_of_another_pools_worker_is_a_callers(make_pool: MakePool) -> None:
    mine, other = make_pool(1, queue_size=1, on_full="caller_runs"), make_pool(1)
    with mine.trace() as trace, other.trace() as others, Held(mine):
        mine.submit(int)
        other.submit(lambda: mine.submit(plain).result(WAIT)).result(WAIT)
    assert [(event["name"], event["tid"]) for event in slices(trace) if event["name"] == "plain"] == [("plain", 4096)]
    assert "plain" not in names(others)


def test_the_depth_of_the_queue_is_a_counter(single: fastpool.Pool) -> None:
    with single.trace() as trace:
        with Held(single):
            futures = single.submit_many(plain, range(10))
        for future in futures:
            future.result(WAIT)
    depths = [event["args"]["queued"] for event in trace.events() if event["ph"] == "C"]
    assert depths == list(range(10, -1, -1))
    assert {event["name"] for event in trace.events() if event["ph"] == "C"} == {"queue depth"}


# ---- begin and end ----


def test_jobs_outside_of_the_block_are_not_there(single: fastpool.Pool) -> None:
    with Held(single) as held:
        with single.trace() as trace:
            single.submit(plain)
            held.release()
            held.futures[0].result(WAIT)
            single.submit(len, ()).result(WAIT)
        run_all(single, plain, 5)
    assert names(trace) == ["plain", "len"], "the held one began before"


def test_a_job_that_outlives_the_block_is_not_there(single: fastpool.Pool) -> None:
    with single.trace() as trace:
        held = Held(single)
    with single.trace() as later, held:
        single.submit(plain)
        held.release()
        held.futures[0].result(WAIT)
        single.submit(len, ()).result(WAIT)
    assert names(trace) == []
    assert names(later) == ["Held._hold", "plain", "len"]
    assert slices(later)[0]["ts"] == 0, "what began before the block begins with it"


def test_one_trace_at_a_time(single: fastpool.Pool) -> None:
    other = single.trace()
    with single.trace() as trace:
        with pytest.raises(fastpool.PoolError, match="another trace"), other:
            pass
        run_all(single, plain, 3)
    with other:
        run_all(single, len, 0)
        single.submit(len, ()).result(WAIT)
    assert names(trace) == ["plain"] * 3
    assert names(other) == ["len"]


def test_a_trace_is_entered_once(single: fastpool.Pool) -> None:
    trace = single.trace()
    for use in (trace.events, lambda: trace.save("x"), lambda: trace.dropped):
        with pytest.raises(fastpool.PoolError, match="was not begun"):
            use()
    with trace, pytest.raises(fastpool.PoolError, match="once"):
        trace.__enter__()
    with pytest.raises(fastpool.PoolError, match="once"):
        trace.__enter__()
    with single.trace():
        pass


def test_an_open_trace_may_be_read(single: fastpool.Pool) -> None:
    with single.trace() as trace:
        run_all(single, plain, 2)
        assert names(trace) == ["plain"] * 2
        run_all(single, plain, 2)
    assert names(trace) == ["plain"] * 4


def test_a_trace_is_left_by_an_exception_too(single: fastpool.Pool) -> None:
    with pytest.raises(KeyError), single.trace() as trace:
        run_all(single, plain, 1)
        raise KeyError
    assert names(trace) == ["plain"]
    with single.trace():
        pass


def test_a_trace_outlives_its_pool() -> None:
    with fastpool.Pool(2) as pool, pool.trace() as trace:
        run_all(pool, plain, 100)
    gone = weakref.ref(pool)
    del pool
    gc.collect()
    assert gone() is None, "a closed trace keeps no pool"
    assert jobs(trace, "plain") == 100


def test_a_pool_that_has_ended_may_be_traced(single: fastpool.Pool) -> None:
    single.submit(int).result(WAIT)
    single.shutdown()
    with single.trace() as trace:
        pass
    assert names(trace) == []


def test_a_trace_that_is_dropped_open_lets_the_next_in(single: fastpool.Pool) -> None:
    single.trace().__enter__()
    gc.collect()
    with single.trace() as trace:
        run_all(single, plain, 1)
    assert names(trace) == ["plain"]


# ---- memory ----


def test_the_latest_are_kept(single: fastpool.Pool) -> None:
    with single.trace(events=16) as trace:
        run_all(single, plain, 1000)
        run_all(single, abs, 10)
    assert names(trace) == ["plain"] * 6 + ["abs"] * 10
    assert trace.dropped == 994


def peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def test_a_ring_takes_what_is_in_it_and_idle_workers_have_none(make_pool: MakePool) -> None:
    pool = make_pool(2)
    run_all(pool, plain, 100)
    with pool.trace(events=1 << 22) as trace:  # 160 MiB a ring, were it full
        assert trace._begun().rows() == []
        before = peak_bytes()
        run_all(pool, plain, 100)
        assert 1 <= len(trace._begun().rows()) <= 2
    assert peak_bytes() - before < 50e6


def test_traces_are_given_back(make_pool: MakePool) -> None:
    pool, calls = make_pool(2), range(1 << 14)  # 0.65 MB

    def record() -> fastpool.Trace:
        with pool.trace() as trace:
            list(pool.map(plain, calls))
        return trace

    record()
    before = peak_bytes()
    for _ in range(60):
        trace = record()
    assert peak_bytes() - before < 20e6
    assert jobs(trace, "plain") == 1 << 14


# ---- the file ----


def test_the_file_is_what_events_are(pool: fastpool.Pool, tmp_path: Path) -> None:
    with pool.trace() as trace:
        list(pool.map(plain, range(3000)))
        pool.submit(Labelled('"quoted"\n')).result(WAIT)
        pool.submit(Labelled("größe")).result(WAIT)
        trace.save(tmp_path / "inside.json")
    for path in (tmp_path / "trace.json", str(tmp_path / "trace.json"), tmp_path / "other.json"):
        trace.save(path)
        content = json.loads(Path(path).read_text())
        assert set(content) == {"traceEvents", "displayTimeUnit"} and content["displayTimeUnit"] == "ns"
        assert content["traceEvents"] == trace.events()
        check_format(content["traceEvents"])
    assert len(json.loads((tmp_path / "inside.json").read_text())["traceEvents"]) >= 3000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inside.json", "other.json", "trace.json"]


def test_an_empty_trace_is_a_file_too(single: fastpool.Pool, tmp_path: Path) -> None:
    with single.trace() as trace:
        pass
    trace.save(tmp_path / "empty.json")
    assert [event["ph"] for event in json.loads((tmp_path / "empty.json").read_text())["traceEvents"]] == ["M"]


def test_bad_paths(single: fastpool.Pool, tmp_path: Path) -> None:
    with single.trace() as trace:
        run_all(single, plain, 1)
    for bad in (None, 3, object()):
        with pytest.raises(TypeError):
            trace.save(bad)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        trace.save(tmp_path / "none" / "trace.json")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        trace.save(tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"], "nothing is left behind"


def test_bad_arguments(single: fastpool.Pool) -> None:
    for bad in (0, -1, 1 << 22 | 1, 2**70):
        with pytest.raises(ValueError, match="events"):
            single.trace(events=bad)
    for wrong in (None, 1.5, "16"):
        with pytest.raises(TypeError, match="events"):
            single.trace(events=wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        single.trace(16)  # type: ignore[misc]


# ---- threads ----


def test_traces_come_and_go_and_are_read_while_jobs_run(make_pool: MakePool) -> None:
    pool = make_pool(3)
    over = threading.Event()

    def submit() -> None:
        while not over.is_set():
            list(pool.map(plain, range(100)))
            run_all(pool, kernels.polynomial, 20)

    submitters = [in_thread(submit) for _ in range(2)]
    for _ in range(30):
        with pool.trace(events=64) as trace:
            for _ in range(3):
                assert set(names(trace)) <= {"plain", POLYNOMIAL}
        kept = names(trace)
        assert len(kept) <= 64 * 4
        assert len(names(trace)) <= len(kept), "a late event only takes away"
    over.set()
    for wait in submitters:
        wait()


def test_two_threads_open_one_trace_between_them(single: fastpool.Pool) -> None:
    barrier, opened = threading.Barrier(4), []

    def enter() -> None:
        trace = single.trace()
        barrier.wait(WAIT)
        with contextlib.suppress(fastpool.PoolError):
            opened.append(trace.__enter__())
        barrier.wait(WAIT)

    for wait in [in_thread(enter) for _ in range(4)]:
        wait()
    assert len(opened) == 1
    opened[0].__exit__(None, None, None)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # from 3.12 on: the process has more than one thread
def test_in_a_forked_child(single: fastpool.Pool) -> None:
    with single.trace() as trace:
        single.submit(plain).result(WAIT)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                single.trace().__enter__()
            except fastpool.PoolError:
                trace.__exit__(None, None, None)  # harmless
                code = 0 if names(trace) == ["plain"] else 2
            os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        single.submit(len, ()).result(WAIT)
    assert names(trace) == ["plain", "len"]


def test_a_worker_that_left_and_came_back_has_one_row(make_pool: MakePool) -> None:
    pool = make_pool(2, min_workers=1, idle_timeout=0.0)
    with pool.trace() as trace:
        for _ in range(20):
            barrier = threading.Barrier(2)
            for future in [pool.submit(barrier.wait, WAIT) for _ in range(2)]:
                future.result(WAIT)
    assert sorted(row_names(trace)) == [0, 1]
    assert len(slices(trace)) == 40
