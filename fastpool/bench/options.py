"""The sections whose jobs are native: options as arrays and one by one, and a cheap kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

import fastpool
from fastpool.bench.black_scholes import (
    ARRAY_CDF_ERROR,
    ARRAY_CDF_NAME,
    Doubles,
    Options,
    make_options,
    price,
    price_arrays,
    price_blocks,
)
from fastpool.bench.measure import Case, Figure, WrongResult, timed
from fastpool.bench.peers import (
    FASTPOOL,
    LOOP,
    THREADS,
    call_each,
    submit_at_once,
    submit_each,
)
from fastpool.bench.section import Context, Section, beyond
from fastpool.kernels import black_scholes_call, polynomial

# Options whose NumPy temporaries (64 KiB each) stay in a second-level cache.
_BLOCK = 8192
# The largest price of a sample is about 60: two ways to compute it that are both right to the
# last bits differ by less than this; where NumPy has only a rough erf, by that much more.
_ROUNDING = 1e-9
_PRICE_ERROR = _ROUNDING + 200 * ARRAY_CDF_ERROR


def _same(result: Any, expected: Any, tolerance: float) -> None:
    worst = float(np.max(np.abs(np.asarray(result) - expected)))
    # Written so that a NaN, which is unequal to everything, fails too.
    if not worst <= tolerance:
        raise WrongResult(f"off by {worst} where {tolerance} is allowed")


def _array_case(peer: str, run: Callable[[], object], out: Doubles, expected: Doubles) -> Case:
    """Time a call that fills `out`, which is spoilt first: an element left out shows as NaN."""
    return timed(
        peer,
        len(out),
        run,
        check=lambda _: _same(out, expected, _PRICE_ERROR),
        prepare=lambda: out.fill(np.nan),
    )


def _price_in_threads(context: Context, options: Options, out: Doubles, block: int) -> None:
    """Have ThreadPoolExecutor price the options in as many chunks as it has workers."""
    chunk = -(-len(out) // context.peers.workers)
    futures = []
    for begin in range(0, len(out), chunk):
        part = slice(begin, begin + chunk)
        columns = Options(*(column[part] for column in options.columns()))
        futures.append(context.peers.threads.submit(price_blocks, columns, out[part], min(block, chunk)))
    for future in futures:
        future.result()


def _numpy_note(figures: Sequence[Figure]) -> list[str]:
    return [f"all but {FASTPOOL} run NumPy, whose normal distribution is {ARRAY_CDF_NAME}"]


def as_arrays(context: Context) -> Section:
    """Price arrays of options, one job for each option where there are jobs."""
    peers, workers = context.peers, context.peers.workers
    options = make_options(context.scale.options)
    count = len(options.spot)
    columns = options.columns()
    out = np.empty(count)
    expected = np.empty(count)
    price_arrays(*columns, expected)

    def case(peer: str, run: Callable[[], object]) -> Case:
        return _array_case(peer, run, out, expected)

    def native(pool: fastpool.Pool) -> Callable[[], object]:
        return partial(pool.map_array, black_scholes_call, *columns, out=out)

    threads = f"{THREADS}, {workers} chunks"
    cases = [
        case(f"{FASTPOOL} map_array, {workers} workers", native(peers.pool)),
        case(f"{FASTPOOL} map_array, 1 worker", native(peers.single)),
        case(threads, partial(_price_in_threads, context, options, out, count)),
        case(f"{THREADS}, blocks", partial(_price_in_threads, context, options, out, _BLOCK)),
        case("NumPy, 1 thread", partial(price_arrays, *columns, out)),
        case("NumPy in blocks, 1 thread", partial(price_blocks, options, out, _BLOCK)),
    ]
    title = f"{count:,} Black-Scholes options as arrays"
    return Section(title, "ns", threads, cases, _numpy_note)


def one_by_one(context: Context) -> Section:
    """Submit options as one job each, fastpool's being native and the others' Python."""
    peers = context.peers
    options = make_options(context.scale.single_options)
    columns = [column.tolist() for column in options.columns()]
    expected = np.empty(len(options.spot))
    price_arrays(*options.columns(), expected)

    def check(prices: list[float]) -> None:
        _same(prices, expected, _PRICE_ERROR)

    def case(peer: str, run: Callable[[], list[float]]) -> Case:
        return timed(peer, len(expected), run, check)

    native = black_scholes_call
    cases = [
        case(f"{FASTPOOL} submit, kernel", partial(submit_each, peers.pool, native, *columns)),
        case(f"{FASTPOOL} submit_many", partial(submit_at_once, peers.pool, native, *columns)),
        case(f"{FASTPOOL} submit, Python", partial(submit_each, peers.pool, price, *columns)),
        case(f"{THREADS}, Python", partial(submit_each, peers.threads, price, *columns)),
        case(f"{LOOP}, Python", partial(call_each, price, *columns)),
    ]
    return Section("Black-Scholes options, a submit each", "ns", f"{THREADS}, Python", cases)


def grains(context: Context) -> Section:
    """Map a cheap kernel on one worker, by larger and smaller takes.

    A take of the whole array leaves the kernel's own loop in C and next to nothing else, so
    what the other cases take longer is what dispatching a job costs.
    """
    pool = context.peers.single
    count = context.scale.options
    x = np.linspace(-1.0, 1.0, count)
    out = np.empty(count)
    # Of the submitted job, not of an array: a path of its own to the same numbers.
    probe = slice(None, None, max(1, count // 1000))
    expected = np.array(submit_each(pool, polynomial, x[probe].tolist()))

    def case(peer: str, grain: int | None) -> Case:
        return timed(
            peer,
            count,
            partial(pool.map_array, polynomial, x, out=out, grain=grain),
            check=check,
            prepare=lambda: out.fill(np.nan),
        )

    def check(_: object) -> None:
        _same(out[probe], expected, _ROUNDING)
        if np.isnan(out).any():
            raise WrongResult("some elements were never computed")

    whole = "kernel's own loop"
    default, single = f"{FASTPOOL}, default grain", f"{FASTPOOL}, grain=1"
    cases = [case(whole, count), case(default, None), case(single, 1)]
    return Section(
        f"{count:,} polynomials as an array, 1 worker",
        "ns",
        whole,
        cases,
        beyond(whole, default, single),
    )
