"""Who is compared: each peer is built, or imported, when a section first asks for it, and passed over where it is missing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from types import ModuleType, TracebackType
from typing import Any, TypeVar

import fastpool
from benchmarks.peers import build
from benchmarks.peers.build import Missing
from benchmarks.peers.compiled import Numba, Numexpr
from benchmarks.peers.golang import Go
from benchmarks.peers.native import Library, Work, load_native_jobs, tbb_version

WORKERS = 2

Peer = TypeVar("Peer")


class Peers:
    """The peers of one run; leaving the ``with`` block ends those that are processes or pools.

    Parameters
    ----------
    tell : callable
        Given one line for each peer that is missing.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        for variable in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "NUMEXPR_MAX_THREADS"):
            os.environ[variable] = str(WORKERS)  # now, for they are read once, when a peer is loaded
        self._tell = tell
        self._open = ExitStack()
        self.skipped: list[str] = []
        self._versions: dict[str, Callable[[], str]] = {}

    def __enter__(self) -> Peers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.close()

    def versions(self) -> dict[str, str]:
        """Those of the peers that were used."""
        return {name: version() for name, version in self._versions.items()}

    def _unless_missing(
        self, load: Callable[[], Peer], name: str = "", version: Callable[[Peer], str] | None = None
    ) -> Peer | None:
        try:
            peer = load()
        except Missing as missing:
            self.skipped.append(str(missing))
            self._tell(f"skipped: {missing}")
            return None
        if version is not None:
            self._versions[name] = lambda: version(peer)
        return peer

    @cached_property
    def work(self) -> Work:
        """The jobs themselves; without them there is nothing to compare, so here `Missing` is raised."""
        self._versions["C compiler"] = lambda: _first_line([*build.WORK.compiler, "--version"])
        return Work(build.WORK.build("work.so"))

    @cached_property
    def pool(self) -> fastpool.Pool:
        return self._open.enter_context(fastpool.Pool(WORKERS))

    @cached_property
    def single(self) -> fastpool.Pool:
        return self._open.enter_context(fastpool.Pool(1))

    @cached_property
    def native_jobs(self) -> ModuleType | None:
        """fastpool's C API, as functions."""
        return self._unless_missing(load_native_jobs)

    @cached_property
    def openmp(self) -> Library | None:
        return self._unless_missing(lambda: Library(build.OPENMP.build("openmp.so")))

    @cached_property
    def tbb(self) -> Library | None:
        return self._unless_missing(lambda: Library(build.TBB.build("tbb.so")), "oneTBB", tbb_version)

    @cached_property
    def moodycamel(self) -> Library | None:
        return self._unless_missing(lambda: Library(build.MOODYCAMEL.build("moodycamel.so")))

    @cached_property
    def go(self) -> Go | None:
        def load() -> Go:
            go = Go(build.build_go())
            self._open.callback(go.close)
            return go

        return self._unless_missing(load, "Go", lambda _: _first_line(["go", "version"]))

    @cached_property
    def numba(self) -> Numba | None:
        return self._unless_missing(lambda: Numba(WORKERS), "numba", lambda numba: numba.version)

    @cached_property
    def numexpr(self) -> Numexpr | None:
        return self._unless_missing(lambda: Numexpr(WORKERS), "numexpr", lambda numexpr: numexpr.version)

    @cached_property
    def joblib(self) -> Any:
        def load() -> Any:
            try:
                import joblib
            except ImportError as error:
                raise Missing(f"joblib: {error} (pip install joblib)") from error
            return joblib

        return self._unless_missing(load, "joblib", lambda joblib: str(joblib.__version__))


def _first_line(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.partition("\n")[0]
