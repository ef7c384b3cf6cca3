"""A future of a pool is a concurrent.futures.Future, and more exact about times."""

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import gc
import logging
import math
import pickle
import threading
import weakref
from concurrent.futures import FIRST_COMPLETED, FIRST_EXCEPTION, CancelledError, InvalidStateError
from typing import Any

import pytest
from support import WAIT, Held, in_thread, reached

import fastpool


class Boom(Exception):
    pass


def boom() -> None:
    raise Boom("on purpose")


# --- states ---


def test_a_future_goes_from_pending_by_running_to_done(single: fastpool.Pool) -> None:
    running, go = threading.Event(), threading.Event()

    def job() -> str:
        running.set()
        reached(go)
        return "result"

    with Held(single):
        future = single.submit(job)
        assert (future.running(), future.done(), future.cancelled()) == (False, False, False)
    reached(running)
    assert (future.running(), future.done(), future.cancelled()) == (True, False, False)
    assert not future.cancel()
    go.set()
    assert future.result(WAIT) == "result"
    assert future.exception() is None
    assert (future.running(), future.done(), future.cancelled()) == (False, True, False)
    assert not future.cancel()


def test_a_cancelled_job_never_runs(single: fastpool.Pool) -> None:
    ran: list[int] = []
    with Held(single):
        future = single.submit(ran.append, 1)
        assert future.cancel()
        assert future.cancel(), "cancelling twice is the same as once"
        assert (future.running(), future.done(), future.cancelled()) == (False, True, True)
        for read in (future.result, future.exception):
            with pytest.raises(CancelledError):
                read()
    single.submit(int).result(WAIT)
    assert ran == []


def test_a_failed_job_raises_what_it_raised_with_its_traceback(pool: fastpool.Pool) -> None:
    future = pool.submit(boom)
    with pytest.raises(Boom, match="on purpose") as caught:
        future.result(WAIT)
    assert future.exception() is caught.value
    assert future.done() and not future.cancelled()
    assert "boom" in [entry.name for entry in caught.traceback]


def test_reading_an_exception_again_does_not_grow_its_traceback(pool: fastpool.Pool) -> None:
    future = pool.submit(boom)
    depths = []
    for _ in range(5):
        with pytest.raises(Boom) as caught:
            future.result(WAIT)
        depths.append(len(caught.traceback))
    assert len(set(depths)) == 1


def test_all_who_wait_for_one_future_wake_up(single: fastpool.Pool) -> None:
    with Held(single):
        future = single.submit(int, "7")
        waiters = [in_thread(future.result, WAIT) for _ in range(8)]
    assert [waiter() for waiter in waiters] == [7] * 8


def test_a_waiter_learns_of_a_cancellation(single: fastpool.Pool) -> None:
    with Held(single):
        future = single.submit(int)
        waiter = in_thread(future.result, WAIT)
        future.cancel()
        with pytest.raises(CancelledError):
            waiter()


def test_cancelling_races_with_running_and_one_of_them_wins(make_pool: Any, fast_switching: None) -> None:
    pool = make_pool(2)
    ran: list[int] = []
    futures = [pool.submit(ran.append, i) for i in range(5000)]
    won = [future.cancel() for future in reversed(futures)][::-1]
    assert pool.wait_idle(WAIT)
    assert sorted(ran) == [i for i, cancelled in enumerate(won) if not cancelled]
    assert [future.cancelled() for future in futures] == won


# --- times ---


@pytest.mark.parametrize("method", ["result", "exception"])
@pytest.mark.parametrize("timeout", [0, 0.0, 0.001, True])
def test_a_job_that_takes_longer_is_a_timeout(single: fastpool.Pool, method: str, timeout: float) -> None:
    with Held(single):
        future = single.submit(int)
        if timeout is not True:
            with pytest.raises(TimeoutError):
                getattr(future, method)(timeout)
            with pytest.raises(concurrent.futures.TimeoutError):
                getattr(future, method)(timeout=timeout)
    assert future.result(timeout=WAIT) == 0


