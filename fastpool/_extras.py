"""What only few futures need: the condition, waiters and callbacks of the standard class, made when asked for."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

_log = logging.getLogger("fastpool")


class Extras:
    """The attributes `_condition`, `_waiters` and `_done_callbacks` of one future."""

    __slots__ = ("callbacks", "condition", "waiters")

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self.waiters: list[Any] = []
        self.callbacks: list[Callable[[Any], object]] = []


class HelpingWaiters:
    """What a job that waits for `future`, a job of its own pool, gets as its list of waiters.

    `concurrent.futures.wait` and `as_completed` append a waiter, and then sleep on its event: that is exchanged for one on
    which the worker runs what it waits for, if nobody has begun to. Else all workers could sleep so.
    """

    __slots__ = ("_future", "_waiters")

    def __init__(self, future: Any, waiters: list[Any]) -> None:
        self._future = future
        self._waiters = waiters

    def append(self, waiter: Any) -> None:
        if not isinstance(waiter.event, HelpingEvent):
            waiter.event = HelpingEvent()
        waiter.event.futures.append(self._future)
        self._waiters.append(waiter)

    def remove(self, waiter: Any) -> None:
        self._waiters.remove(waiter)


class HelpingEvent(threading.Event):
    """An event whose waiter runs the jobs in `futures` as long as it is not set."""

    def __init__(self) -> None:
        super().__init__()
        self.futures: deque[Any] = deque()

    def wait(self, timeout: float | None = None) -> bool:
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while self.futures and not self.is_set() and time.monotonic() < deadline:
            self.futures.popleft()._help()
        return super().wait(None if timeout is None else max(0.0, deadline - time.monotonic()))


def announce(future: Any, extras: Extras) -> None:
    """Tell the standard library's waiters, then the callbacks, that `future` has ended. Called once, from C."""
    with extras.condition:
        # In one go under the condition: wait() counts the futures whose `_state` is final and the waiters it adds.
        future._announced()
        for waiter in extras.waiters:
            if future.cancelled():
                waiter.add_cancelled(future)
            elif future._exception is not None:
                waiter.add_exception(future)
            else:
                waiter.add_result(future)
        extras.condition.notify_all()
    for callback in extras.callbacks:
        try:
            callback(future)
        except BaseException:  # SystemExit too: it would end the worker, which is nobody's intention
            _log.exception("exception calling callback for %r", future)
