"""For the scripts that fork: a child's failure becomes its exit code, and its hang the parent's failure."""

from __future__ import annotations

import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable

from support import WAIT


def fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on: the process has more than one thread
        return os.fork()


def exit_code(pid: int) -> int:
    """Of a child that ends; fails if it does not."""
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(pid, 9)
    raise AssertionError("the child does not end")


def in_child(function: Callable[[], object]) -> None:
    """Run `function` in a forked child, which then ends as a program does, atexit callbacks and all."""
    pid = fork()
    if pid != 0:
        assert exit_code(pid) == 0
        return
    try:
        function()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    sys.exit(0)


def in_child_of_a_thread(function: Callable[[], object]) -> None:
    """The same from a thread that is not the main one, where sys.exit would end nothing but it."""
    pid = fork()
    if pid != 0:
        assert exit_code(pid) == 0
        return
    try:
        function()
        code = 0
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    sys.stdout.flush()
    os._exit(code)


def raises(error: type[BaseException], function: Callable[..., object], *args: object, **kwargs: object) -> None:
    try:
        result = function(*args, **kwargs)
    except error:
        return
    raise AssertionError(f"{function} did not raise {error.__name__}, but returned {result!r}")
