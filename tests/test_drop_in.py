"""ThreadPoolExecutor: change the import, keep the program.

The cases of CPython's own thread-pool tests are here too, put as properties, each for the standard class and for ours: what
holds for the one must hold for the other.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import inspect
import os
import re
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor
from concurrent.futures import ThreadPoolExecutor as Standard
from typing import Any

import pytest
from support import WAIT, reached

import fastpool

BOTH = pytest.mark.parametrize("kind", [Standard, fastpool.ThreadPoolExecutor], ids=["standard", "fastpool"])


@contextlib.contextmanager
def busy(executor: Executor, workers: int = 1) -> Iterator[Callable[[], None]]:
    """Keeps the workers busy until the yielded function is called, or the block left."""
    go, started = threading.Event(), threading.Semaphore(0)

    def job() -> None:
        started.release()
        reached(go)

    for _ in range(workers):
        executor.submit(job)
        assert started.acquire(timeout=WAIT)
    yield go.set
    go.set()


def test_it_is_a_standard_thread_pool_executor() -> None:
    with fastpool.ThreadPoolExecutor() as executor:
        assert isinstance(executor, Standard)
        assert isinstance(executor, Executor)
        assert isinstance(executor, fastpool.Pool)


def test_it_takes_the_same_arguments_in_the_same_order() -> None:
    ours = list(inspect.signature(fastpool.ThreadPoolExecutor.__init__).parameters.values())
    theirs = list(inspect.signature(Standard.__init__).parameters.values())
    names = [parameter.name for parameter in ours]
    assert names == ["self", "max_workers", "thread_name_prefix", "initializer", "initargs"]
    assert names == [parameter.name for parameter in theirs][:5]
    assert [parameter.default for parameter in ours] == [parameter.default for parameter in theirs][:5]


@BOTH
def test_the_default_size_is_cpus_and_four_at_most_32(kind: type[Standard]) -> None:
    cpus = getattr(os, "process_cpu_count", os.cpu_count)()
    with kind() as executor:
        assert executor._max_workers == min(32, (cpus or 1) + 4)


@BOTH
@pytest.mark.parametrize("workers", [0, -1])
def test_at_least_one_worker(kind: type[Standard], workers: int) -> None:
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        kind(workers)


@BOTH
def test_as_many_workers_as_asked_for(kind: type[Standard]) -> None:
    """They start when needed only, so a large number costs nothing."""
    for workers in (1, True, 1000, 100_000):
        with kind(workers) as executor:
            assert executor._max_workers == workers
            assert executor.submit(int).result(WAIT) == 0


@BOTH
def test_threads_are_named_as_ever(kind: type[Standard]) -> None:
    def name() -> str:
        return threading.current_thread().name

    with kind(2) as executor:
        assert re.fullmatch(r"ThreadPoolExecutor-\d+_[01]", executor.submit(name).result(WAIT))
    with kind(2, "abc") as executor:
        assert re.fullmatch(r"abc_[01]", executor.submit(name).result(WAIT))
    with kind(2, None) as executor:
        assert re.fullmatch(r"ThreadPoolExecutor-\d+_[01]", executor.submit(name).result(WAIT))


@BOTH
def test_its_queue_has_no_bound(kind: type[Standard]) -> None:
    with kind(1) as executor, busy(executor):
        futures = [executor.submit(int) for _ in range(20_000)]
        assert not any(future.done() for future in futures)
    assert all(future.done() for future in futures)


# --- asyncio ---


@BOTH
def test_a_loop_takes_it_for_its_own(kind: type[Standard]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        executor = kind(2, "own")
        loop.set_default_executor(executor)
        name = await asyncio.to_thread(lambda: threading.current_thread().name)
        assert name.startswith("own_")
        assert await loop.run_in_executor(None, pow, 2, 10) == 1024
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(executor, lambda: 1 / 0)
        assert await asyncio.gather(*(asyncio.to_thread(int, str(i)) for i in range(50))) == list(range(50))
        await loop.shutdown_default_executor()
        with pytest.raises(RuntimeError):
            executor.submit(int)

    asyncio.run(main())


@BOTH
def test_a_task_that_is_cancelled_lets_the_loop_go_on(kind: type[Standard]) -> None:
    async def main() -> None:
        with kind(1) as executor, busy(executor) as release:
            waiting = asyncio.get_running_loop().run_in_executor(executor, int)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            release()

    asyncio.run(main())


# --- programs that derive from it ---


@BOTH
def test_map_submits_by_an_overridden_submit(kind: type[Standard]) -> None:
    """Programs override or patch it to carry contexts, count, or trace; map went by it ever since."""
    seen: list[Any] = []

    class Traced(kind):  # type: ignore[valid-type, misc]
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            seen.append(args)
            return super().submit(fn, *args, **kwargs)

    with Traced(2) as executor:
        assert executor.submit(int, "5").result(WAIT) == 5
        assert list(executor.map(int, "123")) == [1, 2, 3]
    assert seen == [("5",), ("1",), ("2",), ("3",)]


@BOTH
def test_a_subclass_may_have_arguments_of_its_own(kind: type[Standard]) -> None:
    class Named(kind):  # type: ignore[valid-type, misc]
        def __init__(self, name: str) -> None:
            super().__init__(max_workers=2)
            self.name = name

    with Named("x") as executor:
        assert executor.name == "x"
        assert executor.submit(int).result(WAIT) == 0


@BOTH
def test_submit_as_a_decorator_and_with_any_keywords(kind: type[Standard]) -> None:
    with kind(1) as executor:
        assert executor.submit(lambda **kw: kw, fn=1, self=2).result(WAIT) == {"fn": 1, "self": 2}
        with pytest.raises(TypeError):
            executor.submit()  # type: ignore[call-arg]
        with pytest.raises(TypeError):
            executor.submit(fn=int)  # type: ignore[call-arg]


# --- the standard library's own tests, as properties ---


@BOTH
def test_results_and_errors_come_through(kind: type[Standard]) -> None:
    with kind(5) as executor:
        assert executor.submit(pow, 2, 8).result(WAIT) == 256
        assert list(executor.map(pow, range(10), range(10))) == list(map(pow, range(10), range(10)))
        results = executor.map(divmod, [1, 1, 1, 1], [2, 3, 0, 5])
        assert [next(results), next(results)] == [(0, 1), (0, 1)]
        with pytest.raises(ZeroDivisionError):
            next(results)


@BOTH
def test_a_map_that_takes_too_long_times_out(kind: type[Standard]) -> None:
    with kind(2) as executor:
        go = threading.Event()
        results: list[int] = []
        with pytest.raises(TimeoutError):
            results.extend(executor.map(lambda wait: wait and reached(go), [0, 0, 1], timeout=0.2))
        assert results in ([], [0], [0, 0])
        go.set()


@BOTH
def test_arguments_and_results_are_not_held_after_the_job(kind: type[Standard]) -> None:
    class Thing:
        def method(self) -> None:
            pass

    thing = Thing()
    gone = threading.Event()
    weakref.finalize(thing, gone.set)
    with kind(1) as executor:
        executor.submit(thing.method)
        del thing
        reached(gone)


@BOTH
def test_a_map_releases_each_result_as_it_is_yielded(kind: type[Standard]) -> None:
    class Thing:
        pass

    with kind(2) as executor:
        for thing in executor.map(lambda _: Thing(), range(8)):
            gone = weakref.ref(thing)
            del thing
            gc.collect()
            assert gone() is None


@BOTH
def test_cancel_futures_cancels_the_queued(kind: type[Standard]) -> None:
    executor = kind(3)
    with busy(executor, 3) as release:
        futures = [executor.submit(int) for _ in range(50)]
        executor.shutdown(wait=False, cancel_futures=True)
        release()
    executor.shutdown()
    assert all(future.cancelled() for future in futures)
    with pytest.raises(CancelledError):
        futures[0].result()


@BOTH
def test_after_shutdown_submit_is_a_runtime_error(kind: type[Standard]) -> None:
    executor = kind(1)
    executor.shutdown()
    for refused in (lambda: executor.submit(int), lambda: executor.map(int, "1")):
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            refused()


@BOTH
def test_an_executor_without_owner_finishes_what_it_has(kind: type[Standard]) -> None:
    ran = threading.Event()
    executor = kind(2)
    futures = [executor.submit(int) for _ in range(100)]
    executor.submit(ran.set)
    gone = weakref.ref(executor)
    del executor
    gc.collect()
    assert gone() is None
    reached(ran)
    assert [future.result(WAIT) for future in futures] == [0] * 100


@BOTH
def test_idle_workers_are_used_before_new_ones_start(kind: type[Standard]) -> None:
    with kind(50) as executor:
        seen = {executor.submit(threading.get_ident).result(WAIT) for _ in range(30)}
        # Not exactly one: a worker that has given its result may not be idle yet.
        assert len(seen) <= 5


@BOTH
def test_futures_of_several_executors_wait_together(kind: type[Standard]) -> None:
    with kind(1) as one, kind(1) as other:
        futures = [executor.submit(int, "5") for executor in (one, other) for _ in range(10)]
        assert {future.result() for future in concurrent.futures.as_completed(futures, WAIT)} == {5}


@BOTH
def test_executors_are_weakly_referenceable_and_have_a_dict(kind: type[Standard]) -> None:
    with kind(1) as executor:
        executor.note = 5
        assert weakref.ref(executor)() is executor
