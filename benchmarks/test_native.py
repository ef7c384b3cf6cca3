"""Native jobs: options as arrays, one by one, and the price of a smaller grain."""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from fastpool.bench.black_scholes import ARRAY_CDF_ERROR, make_options, price, price_arrays
from fastpool.bench.peers import Peers, submit_at_once, submit_each
from fastpool.kernels import black_scholes_call, polynomial

OPTIONS = make_options(200_000)
FEW = [column.tolist() for column in OPTIONS.first(2_000).columns()]
TOLERANCE = 1e-9 + 200 * ARRAY_CDF_ERROR


@pytest.fixture(scope="module")
def prices() -> np.ndarray:
    out = np.empty(len(OPTIONS.spot))
    price_arrays(*OPTIONS.columns(), out)
    return out


@pytest.mark.benchmark(group="options as arrays")
@pytest.mark.parametrize("pool", ["pool", "single"])
def test_map_array(benchmark: BenchmarkFixture, peers: Peers, prices: np.ndarray, pool: str) -> None:
    out = np.full_like(prices, np.nan)
    run = getattr(peers, pool).map_array
    benchmark(run, black_scholes_call, *OPTIONS.columns(), out=out)
    np.testing.assert_allclose(out, prices, rtol=0, atol=TOLERANCE)


@pytest.mark.benchmark(group="options as arrays")
def test_numpy(benchmark: BenchmarkFixture, prices: np.ndarray) -> None:
    out = np.full_like(prices, np.nan)
    benchmark(price_arrays, *OPTIONS.columns(), out)
    np.testing.assert_array_equal(out, prices)


@pytest.mark.benchmark(group="options one by one")
@pytest.mark.parametrize("way", [submit_each, submit_at_once])
def test_submit_kernel(benchmark: BenchmarkFixture, peers: Peers, prices: np.ndarray, way: object) -> None:
    assert callable(way)
    result = benchmark(way, peers.pool, black_scholes_call, *FEW)
    np.testing.assert_allclose(result, prices[: len(result)], rtol=0, atol=TOLERANCE)


@pytest.mark.benchmark(group="options one by one")
@pytest.mark.parametrize("pool", ["pool", "threads"])
def test_submit_python(benchmark: BenchmarkFixture, peers: Peers, prices: np.ndarray, pool: str) -> None:
    result = benchmark(submit_each, getattr(peers, pool), price, *FEW)
    np.testing.assert_allclose(result, prices[: len(result)], rtol=0, atol=TOLERANCE)


@pytest.mark.benchmark(group="a cheap kernel on one worker")
@pytest.mark.parametrize("grain", [None, 1, 1_000, 200_000])
def test_grain(benchmark: BenchmarkFixture, peers: Peers, grain: int | None) -> None:
    x = np.linspace(-1.0, 1.0, 200_000)
    out = np.full_like(x, np.nan)
    benchmark(peers.single.map_array, polynomial, x, out=out, grain=grain)
    assert out[0] == peers.single.submit(polynomial, -1.0).result()
    assert not np.isnan(out).any()