@pytest.mark.parametrize("method", ["result", "exception"])
@pytest.mark.parametrize("timeout", [-1, -0.001, -math.inf, math.nan, -(10**400)])
@pytest.mark.parametrize("ended", [False, True], ids=["pending", "ended"])
def test_a_time_that_is_none_is_a_value_error(single: fastpool.Pool, method: str, timeout: float, ended: bool) -> None:
    with Held(single) as held:
        future = single.submit(int)
        if ended:
            held.release()
            future.result(WAIT)
        with pytest.raises(ValueError, match="timeout"):
            getattr(future, method)(timeout)


@pytest.mark.parametrize("method", ["result", "exception"])
@pytest.mark.parametrize("timeout", ["1", [], 1j, object()])
def test_a_time_that_is_no_number_is_a_type_error(single: fastpool.Pool, method: str, timeout: Any) -> None:
    with Held(single):
        future = single.submit(int)
        with pytest.raises(TypeError, match="timeout"):
            getattr(future, method)(timeout)


@pytest.mark.parametrize("timeout", [None, math.inf, 1e300, 10**400])
def test_no_end_of_time_is_too_far(single: fastpool.Pool, timeout: float | None) -> None:
    with Held(single) as held:
        future = single.submit(int)
        waiter = in_thread(future.result, timeout)
        held.release()
        assert waiter() == 0


