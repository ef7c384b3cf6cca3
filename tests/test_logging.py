"""What a pool says in logging.getLogger("fastpool"), with its figures as fields; and that a log that fails hurts nobody."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from support import WAIT, Held, idle_metrics, until
from test_scaling import bring_up

import fastpool
from fastpool import BrokenThreadPool, kernels

MakePool = Callable[..., fastpool.Pool]


class Records(logging.Handler):
    """Keeps what is said of the pools named "log"; other tests' pools may be ending meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "pool", None) == "log":
            self.records.append(record)

    def of(self, event: str) -> list[logging.LogRecord]:
        return [record for record in self.records if getattr(record, "event", None) == event]


@pytest.fixture
def log() -> Iterator[Records]:
    logger, handler = logging.getLogger("fastpool"), Records()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


def raises(error: BaseException | type[BaseException]) -> None:
    raise error


def assert_fields(record: Any, event: str, level: int, worker_id: int = 0) -> None:
    assert record.name == "fastpool"
    assert (record.pool, record.event, record.worker_id, record.levelno) == ("log", event, worker_id, level)


# --- workers ---


def test_a_pool_says_that_it_starts_scales_and_stops(make_pool: MakePool, log: Records) -> None:
    pool = make_pool(3, "log", min_workers=1, idle_timeout=0.0)
    bring_up(pool, 3)
    until(lambda: len(log.of("scaled down")) == 2)
    assert pool.shutdown(timeout=WAIT)
    said = [record.getMessage() for record in log.records]
    assert sorted(said[:3], key=lambda text: text[-1]) == [
        "started, workers=1",
        "scaled up, workers=2",
        "scaled up, workers=3",
    ]
    assert sorted(said[3:5]) == ["scaled down, workers=1", "scaled down, workers=2"]
    assert said[5:] == ["stopped, workers=0"]
    for record in log.records:
        assert_fields(record, record.getMessage().split(",")[0], logging.INFO, record.worker_id)  # type: ignore[attr-defined]
        assert record.getMessage().endswith(f"workers={record.workers}")  # type: ignore[attr-defined]
    assert {record.worker_id for record in log.records[:3]} == {0, 1, 2}  # type: ignore[attr-defined]


def test_resize_is_seen_in_the_log(make_pool: MakePool, log: Records) -> None:
    pool = make_pool(2, "log")
    bring_up(pool, 2)
    pool.resize(max_workers=4)
    until(lambda: len(log.of("scaled up")) == 3)
    pool.resize(max_workers=1)
    until(lambda: len(log.of("scaled down")) == 3)
    assert {record.workers for record in log.of("scaled down")} == {1, 2, 3}  # type: ignore[attr-defined]


def test_a_pool_that_stops_says_so_once(make_pool: MakePool, log: Records) -> None:
    for round in range(1, 20):
        pool = make_pool(4, "log")
        with Held(pool, 4):
            pool.resize(max_workers=1 + round % 3)  # so some of the workers are too many when they end
            pool.shutdown(wait=False)
        assert pool.shutdown(timeout=WAIT)
        assert len(log.of("stopped")) == round
    assert {record.workers for record in log.of("stopped")} == {0}  # type: ignore[attr-defined]


def test_normal_life_says_nothing_that_anybody_is_woken_for(make_pool: MakePool, log: Records) -> None:
    pool = make_pool(4, "log", min_workers=1, queue_size=10, idle_timeout=0.0)
    with Held(pool):
        for on_full in ("raise", "discard_oldest", "caller_runs"):
            futures = []
            with contextlib.suppress(fastpool.PoolOverloaded):
                futures = [pool.options(on_full=on_full).submit(int) for _ in range(50)]
            assert on_full == "raise" or futures
        pool.pause()
        pool.resume()
        pool.resize(max_workers=3)
    pool.submit(raises, ValueError("its future carries it")).exception(WAIT)
    list(pool.map(int, "123"))
    pool.map_array(kernels.identity, np.ones(100))
    late = pool.options(timeout=0.0).submit(int)
    assert isinstance(late.exception(WAIT), fastpool.JobTimeout)
    pool.submit(kernels.fail).exception(WAIT)
    with pytest.raises(ExceptionGroup), pool.group() as group:
        group.submit(raises, ValueError())
    idle_metrics(pool)
    pool.submit_many(int, ["1"] * 5)
    pool.shutdown(cancel_futures=True)
    assert [record.getMessage() for record in log.records if record.levelno >= logging.WARNING] == []
    assert log.of("started")


