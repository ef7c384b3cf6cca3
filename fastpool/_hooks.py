"""What the C workers call in Python: once when one starts and stops, and for failures that no future carries.

All that a pool has to say goes to ``logging.getLogger("fastpool")``, with its figures as fields of the record (`extra`).
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

log = logging.getLogger("fastpool")


@dataclass(frozen=True)
class JobError:
    """A failure that no future carries, as `on_error` gets it.

    Attributes
    ----------
    exception : BaseException
        With its traceback.
    fn : callable
        What was posted.
    worker_id : int
        The worker that ran it; -1 for a thread that is no worker.
    """

    exception: BaseException
    fn: Callable[..., Any]
    worker_id: int


class Hooks:
    """One pool's. Held by its workers, so it must not hold the pool."""

    def __init__(
        self,
        thread_name_prefix: str,
        initializer: Callable[..., Any] | None,
        initargs: tuple[Any, ...],
        on_error: Callable[[JobError], Any] | None,
    ):
        self.thread_name_prefix = thread_name_prefix
        self.initializer = initializer
        self.initargs = initargs
        self.on_error = on_error
        self._lock = threading.Lock()
        self._workers = 0
        self._started = False

    def worker_started(self, worker_id: int) -> bool:
        """Name the thread and run the initializer. False: it failed, and with it the pool."""
        name = f"{self.thread_name_prefix}_{worker_id}"
        threading.current_thread().name = name
        with self._lock:
            self._workers += 1
            workers, first, self._started = self._workers, not self._started, True
        self._say("started" if first else "scaled up", workers, worker_id)
        if self.initializer is None:
            return True
        try:
            self.initializer(*self.initargs)
        except BaseException:
            log.critical(
                "exception in initializer",
                exc_info=True,
                extra=self._fields(worker_id, "initializer failed"),
            )
            return False
        return True

    def worker_stopped(self, worker_id: int, unneeded: bool) -> None:
        """Forget the thread: before 3.13 `threading` keeps its stand-in for a foreign thread for ever."""
        with self._lock:
            self._workers -= 1
            workers = self._workers
        if unneeded:
            self._say("scaled down", workers, worker_id)
        elif workers == 0:
            self._say("stopped", workers, worker_id)
        if sys.version_info < (3, 13):
            threading._active.pop(threading.get_ident(), None)  # type: ignore[attr-defined]

    def job_failed(self, fn: Callable[..., Any], exception: BaseException, worker_id: int) -> None:
        """Log a posted job's failure and pass it on."""
        fields = self._fields(worker_id, "job failed")
        try:
            log.error("a posted job failed: %r on worker %d", fn, worker_id, exc_info=exception, extra=fields)
        finally:  # a log that fails is no reason to keep it from on_error
            self._tell(JobError(exception, fn, worker_id))

    def job_panicked(self, fn: Callable[..., Any], exception: BaseException, worker_id: int) -> None:
        """Log what would have ended a thread, or a process, elsewhere. The job's future has it, too."""
        fields = self._fields(worker_id, "job panicked")
        log.warning("a job raised %s: %r on worker %d", type(exception).__name__, fn, worker_id, extra=fields)

    def _fields(self, worker_id: int, event: str) -> dict[str, Any]:
        return {"pool": self.thread_name_prefix, "worker_id": worker_id, "event": event}

    def _say(self, event: str, workers: int, worker_id: int) -> None:
        """Not under the lock: a handler is anybody's code. One that fails ends no worker."""
        if not log.isEnabledFor(logging.INFO):
            return
        try:
            log.info("%s, workers=%d", event, workers, extra={**self._fields(worker_id, event), "workers": workers})
        except BaseException:  # SystemExit would pass for a failed initializer
            sys.excepthook(*sys.exc_info())

    def _tell(self, failure: JobError) -> None:
        if self.on_error is None:
            return
        try:
            self.on_error(failure)
        except BaseException:
            fields = self._fields(failure.worker_id, "on_error failed")
            log.exception("on_error itself failed for %r", failure.fn, extra=fields)

    def pulse(self) -> None:
        """Nothing: entering a Python function is where the interpreter lets waiting threads in."""
