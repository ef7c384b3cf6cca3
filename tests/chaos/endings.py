"""The ways in which a pool ends. Each returns once all workers have ended, but for that of a pool which is dropped."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import fastpool

if TYPE_CHECKING:
    from chaos.actor import World


def _pool(world: World) -> fastpool.Pool:
    assert world.pool is not None
    return world.pool


def drains(world: World) -> None:
    pool = _pool(world)
    assert pool.shutdown() is True


def is_idle_first(world: World) -> None:
    pool = _pool(world)
    while not pool.wait_idle(0.05):
        pass
    assert pool.shutdown() is True


def cancels(world: World) -> None:
    pool = _pool(world)
    world.ledger.discards = True
    assert pool.shutdown(cancel_futures=True) is True


def runs_out_of_time(world: World) -> None:
    pool = _pool(world)
    world.ledger.discards = True
    pool.shutdown(timeout=0.003)
    assert pool.shutdown() is True


def does_not_wait(world: World) -> None:
    pool = _pool(world)
    pool.shutdown(wait=False)
    assert pool.shutdown() is True


def ends_twice(world: World) -> None:
    """From two threads at a time."""
    pool = _pool(world)
    ended: list[Any] = []
    threads = [threading.Thread(target=lambda: ended.append(pool.shutdown())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ended == [True, True]


def leaves_a_block(world: World) -> None:
    pool = _pool(world)
    with pool:
        pass


def leaves_an_asynchronous_block(world: World) -> None:
    pool = _pool(world)

    async def main() -> None:
        async with pool:
            pass

    asyncio.run(main())


def ends_by_a_job(world: World) -> None:
    pool = _pool(world)
    may_not_run = world.ledger.discards or world.ledger.breaks
    try:
        pool.options(on_full="block", submit_timeout=None, timeout=None).submit(pool.shutdown, wait=False)
        world.ledger.others.append((("processed", "cancelled", "failed") if may_not_run else ("processed",), 1, 1))
    except fastpool.BrokenThreadPool:
        assert world.ledger.breaks
    assert pool.shutdown() is True


def is_dropped(world: World) -> None:
    """Whoever has the last reference: what was accepted runs all the same."""
    world.pool = None


ENDINGS: dict[str, Callable[[World], None]] = {
    ending.__name__: ending
    for ending in (
        drains,
        is_idle_first,
        cancels,
        runs_out_of_time,
        does_not_wait,
        ends_twice,
        leaves_a_block,
        leaves_an_asynchronous_block,
        ends_by_a_job,
        is_dropped,
    )
}
