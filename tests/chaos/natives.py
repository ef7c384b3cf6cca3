"""The ways in which kernels, and NumPy's own functions, are run."""

from __future__ import annotations

import functools
from typing import Any

import native
import numpy as np

import fastpool
from chaos.actor import Actor, Table, View
from chaos.ledger import CANCELLED, OUTCOMES, PROCESSED, Native

STATUS = 7
Array = np.ndarray[Any, Any]


@functools.cache
def _capsule(function: str, signature: str) -> Any:
    return native.capsule_of(native.address(function), signature)


def _numbers(actor: Actor, most: int = 300) -> Array:
    return np.arange(actor.rng.choice((0, 1, 10, most)), dtype=np.float64)


def _attempt(view: View, submit: Any) -> Any:
    """None where it was refused."""
    try:
        return submit()
    except BaseException as error:
        if not view.refused(error):
            raise
        return None


def submit_kernel(actor: Actor, pool: fastpool.Pool) -> None:
    view = actor.view(pool)
    x = actor.rng.random()
    future = _attempt(view, lambda: view.submitter.submit(actor.world.counted, x))
    if future is not None:
        _keep(actor, Native(future, x, view.timed, counts=True))


def submit_status(actor: Actor, pool: fastpool.Pool) -> None:
    view = actor.view(pool)
    status = actor.rng.choice((0, STATUS))
    kernel = fastpool.kernel(_capsule("status", "int (void *)"), data=np.array([status], np.intc))
    future = _attempt(view, lambda: view.submitter.submit(kernel))
    if future is not None:
        _keep(actor, Native(future, 0, view.timed, status))


def submit_many_kernel(actor: Actor, pool: fastpool.Pool) -> None:
    view = actor.view(pool)
    numbers = _numbers(actor)
    futures = _attempt(view, lambda: view.submitter.submit_many(actor.world.counted, numbers))
    for x, future in zip(numbers, futures or (), strict=False):
        _keep(actor, Native(future, x, view.timed, counts=True))


def _keep(actor: Actor, kept: Native) -> None:
    """And look at it, perhaps."""
    actor.ledger.natives.append(kept)
    action = actor.rng.random()
    if action < 0.1:
        kept.cancellable = True
        if kept.future.cancel() and not kept.future.cancelled():
            actor.ledger.complain(f"{kept} says that it was cancelled, and is not")
    elif action < 0.2:
        kept.future.add_done_callback(actor.ledger.new_callback())
    elif action < 0.3:
        _wait(actor, kept)


def _wait(actor: Actor, kept: Native) -> None:
    try:
        kept.future.exception()
    except fastpool.CancelledError:
        if not (kept.cancellable or actor.ledger.discards):
            raise


def submit_array(actor: Actor, pool: fastpool.Pool) -> None:
    view = actor.view(pool)
    numbers = _numbers(actor, 20_000)
    grain = actor.rng.choice((None, 1, 100))
    future = _attempt(view, lambda: view.submitter.submit_array(_shifted(), numbers, grain=grain))
    if future is None:
        return
    cancelled = actor.rng.random() < 0.3 and future.cancel()
    if actor.rng.random() < 0.3:
        future.add_done_callback(actor.ledger.new_callback())
    actor.ledger.arrays.append((future, 3 * numbers + 1, view.timed, cancelled))


def _shifted() -> fastpool.Kernel:
    return fastpool.kernel(_capsule("d1", "double (double)"))


def map_array(actor: Actor, pool: fastpool.Pool) -> None:
    view = actor.view(pool)
    numbers = _numbers(actor, 20_000)
    grain = actor.rng.choice((None, 1, 100))
    result = _blocking(view, len(numbers), lambda: view.submitter.map_array(_shifted(), numbers, grain=grain))
    if result is not None and not np.array_equal(result, 3 * numbers + 1):
        actor.ledger.complain("map_array has a wrong result")


def parallel_for(actor: Actor, pool: fastpool.Pool) -> None:
    view = actor.view(pool)
    n = actor.rng.choice((0, 1, 1000, 50_000))
    counts = np.zeros(n, np.int32)
    kernel = fastpool.kernel(_capsule("count_each", "int (int64_t, int64_t, void *)"), data=counts)
    grain = actor.rng.choice((None, max(1, n // 7)))
    ran = _blocking(view, n, lambda: view.submitter.parallel_for(kernel, n, grain=grain) or True)
    if (counts > 1).any() or (ran and (counts != 1).any()):
        actor.ledger.complain(f"parallel_for ran indices {np.unique(counts)} times")


def _blocking(view: View, n: int, run: Any) -> Any:
    """The result of a call that waits for n jobs; None where it was refused or stopped."""
    ledger = view.ledger
    try:
        result = run()
    except BaseException as error:
        if view.refused(error):
            ledger.others.append((OUTCOMES, 0, n if isinstance(error, fastpool.BrokenThreadPool) else 0))
            return None
        if not ledger.expects(error, [], view.timed):
            raise
        ledger.others.append((OUTCOMES, n, n))
        return None
    ledger.others.append(((PROCESSED,), n, n))
    return result


def map_ufunc(actor: Actor, pool: fastpool.Pool) -> None:
    view = actor.view(pool)
    numbers = _numbers(actor)
    ledger = actor.ledger
    # Its chunks are the pool's affair, and so is how many of those a call that is refused in between has queued.
    ledger.others.append((OUTCOMES, 0, len(numbers) + 1))
    ledger.unseen_refusals.append(actor.name)
    try:
        if actor.rng.random() < 0.5:
            result = view.submitter.map_array(np.hypot, numbers, numbers, grain=50)
        else:
            result = view.submitter.submit_array(np.hypot, numbers, numbers, grain=50).result()
    except BaseException as error:
        if not view.is_refusal(error) and not ledger.expects(error, [], view.timed):
            raise
    else:
        if not np.allclose(result, np.hypot(numbers, numbers), rtol=1e-12):
            ledger.complain("a ufunc has a wrong result")


def check_arrays(ledger: Any) -> None:
    """Of submit_array: what their futures say, and what that adds to the sums."""
    for future, expected, timed, cancelled in ledger.arrays:
        outcomes: tuple[str, ...] = (PROCESSED,)
        if not future.done():
            ledger.complain("the future of an array has not ended")
        elif future.cancelled():
            outcomes = (PROCESSED, CANCELLED)
            if not (cancelled or ledger.discards):
                ledger.complain("nobody cancelled an array, and its future says cancelled")
        elif cancelled:
            ledger.complain(f"cancelled an array, and its future says {future}")
        elif (error := future.exception()) is None:
            if not np.array_equal(future.result(), expected):
                ledger.complain("submit_array has a wrong result")
        elif ledger.expects(error, [], timed):
            outcomes = OUTCOMES
        else:
            ledger.complain(f"an array ended with {error!r}")
        ledger.others.append((outcomes if expected.size else OUTCOMES, len(expected), len(expected)))


TABLE: Table = [
    (submit_kernel, 3),
    (submit_status, 2),
    (submit_many_kernel, 1),
    (submit_array, 2),
    (map_array, 2),
    (parallel_for, 2),
    (map_ufunc, 1),
]
