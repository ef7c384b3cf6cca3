"""What goes wrong in a pool, by name."""

from __future__ import annotations

import queue
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures.thread import BrokenThreadPool
from typing import Any

__all__ = [
    "BrokenThreadPool",
    "CancelledError",
    "JobTimeout",
    "NativeJobError",
    "PoolError",
    "PoolOverloaded",
    "PoolShutdown",
    "SubmitTimeout",
]


class PoolError(RuntimeError):
    """Something is wrong with the pool, not with a job."""


class PoolOverloaded(PoolError, queue.Full):
    """The queue is full; the job was not queued.

    Attributes
    ----------
    futures : sequence of Future
        Of `submit_many`: the jobs that had been accepted before, those not yet started now cancelled. Else empty.
    """

    futures: Sequence[Future[Any]] = ()


class SubmitTimeout(PoolOverloaded, TimeoutError):
    """The queue stayed full for all of `submit_timeout`; the job was not queued."""


class PoolShutdown(PoolError):
    """The pool takes no more jobs: it was shut down."""


class JobTimeout(PoolError, TimeoutError):
    """The job's deadline passed before it ended."""


class NativeJobError(PoolError):
    """A kernel returned something other than 0.

    Parameters
    ----------
    status : int
        What it returned.
    index : int, optional
        The element or the start of the range; None for a single job.
    """

    def __init__(self, status: int, index: int | None = None):
        super().__init__(status, index)
        self.status = status
        self.index = index

    def __str__(self) -> str:
        where = "" if self.index is None else f" at index {self.index}"
        return f"the kernel returned status {self.status}{where}"
