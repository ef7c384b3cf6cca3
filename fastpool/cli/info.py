"""``python -m fastpool info``: versions, CPUs, spin and park settings, the kernels that ship."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import fastpool
from fastpool import _core, kernels
from fastpool.cli.machine import default_workers, gil_state, python_name, usable_cpus

Row = tuple[str, object]


def _numpy_version() -> str:
    try:
        return version("numpy")
    except PackageNotFoundError:
        return "not installed"


def _versions(build: dict[str, object]) -> Iterator[Row]:
    yield "fastpool", fastpool.__version__
    yield "Python", f"{python_name()} ({gil_state()})"
    yield "NumPy", _numpy_version()
    yield "Cython, at build", build.pop("cython", "unknown")


def _kernels() -> Iterator[Row]:
    for name in kernels.__all__:
        signature = getattr(getattr(kernels, name), "signature", None)
        # The module may export more than kernels.
        if signature is not None:
            yield f"fastpool.kernels:{name}", signature


def _print_rows(title: str, rows: list[Row]) -> None:
    print(title)
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        print(f"  {name.ljust(width)}  {value}")


def main(options: argparse.Namespace) -> int:
    """Print what this installation is made of.

    Parameters
    ----------
    options : argparse.Namespace
        The parsed command line; ``info`` has no options of its own.

    Returns
    -------
    int
        The exit code, 0.
    """
    build = dict(_core.build_info())
    _print_rows("versions", list(_versions(build)))
    _print_rows("CPUs", [("usable", usable_cpus()), ("workers of Pool()", default_workers())])
    _print_rows("build and waiting", list(build.items()))
    _print_rows("kernels", list(_kernels()))
    return 0
