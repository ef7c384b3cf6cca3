"""await pool.run(): submitting from an event loop, which goes on while the queue is full."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import random
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import numpy as np
import pytest
from support import WAIT, Held, idle_metrics, in_thread, reached

import fastpool
from fastpool import kernels

MakePool = Callable[..., fastpool.Pool]

WAITING = pytest.mark.parametrize("on_full", ["block", "caller_runs"])


class Boom(Exception):
    pass


def boom() -> None:
    raise Boom


def run_async(main: Coroutine[Any, Any, Any]) -> Any:
    """Run it; what asyncio would only log, as an exception that nobody asked for, fails."""
    complaints: list[Any] = []

    async def watched() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        try:
            return await asyncio.wait_for(main, WAIT)
        finally:
            gc.collect()

    result = asyncio.run(watched())
    assert complaints == []
    return result


def room_threads(pool: fastpool.Pool) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == f"{pool._thread_name_prefix}-room"]


def none_waits(pool: fastpool.Pool) -> None:
    """Nobody is in the line, and its thread has ended."""
    assert pool._line._length == 0
    for thread in room_threads(pool):
        thread.join(WAIT)
        assert not thread.is_alive()
    assert len(pool._line._waiters) == 0


async def until(condition: Callable[[], bool]) -> None:
    """The loop goes round until it holds. No test passes because time went by."""
    async with asyncio.timeout(WAIT):
        while not condition():
            await asyncio.sleep(0.0005)


@pytest.fixture
def full(make_pool: MakePool) -> Iterator[Callable[..., tuple[fastpool.Pool, Held]]]:
    """Pools of one held worker whose queue, of one place, is taken by a job that makes 0."""
    holders: list[Held] = []

    def make(**options: Any) -> tuple[fastpool.Pool, Held]:
        pool = make_pool(1, queue_size=1, **options)
        holders.append(Held(pool))
        pool.post(int)
        return pool, holders[-1]

    yield make
    for held in holders:
        held.release()


# --- while there is room ---


def test_results_and_errors(pool: fastpool.Pool) -> None:
    async def main() -> None:
        assert await pool.run(pow, 2, 10) == 1024
        assert await pool.run(dict, a=1) == {"a": 1}
        assert await asyncio.gather(*(pool.run(int, str(i)) for i in range(200))) == list(range(200))
        with pytest.raises(Boom):
            await pool.run(boom)
        with pytest.raises(TypeError, match="fn"):
            await pool.run(5)  # type: ignore[arg-type]
        assert await pool.options(priority="high").run(int, "7") == 7

    run_async(main())


def test_jobs_start_in_order_though_nobody_awaits_them(single: fastpool.Pool) -> None:
    ran: list[int] = []

    async def main() -> None:
        awaited = [single.run(ran.append, i) for i in range(1000)]
        await awaited[-1]

    run_async(main())
    assert ran == list(range(1000))


def test_kernels(single: fastpool.Pool) -> None:
    async def main() -> None:
        assert await single.run(kernels.identity, 2.5) == 2.5
        with pytest.raises(fastpool.NativeJobError):
            await single.run(fastpool.kernel(kernels.fail, data=np.array([3], np.intc)))
        with pytest.raises(TypeError):
            await single.run(kernels.identity)

    run_async(main())


def test_without_a_loop_it_is_refused_and_nothing_queued(single: fastpool.Pool) -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        single.run(int)
    assert single.metrics().jobs_submitted == 0


def test_cancelling_it_cancels_a_queued_job_and_asks_a_running_one_to_stop(single: fastpool.Pool) -> None:
    started = threading.Event()
    seen: list[bool] = []

    def job() -> None:
        current, never = fastpool.current_job(), threading.Event()
        started.set()
        for _ in range(int(WAIT / 0.001)):
            if current.cancelled:
                break
            never.wait(0.001)
        seen.append(current.cancelled)

    async def main() -> None:
        running, queued = single.run(job), single.run(seen.append, None)
        await asyncio.to_thread(reached, started)
        for each in (running, queued):
            each.cancel()
            with pytest.raises(asyncio.CancelledError):
                await each

    run_async(main())
    assert idle_metrics(single).jobs_cancelled == 1
    assert seen == [True]


# --- a full queue ---


@WAITING
def test_it_waits_for_room_and_the_loop_goes_on(full: Callable[..., tuple[fastpool.Pool, Held]], on_full: str) -> None:
    pool, held = full(on_full=on_full)

    async def main() -> None:
        awaited = [pool.run(threading.get_ident) for _ in range(20)]
        await asyncio.sleep(0)
        assert pool.metrics().queue_depth == 1
        assert not any(each.done() for each in awaited)
        assert len(room_threads(pool)) == 1
        held.release()
        assert len(set(await asyncio.gather(*awaited))) == 1
        assert await awaited[0] != threading.get_ident()

    run_async(main())
    none_waits(pool)
    assert idle_metrics(pool).jobs_rejected == 0


def test_raise_refuses_at_once_though_others_wait(full: Callable[..., tuple[fastpool.Pool, Held]]) -> None:
    pool, held = full()

    async def main() -> None:
        for _ in range(2):
            with pytest.raises(fastpool.PoolOverloaded) as caught:
                pool.options(on_full="raise").run(int)
            assert not isinstance(caught.value, fastpool.SubmitTimeout)
            waiting = pool.run(int)
        held.release()
        await waiting

    run_async(main())
    assert idle_metrics(pool).jobs_rejected == 2


def test_discard_oldest_discards_at_once_though_others_wait(full: Callable[..., tuple[fastpool.Pool, Held]]) -> None:
    pool, held = full()
    view = pool.options(on_full="discard_oldest")

    async def main() -> None:
        waiting = pool.run(int)  # which may come to a place that is made for another, and be discarded in its turn
        await asyncio.sleep(0)
        first, last = view.run(int, "1"), view.run(int, "2")
        await asyncio.wait([first])
        assert first.cancelled()
        held.release()
        await asyncio.wait([last, waiting])
        assert waiting.cancelled() or waiting.result() == 0

    run_async(main())
    assert idle_metrics(pool).jobs_cancelled >= 2


def test_a_callback_of_a_discarded_job_may_run_another(full: Callable[..., tuple[fastpool.Pool, Held]]) -> None:
    pool, held = full()
    view = pool.options(on_full="discard_oldest")

    async def main() -> None:
        awaited: list[Any] = []
        view.submit(int).add_done_callback(lambda _: awaited.append(pool.run(int, "5")))
        view.submit(int)
        awaited.append(view.run(int, "6"))
        held.release()
        await asyncio.wait(awaited)
        assert awaited[-1].result() == 6

    run_async(main())


def test_submit_timeout_comes_in_time_and_is_counted(full: Callable[..., tuple[fastpool.Pool, Held]]) -> None:
    pool, held = full()
    ran: list[int] = []

    async def main() -> None:
        forever = pool.run(int)  # the first in the line; its time is not that of the others
        await asyncio.sleep(0)
        late = [pool.options(submit_timeout=timeout).run(ran.append, 1) for timeout in (0.02, 0, 0.01)]
        for each in late:
            with pytest.raises(fastpool.SubmitTimeout):
                await each
        assert not forever.done()
        assert pool.metrics().jobs_rejected == 3
        held.release()
        assert await forever == 0

    run_async(main())
    metrics = idle_metrics(pool)
    assert (metrics.jobs_submitted, metrics.jobs_rejected) == (3, 3)
    assert ran == []
    none_waits(pool)


def test_one_that_is_cancelled_while_it_waits_is_never_queued(full: Callable[..., tuple[fastpool.Pool, Held]]) -> None:
    pool, held = full()
    ran: list[int] = []

    async def main() -> None:
        before_its_first_step, later, kept = (pool.run(ran.append, i) for i in range(3))
        before_its_first_step.cancel()
        await asyncio.sleep(0)
        later.cancel()
        for each in (before_its_first_step, later):
            with pytest.raises(asyncio.CancelledError):
                await each
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await pool.run(ran.append, 4)
        held.release()
        await kept

    run_async(main())
    assert ran == [2]
    assert idle_metrics(pool).jobs_submitted == 3
    none_waits(pool)


def test_one_that_is_cancelled_just_as_it_is_queued_does_not_run(make_pool: MakePool) -> None:
    """The line's thread has submitted it, and the loop does not know yet."""
    pool = make_pool(1, queue_size=1)
    ran: list[int] = []

    async def main() -> None:
        for takes_a_step in (False, True):
            first, second = threading.Event(), threading.Event()
            held = Held(pool)
            pool.post(lambda first=first, second=second: (first.set(), reached(second)))
            awaited = pool.run(ran.append, 1)
            if takes_a_step:
                await asyncio.sleep(0)
            held.release()
            reached(first)  # and the loop stands still, while the thread queues the job
            while pool.metrics().queue_depth == 0:
                pass
            awaited.cancel()
            with pytest.raises(asyncio.CancelledError):
                await awaited
            await asyncio.sleep(0)
            second.set()
            assert pool.wait_idle(WAIT)

    run_async(main())
    assert ran == []
    assert idle_metrics(pool).jobs_cancelled == 2


