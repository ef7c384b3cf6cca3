"""pool.group(): jobs that end together, and how their failures come out."""

from __future__ import annotations

import asyncio
import gc
import sysconfig
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from typing import Any

import numpy as np
import pytest
from support import WAIT, Held, idle_metrics, in_thread, reached

import fastpool
from fastpool import kernels

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))

MakePool = Callable[..., fastpool.Pool]


class Boom(Exception):
    pass


def boom(error: BaseException | type[BaseException] = Boom) -> None:
    raise error


def until_asked_to_stop(started: threading.Event | None = None) -> None:
    """A job that runs until it is asked to stop, and then ends as cancelled."""
    job, never = fastpool.current_job(), threading.Event()
    assert job is not None
    if started is not None:
        started.set()
    for _ in range(int(WAIT / 0.001)):
        job.check()
        never.wait(0.001)
    raise AssertionError("nobody asked it to stop")


def run_async(main: Any) -> Any:
    return asyncio.run(asyncio.wait_for(main, WAIT))


@pytest.fixture
def no_cycles() -> Iterator[Callable[[Any], None]]:
    """With the collector off: checks that what is given dies with its last name."""
    gc.collect()
    gc.disable()
    references: list[weakref.ref[Any]] = []
    yield lambda thing: references.append(weakref.ref(thing))
    try:
        assert references
        end, never = time.monotonic() + WAIT, threading.Event()
        while any(reference() is not None for reference in references) and time.monotonic() < end:
            never.wait(0.001)  # on a free-threaded build it falls to this thread to free what others have let go of
        assert [reference() for reference in references] == [None] * len(references)
    finally:
        gc.enable()


# --- leaving ---


def test_the_block_is_left_when_all_jobs_are_done(pool: fastpool.Pool) -> None:
    with pool.group() as g:
        futures = [g.submit(pow, i, 2) for i in range(100)] + g.submit_many(pow, range(100, 200), [2] * 100)
    assert all(future.done() for future in futures)
    assert [future.result(0) for future in futures] == [i**2 for i in range(200)]


def test_an_empty_group_is_left_at_once(single: fastpool.Pool) -> None:
    with Held(single), single.group(), single.group(timeout=0):
        pass


def test_it_is_a_way_to_submit_like_any_view(make_pool: MakePool) -> None:
    pool = make_pool(1)
    with pool.options(priority="high").group() as g, Held(pool):
        assert not g.submit(int).done()
    for method in (g.submit, g.submit_many):
        with pytest.raises(fastpool.PoolError, match="the group has ended"):
            method(int, "1")
    with pytest.raises(fastpool.PoolError, match="the group has ended"):
        g.group()
    with pytest.raises(TypeError, match="fn"):
        pool.group().submit(5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="on_error"):
        pool.group(on_error="ignore")
    for timeout in (-1, float("nan")):
        with pytest.raises(ValueError, match="timeout"):
            pool.group(timeout=timeout)


def test_jobs_may_submit_to_the_group_while_it_is_being_left(pool: fastpool.Pool) -> None:
    leaves: list[int] = []

    def job(depth: int) -> None:
        if depth == 0:
            leaves.append(1)
            return
        for _ in range(2):
            g.submit(job, depth - 1)

    with pool.group() as g:
        g.submit(job, 8)
    assert len(leaves) == 2**8


def test_a_group_left_inside_a_job_of_a_full_one_worker_pool(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1)

    def job(depth: int) -> int:
        if depth == 0:
            return 1
        with pool.group() as g:
            futures = [g.submit(job, depth - 1) for _ in range(3)] + g.submit_many(int, "111")
        return sum(future.result(0) for future in futures)

    with Held(pool) as held:
        future = pool.submit(job, 3)
        held.release()
        assert future.result(WAIT) == 3**3 + 3 * (1 + 3 + 9)
    idle_metrics(pool)


