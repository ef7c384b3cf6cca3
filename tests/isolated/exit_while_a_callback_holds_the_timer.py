"""A done callback runs on the timer's thread and never returns: Ctrl-C ends the wait for it at exit."""

from __future__ import annotations

import atexit
import os
import signal
import threading
from types import FrameType

from support import Held, reached

import fastpool

inside = threading.Event()


def hold_up(_: object) -> None:
    inside.set()
    threading.Event().wait()


def interrupt(number: int, frame: FrameType | None) -> None:
    signal.setitimer(signal.ITIMER_REAL, 0)
    print("interrupted", flush=True)
    raise KeyboardInterrupt


def drain() -> None:
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        fastpool._core.drain_all()
    except KeyboardInterrupt:
        os._exit(0)  # the thread that is held up may not be met by the interpreter's end


signal.signal(signal.SIGALRM, interrupt)
atexit.unregister(fastpool._core.drain_all)
atexit.register(drain)
pool = fastpool.Pool(1)
with Held(pool):
    pool.options(timeout=0.01).submit(int).add_done_callback(hold_up)
    reached(inside)
print("main ends", flush=True)
