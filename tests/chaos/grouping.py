"""Groups: of jobs that fail, in time and too late, one inside the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fastpool
from chaos.actor import Actor, Table, View
from chaos.ledger import Job, call


class Escape(Exception):
    """What a block raises itself."""


def leaves_of(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from leaves_of(one)
    else:
        yield error


class Grouped(View):
    """A group, as a way to submit: what is cancelled by it was perhaps never submitted."""

    def __init__(self, view: View, group: Any, timed: bool) -> None:
        self.__dict__.update(view.__dict__)
        self.submitter = group
        self.timed = view.timed or timed


def group(actor: Actor, pool: fastpool.Pool) -> None:
    view = actor.view(pool)
    _run(actor, view, view.submitter, 2)


def _run(actor: Actor, view: View, maker: Any, depth: int) -> None:
    timeout = actor.rng.choice((None, None, 0, 0.002, 0.05))
    on_error = actor.rng.choice(("cancel", "continue"))
    jobs: list[Job] = []
    escapes = actor.rng.random() < 0.1
    inner: list[bool] = []
    try:
        with maker.group(timeout=timeout, on_error=on_error) as made:
            grouped = Grouped(view, made, timeout is not None)
            for _ in range(actor.rng.randint(0, 5)):
                _submit(actor, grouped, jobs)
                if depth > 0 and actor.rng.random() < 0.2:
                    inner.append(True)
                    _run(actor, grouped, made, depth - 1)
            if actor.rng.random() < 0.05:
                made.cancel()
            if escapes:
                raise Escape
    except Escape:
        assert escapes
    except BaseException as error:
        _check_error(actor, error, jobs, escapes, view.timed or timeout is not None)
        _check_complete(actor, error, jobs, on_error)
    else:
        _check_complete(actor, None, jobs, on_error)
    for job in jobs:
        if job.future is not None and not job.future.done():
            actor.ledger.complain(f"{job} has not ended, and its group has")


def _submit(actor: Actor, grouped: Grouped, jobs: list[Job]) -> None:
    many = actor.rng.random() < 0.2
    new = [actor.new_job() for _ in range(3 if many else 1)]
    jobs += new
    for job in new:
        job.cancellable = True
    try:
        grouped.promise(new, None)
        futures = grouped.submitter.submit_many(call, new) if many else [grouped.submitter.submit(new[0])]
    except fastpool.JobTimeout:  # the group's time was over before there was room
        actor.ledger.refusals.append(actor.name)
        raise
    except BaseException as error:
        if not grouped.refused(error):
            raise
        return
    for job, future in zip(new, futures, strict=True):
        job.future = future


def _check_error(actor: Actor, error: BaseException, jobs: list[Job], escapes: bool, timed: bool) -> None:
    for leaf in leaves_of(error):
        if not (isinstance(leaf, Escape) and escapes) and not actor.ledger.expects(leaf, jobs, timed):
            actor.ledger.complain(f"a group of {jobs} raised {leaf!r}")


def _check_complete(actor: Actor, error: BaseException | None, jobs: list[Job], on_error: str) -> None:
    raised = [] if error is None else list(leaves_of(error))
    failed = [job for job in jobs if job.future is not None and not job.future.cancelled() and job.future.exception()]
    for job in failed:
        assert job.future is not None
        own = job.future.exception()
        merged = isinstance(own, fastpool.JobTimeout) and any(isinstance(leaf, fastpool.JobTimeout) for leaf in raised)
        if not merged and not any(leaf is own for leaf in raised):
            actor.ledger.complain(f"the failure of {job} did not come out of its group ({on_error}), but {raised}")


TABLE: Table = [(group, 3)]