def test_100_000_jobs_keep_the_groups_memory_bounded(make_pool: MakePool) -> None:
    pool = make_pool(2, queue_size=100)
    with pool.group() as g:
        most = 0
        for i in range(50_000):
            g.submit(abs, i)
            most = max(most, len(g._futures))
        for _ in range(5):
            g.submit_many(abs, range(10_000))
            most = max(most, len(g._futures))
    assert most <= 1000
    assert idle_metrics(pool).jobs_processed == 100_000


# --- failures ---


def test_the_first_failure_cancels_what_is_queued(make_pool: MakePool) -> None:
    pool = make_pool(1)
    ran: list[int] = []
    with pytest.raises(ExceptionGroup) as caught, pool.group() as g, Held(pool):
        failed = g.submit(boom)
        others = [g.submit(ran.append, i) for i in range(10)]
    assert caught.value.exceptions == (failed.exception(),)
    assert caught.value.__cause__ is None
    assert all(other.cancelled() for other in others)
    assert ran == []
    metrics = idle_metrics(pool)
    assert (metrics.jobs_failed, metrics.jobs_cancelled) == (1, 10)


def test_the_first_failure_asks_running_jobs_to_stop_even_if_an_earlier_one_is_long(make_pool: MakePool) -> None:
    pool = make_pool(2)
    started = threading.Event()
    with pytest.raises(ExceptionGroup) as caught, pool.group() as g:
        long = g.submit(until_asked_to_stop, started)
        reached(started)
        g.submit(boom)
        queued = [g.submit(int) for _ in range(5)]
    assert [type(error) for error in caught.value.exceptions] == [Boom]
    assert long.cancelled()  # which is no failure
    assert all(future.done() for future in queued)


def test_with_continue_all_jobs_run_and_all_failures_come_out(pool: fastpool.Pool) -> None:
    ran: list[int] = []

    def job(i: int) -> None:
        ran.append(i)
        if i % 10 == 0:
            raise Boom(i)

    with pytest.raises(ExceptionGroup) as caught, pool.group(on_error="continue") as g:
        for i in range(500):
            g.submit(job, i)
        g.submit_many(job, range(500, 1000))
    assert sorted(ran) == list(range(1000))
    assert sorted(error.args[0] for error in caught.value.exceptions) == list(range(0, 1000, 10))


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_what_is_no_exception_makes_it_a_base_exception_group(
    single: fastpool.Pool, error: type[BaseException]
) -> None:
    with pytest.raises(BaseExceptionGroup) as caught, single.group(on_error="continue") as g:
        g.submit(boom, error)
        g.submit(boom)
    assert not isinstance(caught.value, Exception)
    assert {type(each) for each in caught.value.exceptions} == {error, Boom}


def test_a_failure_is_never_lost_however_soon_the_block_is_left(make_pool: MakePool, fast_switching: None) -> None:
    """Who waits for a job may be awake before the group has been told that it failed."""
    pool = make_pool(2)
    for _ in range(1000):
        with pytest.raises(ExceptionGroup), pool.group() as g:
            g.submit(boom)
    for _ in range(200):
        with pytest.raises(ExceptionGroup), pool.group() as g:
            g.submit(kernels.fail)
    for _ in range(200):
        caught: list[ExceptionGroup[Exception]] = []
        try:
            with pool.options(timeout=0).group() as g:
                (future,) = g.submit_many(kernels.identity, [1.0])
        except ExceptionGroup as error:
            caught.append(error)
        assert bool(caught) == (future.exception(0) is not None)


def test_cancelled_jobs_are_no_failures(single: fastpool.Pool) -> None:
    with single.group() as g, Held(single):
        assert g.submit(int).cancel()
    with pytest.raises(CancelledError), single.group() as g, Held(single):  # it is the block's own
        future = g.submit(int)
        future.cancel()
        future.result()


def test_after_a_cancel_jobs_are_cancelled_at_once_and_nothing_is_queued(single: fastpool.Pool) -> None:
    with single.group() as g:
        g.cancel()
        before = single.metrics().jobs_submitted
        futures = [g.submit(int), *g.submit_many(int, "123"), *g.submit_many(kernels.identity, [1.0, 2.0])]
        assert len(futures) == 6
        assert all(future.cancelled() and future.done() for future in futures)
        with pytest.raises(TypeError, match="fn"):
            g.submit(5)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            g.submit_many(int)
    assert single.metrics().jobs_submitted == before


