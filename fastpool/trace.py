"""Traces: what each worker ran, and when, as a file for Perfetto or chrome://tracing."""

from __future__ import annotations

import heapq
import json
import operator
import os
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from fastpool import _core
from fastpool.errors import PoolError

__all__ = ["Trace"]

# name, start_ns, end_ns, jobs, depth, thread, row
_Event = tuple[str, int, int, int, int, int, int]
_AT_A_TIME = 1024


class Trace:
    """A pool's timeline, recorded while the ``with`` block runs. Made by `Pool.trace`.

    Attributes
    ----------
    dropped : int
        Events that are not there any more: each worker keeps its latest `events`.

    Notes
    -----
    A row for each worker that ran something, and rows "callers" for other threads that ran jobs: who waits for a job may
    run it meanwhile, and so does a submitter with ``on_full="caller_runs"``. An event is a job, a call of a map, or a piece of
    an array or a range; ``args["jobs"]`` says how many jobs it stands for. A job's name is its function's ``__qualname__``, or
    the kernel's name; jobs of C and Cython programs are called "native". The counter "queue depth" is read at each event's end.

    A job that was running when the block was entered, or is still running when it is left, is not in the trace.

    Cost: about 0.1 us a job while it records, and a load and a branch while not. Memory: 40 bytes an event and worker, as
    they come, until the trace is gone and the worker has come to rest once more.

    Examples
    --------
    >>> import fastpool
    >>> with fastpool.Pool(1, "worker") as pool, pool.trace() as trace:
    ...     pool.submit(sum, [1, 2]).result()
    3
    >>> [event["name"] for event in trace.events() if event["ph"] == "X"]
    ['sum']
    """

    def __init__(self, pool: _core.Core, name: str, events: int) -> None:
        self._pool: _core.Core | None = pool
        self._name = name
        self._events = events
        self._recorder: _core.Recorder | None = None

    def __enter__(self) -> Self:
        """Begin to record.

        Raises
        ------
        PoolError
            If another trace of this pool is open, or this one was entered before.
        """
        if self._pool is None:
            raise PoolError("a trace records once: make another with Pool.trace()")
        self._recorder = _core.Recorder(self._pool, self._events)
        self._pool = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Record no more."""
        self._begun().close()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write what was recorded so far as a JSON file in the Chrome trace format.

        Parameters
        ----------
        path : str or path-like
            Replaced when the file is complete.

        Raises
        ------
        PoolError
            If the trace was not entered.
        OSError
            If the file cannot be written; what was at `path` is still there.

        Notes
        -----
        May be called within the block and after it, again and again. Open the file in https://ui.perfetto.dev.
        """
        target = os.fsdecode(os.fspath(path))
        self._begun()
        unfinished = f"{target}.{os.getpid()}-{threading.get_ident()}.tmp"
        try:
            with open(unfinished, "w", encoding="ascii") as file:
                separator = '{"displayTimeUnit": "ns", "traceEvents": [\n'
                for event in self._chrome_events():
                    file.write(separator + json.dumps(event))
                    separator = ",\n"
                file.write("\n]}\n")
            os.replace(unfinished, target)
        except BaseException:
            if os.path.exists(unfinished):
                os.unlink(unfinished)
            raise

    def events(self) -> list[dict[str, Any]]:
        """The events as `save` writes them: ``"ph"`` is "X" for jobs, "C" for the counter, "M" for the rows' names."""
        return list(self._chrome_events())

    @property
    def dropped(self) -> int:
        recorder = self._begun()
        return sum(first for _, first, _ in recorder.rows()) + recorder.lost()

    def _begun(self) -> _core.Recorder:
        if self._recorder is None:
            raise PoolError("the trace was not begun: enter it with a with statement")
        return self._recorder

    def _chrome_events(self) -> Iterator[dict[str, Any]]:
        """One after the other, for the file of a long trace is larger than its rings."""
        rows = self._begun().rows()
        pid, callers = os.getpid(), _Lanes()
        yield _meta(pid, 0, "process_name", f"fastpool {self._name}")
        for row, _, _ in rows:
            if row != _core.TRACE_CALLERS:
                yield _meta(pid, row, "thread_name", f"{self._name}_{row}")
        last_depth = -1
        for name, start_ns, end_ns, jobs, depth, thread, row in heapq.merge(
            *(self._row_events(*row) for row in rows), key=operator.itemgetter(2)
        ):
            if row == _core.TRACE_CALLERS:
                lane, is_new = callers.place(start_ns, end_ns, thread)
                row += lane
                if is_new:
                    yield _meta(pid, row, "thread_name", f"callers {lane}" if lane else "callers")
            yield {
                "ph": "X", "name": name, "cat": "job", "pid": pid, "tid": row, "ts": start_ns / 1000,
                "dur": (end_ns - start_ns) / 1000, "args": {"jobs": jobs},
            }  # fmt: skip
            if depth != last_depth:
                yield {
                    "ph": "C", "name": "queue depth", "pid": pid, "tid": 0, "ts": end_ns / 1000, "args": {"queued": depth},
                }  # fmt: skip
                last_depth = depth

    def _row_events(self, row: int, first: int, end: int) -> Iterator[_Event]:
        recorder = self._begun()
        for begin in range(first, end, _AT_A_TIME):
            for event in recorder.read(row, begin, min(begin + _AT_A_TIME, end)):
                yield (*event, row)


class _Lanes:
    """Spreads the events of several threads over few rows, where one event lies within another only if a thread had both.

    They come in the order of their ends.
    """

    def __init__(self) -> None:
        self.lanes: list[list[tuple[int, int, int]]] = []  # of each row its outermost events

    def place(self, start_ns: int, end_ns: int, thread: int) -> tuple[int, bool]:
        """The row's number, and whether it is a new one."""
        for number, lane in enumerate(self.lanes):
            outside = len(lane)
            while outside and lane[outside - 1][0] >= start_ns and lane[outside - 1][2] == thread:
                outside -= 1
            if outside == 0 or lane[outside - 1][1] <= start_ns:
                lane[outside:] = [(start_ns, end_ns, thread)]
                return number, False
        self.lanes.append([(start_ns, end_ns, thread)])
        return len(self.lanes) - 1, True


def _meta(pid: int, tid: int, name: str, value: str) -> dict[str, Any]:
    return {"ph": "M", "name": name, "pid": pid, "tid": tid, "ts": 0, "args": {"name": value}}
