"""A failed allocation, whichever: the call raises MemoryError and has queued nothing, or its jobs end; the pool goes on."""

from __future__ import annotations

import _testcapi  # type: ignore[import-not-found]
import sys
from typing import Any

from support import WAIT, Held, ended

import fastpool
from fastpool import kernels

REFUSED = object()
ROUNDS = 120  # no call here makes more allocations than that


def job(number: int, *args: Any, **kwargs: Any) -> int:
    ran.append(number)
    return number


def expect_results(number: int, futures: list[Any]) -> None:
    for future in futures:
        assert future.result(WAIT) == number


def expect(have: Any, want: Any) -> None:
    assert have == want, (have, want)


# Each way: the call, which may fail, and what is to hold of its result once the queue has been released.


def submit(number: int) -> Any:
    return pool.submit(job, number, "second", key="word")


def check_submit(number: int, future: Any) -> None:
    expect(future.result(WAIT), number)


def submit_with_all(number: int) -> Any:
    return view.submit(job, number, "second", key="word")


check_submit_with_all = check_submit


def submit_kernel(number: int) -> Any:
    return pool.submit(kernels.identity, number)


def check_submit_kernel(number: int, future: Any) -> None:
    expect(future.result(WAIT), number)


def submit_many(number: int) -> Any:
    return pool.submit_many(job, [number] * 4)


def check_submit_many(number: int, futures: Any) -> None:
    expect([future.result(WAIT) for future in futures], [number] * 4)


def post(number: int) -> Any:
    return pool.post(job, number, "second", key="word")


def check_post(number: int, nothing: Any) -> None:
    assert nothing is None


def submit_many_kernel(number: int) -> Any:
    return pool.submit_many(kernels.identity, [float(number)] * 4)


def check_submit_many_kernel(number: int, futures: Any) -> None:
    expect([future.result(WAIT) for future in futures], [float(number)] * 4)


def mapped(number: int) -> Any:
    return pool.map(job, [number] * 4)


def check_mapped(number: int, results: Any) -> None:
    expect(list(results), [number] * 4)


def array(number: int) -> Any:
    return pool.submit_array(kernels.identity, [float(number)] * 4)


def check_array(number: int, future: Any) -> None:
    expect(future.result(WAIT).tolist(), [float(number)] * 4)


RUNS = {
    "submit": 1,
    "submit_with_all": 1,
    "submit_many": 4,
    "post": 1,
    "mapped": 4,
}  # how often `job` runs for a call that was accepted

way = sys.argv[1]
call, check = globals()[way], globals()[f"check_{way}"]
pool = fastpool.Pool(1)
view = pool.options(timeout=600, context=True)
ran: list[int] = []
check(-1, call(-1))  # whatever is imported or cached on first use
assert pool.wait_idle(WAIT)
kept = []
for width in (1, 10**6):  # one allocation fails, or all from there on
    kept += pool.submit_many(
        int, ["1"] * 2000
    )  # futures that were let go of are used again, without memory: take them all
    assert pool.wait_idle(WAIT)
    ran.clear()
    results: list[Any] = [REFUSED] * ROUNDS
    refused = 0
    with Held(pool):
        for number in range(ROUNDS):
            _testcapi.set_nomemory(number, number + width)
            try:
                results[number] = call(number)
            except MemoryError:
                refused += 1
            finally:
                _testcapi.remove_mem_hooks()
    accepted = {number: result for number, result in enumerate(results) if result is not REFUSED}
    for number, result in accepted.items():
        check(number, result)
    assert pool.wait_idle(WAIT)
    assert refused > 0, "no allocation failed"
    assert len(accepted) >= 5, "no call was beyond the failing allocation"
    if way in RUNS:
        for number in range(ROUNDS):
            want = RUNS[way] if number in accepted else 0
            assert ran.count(number) == want, f"allocation {number}: {ran.count(number)} runs instead of {want}"
    metrics = pool.metrics()
    assert metrics.jobs_submitted == ended(metrics), metrics
    assert metrics.jobs_failed == 0, metrics
assert pool.submit(str, "goes on").result(WAIT) == "goes on"
assert pool.shutdown()
print("ok")
