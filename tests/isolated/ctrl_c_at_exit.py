"""Ctrl-C ends a process whose exit waits for a job that never ends."""

from __future__ import annotations

import atexit
import signal
import threading
from types import FrameType

from support import reached

import fastpool

started = threading.Event()
pool = fastpool.Pool(1)


def never_ends() -> None:
    started.set()
    threading.Event().wait()


def interrupt(number: int, frame: FrameType | None) -> None:
    if frame is None:  # no Python code runs: it is the wait at exit
        print("interrupted", flush=True)
        signal.setitimer(signal.ITIMER_REAL, 0)
        raise KeyboardInterrupt


signal.signal(signal.SIGALRM, interrupt)
pool.post(never_ends)
reached(started)
atexit.register(signal.setitimer, signal.ITIMER_REAL, 0.01, 0.01)
print("main ends", flush=True)
