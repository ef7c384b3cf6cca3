"""Kernels that come with the package: for the benchmark, the tests, the examples, and to try things with.

`black_scholes_call` : ``double (double spot, double strike, double years, void *params)``
    Price of a European call on a stock without dividends (F. Black, M. Scholes, J. Political Economy 81, 1973). `params`: two
    float64, the risk-free rate and the volatility, both a year; without data 0.05 and 0.2.
`normal_cdf` : ``double (double)``
    The standard normal distribution's cumulative function, by ``erfc``.
`polynomial` : ``double (double)``
    1 + x/2 - x²/3 + x³/4 - x⁴/5 + x⁵/6, by Horner's rule: some 2 ns of work.
`identity` : ``double (double)``
    Its argument: what dispatching costs by itself.
`fail` : ``int (void *)``
    Fails on purpose: returns 1, or the C int that its data holds.

Examples
--------
>>> import numpy as np, fastpool
>>> from fastpool import kernels
>>> with fastpool.Pool() as pool:
...     pool.submit(kernels.normal_cdf, 0.0).result()
...     pool.map_array(kernels.identity, [1.0, 2.0])
0.5
array([1., 2.])
>>> other_market = fastpool.kernel(kernels.black_scholes_call, data=np.array([0.01, 0.3]))
>>> round(other_market(100.0, 100.0, 1.0), 4)
12.3683
"""

from __future__ import annotations

from fastpool import _core

__all__ = ["black_scholes_call", "fail", "identity", "normal_cdf", "polynomial"]


def _sample(name: str) -> _core.Kernel:
    capsule = _core.sample_capsules()[name]
    signature = _core.capsule_signature(capsule) or ""
    origin = f"fastpool.kernels:{name}"
    return _core.make_kernel(capsule, signature, capsule, None, origin, origin)


black_scholes_call = _sample("black_scholes_call")
fail = _sample("fail")
identity = _sample("identity")
normal_cdf = _sample("normal_cdf")
polynomial = _sample("polynomial")
