"""The pools that the benchmarks share, open for the whole session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fastpool.bench.peers import Peers
from fastpool.cli.machine import default_workers


@pytest.fixture(scope="session")
def peers() -> Iterator[Peers]:
    with Peers(default_workers()) as opened:
        yield opened
