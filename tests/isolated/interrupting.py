"""For the scripts about Ctrl-C: it comes when the main thread waits, and not before."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from support import reached


def _main_waits() -> bool:
    """The main thread is inside `_wait_here`, and asleep."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None and frame.f_code is not _wait_here.__code__:
        frame = frame.f_back
    return frame is not None and Path(f"/proc/{os.getpid()}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def _interrupt(first: threading.Event | None) -> None:
    if first is not None:
        reached(first)
    while not _main_waits():
        pass
    os.kill(os.getpid(), signal.SIGINT)


def _wait_here(wait: Callable[[], object]) -> None:
    wait()


def interrupted(wait: Callable[[], object], first: threading.Event | None = None) -> None:
    """Call `wait` in the main thread, and press Ctrl-C when it waits, `first` having come. Fails if that does not end it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=_interrupt, args=[first])
    thread.start()
    try:
        _wait_here(wait)
    except KeyboardInterrupt:
        thread.join()
        return
    raise AssertionError("the wait came to its end")
