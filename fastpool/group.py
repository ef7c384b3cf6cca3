"""What `Pool.group` returns: jobs that end together."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import CancelledError
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from fastpool import _arguments, _core
from fastpool._core import Future, Kernel
from fastpool.errors import JobTimeout, PoolError
from fastpool.view import View

if TYPE_CHECKING:
    from fastpool._submitter import Submitter

__all__ = ["Group"]

ON_ERROR = ("cancel", "continue")
_FEW = 64  # futures that are kept before those that have ended are sorted out


class Group:
    """Jobs of a pool that end together: the block that it manages is left when all of them are done. Made by `Pool.group`.

    Notes
    -----
    The failures of its jobs come out of the block as one `ExceptionGroup` (`BaseExceptionGroup` if one of them is no
    Exception), and with them what the block itself raised; alone, that comes out as it is. With ``on_error="cancel"`` the first
    failure cancels what has not started, and asks what runs to stop (`Job.cancelled`); jobs that are submitted from then on
    are cancelled at once. Cancelled jobs are no failures. When the group's time is over, jobs that have not ended do so with
    `JobTimeout`, and the block raises one for all of them. Ctrl-C, and the cancelling of the task that waits in an
    ``async with``, cancel the group and wait no longer.

    Jobs of the group may submit to it, and have groups of their own. A group inside another is cancelled with it.

    Thread safety: every method, from any thread, until the block has been left. Blocking: leaving the block; in ``async with``
    only the task waits. A worker that leaves a block runs jobs of it meanwhile. Cost: some tenths of a microsecond a job.

    Examples
    --------
    >>> import fastpool
    >>> with fastpool.Pool(2) as pool:
    ...     with pool.group() as g:
    ...         squares = [g.submit(pow, i, 2) for i in range(4)]
    ...     [future.result() for future in squares]
    [0, 1, 4, 9]
    """

    def __init__(self, submitter: Submitter, *, timeout: float | None = None, on_error: str = "cancel"):
        _arguments.choice(on_error, "on_error", ON_ERROR)
        self._deadline_ns = _core.deadline_from(timeout)
        self._cancels = on_error == "cancel"
        self._lock = threading.RLock()  # a job's arguments may die in cancel(), and submit in their turn
        self._futures: list[Future[Any]] = []
        self._sort_out_at = _FEW
        self._awaited: set[asyncio.Future[Any]] = set()
        self._children: weakref.WeakSet[Group] = weakref.WeakSet()
        self._failures: list[BaseException] = []
        self._told: set[Future[Any]] = set()  # those whose failures are known
        self._timed_out = False
        self._cancelled = False
        self._ended = False
        self._view = View(submitter, {"watcher": _watcher(self), "until_ns": self._deadline_ns})

    # ---- submitting ----

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Do as `Pool.submit`.

        Raises
        ------
        PoolError
            If the group has ended. And what `Pool.submit` raises.
        """
        if self._takes_jobs():
            future = self._view.submit(fn, *args, **kwargs)
            self._add([future])
            return future
        _arguments.function(fn)
        return _cancelled_future()

    def submit_many(self, fn: Callable[..., Any], /, *iterables: Iterable[Any]) -> list[Future[Any]]:
        """Do as `Pool.submit_many`."""
        if not self._takes_jobs():
            _arguments.function(fn)
            return [_cancelled_future() for _ in zip(*iterables, strict=False)]
        futures = self._view.submit_many(fn, *iterables)
        self._add(futures)
        if isinstance(fn, Kernel):  # many jobs in one: a failure is seen by each future for itself
            for future in futures:
                future.add_done_callback(self._look)
        return futures

    def run(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """Do as `Pool.run`: ``await g.run(fn, x)``, in an ``async with`` block."""
        if not self._takes_jobs():
            _arguments.function(fn)
            cancelled = asyncio.get_running_loop().create_future()
            cancelled.cancel()
            return cancelled
        awaited: asyncio.Future[Any] = self._view.run(fn, *args, **kwargs)  # type: ignore[assignment]
        with self._lock:
            self._awaited.add(awaited)
        awaited.add_done_callback(self._awaited_ended)
        if self._cancelled:
            awaited.cancel()
        return awaited

    def group(self, *, timeout: float | None = None, on_error: str = "cancel") -> Group:
        """Open a group inside this one: its time is over no later, and cancelling this one cancels it."""
        self._takes_jobs()
        child = Group(self._view, timeout=timeout, on_error=on_error)
        with self._lock:
            self._children.add(child)
            cancelled = self._cancelled
        if cancelled:
            child.cancel()
        return child

    def cancel(self) -> None:
        """Cancel what has not started, ask what runs to stop, and take no more jobs. The block does not raise for it."""
        with self._lock:
            self._cancelled = True
            futures, children, awaited = list(self._futures), list(self._children), list(self._awaited)
        for future in futures:
            future.cancel()
        for child in children:
            child.cancel()
        for each in awaited:
            each.get_loop().call_soon_threadsafe(each.cancel)

    def _takes_jobs(self) -> bool:
        """False: they are cancelled at once."""
        if self._ended:
            raise PoolError("the group has ended: its block was left")
        return not self._cancelled

    def _add(self, futures: list[Future[Any]]) -> None:
        with self._lock:
            self._futures += futures
            ended: list[Future[Any]] = []
            if len(self._futures) > self._sort_out_at:
                all_futures, self._futures = self._futures, []
                for future in all_futures:
                    (ended if future.done() else self._futures).append(future)
                self._sort_out_at = max(_FEW, 2 * len(self._futures))
            cancelled = self._cancelled
        self._look_at(ended)
        if cancelled:  # meanwhile
            for future in futures:
                future.cancel()

    # ---- failures ----

    def _failed(self, future: Future[Any]) -> None:
        """Of a future that has just failed: called from C, by whoever ended it; or by who saw that it has ended before that."""
        error = future.exception(0)
        if error is None:
            return
        with self._lock:
            if future in self._told:
                return
            self._told.add(future)
            if isinstance(error, JobTimeout) and _core.seconds_until(self._deadline_ns) == 0:
                self._timed_out = True
            else:
                self._failures.append(error)
        if self._cancels:
            self.cancel()

    def _look(self, future: Any) -> None:
        if not future.cancelled():
            self._failed(future)

    def _look_at(self, ended: list[Future[Any]]) -> None:
        """Before they are forgotten: that they have ended is seen a moment before the group is told."""
        for future in ended:
            self._look(future)

    def _awaited_ended(self, awaited: asyncio.Future[Any]) -> None:
        with self._lock:
            self._awaited.discard(awaited)
        if not awaited.cancelled():
            awaited.exception()  # the group raises it: asyncio need not say that nobody has asked

    def _error(self, body: BaseException | None) -> BaseException | None:
        """What the block raises; None: what its body raised, if anything."""
        with self._lock:
            failures, self._failures = self._failures, []
            self._told.clear()
        if self._timed_out:
            failures.append(JobTimeout("the group's timeout passed before all of its jobs had ended"))
        if not failures or (body is not None and not isinstance(body, Exception)):
            return None
        if body is not None and all(body is not failure for failure in failures):
            failures.append(body)
        return BaseExceptionGroup(f"{len(failures)} failed in the group", failures)

    # ---- the block ----

    def _next_unfinished(self) -> Future[Any] | None:
        unfinished: Future[Any] | None = None
        ended: list[Future[Any]] = []
        with self._lock:
            while self._futures and unfinished is None:
                if self._futures[-1].done():
                    ended.append(self._futures.pop())
                else:
                    unfinished = self._futures[-1]
            self._ended = unfinished is None and not self._awaited
        self._look_at(ended)
        return unfinished

    def _wait(self) -> None:
        while (future := self._next_unfinished()) is not None:
            with contextlib.suppress(CancelledError):
                future.exception()  # on a worker of the pool this runs it

    async def _wait_async(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._ended:
            while (future := self._next_unfinished()) is not None:
                ended = loop.create_future()
                future.add_done_callback(partial(_tell, loop, ended))
                await ended
            if self._awaited:
                await asyncio.wait(list(self._awaited))

    def _leave(self, body: BaseException | None) -> None:
        error = self._error(body)
        if error is not None:
            try:
                raise error from None
            finally:
                del error, body  # or the traceback would hold this frame, and this frame the error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.cancel()
        try:
            self._wait()
        except BaseException:
            self._ended = True
            self.cancel()
            raise
        self._leave(error)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.cancel()
        try:
            await self._wait_async()
        except BaseException:
            self._ended = True
            self.cancel()
            raise
        self._leave(error)


def _watcher(group: Group) -> Callable[[Future[Any]], None]:
    """What the jobs hold of their group: not the group itself, which holds the view that makes them, and that the pool."""
    known = weakref.ref(group)

    def failed(future: Future[Any]) -> None:
        group = known()
        if group is not None:
            group._failed(future)

    return failed


def _tell(loop: asyncio.AbstractEventLoop, ended: asyncio.Future[None], _: object) -> None:
    def tell() -> None:
        if not ended.done():
            ended.set_result(None)

    with contextlib.suppress(RuntimeError):  # the loop was closed, and nobody waits there any more
        loop.call_soon_threadsafe(tell)


def _cancelled_future() -> Future[Any]:
    future: Future[Any] = Future()
    future.cancel()
    future.set_running_or_notify_cancel()
    return future
