"""Bad input: a clear error that names the argument, and nothing half-queued."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from support import WAIT, Held, idle_metrics

import fastpool
from fastpool import _core, kernels

MakePool = Callable[..., fastpool.Pool]

MOST_WORKERS = _core.build_info()["max_workers"]
MOST_QUEUED = _core.build_info()["queue_size_max"]
HUGE = 10**400  # beyond any float

NO_INTEGERS = ["2", b"2", 2.0, math.nan, math.inf, 2j, [2], object()]
NO_NUMBERS = ["1", b"1", 1j, [1.0], object(), threading]
NO_TIMES = [-1, -0.001, -math.inf, math.nan, -HUGE, np.float64("nan")]


def names(values: list[Any]) -> list[str]:
    return [f"{type(value).__name__} {value!r}"[:24].split(" at 0x")[0] for value in values]


class Fails:
    """Fails in its own way when taken for a number."""

    def __float__(self) -> float:
        raise ZeroDivisionError

    def __index__(self) -> int:
        raise ZeroDivisionError


def refused(error: type[Exception], says: str, call: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    """The call raises `error`, and its message has the argument's name `says` as a word."""
    with pytest.raises(error, match=rf"\b{says}\b"):
        call(*arguments, **options)


# --- making a pool ---

COUNTS = {"max_workers": MOST_WORKERS, "min_workers": 8, "queue_size": MOST_QUEUED}


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("beyond", [False, True])
def test_a_count_out_of_bounds_is_refused(name: str, beyond: bool) -> None:
    for value in [COUNTS[name] + 1, 2**31, 2**64, HUGE] if beyond else [0, -1, -(2**31), -HUGE]:
        refused(ValueError, name, fastpool.Pool, **{"max_workers": 8} | {name: value})


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", NO_INTEGERS, ids=names(NO_INTEGERS))
def test_a_count_that_is_no_integer_is_refused(name: str, value: Any) -> None:
    refused(TypeError, name, fastpool.Pool, **{name: value})


@pytest.mark.parametrize("name", COUNTS)
def test_a_count_may_be_any_integer_in_bounds(name: str) -> None:
    for value in (1, np.int64(8), True):
        with fastpool.Pool(**{"max_workers": 8} | {name: value}) as pool:
            assert pool.submit(int).result(WAIT) == 0


def test_counts_at_their_bounds_are_taken() -> None:
    with fastpool.Pool(MOST_WORKERS, min_workers=MOST_WORKERS, queue_size=1) as pool:
        assert pool.submit(int).result(WAIT) == 0


@pytest.mark.parametrize("value", ["", "BLOCK", "drop", "discard_newest", None, 1, b"block", ["block"]])
def test_an_unknown_answer_to_a_full_queue_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"on_full must be one of 'block', 'raise', 'caller_runs', 'discard_oldest'"):
        fastpool.Pool(on_full=value)


@pytest.mark.parametrize("name", ["submit_timeout", "idle_timeout", "job_timeout"])
def test_a_pools_times_are_checked(name: str) -> None:
    for value in NO_TIMES:
        refused(ValueError, name, fastpool.Pool, **{name: value})
    for value in NO_NUMBERS:
        refused(TypeError, name, fastpool.Pool, **{name: value})


@pytest.mark.parametrize("name", ["submit_timeout", "idle_timeout"])
@pytest.mark.parametrize("value", [None, 0, 0.0, -0.0, 1e-300, 5, 1e300, HUGE, math.inf, np.float32(1), True])
def test_a_pools_times_may_be_any_number_from_zero_on(name: str, value: Any) -> None:
    with fastpool.Pool(1, **{name: value}) as pool:
        assert pool.submit(int).result(WAIT) == 0


@pytest.mark.parametrize("name", ["initializer", "on_error"])
@pytest.mark.parametrize("value", [5, "print", [print]])
def test_what_is_to_be_called_must_be_callable(name: str, value: Any) -> None:
    refused(TypeError, f"{name} must be callable", fastpool.Pool, **{name: value})


def test_the_rest_of_a_pools_arguments_is_checked() -> None:
    refused(TypeError, "thread_name_prefix", fastpool.Pool, thread_name_prefix=5)
    refused(TypeError, "thread_name_prefix", fastpool.Pool, thread_name_prefix=b"x")
    refused(TypeError, "initargs", fastpool.Pool, initializer=print, initargs=5)
    refused(TypeError, "no_such_option", fastpool.Pool, no_such_option=1)
    refused(TypeError, "positional", fastpool.Pool, 1, "", None, (), 1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_workers": 0}, "max_workers"),
        ({"max_workers": -1}, "max_workers"),
        ({"initializer": 5}, "initializer"),
        ({"queue_size": 5}, "queue_size"),
    ],
)
def test_the_drop_in_refuses_what_the_standard_class_refuses(options: dict[str, Any], says: str) -> None:
    with pytest.raises((ValueError, TypeError), match=rf"\b{says}\b"):
        fastpool.ThreadPoolExecutor(**options)


