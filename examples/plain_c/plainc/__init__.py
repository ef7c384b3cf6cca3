"""Two native programs on a `fastpool.Pool`: a range of jobs, and jobs that submit jobs.

>>> import fastpool, plainc
>>> with fastpool.Pool() as pool:
...     plainc.count_primes(pool, 1000), plainc.queens(pool, 8)
(168, 92)
"""

from __future__ import annotations

from plainc._plainc import count_primes, metrics, queens

__all__ = ["count_primes", "metrics", "queens"]
