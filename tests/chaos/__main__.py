"""``python -m chaos --seconds 600``: rounds until the time is over, or one goes wrong."""

from __future__ import annotations

import argparse
import itertools
import logging
import secrets
import sys
import sysconfig
import time

import native

from chaos import process
from chaos.rounds import Round
from chaos.watch import Watchdog

WARM_UP = 0.25  # share of the time after which memory is measured for the first time
GROWTH = 48 << 20  # bytes that may be added from then on


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--seed", default=None, help="default: another one each time")
    parser.add_argument("--first", type=int, default=0, help="the number of the first round")
    parser.add_argument("--rounds", type=int, default=None, help="at most so many")
    parser.add_argument("--workers", default="1,2,3,16", help="numbers of workers to choose from")
    parser.add_argument("--no-fork", dest="fork", action="store_false")
    parser.add_argument("--verbose", action="store_true", help="a line for each round")
    return parser.parse_args()


class Memory:
    """Does not grow for ever."""

    def __init__(self, end: float, seconds: float) -> None:
        self._from = end - (1 - WARM_UP) * seconds
        self._first: int | None = None

    def complaint(self) -> str | None:
        now = process.resident_bytes()
        if self._first is None and time.monotonic() >= self._from:
            self._first = now
        if self._first is not None and now - self._first > GROWTH:
            return f"memory grows: {self._first >> 20} MiB after the warm-up, {now >> 20} MiB now"
        return None


def main() -> int:
    options = parse()
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        options.fork = False  # there (3.13) a fork leaves the interpreter's own locks as they are in the child
    seed = options.seed or secrets.token_hex(4)
    workers = tuple(int(number) for number in options.workers.split(","))
    # Failures are what this is about, and each would be logged.
    for name in ("fastpool", "concurrent.futures", "asyncio"):
        logging.getLogger(name).addHandler(logging.NullHandler())
        logging.getLogger(name).propagate = False
    native.library()
    watchdog = Watchdog()
    end = time.monotonic() + options.seconds
    memory = Memory(end, options.seconds)
    numbers = itertools.count(options.first)
    if options.rounds is not None:
        numbers = iter(range(options.first, options.first + options.rounds))  # type: ignore[assignment]
    print(f"seed {seed}", flush=True)
    played = 0
    for number in numbers:
        if time.monotonic() >= end:
            break
        one = Round(f"{seed}/{number}", workers, options.fork)
        if options.verbose:
            print(f"{one.seed} {one.settings}", flush=True)
        if not one.run(watchdog):
            print(f"--seed {seed} --first {number}\n{one.describe()}", file=sys.stderr, flush=True)
            return 1
        if (text := memory.complaint()) is not None:
            print(f"--seed {seed}, before round {number}: {text}", file=sys.stderr, flush=True)
            return 1
        played += 1
    print(f"{played} rounds, {process.resident_bytes() >> 20} MiB", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