def test_a_submit_many_that_waits_for_room_ends_soon_after_a_failure(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1)
    ran: list[int] = []
    with pytest.raises(ExceptionGroup), pool.group() as g:
        g.submit(boom)
        futures = g.submit_many(ran.append, range(10_000))
    assert len(futures) == 10_000
    assert len(ran) < 100
    assert sum(future.cancelled() for future in futures) == 10_000 - len(ran)


def test_a_job_that_waits_for_a_cancelled_one_is_no_failure(make_pool: MakePool) -> None:
    pool = make_pool(2)
    for _ in range(100):
        with pytest.raises(ExceptionGroup) as caught, pool.group() as g, Held(pool):
            queued = pool.options(priority="low").submit(int)
            first = g.submit(int)
            waiting = threading.Event()

            def wait(other: Future[Any] = first, waiting: threading.Event = waiting) -> None:
                waiting.set()
                other.result()

            g.submit(wait)
            g.submit(boom)
        assert [type(error) for error in caught.value.exceptions] == [Boom]
        queued.result(WAIT)


def test_a_job_that_raises_cancelled_error_of_itself_has_failed(single: fastpool.Pool) -> None:
    with pytest.raises(ExceptionGroup) as caught, single.group() as g:
        failed = g.submit(boom, CancelledError)
    assert caught.value.exceptions == (failed.exception(0),)


# --- the body ---


def test_the_bodys_own_exception_comes_alone_and_cancels(single: fastpool.Pool) -> None:
    error = Boom()
    with pytest.raises(Boom) as caught, single.group(on_error="continue") as g, Held(single):
        queued = g.submit(int)
        raise error
    assert caught.value is error
    assert queued.cancelled()


def test_the_bodys_exception_comes_with_the_failures(single: fastpool.Pool) -> None:
    with pytest.raises(ExceptionGroup) as caught, single.group() as g:
        g.submit(boom).exception()
        raise ValueError
    assert [type(error) for error in caught.value.exceptions] == [Boom, ValueError]


def test_a_failure_that_the_body_asks_for_comes_once(single: fastpool.Pool) -> None:
    error = Boom()
    with pytest.raises(ExceptionGroup) as caught, single.group() as g:
        g.submit(boom, error).result()
    assert caught.value.exceptions == (error,)


def test_the_result_of_a_cancelled_job_is_no_failure_beside_one(single: fastpool.Pool) -> None:
    with pytest.raises(ExceptionGroup) as caught, single.group() as g:
        with Held(single):
            g.submit(boom)
            other = g.submit(int)
        other.result()
    assert [type(error) for error in caught.value.exceptions] == [Boom]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_no_exception_comes_out_of_the_body_alone(single: fastpool.Pool, error: type[BaseException]) -> None:
    with pytest.raises(error), single.group() as g:
        g.submit(boom).exception()
        raise error


# --- time ---


def test_a_timeout_gives_one_job_timeout(make_pool: MakePool) -> None:
    pool = make_pool(2)
    with pytest.raises(ExceptionGroup) as caught, Held(pool), pool.group(timeout=0.05) as g:
        running = g.submit(until_asked_to_stop)
        queued = [g.submit(pow, i, 2) for i in range(20)] + g.submit_many(int, "1" * 20)
        single = pool.submit(until_asked_to_stop)
        many = g.submit_many(kernels.identity, [1.0] * 100)
        native = g.submit(kernels.identity, 1.0)
    single.cancel()
    assert [type(error) for error in caught.value.exceptions] == [fastpool.JobTimeout]
    for future in [running, native, *queued, *many]:
        assert future.cancelled() or future.exception(0) is None or type(future.exception(0)) is fastpool.JobTimeout
    assert isinstance(running.exception(0), fastpool.JobTimeout)


