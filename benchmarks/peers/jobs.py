"""The sections whose jobs are submitted one at a time: without results, and with one each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks.peers.elements import POLYNOMIAL
from benchmarks.peers.golang import Go
from benchmarks.peers.peers import WORKERS, Peers
from benchmarks.peers.scale import Context, settle
from fastpool.bench.measure import Case, WrongResult, equals, timed
from fastpool.bench.peers import submit_at_once, submit_each
from fastpool.bench.section import Section

_NEAR = 1e-9


# ---- jobs without a result ----


def _squares(count: int) -> int:
    """The sum of the squares of 0 .. count - 1, modulo 2**64, as the jobs add it up."""
    return (count - 1) * count * (2 * count - 1) // 6 % 2**64


def _count_case(peers: Peers, name: str, count: int, run: Callable[[], object]) -> Case:
    """Time jobs that count themselves: all must have run once, each with its own number."""
    right = equals((count, _squares(count)))
    return timed(name, count, run, lambda _: right(peers.work.take_counts()), settle)


def _go_case(name: str, go: Go, command: str, count: int, check: Callable[[dict[str, Any]], None]) -> Case:
    """Time a round of the Go program, by its own clock."""

    def sample() -> float:
        settle()
        answer = go.round(command, count)
        check(answer)
        return float(answer["ns"]) / count

    return Case(name, count, sample)


def _go_counts(go: Go, count: int) -> list[Case]:
    def check(answer: dict[str, Any]) -> None:
        equals((count, _squares(count)))((answer["jobs"], answer["squares"]))

    return [
        _go_case("Go, a channel of closures", go, "closures", count, check),
        _go_case("Go, a channel of structs", go, "structs", count, check),
    ]


def dispatch(context: Context) -> Section:
    """Submit tiny jobs from native code, one at a time, and wait for all."""
    peers, count = context.peers, context.scale.jobs
    job = peers.work.address("work_count")
    cases = []
    if peers.native_jobs is not None:
        run = partial(peers.native_jobs.dispatch, peers.pool, job, count)
        cases.append(_count_case(peers, "fastpool_submit", count, run))
    if peers.go is not None:
        cases += _go_counts(peers.go, count)
    libraries = [
        ("TBB task_group::run", peers.tbb, "peer_dispatch"),
        ("moodycamel's queue", peers.moodycamel, "peer_dispatch"),
        ("moodycamel's queue, taken in bulk", peers.moodycamel, "peer_dispatch_bulk"),
        ("OpenMP task", peers.openmp, "peer_dispatch"),
    ]
    for name, library, function in libraries:
        if library is not None:
            cases.append(_count_case(peers, name, count, partial(library.dispatch(function, job), count)))
    notes = [
        "TBB and OpenMP: the thread that submits is one of the two; elsewhere there are two workers beside it",
        "fastpool's workers take up to 128 jobs of a group at a time, moodycamel's in bulk 64, the others one",
        "Go's channels hold 8,192 jobs, then the submitter waits; fastpool's queue as many lots; the others have no bound",
    ]
    return context.section(f"{count:,} tiny jobs, submitted one at a time from native code", cases, notes)


# ---- jobs with a result ----


@dataclass(frozen=True)
class _Results:
    """Polynomials of `x`, by peers that do many and peers that do few in the same time."""

    peers: Peers
    count: int

    def check(self, results: Any) -> None:
        x = POLYNOMIAL.sample(self.count)
        expected = np.empty(self.count)
        POLYNOMIAL.arrays(x, expected)
        worst = float(np.max(np.abs(np.asarray(results) - expected)))
        if not worst <= _NEAR:  # so written, a NaN fails too
            raise WrongResult(f"off by {worst}")

    def case(self, name: str, run: Callable[[], Any]) -> Case:
        return timed(name, self.count, run, self.check, settle)

    def fastpool(self) -> list[Case]:
        pool, x = self.peers.pool, POLYNOMIAL.sample(self.count)
        kernel = self.peers.work.kernel(POLYNOMIAL.name)
        one_by_one = x.tolist()
        return [
            self.case("fastpool submit_many, a future each", partial(submit_at_once, pool, kernel, x)),
            self.case("fastpool submit, a future each", partial(submit_each, pool, kernel, one_by_one)),
            self.case("fastpool submit_array", lambda: pool.submit_array(kernel, x).result()),
        ]

    def native(self) -> list[Case]:
        native_jobs = self.peers.native_jobs
        if native_jobs is None:
            return []
        x, out = POLYNOMIAL.sample(self.count), np.empty(self.count)
        function = self.peers.work.address(POLYNOMIAL.name)

        def run() -> Any:
            native_jobs.results(self.peers.pool, function, x.ctypes.data, out.ctypes.data, self.count)
            return out

        def prepare() -> None:
            out.fill(np.nan)
            settle()

        return [timed("fastpool_submit, from C", self.count, run, self.check, prepare)]

    def go(self) -> list[Case]:
        go = self.peers.go
        if go is None:
            return []
        out = np.empty(self.count)
        POLYNOMIAL.arrays(POLYNOMIAL.sample(self.count), out)
        expected = float(out.sum())

        def check(answer: dict[str, Any]) -> None:
            equals(self.count)(answer["jobs"])
            if not abs(answer["sum"] - expected) <= _NEAR * self.count:
                raise WrongResult(f"the sum is {answer['sum']}, and should be {expected}")

        return [
            _go_case("Go, one channel of results", go, "results", self.count, check),
            _go_case("Go, a channel for each result", go, "replies", self.count, check),
        ]

    def joblib(self) -> list[Case]:
        joblib = self.peers.joblib
        if joblib is None:
            return []
        kernel = self.peers.work.kernel(POLYNOMIAL.name)
        x = POLYNOMIAL.sample(self.count).tolist()

        def run() -> Any:
            return joblib.Parallel(n_jobs=WORKERS, prefer="threads")(joblib.delayed(kernel)(value) for value in x)

        return [self.case('joblib, prefer="threads"', run)]


def results(context: Context) -> Section:
    """Have a result of each job: a future's, a channel's, or an element of an array."""
    many = _Results(context.peers, context.scale.results)
    few = _Results(context.peers, context.scale.few)
    cases = [*many.fastpool(), *many.native(), *many.go(), *few.joblib()]
    notes = ["fastpool's first three and joblib are called from Python; a job is a polynomial, some 2 ns of work"]
    return context.section(f"{many.count:,} jobs with a result each", cases, notes)