def test_numbers_that_fail_to_convert_raise_their_own_error() -> None:
    for name in ("max_workers", "min_workers", "queue_size", "submit_timeout", "idle_timeout"):
        with pytest.raises(ZeroDivisionError):
            fastpool.Pool(**{name: Fails()})


def test_a_refused_pool_starts_no_thread_and_keeps_no_name() -> None:
    before = threading.active_count()
    for _ in range(100):
        refused(ValueError, "queue_size", fastpool.Pool, 4, queue_size=0)
    assert threading.active_count() == before


def test_a_pool_that_was_never_initialised_says_so() -> None:
    pool = fastpool.Pool.__new__(fastpool.Pool)
    for method in (pool.submit, pool.post, pool.submit_many, pool.map):
        with pytest.raises(fastpool.PoolError, match="not initialised"):
            method(print, [1])
    for method in (pool.metrics, pool.wait_idle, pool.shutdown):
        with pytest.raises(fastpool.PoolError, match="not initialised"):
            method()
    with pytest.raises(fastpool.PoolError, match="not initialised"):
        pool.map_array(kernels.identity, [1.0])


def test_a_pool_is_initialised_once(single: fastpool.Pool) -> None:
    with pytest.raises(fastpool.PoolError, match="before"):
        single.__init__(2)  # type: ignore[misc]
    assert single.submit(int).result(WAIT) == 0


# --- what is to run ---

NO_FUNCTIONS = [None, 5, "print", [print], {}, object(), np.zeros(1)]


@pytest.mark.parametrize("fn", NO_FUNCTIONS, ids=lambda fn: type(fn).__name__)
@pytest.mark.parametrize("method", ["submit", "post", "submit_many", "map", "imap_unordered"])
def test_what_is_not_callable_is_no_job(single: fastpool.Pool, method: str, fn: Any) -> None:
    refused(TypeError, rf"fn must be callable, not ([\w.]+\.)?{type(fn).__name__}", getattr(single, method), fn, [1])
    assert single.metrics().jobs_submitted == 0


@pytest.mark.parametrize("method", ["submit", "post", "submit_many", "map", "imap_unordered"])
def test_a_call_without_a_function_is_refused(single: fastpool.Pool, method: str) -> None:
    refused(TypeError, "fn", getattr(single, method))
    assert single.metrics().jobs_submitted == 0


@pytest.mark.parametrize("method", ["submit", "post"])
def test_the_function_is_given_by_position(single: fastpool.Pool, method: str) -> None:
    refused(TypeError, "fn", getattr(single, method), fn=print)
    assert single.metrics().jobs_submitted == 0


def test_submit_many_needs_something_to_submit(single: fastpool.Pool) -> None:
    refused(TypeError, "iterables?", single.submit_many, print)


@pytest.mark.parametrize("method", ["submit_many", "map", "imap_unordered"])
def test_what_cannot_be_iterated_is_refused(single: fastpool.Pool, method: str) -> None:
    for iterables in [(5,), ([1], None), (print,)]:
        refused(TypeError, "not iterable|iteration|iterables?", getattr(single, method), print, *iterables)
    refused(TypeError, "not iterable|iteration", single.map, print, 5, buffersize=1)
    assert single.metrics().jobs_submitted == 0


def test_a_job_that_is_called_wrongly_fails_by_itself(single: fastpool.Pool) -> None:
    """Nobody can know before it is called."""
    with pytest.raises(TypeError, match="argument"):
        single.submit(lambda: None, 1).result(WAIT)
    assert idle_metrics(single).jobs_failed == 1


# --- the numbers of a map ---

SIZES = [("map", "chunksize"), ("map", "buffersize"), ("imap_unordered", "chunksize"), ("imap_unordered", "buffersize")]


@pytest.mark.parametrize(("method", "name"), SIZES)
def test_a_maps_sizes_are_checked_before_anything_is_read(single: fastpool.Pool, method: str, name: str) -> None:
    def read() -> Iterator[int]:
        raise AssertionError("it was read")
        yield

    call = getattr(single, method)
    for value in (0, -1, -HUGE, 2**40, HUGE):
        refused(ValueError, name, call, print, read(), **{name: value})
    for value in NO_INTEGERS:
        refused(TypeError, name, call, print, read(), **{name: value})
    with pytest.raises(ZeroDivisionError):
        call(print, read(), **{name: Fails()})
    assert single.metrics().jobs_submitted == 0


# --- times ---


