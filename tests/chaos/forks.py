"""A child made by fork while everything goes on: the parent's pool refuses there, and a pool of its own works."""

from __future__ import annotations

import os
import signal
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import fastpool
from chaos.actor import Actor

LIMIT = 30.0  # seconds after which a child counts as hung


def fork(actor: Actor, pool: fastpool.Pool | None) -> None:
    pending = next(
        (job.future for job in reversed(actor.ledger.jobs) if job.future is not None and not job.future.done()), None
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on: the process has more than one thread
        pid = os.fork()
    if pid == 0:
        _child(pool, pending)
    code = _exit_code(pid)
    if code != 0:
        actor.ledger.complain(
            f"a forked child of {actor.name} " + (f"ended with {code}" if code is not None else "hung")
        )


def _child(pool: fastpool.Pool | None, pending: Any) -> None:
    code = 1
    try:
        if pool is not None:
            for method in (
                lambda: pool.submit(int),
                lambda: pool.post(int),
                pool.metrics,
                pool.wait_idle,
                pool.shutdown,
                pool.pause,
            ):
                _refuses(method)
        if pending is not None and not pending.done():
            _refuses(pending.result)
        with fastpool.Pool(2) as own:
            assert own.submit(pow, 2, 10).result() == 1024
            assert list(own.map(abs, range(-9, 0))) == list(range(9, 0, -1))
            assert own.options(timeout=60).submit(pow, 2, 3).result() == 8
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _refuses(method: Callable[[], object]) -> None:
    try:
        method()
    except fastpool.PoolError:
        return
    raise AssertionError(f"{method} did not raise PoolError in a forked child")


def _exit_code(pid: int) -> int | None:
    """None: it hung; before it is ended it says where (`watch` has it registered)."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(pid, signal.SIGUSR1)
    time.sleep(1.0)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None