def test_a_jobs_own_timeout_is_its_own_failure(single: fastpool.Pool) -> None:
    with pytest.raises(ExceptionGroup) as caught, Held(single), single.options(timeout=0.01).group() as g:
        failed = g.submit(int)
    assert caught.value.exceptions == (failed.exception(0),)


def test_the_time_is_over_for_a_submit_that_waits_for_room_too(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1)
    for submit in (lambda g: g.submit(int), lambda g: g.submit_many(int, "123")):
        with Held(pool):
            pool.post(int)
            with pytest.raises(ExceptionGroup) as caught, pool.group(timeout=0.02) as g:
                submit(g)
            assert [type(error) for error in caught.value.exceptions] == [fastpool.JobTimeout]
        idle_metrics(pool)
    assert pool.metrics().jobs_rejected == 2


def test_a_timeout_leaves_alone_what_has_ended(single: fastpool.Pool) -> None:
    with single.group(timeout=WAIT) as g:
        future = g.submit(int)
    assert future.result(0) == 0
    with single.group(timeout=0.01) as g:
        future = single.submit(int)
        threading.Event().wait(0.02)
    assert future.result(WAIT) == 0


# --- groups in groups ---


def test_a_group_in_a_group_fails_into_it(pool: fastpool.Pool) -> None:
    with pytest.raises(ExceptionGroup) as caught, pool.group() as outer:
        outer.submit(int)
        with outer.group() as inner:
            inner.submit(boom)
    assert [type(error) for error in caught.value.exceptions] == [
        Boom
    ]  # the inner's, which the outer's block has raised
    with pytest.raises(ExceptionGroup) as caught, pool.group(on_error="continue") as outer:
        outer.submit(boom)
        with outer.group() as inner:
            inner.submit(boom)
    assert [type(error) for error in caught.value.exceptions] == [Boom, ExceptionGroup]


def test_the_time_of_the_outer_bounds_the_inner(single: fastpool.Pool) -> None:
    outer = single.group(timeout=0.05)
    with pytest.raises(ExceptionGroup) as caught, Held(single), outer, outer.group(timeout=WAIT) as inner:
        futures = [inner.submit(int) for _ in range(10)]
    assert [type(error) for error in caught.value.exceptions] == [fastpool.JobTimeout]
    assert all(future.done() for future in futures)


def test_the_time_of_the_inner_is_no_more_than_its_own(single: fastpool.Pool) -> None:
    with single.group(timeout=WAIT) as outer:
        with pytest.raises(ExceptionGroup), Held(single), outer.group(timeout=0.01) as inner:
            inner.submit(int)
        assert outer.submit(str).result(WAIT) == ""


def test_cancelling_the_outer_cancels_the_inner(make_pool: MakePool) -> None:
    pool = make_pool(2)
    started = threading.Event()
    with pytest.raises(ExceptionGroup), pool.group() as outer, outer.group() as inner, inner.group() as innermost:
        running = innermost.submit(until_asked_to_stop, started)
        reached(started)
        outer.submit(boom).exception()
        with pytest.raises(CancelledError):
            running.result(WAIT)
        assert innermost.submit(int).cancelled()
        assert outer.group().submit(int).cancelled()


def test_an_inner_failure_leaves_the_outers_jobs_until_it_comes_out(make_pool: MakePool) -> None:
    pool = make_pool(1)
    with pool.group() as outer, Held(pool) as held:
        later = outer.submit(int)
        with pytest.raises(ExceptionGroup), outer.group() as inner:
            inner.submit(boom)
            held.release()
    assert later.result(0) == 0


# --- kernels ---


def test_jobs_of_kernels(pool: fastpool.Pool) -> None:
    with pool.group() as g:
        one = g.submit(kernels.identity, 2.5)
        many = g.submit_many(kernels.identity, [1.0, 2.0, 3.0])
    assert one.result(0) == 2.5
    assert [future.result(0) for future in many] == [1.0, 2.0, 3.0]


