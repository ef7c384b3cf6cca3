"""Fixtures: pools whose end is checked, and a watchdog that turns a hang into tracebacks."""

from __future__ import annotations

import faulthandler
import os
import sys
import types
from collections.abc import Callable, Iterator
from typing import TextIO

import pytest
from hypothesis import settings
from support import WAIT

import fastpool

# Seconds after which a test counts as hung. All of a test's own waits end well before.
WATCHDOG = 150

# Examples are few, for one may start threads; no deadline, for a busy machine is no failure.
settings.register_profile("fastpool", deadline=None, max_examples=50)
settings.load_profile("fastpool")

_terminal: list[TextIO] = []


def pytest_configure(config: pytest.Config) -> None:
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is not None:
        with capture.global_and_fixture_disabled():
            _terminal.append(os.fdopen(os.dup(2), "w"))


def pytest_unconfigure() -> None:
    while _terminal:
        _terminal.pop().close()


@pytest.fixture(autouse=True)
def watchdog() -> Iterator[None]:
    """A thread that hangs in C holds the interpreter, so no timeout of Python's would fire."""
    if not _terminal:
        yield
        return
    faulthandler.dump_traceback_later(WATCHDOG, exit=True, file=_terminal[0])
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def fast_switching() -> Iterator[None]:
    """Threads change places as often as the interpreter can: more interleavings in less time."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def make_pool() -> Iterator[Callable[..., fastpool.Pool]]:
    """Pools as asked for; at the end of the test each must drain and end."""
    pools: list[fastpool.Pool] = []

    def make(*arguments: object, kind: type[fastpool.Pool] = fastpool.Pool, **options: object) -> fastpool.Pool:
        pool = kind(*arguments, **options)
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        assert pool.shutdown(timeout=WAIT), f"{pool} did not end: {pool.metrics()}"


@pytest.fixture(params=[1, 2, 16], ids=lambda workers: f"{workers}w")
def pool(request: pytest.FixtureRequest, make_pool: Callable[..., fastpool.Pool]) -> fastpool.Pool:
    """A pool of 1, 2 and 16 workers."""
    return make_pool(request.param)


@pytest.fixture
def single(make_pool: Callable[..., fastpool.Pool]) -> fastpool.Pool:
    """A pool of one worker."""
    return make_pool(1)


@pytest.fixture
def module() -> Iterator[types.ModuleType]:
    """A module made on the spot, importable under its name for as long as the test runs."""
    made = types.ModuleType("fastpool_test_module")
    sys.modules[made.__name__] = made
    yield made
    del sys.modules[made.__name__]
