"""In a forked child the parent's pool says so, in every method, and never hangs; the parent's goes on."""

from __future__ import annotations

import concurrent.futures
import ctypes
import gc

from forking import in_child, raises
from support import WAIT, Held

import fastpool
from fastpool import CancelledError, PoolError, kernels

pool = fastpool.Pool(1)
done = pool.submit(str, "done")
assert done.result(WAIT) == "done"
native = pool.submit(kernels.identity, 1.0)
assert native.result(WAIT) == 1.0
held = Held(pool)
pending = pool.submit(str, "pending")
pending_native = pool.submit(kernels.identity, 2.0)
pending_array = pool.submit_array(kernels.identity, [3.0])
many = pool.submit_many(kernels.identity, [4.0, 5.0])
watched = pool.submit_many(kernels.identity, [6.0])
watched[0].add_done_callback(lambda _: None)
counts = bytearray(8)
in_range = fastpool.kernel(
    ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)(lambda begin, end, data: 0)
)
results = pool.map(str, range(3))
buffered = pool.map(str, range(3), buffersize=2)
stream = pool.imap_unordered(str, range(3))


def child() -> None:
    global pool, results
    for method in (pool.submit, pool.post, pool.submit_many, pool.map):
        raises(PoolError, method, str, [1])
    raises(PoolError, lambda: list(pool.map(str, [1], buffersize=1)))
    raises(PoolError, lambda: list(pool.imap_unordered(str, [1])))
    raises(PoolError, pool.submit, kernels.identity, 1.0)
    raises(PoolError, pool.map_array, kernels.identity, [1.0])
    raises(PoolError, pool.submit_array, kernels.identity, [1.0])
    raises(PoolError, pool.submit_many, kernels.identity, [1.0])
    raises(PoolError, pool.parallel_for, in_range, 5, counts)
    raises(PoolError, pool.parallel_for, in_range, 0)
    counts.append(1)
    raises(PoolError, pool.metrics)
    raises(PoolError, pool.wait_idle)
    raises(PoolError, pool.shutdown)
    raises(PoolError, pool.shutdown, wait=False)
    assert "max_workers=1" in repr(pool)
    for future in (pending, pending_native, pending_array, *many, watched[0], held.futures[0]):
        raises(PoolError, future.result)
        raises(PoolError, future.exception, 5)
    assert done.result() == "done"
    assert native.result() == 1.0
    raises(PoolError, next, buffered)
    raises(PoolError, next, stream)
    raises(PoolError, next, results)
    raises(PoolError, concurrent.futures.wait, many)
    many[0].add_done_callback(lambda _: None)
    assert many[1].cancel()
    raises(CancelledError, many[1].result)
    pending.cancel()
    pool = results = None  # type: ignore[assignment]
    gc.collect()
    with fastpool.Pool(2) as own:
        assert list(own.map(str, range(100))) == [str(i) for i in range(100)]
    left_open = fastpool.Pool(2)
    assert left_open.submit(str, "child").result(WAIT) == "child"
    left_open.post(print, "the child's last job", flush=True)


in_child(child)
in_child(lambda: None)
held.release()
assert pending.result(WAIT) == "pending"
assert pending_native.result(WAIT) == 2.0
assert [future.result(WAIT) for future in many + watched] == [4.0, 5.0, 6.0]
assert list(results) == list(buffered) == ["0", "1", "2"]
assert sorted(stream) == ["0", "1", "2"]
assert pool.shutdown()
print("ok")
