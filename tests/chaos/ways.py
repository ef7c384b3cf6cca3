"""The ways in which Python jobs are submitted, and what is done with their futures."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import fastpool
from chaos.actor import Actor, Table, View, keep
from chaos.ledger import Job, Stream, call


def submit(actor: Actor, pool: fastpool.Pool) -> None:
    view = actor.view(pool)
    job = actor.new_job()
    view.line_up([job])
    submitted = actor.rng.choice(
        (
            lambda: view.submitter.submit(job),
            lambda: view.submitter.submit(call, job),
            lambda: view.submitter.submit(call, job=job),
        )
    )
    future = view.attempt([job], submitted)
    if future is not None:
        job.future = future
        look(actor, [job])


def submit_many(actor: Actor, pool: fastpool.Pool) -> None:
    view = actor.view(pool)
    jobs = actor.new_jobs(12)
    view.line_up(jobs)
    view.promise(jobs, None)
    try:
        futures = view.submitter.submit_many(call, jobs)
    except fastpool.PoolOverloaded as error:
        _refused_in_part(view, jobs, list(error.futures), error)
    except BaseException as error:
        if not view.refused(error):
            raise
        for job in jobs:  # nobody has their futures, and those that were accepted have been cancelled
            job.cancellable = True
    else:
        view.promise(jobs, True)
        keep(jobs, futures)
    look(actor, [job for job in jobs if job.future is not None])


def _refused_in_part(view: View, jobs: list[Job], futures: list[Future[Any]], error: BaseException) -> None:
    if not view.refused(error):
        raise error
    for job in jobs:
        job.cancellable = True
    keep(jobs, futures)
    view.promise(jobs[: len(futures)], True)
    view.promise(jobs[len(futures) :], False)


def post(actor: Actor, pool: fastpool.Pool) -> None:
    view = actor.view(pool)
    job = actor.new_job()
    view.line_up([job])
    job.posted = True
    view.attempt([job], lambda: view.submitter.post(job))


def map(actor: Actor, pool: fastpool.Pool) -> None:
    view = actor.view(pool)
    jobs = actor.new_jobs(20)
    options = {
        "timeout": actor.rng.choice((None, None, None, 0.001)),
        "chunksize": actor.rng.choice((1, 1, 3)),
        "buffersize": actor.rng.choice((None, None, 1, 5)),
    }
    results = view.attempt(jobs, lambda: view.submitter.map(call, jobs, **options))
    if options["buffersize"] is not None:
        view.promise(jobs, None)  # each is submitted when it is needed; if one is refused, those before are cancelled
        for job in jobs:
            job.cancellable = True
    if results is None:
        return
    expected = iter([job.number for job in jobs])
    _read(actor, view, results, jobs, lambda value: value == next(expected), options["timeout"] is not None)


def imap_unordered(actor: Actor, pool: fastpool.Pool) -> None:
    view = actor.view(pool)
    jobs = actor.new_jobs(20)
    size = actor.rng.choice((1, 1, 3))
    taken: list[Job] = []

    def source() -> Iterator[Job]:
        for job in jobs:
            taken.append(job)
            yield job

    for job in jobs:
        job.counted = False
    buffersize = actor.rng.choice((None, None, 1, 3))
    view.promise(jobs, None)
    missing = {job.number for job in jobs}

    def expected(value: int) -> bool:
        found = value in missing
        missing.discard(value)
        return found

    try:
        results = view.submitter.imap_unordered(call, source(), chunksize=size, buffersize=buffersize)
    except BaseException as error:
        if not view.refused(error):
            raise
        for job in jobs:
            job.cancellable = True
        results = None
    complete = results is not None and _read(actor, view, results, jobs, expected, False)
    del results
    actor.ledger.streams.append(Stream(taken, size, complete))


def _read(
    actor: Actor, view: View, results: Any, jobs: list[Job], expected: Callable[[Any], bool], timeout: bool
) -> bool:
    """Some of the results, or all: True for that. An error that is expected ends it."""
    most = actor.rng.choice((0, 1, 5, 1000, 1000, 1000))
    for job in jobs:  # an error cancels the rest, and so does leaving early
        job.cancellable = True
    for _ in range(most):
        try:
            value = next(results)
        except StopIteration:
            for job in jobs:
                if not job.starts:
                    actor.ledger.complain(f"a stream has ended without {job}")
            return True
        except BaseException as error:
            known = view.refused(error) or actor.ledger.expects(error, jobs, view.timed)
            if not known and not (timeout and type(error) is TimeoutError):
                raise
            return False
        if not expected(value):
            actor.ledger.complain(f"a stream yielded {value!r}, which is not due")
    if actor.rng.random() < 0.5:
        results.close()
    return False


# ---- what is done with futures ----


def look(actor: Actor, jobs: list[Job]) -> None:
    """Anything, or nothing, with the futures of jobs that were accepted."""
    action = actor.choose(FUTURE_TABLE)
    if jobs and action is not forget:
        actor.note(f"{action.__name__} {[job.number for job in jobs]}")
        action(actor, jobs)


def forget(actor: Actor, jobs: list[Job]) -> None:
    pass


def cancel(actor: Actor, jobs: list[Job]) -> None:
    for job in jobs:
        future = _future(job)
        job.cancellable = True
        if future.cancel() and not future.cancelled():
            actor.ledger.complain(f"{job} says that it was cancelled, and is not")


def call_back(actor: Actor, jobs: list[Job]) -> None:
    for job in jobs:
        future = _future(job)
        future.add_done_callback(actor.ledger.new_callback())
        if actor.rng.random() < 0.3:
            future.add_done_callback(fail)
        if actor.rng.random() < 0.3:
            future.add_done_callback(submitting(actor, job))
        future.add_done_callback(actor.ledger.new_callback())


def fail(future: Future[Any]) -> None:
    raise ValueError("a callback that fails")


def submitting(actor: Actor, job: Job) -> Callable[[Future[Any]], None]:
    """A callback that does something to the pool; it may run on any thread."""
    world, seed, depth = actor.world, actor.seed, job.depth + 2

    def submits(future: Future[Any]) -> None:
        own = Actor(world, f"callback {job.number}", seed, depth)
        pool = world.pool
        if pool is not None:
            world.ledger.busy.append(own.name)
            try:
                own.choose([(submit, 3), (post, 2)])(own, pool)
            except BaseException as error:
                world.ledger.complain(f"{own.name}: {error!r}")
            finally:
                world.ledger.busy.pop()

    return submits


def read(actor: Actor, jobs: list[Job]) -> None:
    for job in jobs:
        _result(actor, job, actor.rng.choice((None, None, 0, 0.002)))


def wait(actor: Actor, jobs: list[Job]) -> None:
    when = actor.rng.choice((concurrent.futures.ALL_COMPLETED, concurrent.futures.FIRST_COMPLETED))
    futures = [_future(job) for job in jobs]
    done, waiting = concurrent.futures.wait(futures, actor.rng.choice((None, 0.002)), when)
    if not all(future.done() for future in done) or len(done) + len(waiting) != len(set(futures)):
        actor.ledger.complain(f"wait() returned {done} and {waiting}")


def as_completed(actor: Actor, jobs: list[Job]) -> None:
    ended = list(concurrent.futures.as_completed([_future(job) for job in jobs]))
    if len(ended) != len(jobs):
        actor.ledger.complain(f"as_completed() yielded {len(ended)} futures of {len(jobs)}")


def _future(job: Job) -> Future[Any]:
    assert job.future is not None
    return job.future


def _result(actor: Actor, job: Job, timeout: float | None) -> None:
    try:
        result = _future(job).result(timeout)
    except BaseException as error:
        if timeout is not None and type(error) is TimeoutError:
            return
        if not actor.ledger.expects(error, [job], job.timed):
            raise
    else:
        if result != job.number:
            actor.ledger.complain(f"{job} has the result {result!r}")


FUTURE_TABLE: Table = [
    (forget, 4),
    (cancel, 3),
    (call_back, 3),
    (read, 4),
    (wait, 1),
    (as_completed, 1),
]

TABLE: Table = [(submit, 8), (submit_many, 3), (post, 4), (map, 3), (imap_unordered, 3)]
