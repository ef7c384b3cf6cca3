"""``map`` of an empty Python job over a range, all results fetched."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from fastpool.bench.jobs import echo
from fastpool.bench.peers import Peers

VALUES = range(10_000)

pytestmark = pytest.mark.benchmark(group=f"map over {len(VALUES)} values")


@pytest.mark.parametrize("pool", ["pool", "threads", "mp_threads"])
def test_map(benchmark: BenchmarkFixture, peers: Peers, pool: str) -> None:
    run = getattr(peers, pool).map
    assert benchmark(lambda: list(run(echo, VALUES))) == list(VALUES)


@pytest.mark.parametrize("chunksize", [100, 1000])
def test_map_in_chunks(benchmark: BenchmarkFixture, peers: Peers, chunksize: int) -> None:
    def run() -> list[int]:
        return list(peers.pool.map(echo, VALUES, chunksize=chunksize))

    assert benchmark(run) == list(VALUES)
