"""What is queued when the main program ends, in whatever way, runs before the process does."""

from __future__ import annotations

import atexit
import sys
import threading

from support import reached

import fastpool

ending = threading.Event()
pool = fastpool.Pool(1)
pool.post(reached, ending)
pool.submit(print, "first").add_done_callback(lambda future: print("callback", future.result()))
pool.submit_many(print, range(3))
results = pool.map(print, "ab")
atexit.register(ending.set)
print("main ends")
if sys.argv[1:] == ["exit"]:
    sys.exit(3)
if sys.argv[1:] == ["raise"]:
    raise SystemExit("with a message")
