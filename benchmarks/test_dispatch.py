"""A batch of empty Python jobs: all submitted, then all results fetched."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from fastpool.bench.jobs import echo
from fastpool.bench.peers import Peers, apply_each, call_each, submit_at_once, submit_each

VALUES = list(range(10_000))

pytestmark = pytest.mark.benchmark(group=f"dispatch of {len(VALUES)} empty Python jobs")


@pytest.mark.parametrize("pool", ["pool", "drop_in", "threads"])
def test_submit(benchmark: BenchmarkFixture, peers: Peers, pool: str) -> None:
    assert benchmark(submit_each, getattr(peers, pool), echo, VALUES) == VALUES


def test_submit_many(benchmark: BenchmarkFixture, peers: Peers) -> None:
    assert benchmark(submit_at_once, peers.pool, echo, VALUES) == VALUES


def test_apply_async(benchmark: BenchmarkFixture, peers: Peers) -> None:
    assert benchmark(apply_each, peers.mp_threads, echo, VALUES) == VALUES


def test_plain_loop(benchmark: BenchmarkFixture) -> None:
    assert benchmark(call_each, echo, VALUES) == VALUES
