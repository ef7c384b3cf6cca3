"""The Python jobs: an empty one, and one that computes for as long as it is told.

They live in a module of their own, by name, so that a process pool can import them.
"""

from __future__ import annotations

from time import perf_counter_ns

_CALIBRATION_ITERATIONS = 4_000
# Long enough for a processor that was idle to reach the clock rate it will measure at.
_CALIBRATION_NS = 200_000_000


def echo(value: int) -> int:
    """Do nothing, and return the argument: an empty job whose result can still be checked."""
    return value


def one() -> int:
    """Do nothing, and return 1: an empty job without even an argument."""
    return 1


def spin(iterations: int) -> int:
    """Compute in pure Python.

    Parameters
    ----------
    iterations : int
        Rounds of integer arithmetic; `calibrate` says how long one takes.

    Returns
    -------
    int
        A number that depends on each round.
    """
    state = 1
    for _ in range(iterations):
        # Small odd constants: the state stays in 16 bits, so each round costs the same.
        state = (state * 75 + 74) & 0xFFFF
    return state


def _spin_ns(iterations: int) -> int:
    begin = perf_counter_ns()
    spin(iterations)
    return perf_counter_ns() - begin


def calibrate() -> float:
    """Measure how fast `spin` spins here; takes a fifth of a second.

    Returns
    -------
    float
        Iterations in a microsecond, at their fastest.
    """
    end = perf_counter_ns() + _CALIBRATION_NS
    best = _spin_ns(_CALIBRATION_ITERATIONS)
    while perf_counter_ns() < end:
        best = min(best, _spin_ns(_CALIBRATION_ITERATIONS))
    return 1000 * _CALIBRATION_ITERATIONS / max(best, 1)
