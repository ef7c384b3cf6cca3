"""sys.exit in a job ends the job, os._exit the process."""

from __future__ import annotations

import logging
import os
import sys

import fastpool

logging.getLogger("fastpool").addHandler(logging.NullHandler())
pool = fastpool.Pool(1)
error = pool.submit(sys.exit, 3).exception()
assert isinstance(error, SystemExit), error
assert error.code == 3
pool.post(sys.exit, 4)
assert pool.submit(int).result() == 0
assert pool.metrics().panics == 2
print("ok", flush=True)
if sys.argv[1:] == ["hard"]:
    pool.submit(os._exit, 5).result()