@pytest.mark.parametrize("arguments", [((1, 2), {}), ((1,), {"timeout": 1}), ((), {"time": 1})])
def test_result_takes_one_argument(single: fastpool.Pool, arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> None:
    future = single.submit(int)
    for method in (future.result, future.exception):
        with pytest.raises(TypeError):
            method(*arguments[0], **arguments[1])


# --- the standard library's functions over futures ---


def test_wait_returns_all_when_all_are_done(pool: fastpool.Pool) -> None:
    futures = [*pool.submit_many(int, "123"), pool.submit(boom)]
    done, not_done = concurrent.futures.wait(futures, WAIT)
    assert (done, not_done) == (set(futures), set())
    assert concurrent.futures.wait(futures, 0) == (set(futures), set())


def test_wait_returns_the_first_that_is_done(make_pool: Any) -> None:
    pool = make_pool(2)
    with Held(pool) as held:
        first = pool.submit(int)
        done, not_done = concurrent.futures.wait([*held.futures, first], WAIT, FIRST_COMPLETED)
        assert (done, not_done) == ({first}, set(held.futures))


def test_wait_returns_at_the_first_exception(make_pool: Any) -> None:
    pool = make_pool(2)
    with Held(pool) as held:
        good, bad = pool.submit(int), pool.submit(boom)
        done, not_done = concurrent.futures.wait([*held.futures, good, bad], WAIT, FIRST_EXCEPTION)
        assert (done, not_done) == ({good, bad}, set(held.futures))


def test_wait_gives_up_after_its_timeout(single: fastpool.Pool) -> None:
    with Held(single) as held:
        queued = single.submit(int)
        assert concurrent.futures.wait([queued, *held.futures], 0).done == set()


def test_wait_and_as_completed_count_cancelled_jobs_as_done(single: fastpool.Pool) -> None:
    with Held(single):
        queued = [single.submit(int) for _ in range(3)]
        waiter = in_thread(concurrent.futures.wait, queued, WAIT)
        completed = in_thread(lambda: set(concurrent.futures.as_completed(queued, WAIT)))
        for future in queued:
            future.cancel()
        assert waiter().done == set(queued)
        assert completed() == set(queued)


def test_as_completed_gives_each_future_once_and_as_it_ends(make_pool: Any) -> None:
    pool = make_pool(2)
    with Held(pool) as held:
        quick = pool.submit_many(int, "123")
        stream = concurrent.futures.as_completed([*held.futures, *quick, *quick], WAIT)
        assert {next(stream) for _ in range(3)} == set(quick)
        held.release()
        assert list(stream) == held.futures


def test_as_completed_times_out(single: fastpool.Pool) -> None:
    with Held(single), pytest.raises(TimeoutError):
        list(concurrent.futures.as_completed([single.submit(int)], 0))


def test_futures_of_all_kinds_wait_together(make_pool: Any) -> None:
    ours, dropin = make_pool(2), make_pool(1, kind=fastpool.ThreadPoolExecutor)
    with concurrent.futures.ThreadPoolExecutor(1) as standard:
        futures = [executor.submit(int, "5") for executor in (ours, dropin, standard) for _ in range(20)]
        assert concurrent.futures.wait(futures, WAIT).done == set(futures)
        assert set(concurrent.futures.as_completed(futures, WAIT)) == set(futures)


def test_many_waiters_and_many_futures_miss_nothing(make_pool: Any, fast_switching: None) -> None:
    """Each future may be ending just as a waiter puts itself on its list."""
    pool = make_pool(2)
    for _ in range(40):
        futures = pool.submit_many(int, ["1"] * 50)
        waiters = [in_thread(concurrent.futures.wait, futures, WAIT) for _ in range(3)]
        assert sum(1 for _ in concurrent.futures.as_completed(futures, WAIT)) == 50
        assert all(waiter().done == set(futures) for waiter in waiters)


# --- callbacks ---


def test_a_callback_is_called_with_the_future_in_the_order_of_adding(single: fastpool.Pool) -> None:
    called: list[tuple[int, Any]] = []
    with Held(single):
        future = single.submit(int)
        for i in range(5):
            future.add_done_callback(lambda f, i=i: called.append((i, f)))
    assert single.wait_idle(WAIT)
    assert called == [(i, future) for i in range(5)]


def test_a_callback_added_after_the_end_is_called_at_once(pool: fastpool.Pool) -> None:
    called: list[Any] = []
    for fn in (int, boom):
        future = pool.submit(fn)
        future.exception(WAIT)
        future.add_done_callback(called.append)
        assert called.pop() is future


def test_cancelling_calls_the_callbacks(single: fastpool.Pool) -> None:
    called: list[Any] = []
    with Held(single):
        future = single.submit(int)
        future.add_done_callback(called.append)
        future.cancel()
        assert called == [future]
        future.cancel()
    single.submit(int).result(WAIT)
    assert called == [future], "once only"


@pytest.mark.parametrize("error", [Boom, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_callback_that_raises_harms_no_other_and_no_worker(
    single: fastpool.Pool, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def raises(_: Any) -> None:
        raise error

    called: list[Any] = []
    with Held(single):
        future = single.submit(int)
        future.add_done_callback(raises)
        future.add_done_callback(called.append)
    with caplog.at_level(logging.ERROR):
        assert single.submit(int).result(WAIT) == 0, "the one worker goes on"
    assert called == [future]
    assert future.result() == 0
    assert error in [record.exc_info[0] for record in caplog.records if record.exc_info]


def test_a_callback_may_read_its_future_and_add_another(single: fastpool.Pool) -> None:
    seen: list[Any] = []

    def callback(future: Any) -> None:
        seen.append((future.done(), future.result(), future._state))
        future.add_done_callback(lambda f: seen.append("inner"))

    with Held(single):
        future = single.submit(int)
        future.add_done_callback(callback)
    single.submit(int).result(WAIT)
    assert seen == [(True, 0, "FINISHED"), "inner"]


def test_each_callback_is_called_exactly_once_however_it_races_with_the_end(
    make_pool: Any, fast_switching: None
) -> None:
    pool = make_pool(2)
    calls: list[int] = []
    for i in range(3000):
        future = pool.submit(int)
        future.add_done_callback(lambda _, i=i: calls.append(i))
    assert pool.wait_idle(WAIT)
    pool.shutdown()
    assert sorted(calls) == list(range(3000))


# --- asyncio ---


def test_asyncio_awaits_a_future(pool: fastpool.Pool) -> None:
    async def main() -> None:
        assert await asyncio.wrap_future(pool.submit(int, "5")) == 5
        with pytest.raises(Boom):
            await asyncio.wrap_future(pool.submit(boom))
        results = await asyncio.gather(*map(asyncio.wrap_future, pool.submit_many(int, "1234" * 20)))
        assert results == [1, 2, 3, 4] * 20

    asyncio.run(asyncio.wait_for(main(), WAIT))


def test_cancelling_in_asyncio_cancels_the_job(single: fastpool.Pool) -> None:
    async def main() -> None:
        with Held(single):
            future = single.submit(int)
            wrapped = asyncio.wrap_future(future)
            wrapped.cancel()
            with pytest.raises(asyncio.CancelledError):
                await wrapped
            await asyncio.sleep(0)  # the loop tells the job in its next round
            assert future.cancelled()

    asyncio.run(asyncio.wait_for(main(), WAIT))


def test_cancelling_the_job_cancels_in_asyncio(single: fastpool.Pool) -> None:
    async def main() -> None:
        with Held(single):
            future = single.submit(int)
            wrapped = asyncio.wrap_future(future)
            future.cancel()
            with pytest.raises(asyncio.CancelledError):
                await wrapped

    asyncio.run(asyncio.wait_for(main(), WAIT))


# --- futures that users make ---


def test_a_future_of_ones_own_takes_a_result(single: fastpool.Pool) -> None:
    future = fastpool.Future()
    assert not future.done()
    waiter = in_thread(future.result, WAIT)
    called: list[Any] = []
    future.add_done_callback(called.append)
    assert future.set_running_or_notify_cancel()
    assert future.running()
    future.set_result(5)
    assert waiter() == future.result() == 5
    assert called == [future]
    assert concurrent.futures.wait([future], 0).done == {future}
    for again in (lambda: future.set_result(6), lambda: future.set_exception(Boom())):
        with pytest.raises(InvalidStateError):
            again()
    assert future.result() == 5


def test_a_future_of_ones_own_takes_an_exception() -> None:
    future = fastpool.Future()
    waiter = in_thread(future.exception, WAIT)
    error = Boom()
    future.set_exception(error)
    assert waiter() is future.exception() is error
    with pytest.raises(Boom):
        future.result()


def test_a_future_of_ones_own_is_cancelled_in_two_steps() -> None:
    future = fastpool.Future()
    waiter = in_thread(future.result, WAIT)
    assert future.cancel() and future.cancelled() and future.done()
    with pytest.raises(CancelledError):
        waiter()
    assert not future.set_running_or_notify_cancel()
    with pytest.raises(CancelledError):
        future.result()


def test_a_future_of_ones_own_times_out() -> None:
    future = fastpool.Future()
    with pytest.raises(TimeoutError):
        future.result(0)
    with pytest.raises(ValueError, match="timeout"):
        future.result(-1)
    assert concurrent.futures.wait([future], 0).not_done == {future}


@pytest.mark.parametrize("interfere", ["set_result", "set_exception", "set_running_or_notify_cancel"])
def test_nobody_but_the_pool_ends_or_starts_its_futures(single: fastpool.Pool, interfere: str) -> None:
    """Else the job would be lost, or its result."""
    arguments = {"set_result": (1,), "set_exception": (Boom(),)}.get(interfere, ())
    with Held(single):
        future = single.submit(int, "7")
        with pytest.raises((fastpool.PoolError, InvalidStateError)):
            getattr(future, interfere)(*arguments)
        assert not future.done()
    assert future.result(1) == 7


# --- as a Python object ---


def test_repr_tells_state_and_type(single: fastpool.Pool) -> None:
    with Held(single) as held:
        queued, failing, cancelled = single.submit(int), single.submit(boom), single.submit(int)
        cancelled.cancel()
        assert "pending" in repr(queued)
        assert "running" in repr(held.futures[0])
        assert "cancelled" in repr(cancelled)
    single.submit(int).result(WAIT)
    assert "returned int" in repr(queued)
    assert "raised Boom" in repr(failing)


def test_a_future_has_attributes_weak_references_and_an_identity(single: fastpool.Pool) -> None:
    future = single.submit(int)
    future.note = "mine"
    assert future.note == "mine"
    assert len({future, future, single.submit(int)}) == 2
    reference = weakref.ref(future)
    assert reference() is future
    future.result(WAIT)
    assert single.wait_idle(WAIT)
    single.submit(int).result(WAIT)  # the worker has let go of it by now
    del future
    gc.collect()
    assert reference() is None


def test_a_future_can_be_subclassed() -> None:
    class Named(fastpool.Future):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    future = Named("a")
    future.set_result(1)
    assert (future.name, future.result()) == ("a", 1)
    assert isinstance(future, concurrent.futures.Future)
    assert fastpool.Future[int] is not None


def test_a_future_takes_no_arguments() -> None:
    with pytest.raises(TypeError):
        fastpool.Future(1)
    with pytest.raises(TypeError):
        fastpool.Future(timeout=1)


def test_a_future_is_neither_pickled_nor_copied(single: fastpool.Pool) -> None:
    for future in (single.submit(int), fastpool.Future()):
        for clone in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError):
                clone(future)