def test_kernels_that_fail(make_pool: MakePool) -> None:
    pool = make_pool(2)
    kernel = fastpool.kernel(kernels.fail, data=np.array([7], np.intc))
    with pytest.raises(ExceptionGroup) as caught, pool.group(on_error="continue") as g:
        for _ in range(50):
            g.submit(kernel)
    assert [(type(error), error.status) for error in caught.value.exceptions] == [(fastpool.NativeJobError, 7)] * 50
    single = make_pool(1)
    with pytest.raises(ExceptionGroup), single.group() as g, Held(single):
        g.submit(kernel)
        queued = [g.submit(int) for _ in range(50)]
    assert all(future.cancelled() for future in queued)


def test_thousands_of_failures_cancel_only_once(make_pool: MakePool) -> None:
    pool = make_pool(1)
    with pytest.raises(ExceptionGroup) as caught, pool.options(timeout=0.01).group() as g, Held(pool) as held:
        futures = g.submit_many(kernels.identity, [1.0] * 20_000)
        with pytest.raises(fastpool.JobTimeout):
            futures[0].result(WAIT)
        held.release()
    assert 1 <= len(caught.value.exceptions) <= 20_000


# --- refused ---


def test_a_refused_submit_is_the_bodys_to_handle(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1, on_full="raise")
    with Held(pool) as held, pool.group() as g:
        accepted = g.submit(int)
        for submit in (lambda: g.submit(int), lambda: g.submit_many(int, "12")):
            with pytest.raises(fastpool.PoolOverloaded):
                submit()
        held.release()
    assert accepted.result(0) == 0
    assert idle_metrics(pool).jobs_rejected == 2
    with Held(pool):
        pool.post(int)
        with pytest.raises(fastpool.PoolOverloaded), pool.group() as g:
            g.submit(int)


def test_a_submit_many_refused_half_way_is_waited_for_where_it_had_begun(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1, submit_timeout=0.02)
    started, go = threading.Event(), threading.Event()

    def job(i: int) -> None:
        started.set()
        reached(go)

    def body() -> list[Future[Any]]:
        with pool.group() as g:
            try:
                g.submit_many(job, range(100))
            except fastpool.SubmitTimeout as error:
                futures: list[Future[Any]] = error.futures
                go.set()
        return futures

    futures = in_thread(body)()
    reached(started)
    assert len(futures) == 2
    assert all(future.done() for future in futures)
    assert idle_metrics(pool).jobs_cancelled == 1


@pytest.mark.parametrize("cancel_futures", [False, True])
def test_a_pool_that_is_shut_down_while_a_group_is_open(make_pool: MakePool, cancel_futures: bool) -> None:
    pool = make_pool(1)
    with Held(pool) as held:
        with pool.group() as g:
            future = g.submit(int)
            pool.shutdown(wait=False, cancel_futures=cancel_futures)
            held.release()
        assert future.cancelled() == cancel_futures
    with pytest.raises(fastpool.PoolShutdown), pool.group() as g:
        g.submit(int)


def test_a_broken_pool_fails_the_group(make_pool: MakePool) -> None:
    pool = make_pool(1, initializer=boom)
    with pytest.raises((ExceptionGroup, fastpool.BrokenThreadPool)), pool.group() as g:
        for _ in range(10):
            g.submit(int)


# --- memory ---


def test_a_group_is_part_of_no_cycle(make_pool: MakePool, no_cycles: Callable[[Any], None]) -> None:
    pool = make_pool(2)
    for on_error in ("cancel", "continue"):
        with pool.group(on_error=on_error, timeout=WAIT) as g, g.group() as inner:
            no_cycles(g)
            no_cycles(inner)
            for future in [g.submit(int), inner.submit(int), g.submit(kernels.identity, 1.0)]:
                no_cycles(future)
            for future in g.submit_many(kernels.identity, [1.0] * 3):
                no_cycles(future)
            del future
        try:
            with pool.group(on_error=on_error) as g:
                no_cycles(g)
                no_cycles(g.submit(boom))
                g.submit(int)
        except ExceptionGroup as error:
            no_cycles(error)
            if not FREE_THREADED:  # there a worker that sleeps may not have settled its part of the references yet
                no_cycles(error.exceptions[0])
        del g, inner
    assert pool.wait_idle(WAIT)
    pool.submit(int).result(WAIT)  # which reaps kernels' futures


