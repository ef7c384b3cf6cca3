"""``await pool.run(...)``: submitting from an event loop, which must not wait for room in a full queue.

Journey: [SUBMIT] -> ring -> worker -> callable -> completion -> future. While there is room this is `submit` and
`asyncio.wrap_future`. A submit that finds the queue full lines up here instead, and a thread, which there is as long as somebody
waits, sleeps until there is room and submits for the first in the line. So the line is served in its order, and one who
leaves it (its task was cancelled, its time was over) was never queued.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any

from fastpool import _core
from fastpool.errors import JobTimeout, SubmitTimeout

if TYPE_CHECKING:
    from fastpool._submitter import Submitter
    from fastpool.pool import Pool

_order = itertools.count()
_FOREVER = _core.deadline_from(None)


class _Waiter:
    """One submit that waits for room."""

    __slots__ = ("admitted", "call", "deadline_ns", "future", "in_line", "number", "view")

    def __init__(self, view: Submitter, call: Callable[[], Future[Any] | None], admitted: asyncio.Future[Any]) -> None:
        self.view = view
        self.call = call
        self.admitted = admitted  # of the event loop: the job's future, or why it was refused
        self.deadline_ns = min(view._submit_deadline_ns(), view._job_deadline_ns())
        self.number = next(_order)
        self.in_line = True
        self.future: Future[Any] | None = None

    def __lt__(self, other: _Waiter) -> bool:
        return (self.deadline_ns, self.number) < (other.deadline_ns, other.number)

    def refusal(self) -> SubmitTimeout | JobTimeout:
        """Why it waits no longer."""
        if _core.seconds_until(self.view._job_deadline_ns()) == 0:
            return JobTimeout("the job's deadline passed before there was room for it in the queue")
        return SubmitTimeout("the queue stayed full for all of submit_timeout")


class Line:
    """Of one pool: those who wait for room, and the thread that waits for them."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._lock = threading.Lock()
        self._waiters: deque[_Waiter] = deque()
        self._by_deadline: list[_Waiter] = []  # a heap of those that have one
        self._length = 0
        self._thread: threading.Thread | None = None

    def submit(self, view: Submitter, call: Callable[[], Future[Any] | None]) -> Future[Any] | None:
        """At once, if nobody is before; None: there is no room."""
        with self._lock:
            return call() if self._length == 0 else None

    def join(self, waiter: _Waiter) -> None:
        """Line up."""
        with self._lock:
            self._waiters.append(waiter)
            self._length += 1
            if waiter.deadline_ns != _FOREVER:
                heapq.heappush(self._by_deadline, waiter)
            if self._thread is None:
                name = f"{self._pool._thread_name_prefix}-room"
                self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
                self._thread.start()

    def leave(self, waiter: _Waiter) -> None:
        """The event loop's side has ended: out of the line; or, too late for that, the job is cancelled with it."""
        with self._lock:
            waited = self._take_out(waiter)
        if not waited and waiter.admitted.cancelled() and waiter.future is not None:
            waiter.future.cancel()

    def _take_out(self, waiter: _Waiter) -> bool:
        """True when it was in the line. It stays in the deque and the heap until they come to it."""
        waited, waiter.in_line = waiter.in_line, False
        self._length -= waited
        return waited

    def _serve(self) -> None:
        while (deadline_ns := self._admit()) is not None:
            self._pool._wait_for_room(deadline_ns)

    def _admit(self) -> int | None:
        """Submit for those in front, as long as there is room: when to look again; None: nobody is left."""
        with self._lock:
            self._refuse_late()
            while self._waiters:
                waiter = self._waiters[0]
                if waiter.in_line and not self._try(waiter):
                    break
                self._waiters.popleft()
            if self._length == 0:
                self._waiters.clear()
                self._by_deadline.clear()
                self._thread = None
                return None
            return self._by_deadline[0].deadline_ns if self._by_deadline else _FOREVER

    def _try(self, waiter: _Waiter) -> bool:
        """Submit for it. False: there was no room."""
        try:
            waiter.future = waiter.call()
        except BaseException as error:
            self._answer(waiter, error)
        if waiter.future is not None:
            self._answer(waiter, waiter.future)
        return not waiter.in_line

    def _refuse_late(self) -> None:
        heap = self._by_deadline
        while heap and (not heap[0].in_line or _core.seconds_until(heap[0].deadline_ns) == 0):
            waiter = heapq.heappop(heap)
            if waiter.in_line:
                waiter.view._count_rejected()
                self._answer(waiter, waiter.refusal())

    def _answer(self, waiter: _Waiter, answer: Future[Any] | BaseException) -> None:
        self._take_out(waiter)
        try:
            waiter.admitted.get_loop().call_soon_threadsafe(_settle, waiter.admitted, answer)
        except RuntimeError:  # the loop is closed: nobody will ask for the result
            if isinstance(answer, Future):
                answer.cancel()


def _settle(admitted: asyncio.Future[Any], answer: Future[Any] | BaseException) -> None:
    if admitted.done():  # cancelled meanwhile: see leave()
        return
    if isinstance(answer, Future):
        admitted.set_result(answer)
    else:
        admitted.set_exception(answer)


async def _result_of(admitted: asyncio.Future[Any]) -> Any:
    return await asyncio.wrap_future(await admitted)


def _as_of_now(view: Submitter) -> Submitter:
    """The same for a job that a thread will submit later: its time begins now, and its context is the caller's."""
    given: dict[str, Any] = {"timeout": None, "until_ns": view._job_deadline_ns()}
    if view._copies_context():
        given["context"] = contextvars.copy_context()
    from fastpool.view import View

    return View(view, given)


def run(view: Submitter, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> asyncio.Future[Any]:
    """Submit ``fn(*args, **kwargs)`` now, or as soon as there is room: an asyncio future of its result."""
    loop = asyncio.get_running_loop()
    line = view._pool._line
    future = line.submit(view, partial(view._submit_unless_full, fn, *args, **kwargs))
    if future is not None:
        return asyncio.wrap_future(future, loop=loop)
    view = _as_of_now(view)
    waiter = _Waiter(view, partial(view._submit_unless_full, fn, *args, **kwargs), loop.create_future())
    task = loop.create_task(_result_of(waiter.admitted))
    line.join(waiter)
    task.add_done_callback(lambda _: line.leave(waiter))  # also when it is cancelled before its first step
    return task
