"""Ctrl-C interrupts the example's nogil code where it waits, and comes out of it as KeyboardInterrupt."""

from __future__ import annotations

import os
import sys

from interrupting import interrupted
from support import WAIT, Held, idle_metrics

import fastpool

sys.path.insert(0, os.environ["FASTPOOL_TEST_PRICER"])
import montecarlo

pool = fastpool.Pool(1, queue_size=1)
option = montecarlo.Option(spot=100, strike=105, years=1, rate=0.02, volatility=0.2)
with Held(pool) as held:
    if sys.argv[1] == "room":
        future = pool.submit(str, "queued")
    interrupted(lambda: montecarlo.price(pool, option, paths=100))
    held.release()
    if sys.argv[1] == "room":
        assert future.result(WAIT) == "queued"
assert montecarlo.price(pool, option, paths=100).standard_error > 0
idle_metrics(pool)
assert pool.shutdown()
print("ok")