def test_a_group_that_is_dropped_without_a_block_dies(make_pool: MakePool, no_cycles: Callable[[Any], None]) -> None:
    pool = make_pool(1)
    g = pool.group(on_error="continue")
    no_cycles(g)
    g.submit(boom).exception()
    g.submit(kernels.identity, 1.0).result(WAIT)
    del g


def test_a_view_that_is_part_of_a_cycle_goes_alone(make_pool: MakePool) -> None:
    """It was taken for a pool, whose end took the pool's memory with it."""
    pool = make_pool(1)
    for _ in range(10):
        for view in (pool.options(priority="high"), pool.group()):
            view.itself = view  # type: ignore[union-attr]
        del view
        gc.collect()
        assert pool.submit(int).result(WAIT) == 0


def test_results_are_not_held_by_an_open_group(make_pool: MakePool) -> None:
    class Thing:
        pass

    pool = make_pool(1)
    gone = threading.Event()

    def job() -> Thing:
        thing = Thing()
        weakref.finalize(thing, gone.set)
        return thing

    with pool.group() as g:
        g.submit(job)
        for _ in range(500):
            g.submit(int).result(WAIT)
        reached(gone)


# --- asyncio ---


def test_async_with_does_not_block_the_loop(make_pool: MakePool) -> None:
    pool = make_pool(1)

    async def main() -> list[int]:
        go = threading.Event()

        async def other() -> None:  # runs only if the loop does while the group is being left
            go.set()

        async with pool.group() as g:
            g.submit(reached, go)
            futures = [g.submit(int, str(i)) for i in range(100)]
            runs = [g.run(int, "7") for _ in range(5)]
            task = asyncio.create_task(other())
        await task
        return [future.result(0) for future in futures] + [each.result() for each in runs]

    assert run_async(main()) == [*range(100), 7, 7, 7, 7, 7]


def test_run_in_a_group_fails_into_it(make_pool: MakePool) -> None:
    pool = make_pool(1)

    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with pool.group() as g:
                with Held(pool):
                    failed = g.run(boom)
                    others = [g.run(int) for _ in range(5)]
        assert [type(error) for error in caught.value.exceptions] == [Boom]
        assert failed.exception() is caught.value.exceptions[0]
        assert all(each.cancelled() for each in others)
        assert idle_metrics(pool).jobs_cancelled == 5

    run_async(main())


def test_a_failure_comes_out_also_where_the_body_awaited_a_job_that_it_cancelled(make_pool: MakePool) -> None:
    pool = make_pool(1)

    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with pool.group() as g:
                with Held(pool):
                    g.submit(boom)
                    other = g.run(int)
                await other
        assert [type(error) for error in caught.value.exceptions] == [Boom]
        with pytest.raises(ExceptionGroup) as caught:
            async with pool.group() as g:
                g.submit(boom).exception()
                await g.run(int)
        assert [type(error) for error in caught.value.exceptions] == [Boom]
        with pytest.raises(ExceptionGroup) as caught:
            async with pool.group() as g:
                await asyncio.gather(g.run(boom), g.run(int))
        assert [type(error) for error in caught.value.exceptions] == [Boom]

    run_async(main())


def test_a_task_that_is_cancelled_in_a_block_cancels_the_group(make_pool: MakePool) -> None:
    pool = make_pool(1)

    async def main() -> None:
        for failing in (False, True):
            entered = asyncio.Event()
            futures: list[Future[Any]] = []

            async def body(entered: asyncio.Event, futures: list[Future[Any]], failing: bool) -> None:
                async with pool.group(on_error="continue") as g:
                    if failing:
                        g.submit(boom).exception()
                    started = threading.Event()
                    futures += [g.submit(until_asked_to_stop, started), g.submit(int)]
                    reached(started)
                    entered.set()
                    await asyncio.get_running_loop().create_future()

            task = asyncio.create_task(body(entered, futures, failing))
            await entered.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert all(future.cancelled() for future in futures)

    run_async(main())


