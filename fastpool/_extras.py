"""What only few futures need: the condition, waiters and callbacks of the standard class, made when asked for."""

from __future__ import annotations

import logging
import threading
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
