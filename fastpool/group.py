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

from fastpool import _arguments, _asyncio, _core
from fastpool._core import Future
from fastpool._submitter import _collect, _takes_many
from fastpool.errors import JobTimeout, PoolError, PoolOverloaded
from fastpool.view import View

if TYPE_CHECKING:
    from fastpool._submitter import Submitter

__all__ = ["Group"]

ON_ERROR = ("cancel", "continue")
_FEW = 64  # futures that are kept before those that have ended are sorted out
_CANCELLED = (CancelledError, asyncio.CancelledError)
_SLICE = 16  # jobs that submit_many queues before it looks whether the group was cancelled


class Group:
    """Jobs of a pool that end together: the block that it manages is left when all of them are done. Made by `Pool.group`.

    Notes
    -----
    The failures of its jobs come out of the block as one `ExceptionGroup` (`BaseExceptionGroup` if one of them is no
    Exception), and with them what the block itself raised; alone, that comes out as it is. With ``on_error="cancel"`` the first
    failure cancels what has not started, and asks what runs to stop (`Job.cancelled`); jobs that are submitted from then on
    are cancelled at once. Cancelled jobs are no failures; nor is it one of the block that it asked for the result of such a
    job, where there are others. When the group's time is over, jobs that have not ended do so with `JobTimeout`, submits that
    wait for room raise it, and the block raises one for all of them. Ctrl-C, and the cancelling of the task that waits in
    an ``async with``, cancel the group and wait no longer.

    Jobs of the group may submit to it, and have groups of their own. A group inside another is cancelled with it.

    Thread safety: every method, from any thread, until the block has been left. Blocking: leaving the block; in ``async with``
    only the task waits. A worker that leaves a block runs jobs of it meanwhile. Cost: about a microsecond a job; half of it
    by `submit_many`.

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
        self._cancels = on_error == "cancel"
        self._lock = threading.RLock()  # a job's arguments may die in cancel(), and submit in their turn
        self._futures: list[Future[Any]] = []  # that have not been looked at since they ended
        self._sort_out_at = _FEW
        self._awaited: dict[
            asyncio.Future[Any], list[_asyncio.Answer]
        ] = {}  # of run(); no answer yet: it waits for room
        self._when_none_awaited: Callable[[], None] | None = None
        self._children: weakref.WeakSet[Group] = weakref.WeakSet()
        self._failures: dict[int, BaseException] = {}  # by id, for one may be told of more than once
        self._timed_out = False
        self._cancelled = False
        self._ended = False
        self._watcher = _watcher_of(self)
        self._view = View(submitter, {"watcher": self._watcher, "until_ns": _core.deadline_from(timeout)})
        self._deadline_ns = self._view._until_ns()

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
        if _takes_many(fn, iterables):
            return self._submit_many_of_a_kernel(fn, iterables)
        items, star = _collect(iterables)
        futures: list[Future[Any]] = []
        try:
            for first in range(0, len(items), _SLICE):
                self._submit_some(fn, items[first : first + _SLICE], star, futures)
        except BaseException as error:
            for future in futures:
                future.cancel()
            if isinstance(error, PoolOverloaded):
                error.futures = futures
            raise
        return futures

    def _submit_some(self, fn: Callable[..., Any], items: list[Any], star: bool, futures: list[Future[Any]]) -> None:
        if not self._takes_jobs():
            futures += [_cancelled_future() for _ in items]
            return
        accepted: list[Future[Any]] = []
        try:
            self._view._submit_each(fn, items, star, accepted)
        finally:
            futures += accepted
            self._add(accepted)  # some may have started before another was refused

    def _submit_many_of_a_kernel(self, kernel: Any, iterables: tuple[Iterable[Any], ...]) -> list[Future[Any]]:
        if not self._takes_jobs():
            return [_cancelled_future() for _ in zip(*iterables, strict=False)]
        futures = self._view.submit_many(kernel, *iterables)
        self._add(futures)
        for future in futures:  # many jobs in one, which has no failure: it is seen by each future for itself
            future.add_done_callback(self._watcher)
        return futures

    def run(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """Do as `Pool.run`: ``await g.run(fn, x)``, in an ``async with`` block.

        One that is refused after it has waited for room is a failure of the group.
        """
        _arguments.function(fn)
        if not self._takes_jobs():
            cancelled = asyncio.get_running_loop().create_future()
            cancelled.cancel()
            return cancelled
        answers: list[_asyncio.Answer] = []
        awaited = _asyncio.run(self._view, fn, args, kwargs, partial(self._told, answers))
        with self._lock:
            self._awaited[awaited] = answers
        awaited.add_done_callback(self._awaited_ended)
        if self._cancelled:
            _cancel_in_line(awaited, answers)
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
            futures, children, awaited = list(self._futures), list(self._children), list(self._awaited.items())
        for future in futures:
            future.cancel()
        for child in children:
            child.cancel()
        for each, answers in awaited:
            with contextlib.suppress(RuntimeError):  # that loop was closed, and nobody waits there any more
                each.get_loop().call_soon_threadsafe(_cancel_in_line, each, answers)

    def _takes_jobs(self) -> bool:
        """False: they are cancelled at once."""
        if self._ended:
            raise PoolError("the group has ended: its block was left")
        return not self._cancelled

    def _add(self, futures: list[Future[Any]]) -> None:
        with self._lock:
            self._futures += futures
            many = len(self._futures) > self._sort_out_at
            cancelled = self._cancelled
        if many:
            self._sort_out_at = max(_FEW, 2 * len(self._sort_out()))
        if cancelled:  # meanwhile
            for future in futures:
                future.cancel()

    def _sort_out(self) -> list[Future[Any]]:
        """Let go of the futures that have ended: the others. The lock is not held where callbacks may run."""
        with self._lock:
            ended = list(self._futures)
        ended = [future for future in ended if future.done()]
        for error in [future._exception for future in ended]:
            if error is not None:
                self._note(error)
        known = set(ended)
        with self._lock:
            self._futures = [future for future in self._futures if future not in known]
            return list(self._futures)

    # ---- failures ----

    def _look(self, future: Any) -> None:
        """Note how an ended future has failed, if it has. Called by whoever ended it, so that the rest is cancelled soon; and
        before the group lets go of it, for who waits for a future may be awake before that.
        """
        error = future._exception
        if error is not None:
            self._note(error)

    def _note(self, error: BaseException) -> None:
        with self._lock:
            if self._is_timeout(error):
                self._timed_out = True
            elif isinstance(error, _CANCELLED) and self._cancelled:
                return  # a job that waited for one that was cancelled before it
            else:
                self._failures[id(error)] = error
            is_first = not self._cancelled
        if self._cancels and is_first:
            self.cancel()

    def _is_timeout(self, error: BaseException | None) -> bool:
        """Whether it says that the group's time is over."""
        return isinstance(error, JobTimeout) and _core.seconds_until(self._deadline_ns) == 0

    def _told(self, answers: list[_asyncio.Answer], answer: _asyncio.Answer) -> None:
        """What came of a run(), when it need not wait for room any more."""
        answers.append(answer)
        if isinstance(answer, BaseException):
            self._note(answer)
        else:
            self._add([answer])

    def _look_at(self, ended: list[Future[Any]]) -> None:
        """Before they are forgotten: that they have ended is seen a moment before the group is told."""
        for future in ended:
            self._look(future)

    def _awaited_ended(self, awaited: asyncio.Future[Any]) -> None:
        if not awaited.cancelled():
            awaited.exception()  # the group raises it: asyncio need not say that nobody has asked
        with self._lock:
            self._awaited.pop(awaited, None)
            tell = None if self._awaited else self._when_none_awaited
        if tell is not None:
            tell()

    def _error(self, body: BaseException | None) -> BaseException | None:
        """What the block raises; None: what its body raised, if anything."""
        with self._lock:
            failures, self._failures = self._failures, {}
        if self._timed_out or self._is_timeout(body):  # of a submit that waited for room
            timeout = JobTimeout("the group's timeout passed before all of its jobs had ended")
            failures[id(timeout)] = timeout
        if not failures or _goes_first(body):
            return None
        if body is not None and not self._is_timeout(body) and not isinstance(body, _CANCELLED):
            failures[id(body)] = body
        return BaseExceptionGroup(f"{len(failures)} failed in the group", list(failures.values()))

    # ---- the block ----

    def _unfinished(self) -> list[Future[Any]]:
        """What there is still to wait for. None: but for what is awaited the group has ended."""
        unfinished = self._sort_out()
        with self._lock:
            self._ended = not self._futures and not self._awaited
        return unfinished

    def _wait(self) -> None:
        while unfinished := self._unfinished():
            while unfinished:
                with contextlib.suppress(CancelledError):
                    unfinished.pop().exception()  # on a worker of the pool this runs it

    async def _wait_async(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._ended:
            for future in self._unfinished():
                _asyncio.lend_a_hand(self._view, future, loop)
                ended = loop.create_future()
                future.add_done_callback(partial(_asyncio.tell, loop, ended))
                await ended
            await self._none_awaited(loop)

    async def _none_awaited(self, loop: asyncio.AbstractEventLoop) -> None:
        """Until each run() has ended, whichever event loop it is of."""
        ended = loop.create_future()
        with self._lock:
            for each in [each for each in self._awaited if each.get_loop().is_closed()]:
                del self._awaited[each]
            if not self._awaited:
                return
            self._when_none_awaited = partial(_asyncio.tell, loop, ended)
        await ended

    def _leave(self, body: BaseException | None) -> None:
        error = self._error(body)
        if error is not None:
            try:
                raise error from None
            finally:
                del error, body  # or the traceback would hold this frame, and this frame the error

    def _abandon(self) -> None:
        """The wait was interrupted."""
        self._ended = True
        self.cancel()

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
            self._abandon()
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
            self._abandon()
            raise
        self._leave(error)


def _watcher_of(group: Group) -> Callable[[Any], None]:
    """What is called, from C too, with a future that has just failed. It holds no group, which holds it."""
    reference = weakref.ref(group)

    def look(future: Any) -> None:
        watching = reference()
        if watching is not None:
            watching._look(future)

    return look


def _goes_first(body: BaseException | None) -> bool:
    """Whether the block's own exception comes out of it alone: KeyboardInterrupt, and what is no Exception either. But an
    asyncio CancelledError only if it is this task that was cancelled, and not a job for whose result it asked.
    """
    if isinstance(body, asyncio.CancelledError):
        task = asyncio.current_task() if asyncio._get_running_loop() is not None else None
        return task is None or task.cancelling() > 0
    return body is not None and not isinstance(body, Exception)


def _cancel_in_line(awaited: asyncio.Future[Any], answers: list[_asyncio.Answer]) -> None:
    """A run() that has been submitted ends as its job does: cancelled, or as the very failure that cancels the others."""
    if not answers:
        awaited.cancel()


def _cancelled_future() -> Future[Any]:
    future: Future[Any] = Future()
    future.cancel()
    future.set_running_or_notify_cancel()
    return future
