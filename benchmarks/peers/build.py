"""Building the peers' programs on the spot, into build/peers."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "peers"

# All are built for this very machine: they will not leave it. fastpool itself is built for any.
_FLAGS = ["-O3", "-march=native", "-Wall", "-Wextra", "-fPIC", "-shared", "-pthread"]


class Missing(Exception):
    """A peer that is not on this machine; the message names it and says what is not there."""


@dataclass(frozen=True)
class Program:
    """A shared library of one of the files here.

    Attributes
    ----------
    peer : str
        Whom it is for.
    sources : sequence of Path
        The first one's ending says the language.
    flags : sequence of str
        For the compiler, besides those that all get.
    header : str, optional
        What the peer installs, and may be missing.
    package : str
        Debian's name of what brings it.
    """

    peer: str
    sources: Sequence[Path]
    flags: Sequence[str] = ()
    header: str | None = None
    package: str = "gcc"

    @property
    def compiler(self) -> list[str]:
        variable, default = ("CC", "cc") if self.sources[0].suffix == ".c" else ("CXX", "c++")
        return shlex.split(os.environ.get(variable) or default)

    def build(self, name: str) -> Path:
        """Build the library if it is older than its sources, and return its path.

        Raises
        ------
        Missing
            If it cannot be built.
        """
        target = BUILD / name
        if _is_new(target, [*self.sources, *HERE.glob("*.h"), Path(__file__)]):
            return target
        self._check_installed()
        language = "-std=gnu11" if self.sources[0].suffix == ".c" else "-std=c++17"
        command = [*self.compiler, language, *_FLAGS, *map(str, self.sources), *self.flags]
        _run(self.peer, command, target)
        return target

    def _check_installed(self) -> None:
        if shutil.which(self.compiler[0]) is None:
            package = "gcc" if self.sources[0].suffix == ".c" else "g++"
            raise Missing(f"{self.peer}: no compiler {self.compiler[0]} (Debian: {package})")
        if self.header is not None and not _has_header(self.compiler, self.header):
            raise Missing(f"{self.peer}: {self.header} not found (Debian: {self.package})")


def _is_new(target: Path, sources: Sequence[Path]) -> bool:
    return target.exists() and all(target.stat().st_mtime > source.stat().st_mtime for source in sources)


def _has_header(compiler: Sequence[str], header: str) -> bool:
    command = [*compiler, "-x", "c++", "-E", "-"]
    text = f"#include <{header}>\n"
    return subprocess.run(command, input=text, text=True, capture_output=True, check=False).returncode == 0


def _run(peer: str, command: Sequence[str], target: Path, cwd: Path | None = None) -> None:
    """Run a compiler whose output appears whole or not at all."""
    BUILD.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f"{target.name}.{os.getpid()}")
    environment = {**os.environ, "GOCACHE": str(BUILD / "go-cache")}
    done = subprocess.run(
        [*command, "-o", str(unfinished)], env=environment, capture_output=True, text=True, check=False, cwd=cwd
    )
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines() or ["?"]
        raise Missing(f"{peer}: could not be built: {lines[0]}")
    unfinished.replace(target)


def build_go() -> Path:
    """Build the Go program and return its path.

    Raises
    ------
    Missing
        If there is no Go, or it cannot build it.
    """
    folder = HERE / "go"
    target = BUILD / "go-pool"
    if _is_new(target, [*folder.iterdir(), Path(__file__)]):
        return target
    go = shutil.which("go")
    if go is None:
        raise Missing("Go: no go command (Debian: golang-go)")
    _run("Go", [go, "build", "-buildvcs=false"], target, cwd=folder)
    return target


WORK = Program(
    "C",
    [HERE / "work.c", ROOT / "csrc" / "fp_kernels.c"],
    # The model saves a function call for each use of a thread's own counter.
    ["-ftls-model=initial-exec", f"-I{ROOT / 'csrc'}", "-lm"],
)
OPENMP = Program("OpenMP", [HERE / "openmp.c"], ["-fopenmp"], "omp.h")
TBB = Program("oneTBB", [HERE / "tbb.cpp"], ["-ltbb"], "tbb/task_group.h", "libtbb-dev")
MOODYCAMEL = Program(
    "moodycamel's queue",
    [HERE / "moodycamel.cpp"],
    header="concurrentqueue/blockingconcurrentqueue.h",
    package="libconcurrentqueue-dev",
)


def native_jobs(include: str) -> Path:
    """Build the extension module that uses fastpool's C API, whose header is in `include`."""
    python = sysconfig.get_path("include")
    program = Program(
        "fastpool's C API",
        [HERE / "native_jobs.c"],
        [f"-I{python}", f"-I{include}"],
        f"{python}/Python.h",
        "python3-dev",
    )
    return program.build(f"native_jobs{sysconfig.get_config_var('EXT_SUFFIX')}")
