"""The pool."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from typing import Any, Self

import numpy as np

from fastpool import _arguments, _core, _progress, _streams, _ufuncs
from fastpool._core import Future, Kernel
from fastpool._hooks import Hooks, JobError
from fastpool.errors import PoolError, PoolOverloaded
from fastpool.metrics import Metrics
from fastpool.trace import Trace

__all__ = ["Pool"]

_log = logging.getLogger("fastpool")
_names = itertools.count()
_LIMITS = _core.build_info()
ON_FULL = ("block", "raise", "caller_runs", "discard_oldest")


class Pool(_core.Core, Executor):
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
        `max_workers`. Workers start with the first jobs, not with the pool.
    queue_size : int or None, optional
        How many accepted and not yet started jobs the pool holds, exactly; None: as many as come.
    on_full : {"block", "raise", "caller_runs", "discard_oldest"}, optional
        What a full queue does to a submit: wait up to `submit_timeout`, then raise `SubmitTimeout`; raise `PoolOverloaded` at
        once; run the job in the submitting thread; cancel the oldest queued job.
    submit_timeout : float, optional
        Seconds; None: for ever.
    idle_timeout : float, optional
        Seconds.
    on_error : callable, optional
        Called with a `JobError`, in the worker, for each failure that no future carries.

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
    ):
        if max_workers is None:
            max_workers = _core.usable_cpus()
        most = _arguments.integer(max_workers, "max_workers", 1, _LIMITS["max_workers"])
        least = most if min_workers is None else _arguments.integer(min_workers, "min_workers", 1, most)
        size = 0 if queue_size is None else _arguments.integer(queue_size, "queue_size", 1, _LIMITS["queue_size_max"])
        _arguments.choice(on_full, "on_full", ON_FULL)
        _arguments.seconds(submit_timeout, "submit_timeout")
        _arguments.seconds(idle_timeout, "idle_timeout")
        if not isinstance(thread_name_prefix, str):
            raise TypeError(f"thread_name_prefix must be a str, not {type(thread_name_prefix).__name__}")
        for value, name in ((initializer, "initializer"), (on_error, "on_error")):
            if value is not None:
                _arguments.function(value, name)
        try:
            arguments = tuple(initargs)
        except TypeError:
            raise TypeError(f"initargs must be a tuple, not {type(initargs).__name__}") from None
        if job_timeout is not None:
            _arguments.seconds(job_timeout, "job_timeout")
            raise NotImplementedError("job_timeout: deadlines are not in this version yet")
        self._max_workers = most
        self._thread_name_prefix = thread_name_prefix or f"fastpool-{next(_names)}"
        hooks = Hooks(self._thread_name_prefix, initializer, arguments, on_error)
        self._open(hooks, most, least, size, on_full, submit_timeout, idle_timeout)

    # submit and post are added to Core from _submit.c, with the interpreter's fast calling convention.

    def submit_many(self, fn: Callable[..., Any], /, *iterables: Iterable[Any]) -> list[Any]:
        """Queue ``fn(*args)`` for each args of ``zip(*iterables)`` and return the futures, in that order.

        Raises
        ------
        TypeError
            If `fn` is not callable, or no iterable is given.
        PoolOverloaded, SubmitTimeout
            If the queue is full and `on_full` says so. Its attribute ``futures`` has the jobs accepted before; those that
            had not started are cancelled.

        Notes
        -----
        The iterables are read to their end before the first job is queued, so an error in one queues nothing. One call
        for many jobs is the cheap way to submit: see the README's table. Jobs of a `Kernel` take one place in the queue
        together, and arrays of numbers are the quickest way to give their arguments.
        """
        _arguments.function(fn)
        if not iterables:
            raise TypeError("submit_many() needs an iterable after fn, with the arguments of each job")
        if isinstance(fn, Kernel):
            return _core.submit_many(self, fn, iterables)
        items, star = _collect(iterables)
        futures: list[Any] = []
        try:
            self._submit_each(fn, items, star, futures)
        except PoolOverloaded as error:
            error.futures = futures
            raise
        return futures

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """The results of ``fn(*args)`` for each args of ``zip(*iterables)``, in order: Executor.map of Python 3.14.

        Parameters
        ----------
        timeout : float, optional
            Seconds from this call until which each result must be there, else `TimeoutError`.
        chunksize : int, optional
            Calls that a worker claims at a time. 1 is as fast as any here; more keeps neighbours on one worker.
        buffersize : int, optional
            Read the iterables lazily, with at most this many calls submitted and not yet yielded.

        Notes
        -----
        Without `buffersize` the iterables are read at once, as the standard map does, and all calls take one place in the
        queue together. An error, or closing the iterator, cancels the calls that have not started.
        """
        _arguments.function(fn)
        deadline_ns = _core.deadline_from(timeout)
        grain = _arguments.integer(chunksize, "chunksize", 1, 2**31)
        if buffersize is not None:
            _arguments.integer(buffersize, "buffersize", 1, 2**31)
            return _streams.ordered(self, fn, iterables, buffersize, deadline_ns)
        items, star = _collect(iterables)
        return self._map(fn, items, star, grain, deadline_ns)

    def imap_unordered(
        self, fn: Callable[..., Any], *iterables: Iterable[Any], chunksize: int = 1, buffersize: int | None = None
    ) -> Iterator[Any]:
        """The results of ``fn(*args)`` for each args of ``zip(*iterables)``, as they come.

        Parameters
        ----------
        chunksize : int, optional
            Calls to a job.
        buffersize : int, optional
            Most jobs submitted and not yet yielded. Default: 4 for each worker. The iterables are read no further ahead than
            that, so a slow reader slows the pool and nothing piles up.

        Notes
        -----
        The first error is raised where its result would have come, and cancels what has not started; so does closing the
        iterator.
        """
        _arguments.function(fn)
        grain = _arguments.integer(chunksize, "chunksize", 1, 2**31)
        size = 4 * self._max_workers if buffersize is None else _arguments.integer(buffersize, "buffersize", 1, 2**31)
        return _streams.unordered(self, fn, iterables, grain, size)

    def map_array(
        self,
        kernel: Kernel | np.ufunc,
        /,
        *arrays: Any,
        out: Any = None,
        grain: int | None = None,
        progress: bool = False,
    ) -> Any:
        """``kernel(*elements)`` for each element of the broadcast `arrays`: one native job an element, or a ufunc in chunks.

        Parameters
        ----------
        kernel : Kernel or numpy.ufunc
            A kernel of a signature from scalars to a scalar: see `fastpool.kernel`. Or a ufunc of one output, such as
            `numpy.hypot`, and no generalized one: the arrays are cut into chunks, and each is a job that calls it.
        *arrays : array_like
            One for each argument; they broadcast as in NumPy. Their dtypes must cast safely to the kernel's. A ufunc chooses
            its dtypes as in a call of it, Python's numbers giving way to arrays. What has ufuncs of its own is refused
            for a ufunc: masked arrays, quantities, data frames.
        out : ndarray, optional
            Of the broadcast shape and the dtype of the result, writable. May be one of the inputs, but not overlap one in part.
        grain : int, optional
            Elements that a worker claims at a time; a ufunc's chunk is whole slices of the arrays, one at least. Default: as
            many as take some 50 us, by measurement; for a ufunc 16 thousand to a million, so that each worker gets some four
            chunks and more.
        progress : bool, optional
            Show a bar on stderr meanwhile, if that is a terminal: rich's where it is installed.

        Returns
        -------
        ndarray
            `out`, or a new array; of no dimension where NumPy would give a scalar.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit; nothing has been queued then.
        PoolShutdown, PoolOverloaded, SubmitTimeout, PoolError
            As `submit`.
        Exception
            What the ufunc raised, by the first chunk that did; chunks that had not begun are left out.

        Notes
        -----
        Thread safety: from any thread. Blocking: until the last element is done; Ctrl-C stops it at the next chunk.
        All elements take one place in the queue together. Cost: a microsecond a call, and nothing to speak of an element.

        The calling thread takes part where a worker sleeps and nothing is queued before: a small array is done sooner than
        a worker is awake. So no more than `max_workers` threads compute, and in a pool of one worker only that one.
        Inputs of another dtype, byte order or alignment are converted by the workers, some hundred elements at a time.

        Of a ufunc: the caller's `numpy.errstate` holds in the workers, and there is one warning for the whole array. When
        the call ends, by an error or Ctrl-C too, no worker writes to `out` any more. A chunk costs some microseconds.
        Workers compute at the same time except on dtype object, for which NumPy keeps the interpreter. NumPy's loops for
        vectors and for single elements may round differently, and a chunk may take another of them than the whole would.

        Examples
        --------
        >>> import fastpool, numpy as np
        >>> with fastpool.Pool(2) as pool:
        ...     pool.map_array(np.hypot, [3.0, 5.0], [4.0, 12.0])
        array([ 5., 13.])
        """
        elements = 0 if grain is None else _grain(grain)
        if progress is False and type(kernel) is Kernel:
            return _core.submit_array(self, kernel, arrays, out, elements, True)
        _arguments.boolean(progress, "progress")
        if isinstance(kernel, np.ufunc):
            return _ufuncs.map_array(self, kernel, arrays, out, elements, progress)
        return self._map_array_watched(_kernel(kernel), arrays, out, elements)

    def _map_array_watched(self, kernel: Kernel, arrays: tuple[Any, ...], out: Any, elements: int) -> Any:
        """With a progress bar."""
        future = _core.submit_array(self, kernel, arrays, out, elements, False)
        try:
            _progress.watch(future, lambda: _core.elements_done(future), _core.elements_total(future), kernel.name)
            return future.result()
        except BaseException:
            future.cancel()  # interrupted: what has not begun does not begin any more
            raise

    def submit_array(
        self, kernel: Kernel | np.ufunc, /, *arrays: Any, out: Any = None, grain: int | None = None
    ) -> Future[Any]:
        """Do as `map_array`, and return a future of the array at once. The inputs must not be written until it ends.

        Notes
        -----
        A ufunc's future is a job of its own, which queues the chunks when it starts and helps with them. So until then it
        can be cancelled, and its exception is the first that a chunk raised. Where the pool is full or shut down by then,
        the job runs its chunks alone. A warning has no caller any more: it is given by the worker.
        """
        elements = _grain(grain)
        if isinstance(kernel, np.ufunc):
            return _ufuncs.submit_array(self, kernel, arrays, out, elements)
        future: Future[Any] = _core.submit_array(self, _kernel(kernel), arrays, out, elements, False)
        return future

    def parallel_for(self, kernel: Kernel, n: int, /, data: Any = None, grain: int | None = None) -> None:
        """``kernel(begin, end, data)`` over pieces of ``0 <= i < n``, each i once.

        Parameters
        ----------
        kernel : Kernel
            Of the signature ``int (int64_t, int64_t, void *)``; 0 is success.
        n : int
            At least 0.
        data : object with a buffer, or PyCapsule, optional
            For the kernel's ``void *`` in this call; default: the kernel's own.
        grain : int, optional
            A piece's length. Default: as many as take some 50 us, by measurement.

        Raises
        ------
        NativeJobError
            If the kernel returned something else for a piece; `index` is where the first to do so began. The other pieces
            have run all the same.
        TypeError, ValueError
            If an argument does not fit; nothing has been queued then.
        PoolShutdown, PoolOverloaded, SubmitTimeout, PoolError
            As `submit`.

        Notes
        -----
        Thread safety: from any thread, and from jobs. Blocking: until the last piece has ended; the calling thread takes part,
        as in `map_array`. Every i counts as a job; all of them take one place in the queue together.
        """
        count = _arguments.integer(n, "n", 0, 2**62)
        _core.run_range(self, _kernel(kernel), count, data, _grain(grain))

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
            Seconds to drain; then what is left in the queue is cancelled. Running jobs are waited for no longer either.

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
        self._close()
        if cancel_futures:
            self._discard_queued()
        if not wait:
            return self._wait_ended(0)
        if self._wait_ended(timeout):
            return True
        self._discard_queued()
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
        if self._on_own_worker():
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
                loop.call_soon_threadsafe(ended.set_result, None)

        threading.Thread(target=wait, name=f"{self._thread_name_prefix}-shutdown").start()
        await ended

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._thread_name_prefix!r} max_workers={self._max_workers}>"


def _kernel(value: Any) -> Kernel:
    if not isinstance(value, Kernel):
        raise TypeError(f"kernel must be made by fastpool.kernel() or a NumPy ufunc, not {type(value).__name__}")
    return value


def _grain(value: int | None) -> int:
    return 0 if value is None else _arguments.integer(value, "grain", 1, 2**62)


def _collect(iterables: tuple[Iterable[Any], ...]) -> tuple[list[Any], bool]:
    """The arguments of all calls: plain, or as tuples (then True)."""
    if not iterables:
        return [], False
    if len(iterables) == 1:
        return list(iterables[0]), False
    return list(zip(*iterables, strict=False)), True
