"""Parent and child both run to the end of the program, with jobs queued in the parent: each drains what is its own."""

from __future__ import annotations

import atexit
import sys
import threading

from forking import exit_code, fork
from support import reached

import fastpool

ending = threading.Event()
pool = fastpool.Pool(1)
pool.post(reached, ending)
pool.post(print, "the parent's job")
pid = fork()
if pid == 0:
    fastpool.Pool(1).post(print, "the child's job")
    sys.exit(7)
assert exit_code(pid) == 7
atexit.register(ending.set)
