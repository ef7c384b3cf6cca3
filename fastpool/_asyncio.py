"""``await pool.run(...)``: submitting from an event loop, which must not wait for room in a full queue.

Journey: [SUBMIT] -> ring -> worker -> callable -> completion -> future. While there is room this is `submit` and
`asyncio.wrap_future`. A submit that finds the queue full lines up here instead, and a thread, which there is as long as
somebody waits, sleeps until there is room and submits for the first in the line. So the line is served in its order, and one
who leaves it (its task was cancelled, its time was over) was never queued. Each event loop keeps its own time: a timer
of its own takes out whoever has waited for too long.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from fastpool import _core
from fastpool._core import Future
from fastpool.errors import JobTimeout, PoolError, SubmitTimeout

if TYPE_CHECKING:
    from fastpool._submitter import Submitter
    from fastpool.pool import Pool

_FOREVER = _core.deadline_from(None)
_FEW = 64  # waiters in the line's deque before those that have left are sorted out
_PATIENCE = 0.01  # seconds that another worker has to begin with what an event loop on a worker awaits

Answer = Future[Any] | BaseException


class _Waiter:
    """One submit that waits for room."""

    __slots__ = ("admitted", "call", "future", "in_line", "loop", "told", "view")

    def __init__(
        self,
        view: Submitter,
        loop: asyncio.AbstractEventLoop,
        call: Callable[[], Future[Any] | None],
        told: Callable[[Answer], None] | None,
    ) -> None:
        self.view = view
        self.loop = loop
        self.call: Callable[[], Future[Any] | None] | None = call
        self.told = told
        self.admitted: asyncio.Future[Future[Any]] = loop.create_future()
        self.in_line = True
        self.future: Future[Any] | None = None


class Line:
    """Of one pool: those who wait for room, and the thread that waits for them. These hold the pool, which holds the line."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # submitting may run callbacks and destructors, which submit in their turn
        self._waiters: deque[_Waiter] = deque()
        self._length = 0
        self._thread: threading.Thread | None = None

    def is_empty(self) -> bool:
        """Whether nobody waits. Without the lock: those of the calling thread have lined up in this thread too."""
        return self._length == 0

    def join(self, waiter: _Waiter) -> None:
        """Line up."""
        with self._lock:
            if self._thread is None:
                self._thread = self._start(waiter.view._pool)
            self._waiters.append(waiter)
            self._length += 1

    def _start(self, pool: Pool) -> threading.Thread:
        thread = threading.Thread(target=self._serve, args=[pool], name=f"{pool._thread_name_prefix}-room", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise PoolError("can't start new thread, which is needed to wait for room in the queue") from error
        return thread

    def leave(self, waiter: _Waiter) -> bool:
        """Out of the line. False: it was not in it any more."""
        with self._lock:
            waited = self._take_out(waiter)
            if len(self._waiters) > _FEW + 2 * self._length:
                self._waiters = deque(each for each in self._waiters if each.in_line)
            if waited and self._length == 0:
                waiter.view._tell_of_room()  # the thread, which has nobody to wait for any more
        return waited

    def _take_out(self, waiter: _Waiter) -> bool:
        """True when it was in the line. It stays in the deque until that comes to it, but without the call's arguments."""
        waited, waiter.in_line, waiter.call = waiter.in_line, False, None
        self._length -= waited
        return waited

    def _serve(self, pool: Pool) -> None:
        while True:
            key = pool._room_key()  # before the look at the line and the queue, so that no change of them is missed
            if not self._admit():
                break
            pool._wait_for_room(key)
        pool._tell_of_room()  # what woke this thread may have been another's

    def _admit(self) -> bool:
        """Submit for those in front, as long as there is room. False: nobody is left."""
        with self._lock:
            while self._waiters and self._try(self._waiters[0]):
                self._waiters.popleft()
            if self._length == 0:
                self._waiters.clear()
                self._thread = None
            return self._length != 0

    def _try(self, waiter: _Waiter) -> bool:
        """Submit for it, if it still waits. False: there was no room."""
        if waiter.call is None:
            return True
        if waiter.loop.is_closed():  # nobody will ask for the result
            return self._take_out(waiter)
        try:
            waiter.future = waiter.call()
        except BaseException as error:
            self._answer(waiter, error)
        if waiter.future is not None:
            self._answer(waiter, waiter.future)
        return not waiter.in_line

    def _answer(self, waiter: _Waiter, answer: Answer) -> None:
        self._take_out(waiter)
        try:
            waiter.loop.call_soon_threadsafe(_settle, waiter, answer)
        except RuntimeError:  # the loop has been closed since
            if isinstance(answer, Future):
                answer.cancel()


def _settle(waiter: _Waiter, answer: Answer) -> None:
    """The line's answer arrives at the event loop, where the task may have been cancelled meanwhile: see _left."""
    if isinstance(answer, Future):
        if waiter.told is not None:
            waiter.told(answer)
        if not waiter.admitted.done():
            waiter.admitted.set_result(answer)
    elif not waiter.admitted.done():
        if waiter.told is not None:
            waiter.told(answer)
        waiter.admitted.set_exception(answer)


def _give_up(waiter: _Waiter) -> None:
    """Its time is over."""
    view = waiter.view
    if not view._pool._line.leave(waiter):
        return  # its answer is on the way
    view._count_rejected()
    if _core.seconds_until(view._until_ns()) == 0:
        _settle(waiter, JobTimeout("the deadline passed before there was room in the queue"))
    else:
        _settle(waiter, SubmitTimeout("the queue stayed full for all of submit_timeout"))


def _left(waiter: _Waiter, timer: asyncio.TimerHandle | None, task: asyncio.Future[Any]) -> None:
    """The task has ended: out of the line; or, too late for that, the job is cancelled with it."""
    if timer is not None:
        timer.cancel()
    waiter.view._pool._line.leave(waiter)
    if task.cancelled() and waiter.future is not None:
        waiter.future.cancel()
    if not waiter.admitted.cancel() and not waiter.admitted.cancelled():
        waiter.admitted.exception()  # a task that was cancelled before its first step has not asked for it


async def _result_of(admitted: asyncio.Future[Future[Any]]) -> Any:
    try:
        future = await admitted
    finally:
        del admitted  # or an exception of it would hold this frame, and this frame the exception
    return await asyncio.wrap_future(future)


def tell(loop: asyncio.AbstractEventLoop, ended: asyncio.Future[None], *_: object) -> None:
    """From any thread: whoever awaits `ended` need wait no longer."""
    with contextlib.suppress(RuntimeError):  # the loop was closed, and nobody waits there any more
        loop.call_soon_threadsafe(_set, ended)


def _set(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


def lend_a_hand(view: Submitter, future: Future[Any], loop: asyncio.AbstractEventLoop) -> None:
    """A job whose thread awaits another job of its pool runs that, if no other worker begins with it: all may be waiting so."""
    if view._on_own_worker():
        loop.call_later(0 if view._pool._max_workers == 1 else _PATIENCE, _help, future)


def _help(future: Any) -> None:
    future._help()


def run(
    view: Submitter,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    told: Callable[[Answer], None] | None = None,
) -> asyncio.Future[Any]:
    """Submit ``fn(*args, **kwargs)`` now, or as soon as there is room: an asyncio future of its result.

    `told` is called, on the event loop's thread, with the job's future, or with why there will be none if that comes later.
    """
    loop = asyncio.get_running_loop()
    view._on_own_worker()  # refused in a forked child before the lock, whose holder may not be there
    line = view._pool._line
    future = None
    if line.is_empty() or not view._waits_for_room():
        future = view._submit_unless_full(fn, *args, **kwargs)
    if future is None:
        return _line_up(view, fn, args, kwargs, told, loop)
    if told is not None:
        told(future)
    lend_a_hand(view, future, loop)
    return asyncio.wrap_future(future, loop=loop)


def _as_of_now(view: Submitter) -> Submitter:
    """The same for a job that a thread will submit later: its time begins now, and its context is the caller's."""
    given: dict[str, Any] = {"timeout": None, "until_ns": view._job_deadline_ns()}
    if view._copies_context():
        given["context"] = contextvars.copy_context()
    from fastpool.view import View

    return View(view, given)


def _line_up(
    view: Submitter,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    told: Callable[[Answer], None] | None,
    loop: asyncio.AbstractEventLoop,
) -> asyncio.Future[Any]:
    view = _as_of_now(view)
    deadline_ns = min(view._submit_deadline_ns(), view._until_ns())
    waiter = _Waiter(view, loop, partial(view._submit_unless_full, fn, *args, **kwargs), told)
    view._pool._line.join(waiter)
    task = loop.create_task(_result_of(waiter.admitted))
    timer = (
        None if deadline_ns == _FOREVER else loop.call_later(_core.seconds_until(deadline_ns) or 0, _give_up, waiter)
    )
    task.add_done_callback(partial(_left, waiter, timer))  # also when it is cancelled before its first step
    return task
