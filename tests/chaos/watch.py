"""Says what a round was at when something went wrong, or nothing goes on any more."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

LIMIT = 60.0  # seconds that a round may take; most take less than one
LAST = 60  # actions that are shown


class Watchdog:
    """A thread that ends the process when a round takes too long, and before that shows where every thread is."""

    def __init__(self, limit: float = LIMIT) -> None:
        self._limit = limit
        self._ends_at: float | None = None
        self._describe: Callable[[], str] = str
        threading.Thread(target=self._watch, name="chaos-watchdog", daemon=True).start()
        if hasattr(signal, "SIGUSR1"):
            faulthandler.register(signal.SIGUSR1, all_threads=True)

    def begin(self, describe: Callable[[], str]) -> None:
        self._describe = describe
        self._ends_at = time.monotonic() + self._limit
        # Where a thread keeps the interpreter to itself the watchdog's own thread does not run, but this one of C's does.
        faulthandler.dump_traceback_later(self._limit + 15, exit=True)

    def end(self) -> None:
        self._ends_at = None
        faulthandler.cancel_dump_traceback_later()

    def _watch(self) -> None:
        while True:
            time.sleep(0.5)
            ends_at = self._ends_at
            if ends_at is not None and time.monotonic() > ends_at:
                print(f"hung: {self._describe()}", file=sys.stderr, flush=True)
                faulthandler.dump_traceback(all_threads=True)
                wait = float(os.environ.get("CHAOS_HANG_SECONDS", "0"))  # for a debugger
                time.sleep(wait)
                os._exit(3)


def last_actions(log: list[tuple[float, str, str]]) -> str:
    if not log:
        return "no action yet"
    end = log[-1][0]
    return "\n".join(f"  {(at - end) * 1e3:9.2f} ms  {name}: {text}" for at, name, text in log[-LAST:])