def test_the_line_is_served_in_its_order(full: Callable[..., tuple[fastpool.Pool, Held]]) -> None:
    pool, held = full()
    ran: list[int] = []

    async def main() -> None:
        awaited = [pool.run(ran.append, i) for i in range(500)]
        for each in awaited[::7]:
            each.cancel()
        await asyncio.wait(awaited[::7])
        held.release()
        await asyncio.wait(awaited)

    run_async(main())
    assert ran == [i for i in range(500) if i % 7 != 0]
    none_waits(pool)


def test_several_loops_in_several_threads(make_pool: MakePool) -> None:
    pool = make_pool(2, queue_size=2)
    ran: list[list[int]] = [[] for _ in range(4)]

    async def main(mine: list[int]) -> None:
        await asyncio.gather(*(pool.run(mine.append, i) for i in range(300)))

    with Held(pool, 2) as held:
        threads = [in_thread(run_async, main(mine)) for mine in ran]
        held.release()
        for thread in threads:
            thread()
    assert [sorted(mine) for mine in ran] == [list(range(300))] * 4
    none_waits(pool)


def test_10_000_on_a_queue_of_10_leave_nothing(make_pool: MakePool) -> None:
    pool = make_pool(2, queue_size=10)

    async def main() -> int:
        return sum(await asyncio.gather(*(pool.run(abs, i) for i in range(10_000))))

    assert run_async(main()) == sum(range(10_000))
    none_waits(pool)
    assert idle_metrics(pool).jobs_processed == 10_000


