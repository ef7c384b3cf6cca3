"""Lazy maps: a bounded window of jobs over iterables that may never end."""

from __future__ import annotations

import contextlib
import functools
import itertools
import queue
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from fastpool._core import named_after, seconds_until

if TYPE_CHECKING:
    from fastpool._submitter import Submitter

Call = tuple[Any, ...]
Function = Callable[..., Any]


def _cancel(futures: Iterable[Future[Any]]) -> None:
    for future in futures:
        future.cancel()


class _Results(Iterator[Any]):
    """What the reader has. A generator alone would not do: while another thread is in it, it cannot be closed, and where nobody
    has begun it, closing it does nothing.
    """

    def __init__(self, stream: _Ordered | _Unordered) -> None:
        self._stream = stream
        self._results = stream.results()

    def __next__(self) -> Any:
        return next(self._results)

    def close(self) -> None:
        """Cancel the calls that have not started. A reader that waits in another thread gets `CancelledError`."""
        self._stream.closed = True
        _cancel(self._stream.pending.copy())
        with contextlib.suppress(ValueError):  # another thread is in it, and finds that it was closed
            self._results.close()


class _Ordered:
    """The jobs of one map: those that were submitted and not yet read."""

    def __init__(self, pool: Submitter, fn: Function, calls: Iterator[Call], deadline_ns: int) -> None:
        self.pool = pool
        self.fn = fn
        self.calls = calls
        self.deadline_ns = deadline_ns
        self.pending: deque[Future[Any]] = deque()
        self.closed = False

    def submit_next(self) -> bool:
        for call in itertools.islice(self.calls, 1):
            self.pending.append(self.pool.submit(self.fn, *call))
            return True
        return False

    def results(self) -> Generator[Any, None, None]:
        # A result that has been yielded is the reader's alone: no variable here keeps it.
        cancel = _cancel  # a name of its own: when the interpreter ends, the module's may be gone before this generator
        try:
            while self.pending and not self.closed:
                self.pending[0].exception(seconds_until(self.deadline_ns))
                yield self.pending.popleft().result()
                # Only now, so that the reader's pace and not the pool's sets how far ahead the iterables are read.
                self.submit_next()
        finally:
            cancel(self.pending)


def _run_chunk(fn: Function, calls: list[Call]) -> list[Any]:
    return [fn(*call) for call in calls]


class _Unordered:
    """The jobs of one imap_unordered: those under way, and those that have ended and were not yet read."""

    def __init__(self, pool: Submitter, fn: Function, chunks: Iterator[list[Call]]) -> None:
        self.pool = pool
        self.run_chunk = named_after(functools.partial(_run_chunk, fn), fn)
        self.chunks = chunks
        self.pending: set[Future[Any]] = set()
        self.closed = False
        self.ended: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()

    def submit_next(self) -> bool:
        for chunk in itertools.islice(self.chunks, 1):
            future = self.pool.submit(self.run_chunk, chunk)
            self.pending.add(future)
            future.add_done_callback(self.ended.put)
            return True
        return False

    def next_ended(self) -> Future[Any]:
        """Waits for one; a job that reads a stream of its own pool runs one, if none has ended, instead of waiting."""
        if self.pool._on_own_worker():
            while self.ended.empty():
                next(iter(self.pending)).exception()
        future = self.ended.get()
        self.pending.remove(future)
        return future

    def results(self) -> Generator[Any, None, None]:
        cancel = _cancel  # see _Ordered
        try:
            while self.pending and not self.closed:
                results = self.next_ended().result()
                results.reverse()
                while results:
                    yield results.pop()
                self.submit_next()
        finally:
            cancel(self.pending)


def _begin(stream: _Ordered | _Unordered, buffersize: int) -> Iterator[Any]:
    try:
        while buffersize > 0 and stream.submit_next():
            buffersize -= 1
    except BaseException:
        _cancel(stream.pending)
        raise
    return _Results(stream)


def ordered(
    pool: Submitter, fn: Function, iterables: tuple[Iterable[Any], ...], buffersize: int, deadline_ns: int
) -> Iterator[Any]:
    """Results in order; at most `buffersize` jobs submitted and not yet yielded."""
    return _begin(_Ordered(pool._for_many(), fn, zip(*iterables, strict=False), deadline_ns), buffersize)


def unordered(
    pool: Submitter, fn: Function, iterables: tuple[Iterable[Any], ...], chunksize: int, buffersize: int
) -> Iterator[Any]:
    """Results as they come; at most `buffersize` jobs of `chunksize` calls each submitted and not yet yielded."""
    calls = zip(*iterables, strict=False)
    chunks = iter(lambda: list(itertools.islice(calls, chunksize)), [])
    return _begin(_Unordered(pool._for_many(), fn, chunks), buffersize)
