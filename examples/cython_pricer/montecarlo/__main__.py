"""``python -m montecarlo [paths]``: two options, with the closed form beside, by one worker and by two."""

from __future__ import annotations

import dataclasses
import sys
import time

import fastpool
import montecarlo

EUROPEAN = montecarlo.Option(spot=100, strike=105, years=1, rate=0.02, volatility=0.2)
ASIAN = dataclasses.replace(EUROPEAN, dates=12)


def timed(workers: int, option: montecarlo.Option, paths: int) -> tuple[montecarlo.Estimate, float]:
    """The estimate and the seconds it took, the workers having been started before."""
    with fastpool.Pool(workers) as pool:
        montecarlo.price(pool, option, paths=2 * montecarlo.BLOCK)
        begin = time.perf_counter()
        estimate = montecarlo.price(pool, option, paths)
        return estimate, time.perf_counter() - begin


def show(name: str, option: montecarlo.Option, paths: int, closed_form: str) -> None:
    estimate, alone = timed(1, option, paths)
    again, together = timed(2, option, paths)
    assert again == estimate
    print(f"{name}: {estimate.price:.4f} +- {estimate.standard_error:.4f}{closed_form}")
    print(f"    1 worker {alone * 1e3:.1f} ms, 2 workers {together * 1e3:.1f} ms, the same price to the last bit")


def main() -> None:
    paths = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    show("European call", EUROPEAN, paths, f", Black-Scholes {montecarlo.black_scholes(EUROPEAN):.4f}")
    show("Asian call", ASIAN, paths, "")


main()
