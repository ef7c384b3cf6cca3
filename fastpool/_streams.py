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
    from fastpool._submitter import Submitter

Call = tuple[Any, ...]
Function = Callable[..., Any]


def _cancel(futures: Iterable[Future[Any]]) -> None:
    for future in futures:
        future.cancel()


def ordered(
    pool: Submitter, fn: Function, iterables: tuple[Iterable[Any], ...], buffersize: int, deadline_ns: int
) -> Iterator[Any]:
    """Results in order; at most `buffersize` jobs submitted and not yet yielded."""
    pool = pool._for_many()
    calls = zip(*iterables, strict=False)
    window: deque[Any] = deque()
    try:
        for call in itertools.islice(calls, buffersize):
            window.append(pool.submit(fn, *call))
    except BaseException:
        _cancel(window)
        raise
    return _ordered(pool, fn, calls, window, deadline_ns)


def _ordered(
    pool: Submitter, fn: Function, calls: Iterator[Call], window: deque[Any], deadline_ns: int
) -> Iterator[Any]:
    # A result that has been yielded is the reader's alone: no variable here keeps it.
    cancel = _cancel  # a name of its own: when the interpreter ends, the module's may be gone before this generator
    try:
        while window:
            window[0].exception(seconds_until(deadline_ns))
            yield window.popleft().result()
            # Only now, so that the reader's pace and not the pool's sets how far ahead the iterables are read.
            for call in itertools.islice(calls, 1):
                window.append(pool.submit(fn, *call))
    finally:
        cancel(window)


def _run_chunk(fn: Function, calls: list[Call]) -> list[Any]:
    return [fn(*call) for call in calls]


class _Stream:
    """The jobs of one imap_unordered: those under way, and those that have ended and were not yet read."""

    def __init__(self, pool: Submitter, fn: Function, chunks: Iterator[list[Call]]) -> None:
        self.pool = pool
        self.fn = fn
        self.chunks = chunks
        self.pending: set[Future[Any]] = set()
        self.ended: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()

    def submit_next(self) -> None:
        for chunk in itertools.islice(self.chunks, 1):
            future = self.pool.submit(_run_chunk, self.fn, chunk)
            self.pending.add(future)
            future.add_done_callback(self.ended.put)

    def next_ended(self) -> Future[Any]:
        """Waits for one; a job that reads a stream of its own pool runs one, if none has ended, instead of waiting."""
        if self.pool._on_own_worker():
            while self.ended.empty():
                next(iter(self.pending)).exception()
        future = self.ended.get()
        self.pending.remove(future)
        return future

    def results(self) -> Iterator[Any]:
        cancel = _cancel  # see _ordered
        try:
            while self.pending:
                results = self.next_ended().result()
                results.reverse()
                while results:
                    yield results.pop()
                self.submit_next()
        finally:
            cancel(self.pending)


def unordered(
    pool: Submitter, fn: Function, iterables: tuple[Iterable[Any], ...], chunksize: int, buffersize: int
) -> Iterator[Any]:
    """Results as they come; at most `buffersize` jobs of `chunksize` calls each submitted and not yet yielded."""
    pool = pool._for_many()
    calls = zip(*iterables, strict=False)
    stream = _Stream(pool, fn, iter(lambda: list(itertools.islice(calls, chunksize)), []))
    try:
        for _ in range(buffersize):
            stream.submit_next()
    except BaseException:
        _cancel(stream.pending)
        raise
    return stream.results()
