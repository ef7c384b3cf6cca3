"""Ctrl-C while a group is being left, or in its block: it is cancelled, and waited for no longer."""

from __future__ import annotations

import asyncio
import sys

from interrupting import interrupted
from support import WAIT, Held

import fastpool

pool = fastpool.Pool(1)
ran: list[int] = []
futures: list[fastpool.Future[None]] = []


def of_leaving() -> None:
    with pool.group() as g:
        futures.extend(g.submit_many(ran.append, range(9)))


def of_leaving_an_inner() -> None:
    with pool.group() as outer:
        futures.append(outer.submit(ran.append, 1))
        with outer.group() as inner:
            futures.extend(inner.submit(ran.append, i) for i in range(9))


def of_the_body() -> None:
    with pool.group() as g:
        futures.extend(g.submit_many(ran.append, range(9)))
        futures[0].result()


def of_asyncio() -> None:
    async def main() -> None:
        async with pool.group() as g:
            futures.extend(g.submit_many(ran.append, range(9)))
            for i in range(9):
                g.run(ran.append, i)

    asyncio.run(main())


with Held(pool):
    interrupted(globals()[f"of_{sys.argv[1]}"])
    assert futures
    assert all(future.cancelled() for future in futures)
assert pool.wait_idle(WAIT), pool.metrics()
assert pool.submit(str, "goes on").result(WAIT) == "goes on"
assert pool.shutdown()
assert ran == [], ran
print("ok")
