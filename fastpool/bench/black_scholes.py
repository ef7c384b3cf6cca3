"""Black and Scholes's price of a European call, for one option in Python and for arrays in NumPy.

The rate and volatility are those that `fastpool.kernels.black_scholes_call` has by default.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

RATE = 0.05
VOLATILITY = 0.2

Doubles = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Options:
    """As many options as jobs, each array of shape (n,)."""

    spot: Doubles
    strike: Doubles
    years: Doubles

    def columns(self) -> tuple[Doubles, Doubles, Doubles]:
        """Return the three arrays, in the order that every pricing function takes them."""
        return self.spot, self.strike, self.years

    def first(self, count: int) -> Options:
        """Return the first `count` of them."""
        return Options(*(column[:count] for column in self.columns()))


def make_options(count: int) -> Options:
    """Draw options round the money.

    Parameters
    ----------
    count : int
        How many.

    Returns
    -------
    Options
        The same ones at each call.
    """
    random = np.random.default_rng(1973)
    return Options(
        random.uniform(80.0, 120.0, count),
        random.uniform(80.0, 120.0, count),
        random.uniform(0.1, 2.0, count),
    )


def price(spot: float, strike: float, years: float) -> float:
    """Price one option in Python.

    Parameters
    ----------
    spot, strike : float
        Prices, above 0.
    years : float
        To expiry, above 0.

    Returns
    -------
    float
        The call's price.
    """
    spread = VOLATILITY * math.sqrt(years)
    d1 = (math.log(spot / strike) + (RATE + 0.5 * VOLATILITY**2) * years) / spread
    d2 = d1 - spread
    return spot * _normal_cdf(d1) - strike * math.exp(-RATE * years) * _normal_cdf(d2)


def _normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x * math.sqrt(0.5))


def _rational_cdf(x: Doubles) -> Doubles:
    """Compute the normal distribution function by formula 7.1.26 of Abramowitz and Stegun.

    NumPy has no error function. This one is good to 1.5e-7: less work than the kernel's own,
    so where it stands in for it NumPy is flattered, not wronged.
    """
    z = np.abs(x) * math.sqrt(0.5)
    t = 1.0 / (1.0 + 0.3275911 * z)
    series = np.full_like(t, 1.061405429)
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series *= t
        series += coefficient
    half_tail = 0.5 * t * series * np.exp(-z * z)
    return np.where(x > 0.0, 1.0 - half_tail, half_tail)


try:
    from scipy.special import ndtr as array_cdf
except ModuleNotFoundError:
    array_cdf = _rational_cdf
    ARRAY_CDF_NAME = "a rational formula, good to 1.5e-7"
    ARRAY_CDF_ERROR = 1.5e-7
else:
    ARRAY_CDF_NAME = "SciPy's ndtr"
    ARRAY_CDF_ERROR = 1e-14


def price_arrays(spot: Doubles, strike: Doubles, years: Doubles, out: Doubles) -> None:
    """Price options with whole-array operations.

    Parameters
    ----------
    spot, strike, years : ndarray of float64, shape (n,)
        As for `price`.
    out : ndarray of float64, shape (n,)
        Where the prices go.
    """
    spread = VOLATILITY * np.sqrt(years)
    d1 = (np.log(spot / strike) + (RATE + 0.5 * VOLATILITY**2) * years) / spread
    np.multiply(spot, array_cdf(d1), out=out)
    out -= strike * np.exp(-RATE * years) * array_cdf(d1 - spread)


def price_blocks(options: Options, out: Doubles, block: int) -> None:
    """Price options by `price_arrays`, a block at a time, so that its temporaries stay in cache.

    Parameters
    ----------
    options : Options
        What to price.
    out : ndarray of float64, shape (n,)
        Where the prices go.
    block : int
        Options in a block.
    """
    for begin in range(0, len(out), block):
        part = slice(begin, begin + block)
        spot, strike, years = (column[part] for column in options.columns())
        price_arrays(spot, strike, years, out[part])
