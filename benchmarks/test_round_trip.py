"""One empty Python job, submitted and waited for."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from fastpool.bench.jobs import echo
from fastpool.bench.peers import Peers

pytestmark = pytest.mark.benchmark(group="round trip of an empty Python job")


@pytest.mark.parametrize("pool", ["pool", "threads"])
def test_round_trip(benchmark: BenchmarkFixture, peers: Peers, pool: str) -> None:
    submit = getattr(peers, pool).submit
    assert benchmark(lambda: submit(echo, 7).result()) == 7


def test_round_trip_of_apply(benchmark: BenchmarkFixture, peers: Peers) -> None:
    assert benchmark(peers.mp_threads.apply, echo, (7,)) == 7
