"""For the scripts about Ctrl-C: it comes when the main thread waits, and not before."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

from support import reached

_about_to_wait = threading.Event()


def _main_sleeps() -> bool:
    return Path(f"/proc/{os.getpid()}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def _interrupt(first: threading.Event | None) -> None:
    if first is not None:
        reached(first)
    reached(_about_to_wait)
    while not _main_sleeps():
        pass
    os.kill(os.getpid(), signal.SIGINT)


def interrupted(wait: Callable[[], object], first: threading.Event | None = None) -> None:
    """Call `wait` in the main thread, and press Ctrl-C when it waits, `first` having come. Fails if that does not end it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=_interrupt, args=[first])
    _about_to_wait.clear()
    thread.start()
    try:
        _about_to_wait.set()
        wait()
    except KeyboardInterrupt:
        thread.join()
        return
    raise AssertionError("the wait came to its end")