def test_a_task_that_is_cancelled_while_it_leaves_waits_no_longer(make_pool: MakePool) -> None:
    pool = make_pool(1)
    go, started = threading.Event(), threading.Event()

    def stubborn() -> None:
        started.set()
        reached(go)

    async def main() -> None:
        async def body() -> None:
            async with pool.group() as g:
                futures.append(g.submit(stubborn))
                futures.append(g.submit(int))

        futures: list[Future[Any]] = []
        task = asyncio.create_task(body())
        await asyncio.to_thread(reached, started)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not futures[0].done()
        assert futures[1].cancelled()
        go.set()

    run_async(main())


def test_asyncio_timeouts_end_a_group(make_pool: MakePool) -> None:
    pool = make_pool(1)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02), pool.group() as g:
                g.submit(until_asked_to_stop)

    run_async(main())


def test_a_run_that_waits_for_room_is_waited_for_and_cancelled_with_the_group(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1)

    async def main() -> None:
        with Held(pool) as held:
            pool.post(int)
            async with pool.group() as g:
                runs = [g.run(int, "5") for _ in range(5)]
                held.release()
        assert [each.result() for each in runs] == [5] * 5
        with Held(pool):
            pool.post(int)
            before = pool.metrics().jobs_submitted
            async with pool.group() as g:
                runs = [g.run(int, "5") for _ in range(5)]
                g.cancel()
            assert all(each.cancelled() for each in runs)
            assert pool.metrics().jobs_submitted == before

    run_async(main())


def test_a_run_that_is_refused_after_a_wait_is_a_failure(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1, submit_timeout=0.01)

    async def main() -> None:
        with Held(pool):
            pool.post(int)
            with pytest.raises(ExceptionGroup) as caught:
                async with pool.group() as g:
                    g.run(int)  # nobody awaits it
            assert [type(error) for error in caught.value.exceptions] == [fastpool.SubmitTimeout]

    run_async(main())
    assert idle_metrics(pool).jobs_rejected == 1


def test_the_groups_time_is_over_for_a_run_that_waits_for_room_too(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1)

    async def main() -> None:
        with Held(pool):
            pool.post(int)
            with pytest.raises(ExceptionGroup) as caught:
                async with pool.group(timeout=0.02) as g:
                    for _ in range(3):
                        g.run(int)
            assert [type(error) for error in caught.value.exceptions] == [fastpool.JobTimeout]

    run_async(main())
    idle_metrics(pool)


def test_two_event_loops_in_two_threads(make_pool: MakePool) -> None:
    """Of one group: the loop that leaves it waits for what the other awaits."""
    pool = make_pool(2, queue_size=2)
    joined, held = threading.Barrier(2), threading.Event()

    async def other(g: fastpool.Group) -> list[int]:
        runs = [g.run(int, str(i)) for i in range(50)]
        joined.wait(WAIT)
        return await asyncio.gather(*runs)

    async def main() -> None:
        async with pool.group() as g:
            g.submit(reached, held)
            g.submit(reached, held)
            others = in_thread(run_async, other(g))
            await asyncio.to_thread(joined.wait, WAIT)
            mine = [g.run(int, str(i)) for i in range(50)]
            held.set()
        assert [each.result() for each in mine] == list(range(50))
        assert await asyncio.to_thread(others) == list(range(50))

    for _ in range(5):
        held.clear()
        run_async(main())
    idle_metrics(pool)


def test_groups_of_an_event_loop_on_a_worker_of_a_one_worker_pool(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1)

    async def main() -> int:
        async with pool.group() as g:
            futures = [g.submit(int, "1") for _ in range(5)]
            runs = [g.run(int, "1") for _ in range(5)]
        return sum(future.result(0) for future in futures) + sum(each.result() for each in runs)

    assert pool.submit(run_async, main()).result(WAIT) == 10