def test_those_who_give_up_leave_no_memory_behind(full: Callable[..., tuple[fastpool.Pool, Held]]) -> None:
    """A queue that is stuck, and callers that come and go."""

    class Thing:
        pass

    pool, _ = full()
    gone: list[weakref.ref[Thing]] = []

    async def main() -> None:
        first = pool.run(int)
        for _ in range(50):
            for _ in range(20):
                thing = Thing()
                gone.append(weakref.ref(thing))
                awaited = pool.run(id, thing)
                awaited.cancel()
                del thing
            await asyncio.wait([awaited])
            assert len(pool._line._waiters) <= 200
        del awaited
        await asyncio.sleep(0)
        gc.collect()
        assert not any(reference() for reference in gone)
        first.cancel()
        await asyncio.wait([first])
        await asyncio.sleep(0)
        none_waits(pool)  # also where no room has come meanwhile

    run_async(main())


def test_a_pool_that_nobody_holds_goes_though_somebody_has_waited(make_pool: MakePool) -> None:
    pool = fastpool.Pool(1, queue_size=1)
    gone = weakref.ref(pool)

    async def main(pool: fastpool.Pool) -> None:
        with Held(pool) as held:
            pool.post(int)
            awaited = pool.run(int)
            held.release()
            await awaited
        none_waits(pool)

    run_async(main(pool))
    gc.disable()
    try:
        del pool
        assert gone() is None
    finally:
        gc.enable()


# --- what may happen meanwhile ---


@pytest.mark.parametrize("cancel_futures", [False, True])
def test_a_pool_that_is_shut_down_refuses_those_who_wait(
    full: Callable[..., tuple[fastpool.Pool, Held]], cancel_futures: bool
) -> None:
    pool, held = full()

    async def main() -> None:
        awaited = [pool.run(int) for _ in range(5)]
        pool.shutdown(wait=False, cancel_futures=cancel_futures)
        for each in awaited:
            with pytest.raises(fastpool.PoolShutdown):
                await each
        with pytest.raises(fastpool.PoolShutdown):
            pool.run(int)
        held.release()

    run_async(main())
    none_waits(pool)


