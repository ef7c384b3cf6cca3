"""The list of what is measured, by the names that ``--only`` takes, in the order it runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fastpool.bench import memory, options, python_jobs
from fastpool.bench.section import Context, Section

SECTIONS: dict[str, Callable[[Context], Section]] = {
    "empty": python_jobs.empty,
    "map": python_jobs.mapped,
    "work-1us": partial(python_jobs.timed_work, 1),
    "work-10us": partial(python_jobs.timed_work, 10),
    "work-100us": partial(python_jobs.timed_work, 100),
    "round-trip": python_jobs.round_trips,
    "options": options.as_arrays,
    "options-submit": options.one_by_one,
    "grain": options.grains,
    "memory": memory.queued_jobs,
}
