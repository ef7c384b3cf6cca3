"""Where no thread can be started a submit is refused, and nothing is queued; a pool with one goes on with it."""

from __future__ import annotations

import ctypes

from forking import raises
from support import WAIT, idle_metrics

import fastpool
from fastpool import PoolError, kernels

left = ctypes.c_int.in_dll(ctypes.CDLL(None), "threads_left")
ran: list[int] = []

left.value = 0
pool = fastpool.Pool(4)
for method in (pool.submit, pool.post):
    raises(PoolError, method, ran.append, 1)
for method in (pool.submit_many, pool.map):
    raises(PoolError, method, ran.append, [1, 2])
raises(PoolError, lambda: list(pool.map(ran.append, [1], buffersize=1)))
raises(PoolError, lambda: list(pool.imap_unordered(ran.append, [1])))
raises(PoolError, pool.submit, kernels.identity, 1.0)
raises(PoolError, pool.map_array, kernels.identity, [1.0])
raises(PoolError, pool.submit_array, kernels.identity, [1.0])
try:
    pool.submit(ran.append, 1)
except PoolError as error:
    assert "thread" in str(error), error
metrics = pool.metrics()
assert (metrics.jobs_submitted, metrics.queue_depth, metrics.workers) == (0, 0, 0), metrics
assert pool.wait_idle(WAIT)
unused = fastpool.Pool(1)
raises(PoolError, unused.submit, int)
assert unused.shutdown()

left.value = 1  # one can be had, no second
futures = pool.submit_many(str, range(100))
assert [future.result(WAIT) for future in futures] == [str(i) for i in range(100)]
assert pool.map_array(kernels.identity, [1.0, 2.0]).tolist() == [1.0, 2.0]
assert pool.metrics().workers == 1

timed = pool.options(timeout=600)
left.value = 0  # none for the deadlines
for call in (
    lambda: timed.submit(ran.append, 1),
    lambda: timed.post(ran.append, 1),
    lambda: timed.submit_many(ran.append, [1]),
    lambda: timed.submit(kernels.identity, 1.0),
    lambda: timed.submit_many(kernels.identity, [1.0]),
    lambda: timed.submit_array(kernels.identity, [1.0]),
    lambda: timed.map_array(kernels.identity, [1.0]),
):
    raises(PoolError, call)
assert list(timed.map(str, range(3))) == ["0", "1", "2"], "a map needs no timer"
assert pool.submit(int).result(WAIT) == 0
idle_metrics(pool)

left.value = -1
assert timed.submit(int).result(WAIT) == 0
barrier = __import__("threading").Barrier(4)
assert sorted(future.result(WAIT) for future in [pool.submit(barrier.wait, WAIT) for _ in range(4)]) == [0, 1, 2, 3]
assert ran == [], "a job that was refused ran"
idle_metrics(pool)
assert pool.shutdown()
print("ok")