def waits(pool: fastpool.Pool, future: fastpool.Future[Any]) -> list[Callable[..., Any]]:
    return [
        future.result,
        future.exception,
        pool.wait_idle,
        pool.shutdown,
        lambda timeout: pool.map(print, [], timeout=timeout),
        lambda timeout: pool.map(print, [], timeout=timeout, buffersize=1),
    ]


@pytest.mark.parametrize("state", ["queued", "done"])
def test_the_time_to_wait_is_checked(single: fastpool.Pool, state: str) -> None:
    with Held(single) as held:
        future = single.submit(int)
        if state == "done":
            held.release()
            future.result(WAIT)
        for wait in waits(single, future):
            for value in NO_TIMES:
                refused(ValueError, "timeout", wait, timeout=value)
            for value in NO_NUMBERS:
                refused(TypeError, "timeout", wait, timeout=value)
    assert future.result(WAIT) == 0
    assert single.submit(int).result(WAIT) == 0, "a refused shutdown shuts nothing down"


@pytest.mark.parametrize("timeout", [None, math.inf, 1e300, HUGE, np.float64(WAIT)], ids=str)
def test_a_time_without_end_is_for_ever(single: fastpool.Pool, timeout: Any) -> None:
    assert single.submit(int).result(timeout=timeout) == 0
    assert single.submit(int).exception(timeout) is None
    assert list(single.map(int, [1, 2], timeout=timeout)) == [1, 2]
    assert single.wait_idle(timeout)
    assert single.shutdown(timeout=timeout)


@pytest.mark.parametrize("timeout", [0, 0.0, -0.0, 1e-12, False])
def test_no_time_at_all_is_a_look(single: fastpool.Pool, timeout: float) -> None:
    with Held(single):
        future = single.submit(int)
        for wait in (future.result, future.exception):
            with pytest.raises(TimeoutError):
                wait(timeout)
        assert not single.wait_idle(timeout)
    assert future.result(WAIT) == future.result(timeout) == 0


@pytest.mark.parametrize("method", ["result", "exception"])
def test_result_and_exception_take_one_optional_timeout(single: fastpool.Pool, method: str) -> None:
    future = single.submit(int)
    assert future.result(WAIT) == 0
    call = getattr(future, method)
    for arguments, options in [
        ((1, 2), {}),
        ((1,), {"timeout": 1}),
        ((), {"seconds": 1}),
        ((), {"timeout": 1, "x": 1}),
    ]:
        refused(TypeError, "timeout", call, *arguments, **options)


def test_a_future_is_made_of_nothing() -> None:
    for arguments, options in [((1,), {}), ((), {"x": 1})]:
        with pytest.raises(TypeError):
            fastpool.Future(*arguments, **options)


def test_shutdown_takes_its_options_by_name(single: fastpool.Pool) -> None:
    refused(TypeError, "positional", single.shutdown, True, True)
    assert single.submit(int).result(WAIT) == 0


# --- after the end ---


@pytest.mark.parametrize("kind", [fastpool.Pool, fastpool.ThreadPoolExecutor])
@pytest.mark.parametrize("used", [False, True], ids=["unused", "used"])
def test_a_pool_that_was_shut_down_refuses_jobs(kind: type[fastpool.Pool], used: bool) -> None:
    pool = kind(1)
    if used:
        pool.submit(int).result(WAIT)
    assert pool.shutdown()
    for call in [
        lambda: pool.submit(int),
        lambda: pool.submit(kernels.identity, 1.0),
        lambda: pool.post(int),
        lambda: pool.submit_many(int, [1, 2]),
        lambda: pool.map(int, [1, 2]),
        lambda: pool.map(int, [1, 2], buffersize=1),
        lambda: list(pool.imap_unordered(int, [1, 2])),
        lambda: pool.map_array(kernels.identity, [1.0]),
        lambda: pool.submit_array(kernels.identity, [1.0]),
    ]:
        with pytest.raises(fastpool.PoolShutdown, match="after shutdown"):
            call()
    assert pool.shutdown(wait=False)
    assert pool.wait_idle(0)
    metrics = pool.metrics()
    assert metrics.jobs_submitted == metrics.jobs_processed == int(used)


def test_a_refusal_lets_go_of_what_was_to_be_submitted(make_pool: MakePool) -> None:
    pool = make_pool(1)
    pool.shutdown()

    class Argument:
        alive = 0

        def __init__(self) -> None:
            Argument.alive += 1

        def __del__(self) -> None:
            Argument.alive -= 1

    for _ in range(10):
        for method in (pool.submit, pool.post, pool.submit_many, pool.map):
            with pytest.raises(fastpool.PoolShutdown):
                method(print, [Argument()])
    assert Argument.alive == 0
