"""In a forked child not even the standard library's functions wait for a job of the parent's.

What the pool's own methods do there is in isolated/fork_*.py.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import concurrent.futures, os, signal, threading, warnings
import fastpool

warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on: fork in a process with threads
pool, gate = fastpool.Pool(1), threading.Event()
pool.submit(gate.wait)
queued, ended = pool.submit(int), fastpool.Future()
ended.set_result(7)
waits = [
    lambda: concurrent.futures.wait([queued]),
    lambda: concurrent.futures.wait([ended, queued]),
    lambda: list(concurrent.futures.as_completed([queued])),
]
for wait in waits:
    child = os.fork()
    if child == 0:
        signal.alarm(5)  # ends a child that hangs
        try:
            wait()
        except fastpool.PoolError:
            os._exit(0)
        os._exit(1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
child = os.fork()
if child == 0:
    signal.alarm(5)
    os._exit(0 if concurrent.futures.wait([ended]).done == {ended} else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
gate.set()
assert queued.result(10) == 0 and concurrent.futures.wait([queued], 10).done == {queued}
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_wait_and_as_completed_raise_pool_error_in_a_forked_child() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0"] * 4
