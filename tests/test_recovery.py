"""Whatever a job raises is its future's; the worker goes on."""

from __future__ import annotations

import contextlib
import functools
import gc
import io
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import WAIT, Held, idle_metrics, reached

import fastpool
from fastpool import kernels

MakePool = Callable[..., fastpool.Pool]


class OwnBase(BaseException):
    pass


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no str")

    __repr__ = __str__


class RefusesToBeMade(Exception):
    def __init__(self, *args: object) -> None:
        raise ZeroDivisionError("while the exception was being made")


class LoudlyDying(Exception):
    """Its end submits another job: destructors may."""

    def __init__(self, pool: fastpool.Pool, ran: threading.Event) -> None:
        self.pool, self.ran = pool, ran

    def __del__(self) -> None:
        self.pool.post(self.ran.set)


ERRORS = [
    ValueError("x"),
    StopIteration(1),
    StopAsyncIteration(),
    SystemExit(3),
    KeyboardInterrupt(),
    GeneratorExit(),
    MemoryError(),
    RecursionError(),
    OwnBase(),
    Unprintable(),
    BaseExceptionGroup("group", [SystemExit(), ValueError()]),
]
EACH_ERROR = pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
# What `except Exception` does not catch, or nobody expects.
PANICS = (SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError, OwnBase, BaseExceptionGroup)


def raises(error: BaseException) -> None:
    raise error


@EACH_ERROR
def test_a_future_carries_any_exception_and_the_worker_goes_on(single: fastpool.Pool, error: BaseException) -> None:
    worker = single.submit(threading.get_ident).result(WAIT)
    future = single.submit(raises, error)
    assert future.exception(WAIT) is error
    assert error.__traceback__ is not None
    with pytest.raises(type(error)) as caught:
        future.result()
    assert caught.value is error
    assert single.submit(threading.get_ident).result(WAIT) == worker
    metrics = idle_metrics(single)
    assert (metrics.jobs_failed, metrics.jobs_processed) == (1, 2)
    assert metrics.panics == isinstance(error, PANICS)


@EACH_ERROR
def test_submit_many_and_imap_carry_any_exception(single: fastpool.Pool, error: BaseException) -> None:
    assert [future.exception(WAIT) for future in single.submit_many(raises, [error])] == [error]
    if not isinstance(error, (StopIteration, StopAsyncIteration, GeneratorExit)):
        for start in (single.map, functools.partial(single.map, buffersize=1), single.imap_unordered):
            with pytest.raises(type(error)):
                next(start(raises, [error]))
    assert single.submit(int).result(WAIT) == 0


