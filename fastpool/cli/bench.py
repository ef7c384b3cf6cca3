"""``python -m fastpool bench``: the comparison with the standard executors, in one run."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence

import fastpool
from fastpool._progress import Bar, progress_bar
from fastpool.bench.jobs import calibrate
from fastpool.bench.measure import Case, WrongResult, measure
from fastpool.bench.peers import Peers
from fastpool.bench.plot import save_plot, supported_formats
from fastpool.bench.report import Findings, Report, Setting
from fastpool.bench.section import FULL, QUICK, Context, Section
from fastpool.bench.sections import SECTIONS
from fastpool.bench.table import write_table
from fastpool.cli.errors import CommandError
from fastpool.cli.machine import default_workers, gil_state, python_name, usable_cpus


def chosen(only: Sequence[str] | None, names: Iterable[str]) -> list[str]:
    """Return the sections to measure, in the order of `names` and not of the command line."""
    known = list(names)
    for name in only or ():
        if name not in known:
            raise CommandError(f"no section {name!r}; there are: {', '.join(known)}")
    return [name for name in known if not only or name in only]


def _check_can_write(path: str) -> None:
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path) or not os.access(folder, os.W_OK):
        raise CommandError(f"{path}: cannot be written")


def _check_can_plot(path: str) -> None:
    _check_can_write(path)
    try:
        formats = supported_formats()
    except ModuleNotFoundError as error:
        raise CommandError("--plot needs matplotlib: pip install 'fastpool[plot]'") from error
    ending = os.path.splitext(path)[1].removeprefix(".").lower()
    if ending not in formats:
        raise CommandError(f"{path}: no format by that ending; there are: {', '.join(formats)}")


def check_outputs(options: argparse.Namespace) -> None:
    """Refuse ``json`` and ``plot`` files that could not be written, before anything is measured."""
    if options.json not in (None, "-"):
        _check_can_write(options.json)
    if options.plot:
        _check_can_plot(options.plot)


def _setting(context: Context, options: argparse.Namespace) -> Setting:
    return Setting(
        fastpool=fastpool.__version__,
        python=python_name(),
        gil=gil_state(),
        machine=f"{platform.system()} {platform.machine()}",
        cpus=usable_cpus(),
        workers=context.peers.workers,
        quick=options.quick,
        repeat=options.repeat or context.scale.repeat,
        spins_per_us=context.spins_per_us,
    )


def _measure_section(name: str, section: Section, repeat: int, bar: Bar) -> Findings:
    def step(case: Case) -> None:
        bar.label(f"{name}: {case.peer}")
        bar.advance(1)

    try:
        figures = measure(section.cases, section.samples(repeat), warm_up=section.warm_up, step=step)
    except WrongResult as error:
        raise CommandError(f"{name}: wrong result: {error}", exit_code=1) from error
    notes = section.notes(figures)
    return Findings(name, section.title, section.unit, section.baseline, figures, notes)


def measure_sections(sections: Mapping[str, Section], repeat: int) -> list[Findings]:
    """Measure the sections one after the other, with a progress bar over all of them."""
    steps = sum(len(s.cases) * (s.samples(repeat) + s.warm_up) for s in sections.values())
    with progress_bar(steps) as bar:
        return [_measure_section(name, section, repeat, bar) for name, section in sections.items()]


def _measure_all(names: Sequence[str], options: argparse.Namespace) -> Report:
    scale = QUICK if options.quick else FULL
    with Peers(default_workers()) as peers:
        context = Context(peers, scale, calibrate(), gil=gil_state() != "free-threaded")
        report = Report(_setting(context, options))
        sections = {name: SECTIONS[name](context) for name in names}
        report.sections += measure_sections(sections, report.setting.repeat)
    return report


def show(report: Report, options: argparse.Namespace) -> None:
    """Write the table, and the ``json`` and ``plot`` files that were asked for."""
    write_table(report, sys.stderr if options.json == "-" else sys.stdout)
    if options.json:
        _write_json(report, options.json)
    if options.plot:
        save_plot(report, options.plot)


def _write_json(report: Report, path: str) -> None:
    text = json.dumps(report.to_json(), indent=2) + "\n"
    if path == "-":
        sys.stdout.write(text)
    else:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)


def main(options: argparse.Namespace) -> int:
    """Measure, and show what came out.

    Parameters
    ----------
    options : argparse.Namespace
        ``quick``, ``only``, ``repeat``, ``json`` and ``plot``. The JSON's keys are described
        in `fastpool.bench.report`.

    Returns
    -------
    int
        The exit code, 0.

    Raises
    ------
    CommandError
        If an option cannot be met (exit code 2), before anything is measured, or a measured
        job computed something wrong (1).
    """
    names = chosen(options.only, SECTIONS)
    check_outputs(options)
    show(_measure_all(names, options), options)
    return 0
