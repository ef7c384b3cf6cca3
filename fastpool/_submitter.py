"""What a pool and its views have in common: every way to submit."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from fastpool import _arguments, _asyncio, _core, _progress, _streams, _ufuncs
from fastpool._core import Future, Kernel
from fastpool.errors import PoolOverloaded

if TYPE_CHECKING:
    import contextvars

    from fastpool.group import Group
    from fastpool.pool import Pool
    from fastpool.view import View


ON_FULL = tuple(_core.ON_FULL)
PRIORITIES = tuple(_core.PRIORITIES)


class _Unset(enum.Enum):
    """Stands for an argument that was not given, where None means something."""

    UNSET = None


_UNSET = _Unset.UNSET


class Submitter(_core.Core, Executor):
    """The methods that submit jobs, each as the settings of this pool or view say."""

    @property
    def _pool(self) -> Pool:
        """The pool that this is, or is a view of."""
        raise NotImplementedError

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
        if _takes_many(fn, iterables):
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
        most = self._pool._max_workers
        size = 4 * most if buffersize is None else _arguments.integer(buffersize, "buffersize", 1, 2**31)
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

    def run(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """``await pool.run(fn, x)``: the result of ``fn(*args, **kwargs)``, for asyncio. The job is submitted at once.

        Returns
        -------
        asyncio.Future
            Cancelling it cancels the job; one that runs already is asked to stop (`Job.cancelled`).

        Raises
        ------
        TypeError
            If `fn` is not callable.
        RuntimeError
            If no event loop runs in this thread.
        PoolShutdown, PoolOverloaded, PoolError
            As `submit`; but where that would wait for room in a full queue, awaiting does, up to `submit_timeout`.

        Notes
        -----
        Blocking: never; nor does ``on_full="caller_runs"`` run the job on the event loop's thread: it waits for room. But an
        event loop that runs in a job of this pool runs what it awaits, where no other worker has begun to within 10 ms, for
        all workers may be waiting so. Jobs of one event loop start in the order of their submits,
        but for those which do not wait for room while others do.

        Examples
        --------
        >>> import asyncio, fastpool
        >>> async def main():
        ...     async with fastpool.Pool(2) as pool:
        ...         return await asyncio.gather(pool.run(abs, -1), pool.run(len, "ab"))
        >>> asyncio.run(main())
        [1, 2]
        """
        _arguments.function(fn)
        return _asyncio.run(self, fn, args, kwargs)

    def options(
        self,
        *,
        on_full: str | None = None,
        submit_timeout: float | _Unset | None = _UNSET,
        timeout: float | _Unset | None = _UNSET,
        priority: str | None = None,
        context: contextvars.Context | bool | _Unset | None = _UNSET,
    ) -> View:
        """A view of this pool that submits in another way: to keep and reuse, as ``pool.options(timeout=0.1).submit(fn)``.

        Parameters
        ----------
        on_full : {"block", "raise", "caller_runs", "discard_oldest"}, optional
        submit_timeout : float or None, optional
            Seconds. As for `Pool`. What is not given stays as it is here.
        timeout : float or None, optional
            Seconds from its submit until a job must have ended; None: for ever. A queued job whose time is over never starts, a
            running one sees ``current_job().cancelled``; either's future ends with `JobTimeout`.
        priority : {"high", "normal", "low"}, optional
            Jobs of a higher lane start first; of 16 jobs that a worker starts, one at least is of the low lane, while that
            has any.
        context : contextvars.Context, bool or None, optional
            To run the job in; True: a copy of the submitter's; None or False: the worker's own. Where one call submits
            many jobs, each gets a copy.

        Returns
        -------
        View
            An Executor with all methods that submit. It holds the pool; shutting it down shuts the pool down.

        Raises
        ------
        TypeError, ValueError
            If an argument is not what it should be; the message names it.

        Notes
        -----
        Cost: a microsecond to make. A deadline costs a job some 0.2 us, a context as much.
        Arrays and ranges of kernels stop at a deadline when the pieces that run have ended.

        Examples
        --------
        >>> import fastpool
        >>> with fastpool.Pool(2) as pool:
        ...     urgent = pool.options(priority="high", timeout=60)
        ...     urgent.submit(pow, 2, 10).result()
        1024
        """
        given: dict[str, Any] = {}
        if on_full is not None:
            _arguments.choice(on_full, "on_full", ON_FULL)
            given["on_full"] = on_full
        if priority is not None:
            _arguments.choice(priority, "priority", PRIORITIES)
            given["priority"] = priority
        for name, value in (("submit_timeout", submit_timeout), ("timeout", timeout)):
            if value is not _UNSET:
                _arguments.seconds(value, name)
                given[name] = value
        if context is not _UNSET:
            given["context"] = _arguments.context(context)
        from fastpool.view import View

        return View(self, given)

    def _for_many(self) -> Submitter:
        """For jobs that one call submits one after the other: each gets a copy of the context, as in `submit_many`."""
        if not self._has_context():
            return self
        from fastpool.view import View

        return View(self, {"copies_context": True})

    def group(self, *, timeout: float | None = None, on_error: str = "cancel") -> Group:
        """Jobs that end together: ``with pool.group() as g: g.submit(...)`` leaves when all of them are done.

        Parameters
        ----------
        timeout : float, optional
            Seconds from now that all of it may take; then what is left ends with `JobTimeout`.
        on_error : {"cancel", "continue"}, optional
            Whether the first failure cancels the rest.

        Returns
        -------
        Group
        """
        from fastpool.group import Group

        return Group(self, timeout=timeout, on_error=on_error)


def _kernel(value: Any) -> Kernel:
    if not isinstance(value, Kernel):
        raise TypeError(f"kernel must be made by fastpool.kernel() or a NumPy ufunc, not {type(value).__name__}")
    return value


def _grain(value: int | None) -> int:
    return 0 if value is None else _arguments.integer(value, "grain", 1, 2**62)


def _takes_many(fn: Callable[..., Any], iterables: tuple[Iterable[Any], ...]) -> TypeGuard[Kernel]:
    """Checks the arguments of submit_many: whether fn is a kernel, whose jobs are one."""
    _arguments.function(fn)
    if not iterables:
        raise TypeError("submit_many() needs an iterable after fn, with the arguments of each job")
    return isinstance(fn, Kernel)


def _collect(iterables: tuple[Iterable[Any], ...]) -> tuple[list[Any], bool]:
    """The arguments of all calls: plain, or as tuples (then True)."""
    if not iterables:
        return [], False
    if len(iterables) == 1:
        return list(iterables[0]), False
    return list(zip(*iterables, strict=False)), True
