"""The closing table, by rich when it is installed and in plain columns when not."""

from __future__ import annotations

import importlib.util
from typing import TextIO

from fastpool.bench.measure import Figure
from fastpool.bench.report import Findings, Report
from fastpool.bench.units import show, show_ratio

_COLUMNS = ("", "jobs", "best, a job", "median", "ratio", "of medians")


def _row(findings: Findings, figure: Figure) -> tuple[str, ...]:
    is_baseline = figure.peer == findings.baseline
    return (
        figure.peer,
        f"{figure.jobs:,}",
        show(figure.best, findings.unit),
        show(figure.median, findings.unit),
        "baseline" if is_baseline else show_ratio(findings.ratio(figure)),
        "" if is_baseline else show_ratio(findings.median_ratio(figure)),
    )


def _write_rich(findings: Findings, stream: TextIO) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, title=Text(findings.title, style="bold"), title_justify="left")
    for column in _COLUMNS:
        # A file has no width to fit into, and a name cut short could not be searched for.
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for figure in findings.figures:
        style = "bold green" if figure.peer.startswith("fastpool") else None
        table.add_row(*_row(findings, figure), style=style)
    Console(file=stream, width=None if stream.isatty() else 120).print(table)


def _write_plain(findings: Findings, stream: TextIO) -> None:
    rows = [_COLUMNS, *(_row(findings, figure) for figure in findings.figures)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    stream.write(f"{findings.title}\n")
    for row in rows:
        name, *values = (
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        stream.write("  " + "  ".join([name, *values]).rstrip() + "\n")


def write_table(report: Report, stream: TextIO) -> None:
    """Write the report for people.

    Parameters
    ----------
    report : Report
        What was found.
    stream : text file
        Where it goes; colours are used when it is a terminal and rich is installed.
    """
    write_section = _write_rich if importlib.util.find_spec("rich") else _write_plain
    for line in (report.setting.summary(), *report.setting.details(), ""):
        stream.write(f"{line}\n")
    for findings in report.sections:
        write_section(findings, stream)
        for note in findings.notes:
            stream.write(f"  {note}\n")
        stream.write("\n")
    stream.write("ratio: the baseline's best divided by this one's, and its median by this one's; above 1 is better\n")