@EACH_ERROR
def test_a_posted_jobs_failure_is_logged_counted_and_handed_on(
    make_pool: MakePool, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[fastpool.JobError] = []
    pool = make_pool(1, "posts", on_error=seen.append)
    with caplog.at_level(logging.ERROR, "fastpool"):
        pool.post(raises, error)
        metrics = idle_metrics(pool)
    assert (metrics.jobs_failed, metrics.panics) == (1, 1)
    assert [(failure.exception, failure.fn, failure.worker_id) for failure in seen] == [(error, raises, 0)]
    (record,) = caplog.records
    assert record.name == "fastpool"
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None and record.exc_info[1] is error
    assert record.exc_info[2] is not None, "with the traceback"
    assert (record.worker_id, record.pool) == (0, "posts")  # type: ignore[attr-defined]
    assert "worker 0" in record.getMessage()
    assert "in raises" in (caplog.text if not isinstance(error, RecursionError) else "in raises")


def test_a_failure_that_a_future_carries_is_not_logged(make_pool: MakePool, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[fastpool.JobError] = []
    pool = make_pool(1, on_error=seen.append)
    future = pool.submit(raises, ValueError())
    idle_metrics(pool)
    assert isinstance(future.exception(WAIT), ValueError)
    assert (seen, caplog.records) == ([], [])


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_an_on_error_that_fails_is_logged_and_the_worker_goes_on(
    make_pool: MakePool, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def on_error(_: fastpool.JobError) -> None:
        raise error

    pool = make_pool(1, on_error=on_error)
    with caplog.at_level(logging.ERROR, "fastpool"):
        pool.post(raises, LookupError())
        assert pool.submit(int).result(WAIT) == 0
    kinds = [record.exc_info[0] for record in caplog.records if record.exc_info]
    assert kinds == [LookupError, error]
    assert idle_metrics(pool).jobs_failed == 1


def test_on_error_may_submit_to_the_pool(make_pool: MakePool) -> None:
    again = threading.Event()
    pool = make_pool(1, on_error=lambda _: pool.post(again.set))
    pool.post(raises, ValueError())
    reached(again)


class BadHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise ValueError("the log is down")


@contextlib.contextmanager
def logged_by(handler: logging.Handler) -> Iterator[None]:
    """By this handler alone: pytest's own would raise what others only print."""
    logger = logging.getLogger("fastpool")
    logger.addHandler(handler)
    logger.propagate = False
    yield
    logger.propagate = True
    logger.removeHandler(handler)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_log_that_fails_does_not_keep_a_failure_from_on_error(make_pool: MakePool) -> None:
    seen: list[fastpool.JobError] = []
    pool = make_pool(1, on_error=seen.append)
    with logged_by(BadHandler()):
        pool.post(raises, LookupError())
        assert pool.submit(int).result(WAIT) == 0
    assert len(seen) == 1


class Nameless:
    def __call__(self) -> None:
        raise LookupError

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def test_a_callable_without_repr_does_not_keep_a_failure_from_on_error(
    make_pool: MakePool, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[fastpool.JobError] = []
    pool = make_pool(1, on_error=seen.append)
    with logged_by(logging.StreamHandler(io.StringIO())):
        pool.post(Nameless())
        assert pool.submit(int).result(WAIT) == 0
    assert len(seen) == 1
    assert "no repr" in capsys.readouterr().err, "as logging reports any argument that it cannot format"


def test_an_exception_that_cannot_be_made_is_replaced_by_the_reason(single: fastpool.Pool) -> None:
    def job() -> None:
        raise RefusesToBeMade

    assert isinstance(single.submit(job).exception(WAIT), ZeroDivisionError)
    assert single.submit(int).result(WAIT) == 0


def test_an_exception_whose_end_submits_harms_nothing(make_pool: MakePool) -> None:
    pool = make_pool(1)
    ran = threading.Event()
    future = pool.submit(raises, LoudlyDying(pool, ran))
    assert isinstance(future.exception(WAIT), LoudlyDying)
    pool.submit(int).result(WAIT)
    del future
    gc.collect()
    reached(ran)


def test_arguments_whose_end_raises_or_submits_harm_nothing(make_pool: MakePool) -> None:
    pool = make_pool(1)
    ran = [threading.Event() for _ in range(3)]

    class Dying:
        def __init__(self, event: threading.Event) -> None:
            self.event = event

        def __del__(self) -> None:
            pool.submit(self.event.set)

    pool.submit(id, Dying(ran[0])).result(WAIT)
    reached(ran[0])
    pool.post(id, Dying(ran[1]))
    reached(ran[1])
    with Held(pool):
        assert pool.submit(id, Dying(ran[2])).cancel()
    reached(ran[2])
    idle_metrics(pool)


def test_runaway_recursion_in_a_job_is_its_own_error(single: fastpool.Pool) -> None:
    def job() -> None:
        job()

    assert isinstance(single.submit(job).exception(WAIT), RecursionError)
    assert single.submit(int).result(WAIT) == 0


def test_a_worker_survives_a_thousand_failures(single: fastpool.Pool) -> None:
    worker = single.submit(threading.get_ident).result(WAIT)
    futures = [single.submit(raises, ERRORS[i % len(ERRORS)]) for i in range(1000)]
    assert all(future.exception(WAIT) is ERRORS[i % len(ERRORS)] for i, future in enumerate(futures))
    assert single.submit(threading.get_ident).result(WAIT) == worker


def test_a_kernel_that_fails_raises_native_job_error(single: fastpool.Pool, caplog: pytest.LogCaptureFixture) -> None:
    error = single.submit(kernels.fail).exception(WAIT)
    assert isinstance(error, fastpool.NativeJobError)
    assert (error.status, error.index) == (1, None)
    seen = threading.Event()
    with fastpool.Pool(1, on_error=lambda failure: seen.set()) as pool:
        pool.post(kernels.fail)
        reached(seen)
    assert "NativeJobError" in caplog.text
    assert single.submit(kernels.identity, 2.0).result(WAIT) == 2.0
    assert idle_metrics(single).jobs_failed == 1


def test_an_exception_shared_by_jobs_keeps_its_identity(make_pool: Any) -> None:
    pool = make_pool(4)
    error = ValueError("shared")
    futures = [pool.submit(raises, error) for _ in range(200)]
    for future in futures:
        with pytest.raises(ValueError, match="shared") as caught:
            future.result(WAIT)
        assert caught.value is error


@pytest.mark.parametrize("on_error", ["cancel", "continue"])
@pytest.mark.parametrize(
    "submit",
    [
        lambda group: group.submit(raises, LookupError()),
        lambda group: group.submit_many(raises, [LookupError()]),
        lambda group: group.submit(kernels.fail),
        lambda group: [group.submit(int) for _ in range(100)] and group.submit(raises, LookupError()),
    ],
    ids=["submit", "submit_many", "kernel", "among many"],
)
def test_no_failure_in_a_group_is_lost_or_told_twice(
    make_pool: MakePool, fast_switching: None, submit: Callable[[Any], Any], on_error: str
) -> None:
    """The block may see that a job has ended a moment before the group is told of its failure."""
    pool = make_pool(4)
    for _ in range(300):
        with pytest.raises(ExceptionGroup) as caught, pool.group(on_error=on_error) as group:
            submit(group)
        assert len(caught.value.exceptions) == 1