def test_async_with_pool_while_jobs_run_and_wait(make_pool: MakePool) -> None:
    async def main() -> None:
        async with fastpool.Pool(1, queue_size=1) as pool:
            held = Held(pool)
            accepted = pool.run(int, "5")
            waiting = [pool.run(int, "5") for _ in range(3)]
            asyncio.get_running_loop().call_later(0.001, held.release)
        assert await accepted == 5
        for each in waiting:
            with pytest.raises(fastpool.PoolShutdown):
                await each
        with pytest.raises(Boom):
            async with fastpool.Pool(1):
                raise Boom

    run_async(main())


def test_a_task_that_is_cancelled_while_it_leaves_the_pool(make_pool: MakePool) -> None:
    pool = make_pool(1)

    async def main() -> None:
        held = Held(pool)

        async def body() -> None:
            async with pool:
                pass

        task = asyncio.create_task(body())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        held.release()
        await asyncio.to_thread(pool.shutdown)
        name = f"{pool._thread_name_prefix}-shutdown"
        await until(lambda: all(thread.name != name for thread in threading.enumerate()))
        await asyncio.sleep(0)

    run_async(main())


def test_a_pool_that_breaks_refuses_those_who_wait(make_pool: MakePool) -> None:
    entered, go = threading.Event(), threading.Event()

    def fail() -> None:
        entered.set()
        reached(go)
        raise Boom

    pool = make_pool(1, queue_size=1, initializer=fail)

    async def main() -> None:
        awaited = [pool.run(int) for _ in range(5)]
        await asyncio.to_thread(reached, entered)
        go.set()
        for each in awaited:
            with pytest.raises(fastpool.BrokenThreadPool):
                await each

    run_async(main())
    none_waits(pool)


def test_those_who_wait_wait_while_the_pool_is_paused(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1)

    async def main() -> None:
        pool.pause()
        awaited = [pool.run(int, "5") for _ in range(5)]
        with pytest.raises(fastpool.SubmitTimeout):
            await pool.options(submit_timeout=0.01).run(int)
        assert not any(each.done() for each in awaited)
        pool.resume()
        assert await asyncio.gather(*awaited) == [5] * 5

    run_async(main())


def test_a_loop_that_is_closed_while_it_waits(full: Callable[..., tuple[fastpool.Pool, Held]]) -> None:
    pool, held = full()
    ran: list[int] = []
    loop = asyncio.new_event_loop()
    kept: list[Any] = []

    async def main() -> None:
        kept.extend(pool.run(ran.append, i) for i in range(5))

    loop.run_until_complete(main())
    loop.close()

    async def other() -> None:
        waiting = pool.run(int, "5")
        held.release()
        assert await waiting == 5

    run_async(other())
    for task in kept:
        task._log_destroy_pending = False
    assert ran == []
    idle_metrics(pool)
    none_waits(pool)


def test_asyncio_run_cancels_those_who_wait_at_its_end(full: Callable[..., tuple[fastpool.Pool, Held]]) -> None:
    pool, held = full()
    ran: list[int] = []

    async def main() -> None:
        kept.extend(pool.run(ran.append, i) for i in range(5))

    kept: list[Any] = []
    run_async(main())
    assert all(each.cancelled() for each in kept)
    held.release()
    idle_metrics(pool)
    assert ran == []
    none_waits(pool)


# --- from a worker ---


@pytest.mark.parametrize("on_full", ["block", "caller_runs", "discard_oldest"])
@pytest.mark.parametrize("workers", [1, 2])
def test_an_event_loop_on_a_worker_of_the_same_pool(make_pool: MakePool, workers: int, on_full: str) -> None:
    pool = make_pool(workers, queue_size=1, on_full=on_full)

    async def main() -> int:
        return sum([await pool.run(int, "1") for _ in range(10)])

    jobs = [pool.submit(run_async, main()) for _ in range(1)]
    assert [job.result(WAIT) for job in jobs] == [10]
    idle_metrics(pool)


@WAITING
def test_all_workers_may_be_event_loops_that_wait(make_pool: MakePool, on_full: str) -> None:
    pool = make_pool(2, queue_size=1, on_full=on_full)
    both = threading.Barrier(2)

    async def main() -> int:
        both.wait(WAIT)
        return sum(await asyncio.gather(*(pool.run(int, "1") for _ in range(20))))

    jobs = [pool.submit(run_async, main()) for _ in range(2)]
    assert [job.result(WAIT) for job in jobs] == [20, 20]


