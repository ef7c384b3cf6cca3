"""What a process has that a pool must give back: threads, file descriptors, memory. Counted on Linux; elsewhere some of it."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

PATIENCE = 10.0  # seconds that a thread may take to leave, or an object to go, on a busy machine
SELF = Path("/proc/self")
STAYS = ("fastpool-timer",)  # one for the process, from the first deadline on


def thread_names() -> list[str]:
    """Of the operating system's threads, but for those that stay."""
    if not SELF.exists():
        return [thread.name for thread in threading.enumerate()]
    names = []
    for task in (SELF / "task").iterdir():
        try:
            names.append((task / "comm").read_text().strip())
        except OSError:  # it has just left
            continue
    return sorted(name for name in names if name not in STAYS)


def workers() -> list[str]:
    """What Python knows of as a pool's thread; before the operating system has joined it."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("fastpool-")]


def open_files() -> list[str]:
    if not SELF.exists():
        return []
    files = []
    for name in os.listdir(SELF / "fd"):
        try:
            files.append(os.readlink(SELF / "fd" / name))
        except OSError:  # that of the listing itself
            continue
    return sorted(files)


def resident_bytes() -> int:
    if not SELF.exists():
        return 0
    return int((SELF / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Baseline:
    """What there was before a round."""

    def __init__(self) -> None:
        self._threads = len(thread_names())
        self._files = open_files()

    def complaints(self) -> list[str]:
        found = []
        if not comes_true(lambda: len(thread_names()) <= self._threads):
            found.append(f"threads are left: {thread_names()}, where there were {self._threads}")
        if open_files() != self._files:
            found.append(f"files are open: {open_files()}, where there were {self._files}")
        return found


def comes_true(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


def is_gone(reference: weakref.ref[Any]) -> bool:
    def gone() -> bool:
        gc.collect()
        return reference() is None

    return reference() is None or comes_true(gone)


def holders(reference: weakref.ref[Any], depth: int = 12) -> str:
    """Who holds it, and who holds that, as far as the collector knows: one way of several."""
    names, seen = [], [reference()]
    for _ in range(depth):
        frame = sys._getframe()
        found = [
            one
            for one in gc.get_referrers(seen[-1])
            if one is not frame and one is not seen and not any(one is old for old in seen)
        ]
        if not found:
            break
        seen.append(found[0])
        names.append(f"{type(found[0]).__name__} {str(found[0])[:80]}")
        del found
    return " <- ".join(names)
