"""The drop-in: change the import, keep the program."""

from __future__ import annotations

import concurrent.futures
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fastpool import _arguments, _core
from fastpool.pool import Pool

__all__ = ["ThreadPoolExecutor"]

_numbers = itertools.count()


class ThreadPoolExecutor(Pool, concurrent.futures.ThreadPoolExecutor):  # type: ignore[misc]  # which declares its privates
    """`concurrent.futures.ThreadPoolExecutor` on fastpool: its arguments, its defaults, its unbounded queue.

    Parameters
    ----------
    max_workers : int, optional
        Most worker threads. Default: as in the standard library, 4 more than there are CPUs, at most 32.
    thread_name_prefix : str, optional
    initializer : callable, optional
    initargs : tuple, optional

    Notes
    -----
    A subclass of the standard class, so ``isinstance`` holds and ``loop.set_default_executor`` takes it. Everything that
    `Pool` adds is there too.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
    ):
        if max_workers is None:
            cpus = getattr(os, "process_cpu_count", os.cpu_count)() or 1
            max_workers = min(32, cpus + 4)
        elif max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        _arguments.integer(max_workers, "max_workers", 1, sys.maxsize)
        # As many as there can be: the standard class takes any number, for it starts them when needed.
        most = min(max_workers, _core.build_info()["max_workers"])
        prefix = thread_name_prefix or f"ThreadPoolExecutor-{next(_numbers)}"
        super().__init__(most, prefix, initializer, initargs, queue_size=None)
        self._max_workers = max_workers

    def map(self, fn: Callable[..., Any], *iterables: Iterable[Any], **options: Any) -> Iterator[Any]:
        """Do as `Pool.map`; by way of `submit` where a subclass has overridden that, as the standard class does."""
        if type(self).submit is not Pool.submit and options.keys() <= {"timeout", "chunksize"}:
            return concurrent.futures.Executor.map(self, fn, *iterables, **options)
        return super().map(fn, *iterables, **options)
