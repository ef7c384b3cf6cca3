"""What was asked of a pool and what became of it: each job, each future, and the sums to which its metrics must agree."""

from __future__ import annotations

import itertools
import threading
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any

from fastpool import BrokenThreadPool, JobError, JobTimeout, Metrics, NativeJobError

PROCESSED, FAILED, CANCELLED, TIMED_OUT = OUTCOMES = ("processed", "failed", "cancelled", "timed_out")


class Wrong(Exception):
    """What a job raises that is to fail; its argument is the job's number."""


class Job:
    """One Python job: what it is to do, and what it saw. It is called by the pool."""

    def __init__(self, ledger: Ledger, number: int, body: Callable[[Job], object], seed: str, depth: int) -> None:
        self.ledger = ledger
        self.number = number
        self.body = body
        self.seed = seed
        self.depth = depth  # jobs round it that submitted it
        self.accepted: bool | None = None  # None: not known, as it is where a stream was left early
        self.timed = False  # has a deadline
        self.cancellable = False  # somebody may have cancelled it
        self.posted = False
        self.counted = True  # is a job of the pool for itself, and not one call of a chunk
        self.future: Future[Any] | None = None
        self.starts: list[int] = []  # the threads that it ran on; appending is atomic
        self.place = -1  # among all starts
        self.line: tuple[Any, ...] | None = None  # jobs of one line start in the order of their numbers
        self.ended = ""

    def __call__(self) -> int:
        self.starts.append(threading.get_ident())
        self.place = next(self.ledger.places)
        try:
            self.body(self)
        except CancelledError:
            self.ended = "stopped"
            raise
        except JobTimeout:
            self.ended = "late"
            raise
        except BaseException as error:
            self.ended = "raised"
            if error.args != (self.number,):
                self.ledger.complain(f"{self} went wrong:\n{''.join(traceback.format_exception(error))}")
            raise
        self.ended = "returned"
        return self.number

    def __repr__(self) -> str:
        return f"job {self.number} ({self.body.__name__}, accepted={self.accepted}, ended={self.ended or None})"


def call(job: Job) -> int:
    return job()


@dataclass
class Native:
    """One future of a kernel."""

    future: Future[Any]
    value: Any
    timed: bool
    status: int = 0  # that the kernel returns
    counts: bool = False  # its call is counted in the array `calls`
    cancellable: bool = False


@dataclass
class Stream:
    """Of imap_unordered: the calls that it has taken from its iterable, `size` to a job."""

    taken: list[Job]
    size: int
    complete: bool

    def add_to(self, sums: Sums) -> None:
        for begin in range(0, len(self.taken), self.size):
            chunk = self.taken[begin : begin + self.size]
            started = self.complete or any(job.starts for job in chunk)
            sums.add(chunk, (PROCESSED,) if self.complete and not chunk[0].timed else OUTCOMES, int(started), 1)


@dataclass
class Sums:
    """How many jobs ended in each way: exactly, and how many more may have."""

    exact: Counter[str] = field(default_factory=Counter)
    more: Counter[str] = field(default_factory=Counter)
    least: int = 0
    most: int = 0
    who: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))  # counts so exactly, for messages

    def add(self, who: Any, outcomes: Iterable[str], least: int, most: int) -> None:
        outcomes = set(outcomes)
        self.least += least
        self.most += most
        if len(outcomes) == 1:
            self.exact[min(outcomes)] += least
            self.who[min(outcomes)] += [who] * (least > 0)
            most -= least
        for outcome in outcomes:
            self.more[outcome] += most

    def check(self, metrics: Metrics) -> list[str]:
        """What does not fit."""
        found = []
        if not self.least <= metrics.jobs_submitted <= self.most:
            found.append(f"jobs_submitted is {metrics.jobs_submitted}, not {self.least} to {self.most}")
        for outcome in OUTCOMES:
            count, least = getattr(metrics, f"jobs_{outcome}"), self.exact[outcome]
            if not least <= count <= least + self.more[outcome]:
                found.append(
                    f"jobs_{outcome} is {count}, not {least} to {least + self.more[outcome]}: {self.who[outcome][:20]}"
                )
        return found


