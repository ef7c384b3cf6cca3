"""An event loop, whose tasks await jobs, give up waiting, and are cancelled."""

from __future__ import annotations

import asyncio
from typing import Any

import fastpool
from chaos.actor import Actor, View
from chaos.grouping import leaves_of
from chaos.ledger import Job


def run_loop(actor: Actor) -> None:
    """As many tasks as the round has actions, some at a time."""
    asyncio.run(_main(actor))


async def _main(actor: Actor) -> None:
    left = actor.world.settings.actions
    while left > 0:
        count = min(left, actor.rng.randint(1, 10))
        left -= count
        actors = [Actor(actor.world, f"{actor.name}.{left + i}", actor.seed) for i in range(count)]
        tasks = [asyncio.create_task(_act(one)) for one in actors]
        await asyncio.sleep(actor.rng.choice((0, 0, 0.001)))
        for task in tasks:
            if actor.rng.random() < 0.1:
                task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, BaseException) and not isinstance(ended, asyncio.CancelledError):
                raise ended


async def _act(actor: Actor) -> None:
    pool = actor.world.pool
    if pool is None:
        return
    action = actor.rng.choices((_await_one, _await_some, _await_group, _await_submitted), (4, 3, 2, 1))[0]
    actor.note(action.__name__)
    view = actor.view(pool)
    del pool
    await action(actor, view)


def _new_job(actor: Actor) -> Job:
    """One that raises nothing which asyncio lets out of the loop itself."""
    return actor.new_job(without=("leaves", "interrupts"))


def _expected(actor: Actor, view: View, error: BaseException, jobs: list[Job]) -> bool:
    return (
        isinstance(error, asyncio.CancelledError)
        or view.refused(error)
        or actor.ledger.expects(error, jobs, view.timed)
    )


def _start(actor: Actor, view: View, runner: Any) -> tuple[Job, Any]:
    """A job, and what there is to await; None where it was refused at once."""
    job = _new_job(actor)
    job.cancellable = True
    view.promise([job], None)
    try:
        return job, runner.run(job)
    except BaseException as error:
        if not view.refused(error):
            raise
        job.accepted = False
        return job, None


async def _await_one(actor: Actor, view: View) -> None:
    job, awaited = _start(actor, view, view.submitter)
    if awaited is None:
        return
    timeout = actor.rng.choice((None, None, 0.001))
    actor.ledger.unseen_refusals.append(actor.name)
    try:
        value = await (awaited if timeout is None else asyncio.wait_for(awaited, timeout))
    except BaseException as error:
        if isinstance(error, asyncio.CancelledError):
            awaited.cancel()
            raise
        if not (timeout is not None and type(error) is TimeoutError) and not _expected(actor, view, error, [job]):
            raise
    else:
        if value != job.number:
            actor.ledger.complain(f"awaiting {job} gave {value!r}")


async def _await_some(actor: Actor, view: View) -> None:
    started = [_start(actor, view, view.submitter) for _ in range(actor.rng.randint(1, 8))]
    jobs, awaited = [job for job, _ in started], [one for _, one in started if one is not None]
    actor.ledger.unseen_refusals += [actor.name] * len(awaited)
    for one in awaited:
        if actor.rng.random() < 0.1:
            one.cancel()
    try:
        for result in await asyncio.gather(*awaited, return_exceptions=True):
            if isinstance(result, BaseException) and not _expected(actor, view, result, jobs):
                raise result
    finally:
        for one in awaited:
            one.cancel()


async def _await_group(actor: Actor, view: View) -> None:
    timeout = actor.rng.choice((None, None, 0.002))
    timed = view.timed or timeout is not None
    started: list[tuple[Job, Any]] = []
    try:
        async with view.submitter.group(timeout=timeout, on_error=actor.rng.choice(("cancel", "continue"))) as group:
            for _ in range(actor.rng.randint(0, 5)):
                started.append(_start(actor, view, group))
                actor.ledger.unseen_refusals.append(actor.name)
                if actor.rng.random() < 0.2:
                    await asyncio.sleep(0)
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        jobs = [job for job, _ in started]
        for leaf in leaves_of(error):
            if not _expected(actor, view, leaf, jobs) and not (timed and isinstance(leaf, fastpool.JobTimeout)):
                actor.ledger.complain(f"an asynchronous group of {jobs} raised {leaf!r}")
    finally:
        for job, _ in started:
            job.timed = timed
    if not all(one.done() for _, one in started if one is not None):
        actor.ledger.complain("an asynchronous group has ended before what it ran")


async def _await_submitted(actor: Actor, view: View) -> None:
    """A future of the pool's, by the standard library's own way."""
    job = _new_job(actor)
    future = view.attempt([job], lambda: view.submitter.submit(job))
    if future is None:
        return
    job.future = future
    job.cancellable = True  # with this task
    try:
        await asyncio.wrap_future(future)
    except BaseException as error:
        if isinstance(error, asyncio.CancelledError) or not _expected(actor, view, error, [job]):
            raise
