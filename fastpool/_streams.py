"""Lazy maps: a bounded window of jobs over iterables that may never end."""

from __future__ import annotations

import itertools
import queue
from collections import deque
from collections.abc import Iterator

from fastpool import _core


def _cancel(futures) -> None:
    for future in futures:
        future.cancel()


def ordered(pool, fn, iterables, buffersize: int, deadline_ns: int) -> Iterator:
    """Results in order; at most `buffersize` jobs submitted and not yet yielded."""
    calls = zip(*iterables)
    window = deque(pool.submit(fn, *call) for call in itertools.islice(calls, buffersize))
    return _ordered(pool, fn, calls, window, deadline_ns)


def _ordered(pool, fn, calls, window, deadline_ns):
    try:
        while window:
            result = window[0].result(_core.seconds_until(deadline_ns))
            window.popleft()
            yield result
            # Only now, so that the reader's pace and not the pool's sets how far ahead the iterables are read.
            window.extend(pool.submit(fn, *call) for call in itertools.islice(calls, 1))
    finally:
        _cancel(window)


def _run_chunk(fn, calls):
    return [fn(*call) for call in calls]


def unordered(pool, fn, iterables, chunksize: int, buffersize: int) -> Iterator:
    """Results as they come; at most `buffersize` jobs of `chunksize` calls each submitted and not yet yielded."""
    calls = zip(*iterables)
    chunks = iter(lambda: list(itertools.islice(calls, chunksize)), [])
    return _unordered(pool, fn, chunks, buffersize)


def _unordered(pool, fn, chunks, buffersize):
    ended: queue.SimpleQueue = queue.SimpleQueue()
    pending = set()

    def submit_next():
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


def _next_ended(pool, ended, pending):
    """Waits for one; a job that reads a stream of its own pool runs one, if none has ended, instead of waiting."""
    if pool._on_own_worker():
        while ended.empty():
            next(iter(pending)).exception()
    return ended.get()
