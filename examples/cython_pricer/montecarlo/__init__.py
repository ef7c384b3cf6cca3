"""Prices European and Asian options by Monte Carlo, on a `fastpool.Pool`.

>>> import fastpool, montecarlo
>>> option = montecarlo.Option(spot=100, strike=105, years=1, rate=0.02, volatility=0.2)
>>> with fastpool.Pool() as pool:
...     estimate = montecarlo.price(pool, option, paths=100_000, seed=1)
>>> abs(estimate.price - montecarlo.black_scholes(option)) < 4 * estimate.standard_error
True
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

import fastpool
from montecarlo import _paths

__all__ = ["Estimate", "Option", "black_scholes", "price"]

# Paths to a job, two of them to each pair of random numbers: some hundred microseconds' work.
BLOCK = 4096


@dataclass(frozen=True)
class Option:
    """On an asset whose price is a geometric Brownian motion.

    Parameters
    ----------
    spot, strike : float
        The asset's price now, and the price to compare with.
    years : float
        Until the option is paid.
    rate, volatility : float
        A year.
    is_call : bool, optional
        Pays what the asset is above the strike; else, what it is below.
    dates : int, optional
        1: a European option. More: an Asian one, on the mean of the prices at so many dates, equally apart.
    """

    spot: float
    strike: float
    years: float
    rate: float
    volatility: float
    is_call: bool = True
    dates: int = 1

    def __post_init__(self) -> None:
        for name in ("spot", "strike", "years"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)!r}")
        if not self.volatility >= 0:
            raise ValueError(f"volatility must not be negative, got {self.volatility!r}")
        if self.dates < 1:
            raise ValueError(f"dates must be at least 1, got {self.dates!r}")


class Estimate(NamedTuple):
    """A mean over paths, and the standard error of it."""

    price: float
    standard_error: float


def price(pool: fastpool.Pool, option: Option, paths: int = 1_000_000, seed: int = 0, block: int = BLOCK) -> Estimate:
    """The option's price by `paths` random paths, in blocks of `block`, rounded up to even numbers; a native job a block.

    The same seed and block give the same price, to the last bit, on a pool of any size.

    Raises
    ------
    FloatingPointError
        If a block's payoffs are not finite.
    fastpool.PoolError, fastpool.CancelledError
        If the pool refused or dropped a job.
    """
    if paths < 2 or block < 2:
        raise ValueError(f"paths and block must be at least 2, got {paths!r} and {block!r}")
    pairs, pairs_a_block = (paths + 1) // 2, (block + 1) // 2
    sums = np.zeros((-(-pairs // pairs_a_block), 2))
    _paths.simulate(pool, option, pairs, pairs_a_block, seed, sums)
    total, squares = sums.sum(axis=0)
    mean = total / (2 * pairs)
    variance = max(0.0, squares / (2 * pairs) - mean**2)
    discount = math.exp(-option.rate * option.years)
    return Estimate(float(discount * mean), float(discount * math.sqrt(variance / (2 * pairs))))


def black_scholes(option: Option) -> float:
    """A European option's price in closed form (F. Black and M. Scholes, J. Polit. Econ. 81, 1973)."""
    if option.dates != 1:
        raise ValueError("there is no closed form for the mean of several dates")
    discounted = option.strike * math.exp(-option.rate * option.years)
    deviation = option.volatility * math.sqrt(option.years)
    if deviation == 0:
        call = max(0.0, option.spot - discounted)
    else:
        d1 = math.log(option.spot / discounted) / deviation + deviation / 2
        call = option.spot * _normal_cdf(d1) - discounted * _normal_cdf(d1 - deviation)
    return call if option.is_call else call - option.spot + discounted


def _normal_cdf(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2
