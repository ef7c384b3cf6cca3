"""The pools that are compared, each with as many workers, opened when first used.

All stay open until the end of the run: an idle one sleeps, and a process pool is slow to start.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import multiprocessing.pool
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import cached_property
from types import TracebackType
from typing import Any

import fastpool

FASTPOOL = "fastpool"
THREADS = "ThreadPoolExecutor"
PROCESSES = "ProcessPoolExecutor"
MP_THREADS = "mp ThreadPool"
LOOP = "plain loop"


class Peers:
    """The open pools of one run; leaving the ``with`` block closes them.

    Parameters
    ----------
    workers : int
        Of each pool: as many as fastpool takes by default.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._open = ExitStack()

    def __enter__(self) -> Peers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open.close()

    @cached_property
    def pool(self) -> fastpool.Pool:
        """A pool as its constructor makes it without arguments."""
        return self._open.enter_context(fastpool.Pool())

    @cached_property
    def single(self) -> fastpool.Pool:
        """A pool of one worker: where a kernel's own time can be told from the dispatch."""
        return self._open.enter_context(fastpool.Pool(1))

    @cached_property
    def drop_in(self) -> fastpool.ThreadPoolExecutor:
        """The pool behind the standard class's name."""
        return self._open.enter_context(fastpool.ThreadPoolExecutor(self.workers))

    @cached_property
    def threads(self) -> concurrent.futures.ThreadPoolExecutor:
        """The standard thread pool."""
        return self._open.enter_context(concurrent.futures.ThreadPoolExecutor(self.workers))

    @cached_property
    def processes(self) -> concurrent.futures.ProcessPoolExecutor:
        """The standard process pool."""
        # Never "fork": this process has threads by now.
        methods = multiprocessing.get_all_start_methods()
        method = "forkserver" if "forkserver" in methods else "spawn"
        return self._open.enter_context(
            concurrent.futures.ProcessPoolExecutor(self.workers, mp_context=multiprocessing.get_context(method))
        )

    @cached_property
    def mp_threads(self) -> multiprocessing.pool.ThreadPool:
        """The thread pool of ``multiprocessing``."""
        pool = multiprocessing.pool.ThreadPool(self.workers)
        # Its own context manager terminates; closing and joining ends it in order.
        self._open.callback(pool.join)
        self._open.callback(pool.close)
        return pool


def submit_each(executor: concurrent.futures.Executor, fn: Callable[..., Any], *columns: Iterable[Any]) -> list[Any]:
    """Submit one job per row of `columns`, then fetch all results, in order."""
    submit = executor.submit
    if len(columns) == 1:
        futures = [submit(fn, value) for value in columns[0]]  # as people write it: no tuple for one argument
    else:
        futures = [submit(fn, *row) for row in zip(*columns, strict=True)]
    return [future.result() for future in futures]


def submit_at_once(pool: fastpool.Pool, fn: Callable[..., Any], *columns: Iterable[Any]) -> list[Any]:
    """Submit one job per row by one call of ``submit_many``, then fetch all results."""
    return [future.result() for future in pool.submit_many(fn, *columns)]


def apply_each(pool: multiprocessing.pool.ThreadPool, fn: Callable[..., Any], *columns: Iterable[Any]) -> list[Any]:
    """Do as `submit_each` with ``apply_async`` and ``get``."""
    apply_async = pool.apply_async
    if len(columns) == 1:
        results = [apply_async(fn, (value,)) for value in columns[0]]
    else:
        results = [apply_async(fn, row) for row in zip(*columns, strict=True)]
    return [result.get() for result in results]


def call_each(fn: Callable[..., Any], *columns: Iterable[Any]) -> list[Any]:
    """Do the same work in this thread, with no pool."""
    if len(columns) == 1:
        return [fn(value) for value in columns[0]]
    return [fn(*row) for row in zip(*columns, strict=True)]