def test_caller_runs_does_not_hold_up_other_loops(make_pool: MakePool) -> None:
    """A worker's event loop neither runs the job within run() nor keeps the line while it does."""
    pool = make_pool(1, queue_size=1, on_full="caller_runs")
    inside: list[bool] = []

    async def main() -> None:
        pool.post(int)
        running = False

        def job() -> None:
            inside.append(running)

        running = True
        awaited = pool.run(job)
        running = False
        await awaited

    pool.submit(run_async, main()).result(WAIT)
    assert inside == [False]


# --- contexts, tasks ---


def test_context_true_is_the_callers_also_where_it_had_to_wait(full: Callable[..., tuple[fastpool.Pool, Held]]) -> None:
    pool, held = full()
    variable = contextvars.ContextVar("variable", default="none")
    view = pool.options(context=True)

    async def main() -> None:
        awaited = []
        for value in "abc":
            variable.set(value)
            awaited.append(view.run(variable.get))
        variable.set("later")
        plain = pool.run(variable.get)
        held.release()
        assert await asyncio.gather(*awaited, plain) == ["a", "b", "c", "none"]
        variable.set("at once")
        assert await view.run(variable.get) == "at once"

    run_async(main())


def test_kernels_wait_for_room_too(full: Callable[..., tuple[fastpool.Pool, Held]]) -> None:
    pool, held = full()

    async def main() -> None:
        awaited = [pool.run(kernels.identity, float(i)) for i in range(10)]
        held.release()
        assert await asyncio.gather(*awaited) == list(range(10))

    run_async(main())


def test_errors_of_jobs_that_had_to_wait(full: Callable[..., tuple[fastpool.Pool, Held]]) -> None:
    pool, held = full()

    async def main() -> None:
        awaited = pool.run(boom)
        held.release()
        with pytest.raises(Boom):
            await awaited

    run_async(main())


def test_a_refusal_is_part_of_no_cycle(full: Callable[..., tuple[fastpool.Pool, Held]]) -> None:
    pool, _ = full(submit_timeout=0)
    gone: list[weakref.ref[BaseException]] = []

    async def main() -> None:
        try:
            await pool.run(int)
        except fastpool.SubmitTimeout as error:
            gone.append(weakref.ref(error))
        await until(lambda: gone[0]() is None)

    gc.collect()
    gc.disable()
    try:
        asyncio.run(main())
    finally:
        gc.enable()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="from 3.12 on")
def test_eager_tasks(full: Callable[..., tuple[fastpool.Pool, Held]]) -> None:
    pool, held = full()

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        awaited = [pool.run(int, "5") for _ in range(10)]
        awaited[3].cancel()
        held.release()
        assert await asyncio.gather(*awaited[:3], *awaited[4:]) == [5] * 9
        assert await pool.run(int, "6") == 6

    run_async(main())
    assert idle_metrics(pool).jobs_cancelled == 0


@pytest.mark.parametrize("seed", range(3))
def test_stress_every_submit_ends_once(make_pool: MakePool, seed: int, fast_switching: None) -> None:
    """Loops in threads, plain submitters, cancelling and time limits at random."""
    pool = make_pool(2, queue_size=3)
    ran: list[tuple[int, int]] = []

    async def main(me: int) -> list[tuple[int, int]]:
        rng = random.Random(f"{seed} {me}")
        view = pool.options(submit_timeout=0.002)
        awaited: dict[Any, tuple[int, int]] = {}
        for i in range(300):
            awaited[(view if rng.random() < 0.3 else pool).run(ran.append, (me, i))] = (me, i)
            if rng.random() < 0.2:
                rng.choice(list(awaited)).cancel()
            if rng.random() < 0.1:
                await asyncio.sleep(rng.choice([0, 0.0005]))
        await asyncio.wait(awaited)
        refused = [each for each in awaited if not each.cancelled() and each.exception() is not None]
        assert all(type(each.exception()) is fastpool.SubmitTimeout for each in refused)
        return [awaited[each] for each in awaited if not each.cancelled() and each.exception() is None]

    loops = [in_thread(run_async, main(me)) for me in range(3)]
    plain = in_thread(lambda: [pool.submit(int).result(WAIT) for _ in range(200)])
    done = [call for loop in loops for call in loop()]
    plain()
    idle_metrics(pool)
    none_waits(pool)
    assert len(set(ran)) == len(ran)
    assert set(done) <= set(ran)
