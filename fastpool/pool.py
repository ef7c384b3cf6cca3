"""The pool."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from collections.abc import Callable
from typing import Any, Self

from fastpool import _arguments, _core
from fastpool._asyncio import Line, tell
from fastpool._hooks import Hooks, JobError
from fastpool._submitter import ON_FULL, Submitter
from fastpool.errors import PoolError
from fastpool.metrics import Metrics
from fastpool.trace import Trace

__all__ = ["Pool"]

_log = logging.getLogger("fastpool")
_names = itertools.count()
_LIMITS = _core.build_info()


class Pool(Submitter):
    """A pool of native worker threads that run jobs: Python callables, or kernels without the interpreter.

    Parameters
    ----------
    max_workers : int, optional
        Most worker threads. Default: the CPUs this process may use (affinity, cgroup quota).
    thread_name_prefix : str, optional
        Of the workers' names: ``prefix_0``, ``prefix_1``, ... Default: ``fastpool-N``.
    initializer : callable, optional
        Called in each worker before its first job. If it raises, the pool is broken: queued jobs and further submits end
        with `BrokenThreadPool`.
    initargs : tuple, optional
        Its arguments.
    min_workers : int, optional
        Fewest worker threads; more start while there is a backlog, and leave after `idle_timeout` without work. Default:
        `max_workers`. Workers start with the first jobs, not with the pool. See `resize`.
    queue_size : int or None, optional
        How many accepted and not yet started jobs the pool holds, exactly; None: as many as come.
    on_full : {"block", "raise", "caller_runs", "discard_oldest"}, optional
        What a full queue does to a submit: wait up to `submit_timeout`, then raise `SubmitTimeout`; raise `PoolOverloaded` at
        once; run the job in the submitting thread; cancel the oldest queued job.
    submit_timeout : float, optional
        Seconds; None: for ever.
    job_timeout : float, optional
        Seconds from its submit until a job must have ended, else its future ends with `JobTimeout`; None: for ever. See
        `options` for single jobs.
    idle_timeout : float, optional
        Seconds.
    on_error : callable, optional
        Called with a `JobError`, in the worker, for each failure that no future carries.
    histograms : bool, optional
        Measure how long jobs wait and run, for `Metrics.job_duration` and `Metrics.queue_wait`; False: these stay empty, and no
        job costs a look at the clock.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it should be; the message names it.

    Notes
    -----
    Thread safety: every method may be called from any thread, and submit and post from signal handlers and destructors
    too. Blocking: submitting waits only while the queue is full. In a forked child all methods raise `PoolError`.

    Method: jobs go through a lock-free ring (R. Nikolaev, DISC 2019) to workers that park on an eventcount; a worker takes
    the interpreter once for a run of Python jobs. ``csrc/README.md`` walks through it.

    Examples
    --------
    >>> import fastpool
    >>> with fastpool.Pool(2) as pool:
    ...     pool.submit(pow, 2, 10).result()
    ...     list(pool.map(len, ["a", "bc", ""]))
    1024
    [1, 2, 0]
    """

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        min_workers: int | None = None,
        queue_size: int | None = 8192,
        on_full: str = "block",
        submit_timeout: float | None = None,
        job_timeout: float | None = None,
        idle_timeout: float = 5.0,
        on_error: Callable[[JobError], Any] | None = None,
        histograms: bool = True,
    ):
        if max_workers is None:
            max_workers = _core.usable_cpus()
        most = _arguments.integer(max_workers, "max_workers", 1, _LIMITS["max_workers"])
        least = most if min_workers is None else _arguments.integer(min_workers, "min_workers", 1, most)
        size = 0 if queue_size is None else _arguments.integer(queue_size, "queue_size", 1, _LIMITS["queue_size_max"])
        _arguments.choice(on_full, "on_full", ON_FULL)
        _arguments.seconds(submit_timeout, "submit_timeout")
        _arguments.seconds(job_timeout, "job_timeout")
        _arguments.seconds(idle_timeout, "idle_timeout")
        _arguments.boolean(histograms, "histograms")
        if not isinstance(thread_name_prefix, str):
            raise TypeError(f"thread_name_prefix must be a str, not {type(thread_name_prefix).__name__}")
        for value, name in ((initializer, "initializer"), (on_error, "on_error")):
            if value is not None:
                _arguments.function(value, name)
        try:
            arguments = tuple(initargs)
        except TypeError:
            raise TypeError(f"initargs must be a tuple, not {type(initargs).__name__}") from None
        self._max_workers = most
        self._thread_name_prefix = thread_name_prefix or f"fastpool-{next(_names)}"
        hooks = Hooks(self._thread_name_prefix, initializer, arguments, on_error)
        self._line = Line()
        self._resizing = threading.RLock()  # a signal handler may come while its thread is in it
        self._open(hooks, most, least, size, on_full, submit_timeout, job_timeout, idle_timeout, histograms)

    @property
    def _pool(self) -> Pool:
        return self

    def resize(self, *, min_workers: int | None = None, max_workers: int | None = None) -> None:
        """Change how many workers there may be.

        Parameters
        ----------
        min_workers, max_workers : int, optional
            As for `Pool`. What is not given stays as it is, but for this: a fixed pool, which has as many of the one as of the
            other, stays a fixed one; and a minimum gives way to a lower maximum.

        Raises
        ------
        TypeError, ValueError
            If an argument is not what it should be; the message names it.

        Notes
        -----
        Thread safety: from any thread, and from jobs. Growing is at once: workers start, up to the minimum, and further
        ones for what is queued. Shrinking as workers come free: each leaves after the job, or piece of an array, that it is at.
        Nothing is lost or runs twice. Blocking: no.
        """
        self._sizes()  # in a forked child refused before the lock, whose holder may not be there
        with self._resizing:
            least, most = self._sizes()
            fixed = least == most
            if max_workers is not None:
                most = _arguments.integer(max_workers, "max_workers", 1, _LIMITS["max_workers"])
                least = most if fixed else min(least, most)
            if min_workers is not None:
                least = _arguments.integer(min_workers, "min_workers", 1, most)
            self._resize(least, most)
            self._max_workers = most

    def pause(self) -> None:
        """Start no more jobs until `resume`: those that run go on, and submits are accepted as long as there is room.

        Notes
        -----
        Maps and arrays pause between two of their jobs, and pieces. A job that waits for another still runs that one itself.
        Shutting down ends the pause. Workers of a paused pool sleep.
        """
        self._pause()

    def resume(self) -> None:
        """End a pause."""
        self._resume()

    def wait_idle(self, timeout: float | None = None) -> bool:
        """Wait until nothing is queued or running; False if `timeout` seconds were not enough. The pool stays open.

        Raises
        ------
        PoolError
            If called from a job of this pool, which would wait for itself.
        """
        self._not_from_a_job("wait_idle")
        return self._wait_idle(timeout)

    def shutdown(  # type: ignore[override]  # a bool where the standard one returns None
        self, wait: bool = True, *, cancel_futures: bool = False, timeout: float | None = None
    ) -> bool:
        """Refuse new jobs, and end: run what is queued, or cancel it.

        Parameters
        ----------
        wait : bool, optional
            Return only when the workers have ended.
        cancel_futures : bool, optional
            Cancel the queued jobs instead of running them.
        timeout : float, optional
            Seconds to drain; then what is left in the queue is cancelled, and running jobs are asked to stop
            (`Job.cancelled`). They are waited for no longer. With ``wait=False`` all that happens in the background.

        Returns
        -------
        bool
            True when all workers have ended.

        Raises
        ------
        PoolError
            If called with ``wait=True`` from a job of this pool, which would wait for itself.

        Notes
        -----
        May be called twice, from any thread, and from a signal handler.
        """
        _arguments.seconds(timeout, "timeout")
        if wait:
            self._not_from_a_job("shutdown(wait=True)")
        if cancel_futures:
            self._discard_paused()
        self._close()
        if cancel_futures:
            self._discard_queued()
        deadline_ns = _core.deadline_from(timeout)
        if wait:
            return self._drain(deadline_ns)
        ended = self._wait_ended(0)
        if timeout is not None and not ended:
            name = f"{self._thread_name_prefix}-shutdown"
            threading.Thread(target=self._drain, args=[deadline_ns], name=name, daemon=True).start()
        return ended

    def _drain(self, deadline_ns: int) -> bool:
        """Wait for the workers' end; from then on, cancel what is left."""
        if self._wait_ended(_core.seconds_until(deadline_ns)):
            self._wait_idle(_core.seconds_until(deadline_ns))  # the timer may be ending a job just now
            return True
        self._discard_queued()  # first: what starts is not to find itself asked
        self._ask_to_stop()
        return self._wait_ended(0)

    def metrics(self) -> Metrics:
        """A snapshot of the pool's counters and histograms."""
        return Metrics._from_core(self._read_metrics())

    def trace(self, *, events: int = 65536) -> Trace:
        """The workers' timeline: ``with pool.trace() as trace: ...``, then ``trace.save("trace.json")``, for Perfetto.

        Parameters
        ----------
        events : int, optional
            How many each worker keeps: the latest. At most 4,194,304.

        Notes
        -----
        See `Trace`. A pool records one trace at a time.
        """
        return Trace(self, self._thread_name_prefix, _arguments.integer(events, "events", 1, _core.TRACE_EVENTS_MOST))

    def _not_from_a_job(self, method: str) -> None:
        if self._runs_own_job():
            raise PoolError(f"{method} was called from a job of the same pool: it would wait for itself")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Shut down and wait, in a thread of its own: the loop's executor may be this very pool."""
        loop = asyncio.get_running_loop()
        ended = loop.create_future()

        def wait() -> None:
            try:
                self.shutdown()
            finally:
                tell(loop, ended)

        threading.Thread(target=wait, name=f"{self._thread_name_prefix}-shutdown").start()
        await ended

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._thread_name_prefix!r} max_workers={self._max_workers}>"