# --- failures ---


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3), KeyboardInterrupt(), MemoryError()])
def test_a_posted_failure_is_an_error_with_its_traceback(
    make_pool: MakePool, log: Records, error: BaseException
) -> None:
    pool = make_pool(1, "log")
    pool.post(raises, error)
    idle_metrics(pool)
    (record,) = [record for record in log.records if record.levelno > logging.INFO]
    assert_fields(record, "job failed", logging.ERROR)
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert record.exc_info[2] is not None
    assert "raises" in record.getMessage()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, MemoryError, GeneratorExit])
@pytest.mark.parametrize("way", ["submit", "submit_many", "map"])
def test_what_would_have_ended_a_thread_elsewhere_is_a_warning(
    make_pool: MakePool, log: Records, error: type[BaseException], way: str
) -> None:
    pool = make_pool(1, "log")
    if way == "submit":
        assert isinstance(pool.submit(raises, error).exception(WAIT), error)
    elif way == "submit_many":
        assert isinstance(pool.submit_many(raises, [error])[0].exception(WAIT), error)
    else:
        with pytest.raises(error):
            list(pool.map(raises, [error]))
    idle_metrics(pool)
    (record,) = [record for record in log.records if record.levelno > logging.INFO]
    assert_fields(record, "job panicked", logging.WARNING)
    assert error.__name__ in record.getMessage()


def test_a_broken_initializer_is_critical(make_pool: MakePool, log: Records) -> None:
    pool = make_pool(1, "log", raises, (ValueError("no database"),))
    assert isinstance(pool.submit(int).exception(WAIT), BrokenThreadPool)
    assert pool.shutdown(timeout=WAIT)
    (record,) = [record for record in log.records if record.levelno > logging.INFO]
    assert_fields(record, "initializer failed", logging.CRITICAL)
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "no database"


def test_an_on_error_that_fails_is_an_error_too(make_pool: MakePool, log: Records) -> None:
    pool = make_pool(1, "log", on_error=lambda failure: 1 / 0)
    pool.post(raises, ValueError())
    idle_metrics(pool)
    failed, itself = [record for record in log.records if record.levelno > logging.INFO]
    assert_fields(failed, "job failed", logging.ERROR)
    assert_fields(itself, "on_error failed", logging.ERROR)
    assert itself.exc_info is not None
    assert itself.exc_info[0] is ZeroDivisionError


# --- a log that fails ---


class Failing(logging.Handler):
    def __init__(self, error: type[BaseException]) -> None:
        super().__init__()
        self.error = error
        self.calls = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.calls += 1
        raise self.error("the log is down")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_handlers_that_raise_hurt_nobody(
    make_pool: MakePool, error: type[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    logger, handler = logging.getLogger("fastpool"), Failing(error)
    level, told = logger.level, []
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        pool = make_pool(3, "log", min_workers=1, idle_timeout=0.0, on_error=told.append)
        bring_up(pool, 3)
        until(lambda: pool.metrics().workers == 1)
        pool.post(raises, ValueError())
        assert isinstance(pool.submit(raises, SystemExit).exception(WAIT), SystemExit)
        assert pool.submit(int).result(WAIT) == 0
        idle_metrics(pool)
        assert len(told) == 1, "on_error is told all the same"
        assert pool.shutdown(timeout=WAIT)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = True
    assert handler.calls >= 7
    assert "the log is down" in capsys.readouterr().err


def test_a_handler_may_use_the_pool_that_it_hears_of(make_pool: MakePool) -> None:
    logger, level = logging.getLogger("fastpool"), logging.getLogger("fastpool").level
    futures: list[Any] = []

    class Uses(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if getattr(record, "pool", None) == "log":
                pool.metrics()
                if record.getMessage().startswith(("scaled up", "a posted job failed")):
                    futures.append(pool.submit(int))

    handler = Uses()
    pool = make_pool(2, "log")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        bring_up(pool, 2)
        pool.post(raises, ValueError())
        until(lambda: len(futures) == 2)
        assert [future.result(WAIT) for future in futures] == [0, 0]
        assert pool.shutdown(timeout=WAIT)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def test_nothing_is_formatted_that_nobody_wants(make_pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    logger = logging.getLogger("fastpool")
    make = logger.makeRecord
    monkeypatch.setattr(logger, "makeRecord", lambda *args, **kwargs: made.append(args[3]) or make(*args, **kwargs))
    logger.setLevel(logging.WARNING)
    try:
        pool = make_pool(2, "log")
        bring_up(pool, 2)
        pool.shutdown()
        assert made == []
    finally:
        logger.setLevel(logging.NOTSET)
