"""One progress bar for the library and its subcommands: rich's when it is installed, else one plain line.

It is drawn on stderr, and only when stderr is a terminal: logs and pipes stay clean.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from typing import Any, Protocol

LOOK_SECONDS = 0.1


class Bar(Protocol):
    """What a long loop tells its progress to."""

    def label(self, text: str) -> None:
        """Say what is being worked on."""

    def advance(self, steps: int) -> None:
        """Count `steps` more of the total as done."""


class _Silent:
    def label(self, text: str) -> None:
        pass

    def advance(self, steps: int) -> None:
        pass


class _Plain:
    """A line that is written over itself, once per percent at most."""

    def __init__(self, total: int) -> None:
        self._total = max(total, 1)
        self._done = 0
        self._text = ""
        self._drawn = ""

    def label(self, text: str) -> None:
        self._text = text
        self._draw()

    def advance(self, steps: int) -> None:
        self._done += steps
        self._draw()

    def _draw(self) -> None:
        line = f"{100 * self._done // self._total:3d} % {self._text}"[:79]
        if line != self._drawn:
            # Padded to the last line's length, so that nothing of it shows through.
            sys.stderr.write("\r" + line.ljust(len(self._drawn)))
            sys.stderr.flush()
            self._drawn = line

    def erase(self) -> None:
        sys.stderr.write("\r" + " " * len(self._drawn) + "\r")
        sys.stderr.flush()


@contextmanager
def _rich_bar(total: int) -> Iterator[Bar]:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    class RichBar:
        def __init__(self, progress: Progress, task: TaskID) -> None:
            self._progress = progress
            self._task = task

        def label(self, text: str) -> None:
            self._progress.update(self._task, description=text, refresh=True)

        def advance(self, steps: int) -> None:
            self._progress.update(self._task, advance=steps, refresh=True)

    console = Console(stderr=True)
    # Without rich's own refresh thread: it wakes ten times a second to draw, and would take
    # the GIL in the middle of what is being timed.
    with Progress(console=console, transient=True, auto_refresh=False) as progress:
        yield RichBar(progress, progress.add_task("", total=total))


@contextmanager
def progress_bar(total: int, shown: bool = True) -> Iterator[Bar]:
    """Show progress on stderr while the block runs, and nothing of it afterwards.

    Parameters
    ----------
    total : int
        How many steps make the whole.
    shown : bool, optional
        False: the bar is silent.

    Yields
    ------
    Bar
        Silent when stderr is not a terminal.
    """
    if not shown or sys.stderr is None or not sys.stderr.isatty():
        yield _Silent()
    elif importlib.util.find_spec("rich"):
        with _rich_bar(total) as bar:
            yield bar
    else:
        plain = _Plain(total)
        try:
            yield plain
        finally:
            plain.erase()


def watch(future: Future[Any], done: Callable[[], int], total: int, text: str) -> None:
    """Show how many steps of `total` are `done()` until `future` has ended, in whatever way."""
    with progress_bar(total) as bar:
        bar.label(text)
        drawn = 0
        while not _has_ended(future, LOOK_SECONDS):
            steps = done()
            bar.advance(steps - drawn)
            drawn = steps
        bar.advance(total - drawn)


def _has_ended(future: Future[Any], timeout: float) -> bool:
    """Whether it has, or does in `timeout` seconds."""
    try:
        future.exception(timeout)
    except TimeoutError:
        return future.done()
    except CancelledError:
        pass
    return True
