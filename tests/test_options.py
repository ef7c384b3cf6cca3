"""options(): views of a pool that submit in another way, and are Executors like it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support import WAIT, Held, idle_metrics, in_thread, reached

import fastpool
from fastpool import JobTimeout, PoolOverloaded, PoolShutdown, SubmitTimeout, kernels

MakePool = Callable[..., fastpool.Pool]

SOON, FAR = 0.02, 600.0

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nothing")


def context_with(value: str) -> contextvars.Context:
    context = contextvars.copy_context()
    context.run(variable.set, value)
    return context


class Target:
    """What a test holds weakly."""


# ---- a view is an executor ----


def test_a_view_is_an_executor_with_the_pools_methods(pool: fastpool.Pool) -> None:
    view = pool.options()
    assert isinstance(view, concurrent.futures.Executor) and isinstance(view, fastpool.View)
    assert not isinstance(view, fastpool.Pool)
    assert view.submit(pow, 2, exp=5).result(WAIT) == 32
    assert [future.result(WAIT) for future in view.submit_many(pow, [1, 2], [3, 4])] == [1, 16]
    assert list(view.map(len, ["a", ""])) == [1, 0]
    assert list(view.map(len, ["a", ""], buffersize=1)) == [1, 0]
    assert sorted(view.imap_unordered(len, ["a", ""])) == [0, 1]
    assert view.submit(kernels.identity, 1.5).result(WAIT) == 1.5
    assert view.map_array(kernels.identity, [1.0, 2.0]).tolist() == [1.0, 2.0]
    assert view.submit_array(np.negative, [1.0]).result(WAIT).tolist() == [-1.0]
    done = threading.Event()
    view.post(done.set)
    reached(done)
    assert repr(pool) in repr(view)
    assert idle_metrics(pool).jobs_failed == 0


def test_an_event_loop_takes_it(make_pool: MakePool) -> None:
    view = make_pool(1, "worker").options(priority="high")

    async def main() -> tuple[str, str, str]:
        loop = asyncio.get_running_loop()
        return (
            await loop.run_in_executor(view, lambda: threading.current_thread().name),
            await view.run(lambda: threading.current_thread().name),
            await asyncio.wrap_future(view.submit(lambda: threading.current_thread().name)),
        )

    assert asyncio.run(main()) == ("worker_0",) * 3


def test_shutting_down_a_view_shuts_down_the_pool() -> None:
    pool = fastpool.Pool(1)
    view = pool.options(timeout=FAR).options()
    assert view.shutdown() is True
    for submitter in (pool, view):
        with pytest.raises(PoolShutdown):
            submitter.submit(int)
    with fastpool.Pool(1).options() as view:
        future = view.submit(int)
    assert future.done()
    with pytest.raises(PoolShutdown):
        view.submit(int)


def test_shutdown_of_a_view_takes_the_pools_arguments() -> None:
    pool = fastpool.Pool(1)
    with Held(pool) as held:
        queued = pool.submit(int)
        assert pool.options().shutdown(wait=False, cancel_futures=True) is False
        assert queued.cancelled()
        assert pool.options().shutdown(timeout=SOON) is False
        held.release()
    assert pool.options().shutdown(timeout=WAIT) is True


def test_a_view_keeps_the_pool() -> None:
    pool = fastpool.Pool(1)
    reference = weakref.ref(pool)
    view = pool.options(timeout=FAR).options(priority="low").options()
    del pool
    gc.collect()
    assert view.submit(int).result(WAIT) == 0
    assert reference() is not None
    del view
    gc.collect()
    assert reference() is None


def test_a_view_in_a_cycle_leaves_the_pool_alone(make_pool: MakePool) -> None:
    pool = make_pool(1)
    for context in (None, True, context_with("x")):
        for _ in range(3):
            view = pool.options(context=context)
            view.itself = view  # type: ignore[attr-defined]
            deeper = view.options()
            view.deeper = deeper  # type: ignore[attr-defined]
            reference = weakref.ref(view)
            del view, deeper
            gc.collect()
            assert reference() is None
            assert pool.submit(int).result(WAIT) == 0
    assert pool.metrics().workers == 1


def test_a_pool_and_its_view_in_a_cycle_go() -> None:
    pool = fastpool.Pool(1)
    pool.view = pool.options(timeout=FAR)  # type: ignore[attr-defined]
    future = pool.view.submit(int)  # type: ignore[attr-defined]
    reference = weakref.ref(pool)
    assert future.result(WAIT) == 0
    del pool
    gc.collect()
    assert reference() is None


def test_views_differ_and_leave_the_pool_as_it_is(make_pool: MakePool) -> None:
    pool = make_pool(1, job_timeout=FAR)
    near, none = pool.options(timeout=FAR / 2), pool.options(timeout=None)

    def remaining(submitter: Any) -> float | None:
        return submitter.submit(lambda: fastpool.current_job().remaining()).result(WAIT)

    assert FAR / 2 < remaining(pool) <= FAR
    assert FAR / 4 < remaining(near) <= FAR / 2
    assert remaining(none) is None
    assert FAR / 4 < remaining(near.options(priority="low")) <= FAR / 2, "what is not given stays"
    assert remaining(near.options(timeout=None)) is None
    assert FAR / 2 < remaining(near.options(timeout=FAR)) <= FAR


def test_a_view_can_be_used_again_and_from_many_threads(pool: fastpool.Pool) -> None:
    view = pool.options(timeout=FAR, context=True)
    waits = [in_thread(lambda: [view.submit(int).result(WAIT) for _ in range(200)]) for _ in range(4)]
    assert [wait() for wait in waits] == [[0] * 200] * 4


def test_a_view_is_initialised_once(make_pool: MakePool) -> None:
    pool = make_pool(1)
    view = pool.options()
    with pytest.raises(fastpool.PoolError):
        view.__init__(pool, {})  # type: ignore[misc]
    with pytest.raises(fastpool.PoolError):
        fastpool.View(fastpool.View.__new__(fastpool.View), {})
    with pytest.raises(fastpool.PoolError):
        fastpool.View.__new__(fastpool.View).submit(int)
    assert view.submit(int).result(WAIT) == 0


# ---- arguments ----


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"on_full": "wait"}, ValueError),
        ({"on_full": 1}, ValueError),
        ({"priority": "urgent"}, ValueError),
        ({"priority": 0}, ValueError),
        ({"submit_timeout": -1}, ValueError),
        ({"submit_timeout": "1"}, TypeError),
        ({"submit_timeout": float("nan")}, ValueError),
        ({"timeout": float("nan")}, ValueError),
        ({"timeout": "1"}, TypeError),
        ({"context": 1}, TypeError),
        ({"context": "copy"}, TypeError),
        ({"context": {}}, TypeError),
        ({"workers": 1}, TypeError),
    ],
)
def test_what_is_wrong_is_named(make_pool: MakePool, given: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(given))):
        make_pool(1).options(**given)


def test_options_are_keywords_only(make_pool: MakePool) -> None:
    with pytest.raises(TypeError):
        make_pool(1).options("raise")  # type: ignore[misc]


# ---- on_full and submit_timeout ----


def test_each_view_has_its_own_answer_to_a_full_queue(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=2)
    with Held(pool):
        first, second = pool.submit(int), pool.submit(int)
        with pytest.raises(PoolOverloaded):
            pool.options(on_full="raise").submit(int)
        here = pool.options(on_full="caller_runs")
        assert here.submit(threading.get_ident).result(0) == threading.get_ident()
        for timeout in (0, SOON):
            for view in (pool.options(submit_timeout=timeout), pool.options(on_full="raise").options(on_full="block")):
                view = view.options(submit_timeout=timeout)
                with pytest.raises(SubmitTimeout):
                    view.submit(int)
                with pytest.raises(SubmitTimeout):
                    view.map_array(kernels.identity, [1.0, 2.0])
                with pytest.raises(SubmitTimeout):
                    view.submit_many(int, [1])
        assert not first.done()
        pool.options(on_full="discard_oldest").submit(int)
        assert first.cancelled() and not second.done()
    metrics = idle_metrics(pool)
    assert (metrics.jobs_rejected, metrics.jobs_cancelled) == (13, 1)


def test_submit_timeout_none_waits_for_ever(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1, submit_timeout=0)
    with Held(pool) as held:
        pool.submit(int)
        waiting = in_thread(pool.options(submit_timeout=None).submit, int)
        time.sleep(SOON)
        held.release()
        assert waiting().result(WAIT) == 0


# ---- priority ----


PRIORITY_WAYS: dict[str, Callable[[Any, Callable[..., Any], str], object]] = {
    "submit": lambda view, fn, name: [view.submit(fn, name) for _ in range(16)],
    "submit_many": lambda view, fn, name: view.submit_many(fn, [name] * 16),
    "post": lambda view, fn, name: [view.post(fn, name) for _ in range(16)],
    "map": lambda view, fn, name: view.map(fn, [name] * 16),
    "map lazily": lambda view, fn, name: view.map(fn, [name] * 16, buffersize=16),
    "imap_unordered": lambda view, fn, name: view.imap_unordered(fn, [name] * 16, buffersize=16),
}


@pytest.mark.parametrize("way", PRIORITY_WAYS.values(), ids=PRIORITY_WAYS.keys())
def test_priorities_reach_the_lanes(single: fastpool.Pool, way: Callable[..., object]) -> None:
    order: list[str] = []
    with Held(single):
        kept = [way(single.options(priority=name), order.append, name) for name in ("low", "normal", "high")]
    idle_metrics(single)
    del kept
    assert order[:16].count("high") >= 12, "of 16 jobs few are of other lanes, so that those get on"
    assert order[16:32].count("normal") >= 10
    assert len(order) == 48


def test_a_view_of_a_view_keeps_the_priority(single: fastpool.Pool) -> None:
    order: list[str] = []
    high = single.options(priority="high").options(timeout=FAR).options(context=True)
    with Held(single):
        single.submit(order.append, "normal")
        high.submit(order.append, "high")
    idle_metrics(single)
    assert order == ["high", "normal"]


# ---- context ----


@pytest.mark.parametrize("context", [None, False])
def test_without_a_context_a_job_has_its_workers_own(make_pool: MakePool, context: Any) -> None:
    pool = make_pool(1, initializer=lambda: variable.set("the worker's"))
    view = pool.options(context=True).options(context=context)
    token = variable.set("the submitter's")
    try:
        assert view.submit(variable.get).result(WAIT) == "the worker's"
        assert pool.submit(variable.get).result(WAIT) == "the worker's"
    finally:
        variable.reset(token)


def every_way(view: Any, fn: Callable[..., Any]) -> list[Any]:
    """What `fn` returns, submitted in each way."""
    results: list[Any] = [view.submit(fn, 0).result(WAIT)]
    results += [future.result(WAIT) for future in view.submit_many(fn, range(20))]
    results += view.map(fn, range(20))
    results += view.map(fn, range(20), chunksize=4)
    results += view.map(fn, range(20), buffersize=5)
    results += view.imap_unordered(fn, range(20), chunksize=1, buffersize=5)
    posted: list[Any] = []
    view.post(lambda: posted.append(fn(0)))
    assert view._pool.wait_idle(WAIT)

    async def run() -> list[Any]:
        return [await view.run(fn, 0), await asyncio.get_running_loop().run_in_executor(view, fn, 0)]

    return results + posted + asyncio.run(run())


@pytest.mark.parametrize("given", ["copy", "context"])
def test_every_job_runs_in_the_context(pool: fastpool.Pool, given: str) -> None:
    def call(_: int) -> str:
        time.sleep(0)
        return variable.get()

    view = pool.options(context=True if given == "copy" else context_with("given"))
    token = variable.set("given")
    try:
        results = every_way(view, call)
    finally:
        variable.reset(token)
    assert set(results) == {"given"} and len(results) == 1 + 5 * 20 + 3


def test_where_one_call_submits_many_each_gets_a_copy(make_pool: MakePool) -> None:
    """They run at the same time, and do not see what the others set."""
    pool = make_pool(3)
    context = context_with("before")
    view = pool.options(context=context)
    barrier = threading.Barrier(3)

    def call(i: int) -> str:
        before = variable.get()
        barrier.wait(WAIT)
        variable.set(str(i))
        barrier.wait(WAIT)
        return f"{before} {variable.get()}"

    wanted = [f"before {i}" for i in range(3)]
    assert [future.result(WAIT) for future in view.submit_many(call, range(3))] == wanted
    assert list(view.map(call, range(3))) == wanted
    assert list(view.map(call, range(3), buffersize=3)) == wanted
    assert sorted(view.imap_unordered(call, range(3))) == wanted
    assert context[variable] == "before"
    assert pool.submit(variable.get).result(WAIT) == "nothing"


def test_one_submit_runs_in_the_context_itself(pool: fastpool.Pool) -> None:
    context = context_with("before")
    view = pool.options(context=context)
    view.submit(variable.set, "set by the job").result(WAIT)
    assert context[variable] == "set by the job"
    assert view.submit(variable.get).result(WAIT) == "set by the job"
    assert pool.submit(variable.get).result(WAIT) == "nothing", "nothing is left in the worker"
    assert variable.get() == "nothing"


def test_a_copy_is_made_when_the_job_is_submitted(single: fastpool.Pool) -> None:
    view = single.options(context=True)
    with Held(single):
        token = variable.set("then")
        future, results = view.submit(variable.get), view.map(lambda _: variable.get(), range(2))
        variable.reset(token)
    assert future.result(WAIT) == "then"
    assert list(results) == ["then"] * 2


def test_a_context_that_is_entered_already_fails_that_job_only(single: fastpool.Pool) -> None:
    context = contextvars.copy_context()
    view = single.options(context=context)
    ran: list[int] = []
    future = context.run(lambda: view.submit(ran.append, 1).exception(WAIT))
    assert isinstance(future, RuntimeError) and "already entered" in str(future)
    assert ran == []
    view.submit(ran.append, 2).result(WAIT)
    assert ran == [2]
    metrics = idle_metrics(single)
    assert (metrics.jobs_failed, metrics.jobs_processed) == (1, 1)


def test_a_context_is_left_when_a_job_fails(single: fastpool.Pool) -> None:
    context = context_with("given")
    view = single.options(context=context)

    def fail() -> None:
        variable.set("failed")
        raise ValueError

    assert isinstance(view.submit(fail).exception(WAIT), ValueError)
    assert context.run(variable.get) == "failed"
    assert single.submit(variable.get).result(WAIT) == "nothing"


def test_a_job_that_a_waiting_one_runs_is_in_its_own_context(single: fastpool.Pool) -> None:
    inner = single.options(context=context_with("inner"))

    def outer() -> tuple[str, ...]:
        before = variable.get()
        found = inner.submit(variable.get).result(WAIT)
        variable.set("outer's own")
        copied = single.options(context=True).submit(variable.get).result(WAIT)
        return before, found, copied, variable.get()

    job = single.options(context=context_with("outer")).submit(outer)
    assert job.result(WAIT) == ("outer", "inner", "outer's own", "outer's own")


def test_a_jobs_context_dies_with_it(single: fastpool.Pool) -> None:
    target = Target()
    reference = weakref.ref(target)
    holds: contextvars.ContextVar[Any] = contextvars.ContextVar("holds")
    context = contextvars.copy_context()
    context.run(holds.set, target)
    del target
    future = single.options(context=context).submit(int)
    cancelled = None
    with Held(single):
        cancelled = single.options(context=context).submit(int)
        late = single.options(context=context, timeout=SOON).submit(int)
        cancelled.cancel()
        assert type(late.exception(WAIT)) is JobTimeout
        del context
        future.result(WAIT)
        gc.collect()
        end = time.monotonic() + WAIT
        while reference() is not None and time.monotonic() < end:
            time.sleep(0.001)
        assert reference() is None, "though all three futures live"
    idle_metrics(single)


def test_the_context_of_run_is_the_callers_also_where_it_waits_for_room(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1)
    view = pool.options(context=True)

    async def main(held: Held) -> str:
        pool.submit(int)
        variable.set("the task's")
        waiting = view.run(variable.get)
        variable.set("later")
        held.release()
        return str(await waiting)

    with Held(pool) as held:
        assert asyncio.run(main(held)) == "the task's"


def test_a_ufunc_runs_in_the_context(make_pool: MakePool) -> None:
    pool = make_pool(2)
    seen: list[str] = []
    ufunc = np.frompyfunc(lambda x: seen.append(variable.get()) or x, 1, 1)
    for context in (True, context_with("given")):
        view = pool.options(context=context)
        token = variable.set("given")
        try:
            view.map_array(ufunc, np.ones(8, object), grain=1)
            view.submit_array(ufunc, np.ones(8, object), grain=1).result(WAIT)
        finally:
            variable.reset(token)
    assert set(seen) == {"given"} and len(seen) == 32


def test_the_drop_in_has_views_too() -> None:
    with fastpool.ThreadPoolExecutor(2) as executor:
        view = executor.options(timeout=FAR, context=context_with("given"))
        assert view.submit(variable.get).result(WAIT) == "given"
        assert list(view.map(lambda _: variable.get(), range(4))) == ["given"] * 4