class Ledger:
    """Of one pool. Every method may be called from any thread."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.natives: list[Native] = []
        self.streams: list[Stream] = []
        self.arrays: list[
            tuple[Future[Any], Any, bool, bool]
        ] = []  # what is expected of it; has a deadline; was cancelled
        self.others: list[tuple[tuple[str, ...], int, int]] = []  # outcomes, least, most
        self.called: list[list[bool]] = []  # of each callback, and each call of it, whether the future had ended
        self.told: Counter[Any] = Counter()  # by on_error, the arguments of the exceptions
        self.refusals: list[str] = []
        self.unseen_refusals: list[str] = []  # that there may have been
        self.complaints: list[str] = []
        self.busy: list[str] = []  # callbacks that are at work
        self.places = itertools.count()
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        # What may happen to jobs in this round, though nobody asked for it:
        self.discards = False
        self.breaks = False
        self.closing = False

    def new_job(self, body: Callable[[Job], object], seed: str, depth: int) -> Job:
        job = Job(self, next(self._numbers), body, seed, depth)
        self.jobs.append(job)
        return job

    def new_callback(self) -> Callable[[Future[Any]], None]:
        calls: list[bool] = []
        self.called.append(calls)
        return lambda future: calls.append(future.done())

    def tell(self, error: JobError) -> None:
        """As on_error."""
        with self._lock:
            self.told[error.exception.args] += 1

    def complain(self, text: str) -> None:
        self.complaints.append(text)

    # ---- errors that somebody has seen ----

    def expects(self, error: BaseException, jobs: Iterable[Job], timed: bool) -> bool:
        """True for an error that one of the jobs may have ended with."""
        jobs = list(jobs)
        if isinstance(error, JobTimeout):
            return timed
        if isinstance(error, BrokenThreadPool):
            return self.breaks
        if isinstance(error, CancelledError):
            return self.discards or self.closing or any(job.cancellable or job.ended == "stopped" for job in jobs)
        return any(error.args == (job.number,) for job in jobs if job.ended == "raised")

    # ---- at the end ----

    def are_at_rest(self) -> bool:
        """True when all futures have ended, and nobody looks at one any more."""
        # Kernels' too: a worker that has only just started for their sake is not yet known to Python as a thread.
        natives = [native.future for native in self.natives] + [future for future, *_ in self.arrays]
        ended = all(job.future is None or job.future.done() for job in self.jobs)
        return (
            ended
            and all(future.done() for future in natives)
            and not self.busy
            and all(job.ended for job in self.jobs if job.starts)
        )

    def forget_futures(self) -> None:
        """Check them now: the frames of an exception may hold the pool."""
        for job in self.jobs:
            if job.future is not None:
                self._outcome_of_future(job, job.future)
                job.future = None

    def check(self) -> Sums:
        """Complain of what jobs and futures show; the sums that the metrics must show."""
        sums = Sums()
        for job in self.jobs:
            self._check_job(job)
            if job.counted:
                sums.add(job, *self._outcome_of_job(job))
        for native in self.natives:
            sums.add(native, [self._outcome_of_native(native)], 1, 1)
        for stream in self.streams:
            stream.add_to(sums)
        for other in self.others:
            sums.add(other, *other)
        for calls in self.called:
            if calls != [True]:
                self.complain(f"a callback was not called once with a future that has ended, but {calls}")
        self._check_told()
        return sums

    def check_metrics(self, metrics: Metrics) -> None:
        """Of a pool that has ended."""
        for name in ("workers", "active_workers", "queue_depth"):
            if getattr(metrics, name) != 0:
                self.complain(f"the pool has ended, and its metrics say {name}={getattr(metrics, name)}")
        ended = sum(getattr(metrics, f"jobs_{outcome}") for outcome in OUTCOMES)
        if metrics.jobs_submitted != ended:
            self.complain(f"{metrics.jobs_submitted} jobs were submitted and {ended} have ended: {metrics}")
        least = len(self.refusals)
        if not least <= metrics.jobs_rejected <= least + len(self.unseen_refusals):
            self.complain(f"jobs_rejected is {metrics.jobs_rejected}, and {least} were seen: {Counter(self.refusals)}")
        self._check_panics(metrics.panics)

    def _check_panics(self, panics: int) -> None:
        least = most = 0
        for job in self.jobs:
            unexpected = job.posted or job.body.__name__ in ("leaves", "interrupts")
            least += unexpected and job.ended == "raised" and not job.timed
            most += unexpected
        if not least <= panics <= most:
            self.complain(f"panics is {panics}, not {least} to {most}")

    def check_calls(self, calls: int) -> None:
        """Of the kernel that counts its calls; arrays of it are in others, and say themselves."""
        counting = [native for native in self.natives if native.counts]
        ran = sum(not native.future.cancelled() and native.future.exception() is None for native in counting)
        late = sum(
            not native.future.cancelled() and isinstance(native.future.exception(), JobTimeout) for native in counting
        )
        if not ran <= calls <= ran + late:
            self.complain(f"the counting kernel was called {calls} times, not {ran} to {ran + late}")

    def _check_job(self, job: Job) -> None:
        if len(job.starts) > 1:
            self.complain(f"{job} ran {len(job.starts)} times")
        if job.starts and not job.ended:
            self.complain(f"{job} has started and not ended")
        if job.starts and job.accepted is False:
            self.complain(f"{job} was refused, and ran")
        lost = job.accepted and not job.starts and not (job.timed or job.cancellable or self.discards or self.breaks)
        if lost:
            self.complain(f"{job} was accepted, and nobody cancelled it, and it never ran")

    def _outcome_of_job(self, job: Job) -> tuple[tuple[str, ...], int, int]:
        least = 1 if job.accepted or job.starts else 0
        most = 0 if job.accepted is False else 1
        if job.future is not None:
            return self._outcome_of_future(job, job.future), least, most
        late = (TIMED_OUT,) if job.timed else ()
        if job.starts:
            ended = {"returned": PROCESSED, "raised": FAILED, "stopped": CANCELLED, "late": TIMED_OUT}
            return (ended.get(job.ended, FAILED), *late), least, most
        return (CANCELLED, *((FAILED,) if self.breaks else ()), *late), least, most

    def _outcome_of_future(self, job: Job, future: Future[Any]) -> tuple[str, ...]:
        if not future.done():
            self.complain(f"the future of {job} has not ended")
            return OUTCOMES
        if future.cancelled():
            if job.starts and job.ended != "stopped":
                self.complain(f"{job} ran, and its future says cancelled")
            return (CANCELLED,)
        error = future.exception(0)
        if error is None:
            if job.ended != "returned" or future.result(0) != job.number:
                self.complain(f"the future of {job} has the result {future.result(0)!r}")
            return (PROCESSED,)
        if isinstance(error, JobTimeout):
            if not job.timed:
                self.complain(f"{job} has no deadline, and its future says {error!r}")
            return (TIMED_OUT,)
        if isinstance(error, BrokenThreadPool):
            if job.starts or not self.breaks:
                self.complain(f"the future of {job} says {error!r}")
            return (CANCELLED, FAILED)
        if job.ended != "raised" or error.args != (job.number,):
            self.complain(f"the future of {job} says {error!r}")
        return (FAILED,)

    def _outcome_of_native(self, native: Native) -> str:
        future = native.future
        if not future.done():
            self.complain(f"the future of a kernel has not ended: {native}")
            return CANCELLED
        if future.cancelled():
            if not (native.cancellable or self.discards):
                self.complain(f"nobody cancelled {native}")
            return CANCELLED
        error = future.exception(0)
        if isinstance(error, JobTimeout) and native.timed:
            return TIMED_OUT
        if isinstance(error, BrokenThreadPool) and self.breaks:
            return CANCELLED
        if isinstance(error, NativeJobError) and native.status != 0 and error.status == native.status:
            return FAILED
        if error is not None or native.status != 0 or future.result(0) != native.value:
            self.complain(f"{native} ended with {error!r}, {None if error else future.result(0)!r}")
        return PROCESSED

    def _check_told(self) -> None:
        """on_error was told of each failure of a posted job, once."""
        for job in self.jobs:
            count = self.told[(job.number,)]
            failed = job.posted and job.ended == "raised"
            if count > failed or (failed and not job.timed and count == 0):
                self.complain(f"on_error was told {count} times of {job}")

    def check_order(self) -> None:
        """Of a pool of one worker."""
        last: dict[tuple[Any, ...], Job] = {}
        for job in sorted((job for job in self.jobs if job.line and job.starts), key=lambda job: job.place):
            assert job.line is not None
            before = last.setdefault(job.line, job)
            if before.number > job.number:
                self.complain(f"{job} started after {before}, and was submitted before it")
            last[job.line] = job
