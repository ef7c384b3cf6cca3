"""Lazy maps: a bounded window of jobs over iterables that may never end."""

from __future__ import annotations

import itertools
import queue
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from fastpool._core import seconds_until

if TYPE_CHECKING:
    from fastpool.pool import Pool

Call = tuple[Any, ...]
Function = Callable[..., Any]


def _cancel(futures: Iterable[Future[Any]]) -> None:
    for future in futures:
        future.cancel()


def ordered(
    pool: Pool, fn: Function, iterables: tuple[Iterable[Any], ...], buffersize: int, deadline_ns: int
) -> Iterator[Any]:
    """Results in order; at most `buffersize` jobs submitted and not yet yielded."""
    calls = zip(*iterables, strict=False)
    window = deque(pool.submit(fn, *call) for call in itertools.islice(calls, buffersize))
    return _ordered(pool, fn, calls, window, deadline_ns)


def _ordered(
    pool: Pool, fn: Function, calls: Iterator[Call], window: deque[Any], deadline_ns: int
) -> Iterator[Any]:
    try:
        while window:
            result = window[0].result(seconds_until(deadline_ns))
            window.popleft()
            yield result
            # Only now, so that the reader's pace and not the pool's sets how far ahead the iterables are read.
            window.extend(pool.submit(fn, *call) for call in itertools.islice(calls, 1))
    finally:
        _cancel(window)


def _run_chunk(fn: Function, calls: list[Call]) -> list[Any]:
    return [fn(*call) for call in calls]


def unordered(
    pool: Pool, fn: Function, iterables: tuple[Iterable[Any], ...], chunksize: int, buffersize: int
) -> Iterator[Any]:
    """Results as they come; at most `buffersize` jobs of `chunksize` calls each submitted and not yet yielded."""
    calls = zip(*iterables, strict=False)
    chunks = iter(lambda: list(itertools.islice(calls, chunksize)), [])
    return _unordered(pool, fn, chunks, buffersize)


def _unordered(pool: Pool, fn: Function, chunks: Iterator[list[Call]], buffersize: int) -> Iterator[Any]:
    ended: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
    pending: set[Future[Any]] = set()

    def submit_next() -> None:
        for chunk in itertools.islice(chunks, 1):
            future = pool.submit(_run_chunk, fn, chunk)
            pending.add(future)
            future.add_done_callback(ended.put)

    try:
        for _ in range(buffersize):
            submit_next()
        while pending:
            future = _next_ended(pool, ended, pending)
            pending.remove(future)
            yield from future.result()
            submit_next()
    finally:
        _cancel(pending)


def _next_ended(pool: Pool, ended: queue.SimpleQueue[Future[Any]], pending: set[Future[Any]]) -> Future[Any]:
    """Waits for one; a job that reads a stream of its own pool runs one, if none has ended, instead of waiting."""
    if pool._on_own_worker():
        while ended.empty():
            next(iter(pending)).exception()
    return ended.get()
