"""``python -m plainc``: both programs by one worker and by two, and what the pool counted."""

from __future__ import annotations

import time
from collections.abc import Callable

import fastpool
import plainc


def timed(function: Callable[[fastpool.Pool, int], int], pool: fastpool.Pool, n: int) -> str:
    begin = time.perf_counter()
    found = function(pool, n)
    return f"{found} in {(time.perf_counter() - begin) * 1e3:.1f} ms"


def main() -> None:
    for workers in (1, 2):
        with fastpool.Pool(workers) as pool:
            print(f"{workers} worker{'s' * (workers > 1)}:")
            print("    primes below 1,000,000:", timed(plainc.count_primes, pool, 1_000_000))
            print("    ways to place 12 queens:", timed(plainc.queens, pool, 12))
            pool.wait_idle()
            print("   ", plainc.metrics(pool))


main()
