"""The functions of an element, as those peers take them that cannot call a C function: for numba, NumPy and numexpr."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fastpool.bench.black_scholes import (  # type: ignore[attr-defined]  # array_cdf is from one of two places
    ARRAY_CDF_ERROR,
    RATE,
    VOLATILITY,
    Doubles,
    array_cdf,
)

_SPOT, _STRIKE = 105.0, 100.0
_BLOCK = 4096  # doubles: in and out of it stay in a first-level or second-level cache


@dataclass(frozen=True)
class Element:
    """One function.

    Attributes
    ----------
    name : str
        The C function's, in work.c or csrc/fp_kernels.c.
    scalar : callable
        Of a float: what numba compiles.
    arrays : callable
        ``arrays(x, out)``, by NumPy.
    expression : str, optional
        Of `x`, for numexpr, where it has all the functions needed.
    inlined : str, optional
        What the functions with it inlined are called by: ``work_<inlined>_loop`` and ``peer_map_<inlined>``.
    low, high : float
        Between which `x` lies.
    numpy_error : float
        How far `arrays` may be off.
    """

    name: str
    scalar: Callable[[float], float]
    arrays: Callable[[Doubles, Doubles], None]
    expression: str | None
    inlined: str | None
    low: float
    high: float
    numpy_error: float = 0.0

    def sample(self, count: int) -> Doubles:
        return np.linspace(self.low, self.high, count)

    def in_blocks(self, x: Doubles, out: Doubles) -> None:
        """Do as `arrays`, a block at a time, so that each pass but the first finds its block in cache."""
        for begin in range(0, len(x), _BLOCK):
            part = slice(begin, begin + _BLOCK)
            self.arrays(x[part], out[part])


def _polynomial(x: float) -> float:
    return 1.0 + x * (1.0 / 2 + x * (-1.0 / 3 + x * (1.0 / 4 + x * (-1.0 / 5 + x * (1.0 / 6)))))


def _polynomial_arrays(x: Doubles, out: Doubles) -> None:
    np.multiply(x, 1.0 / 6, out=out)
    for coefficient in (-1.0 / 5, 1.0 / 4, -1.0 / 3, 1.0 / 2):
        out += coefficient
        out *= x
    out += 1.0


def _option(years: float) -> float:
    discounted = _STRIKE * math.exp(-RATE * years)
    deviation = VOLATILITY * math.sqrt(years)
    d1 = math.log(_SPOT / discounted) / deviation + 0.5 * deviation
    root_half = 0.7071067811865476
    upper = 0.5 * math.erfc(-d1 * root_half)
    lower = 0.5 * math.erfc(-(d1 - deviation) * root_half)
    return _SPOT * upper - discounted * lower


def _option_arrays(years: Doubles, out: Doubles) -> None:
    discounted = _STRIKE * np.exp(-RATE * years)
    deviation = VOLATILITY * np.sqrt(years)
    d1 = np.log(_SPOT / discounted) / deviation + 0.5 * deviation
    np.multiply(_SPOT, array_cdf(d1), out=out)
    out -= discounted * array_cdf(d1 - deviation)


def _affine(x: float) -> float:
    return 1.5 * x + 0.25


def _affine_arrays(x: Doubles, out: Doubles) -> None:
    np.multiply(x, 1.5, out=out)
    out += 0.25


_POLYNOMIAL = "1.0 + x * ({!r} + x * ({!r} + x * ({!r} + x * ({!r} + x * {!r}))))"

POLYNOMIAL = Element(
    "fp_kernel_polynomial",
    _polynomial,
    _polynomial_arrays,
    _POLYNOMIAL.format(1 / 2, -1 / 3, 1 / 4, -1 / 5, 1 / 6),
    "polynomial",
    -1.0,
    1.0,
)
OPTION = Element("work_option", _option, _option_arrays, None, None, 0.1, 2.0, 205 * ARRAY_CDF_ERROR)
AFFINE = Element("work_affine", _affine, _affine_arrays, "1.5 * x + 0.25", "affine", -1.0, 1.0)
