"""A process ends whatever its pools have been through: nothing, a job, a pause of use, a shutdown, a full queue."""

from __future__ import annotations

import fastpool
from fastpool import kernels

unused = fastpool.Pool(3)
used = fastpool.Pool(3)
assert used.submit(int).result() == 0
ended = fastpool.Pool(2)
ended.submit(int)
ended.shutdown()
ending = fastpool.ThreadPoolExecutor(2)
ending.submit(int)
ending.shutdown(wait=False)
native = fastpool.Pool(2)
native.submit(kernels.identity, 1.0)
native.submit_array(kernels.identity, [1.0] * 100_000)
half_read = used.map(str, range(1000))
assert next(half_read) == "0"
stream = used.imap_unordered(str, range(1000))
next(stream)
cycle = [used]
cycle.append(cycle)
print("ok")
