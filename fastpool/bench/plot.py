"""The report as one figure: horizontal bars on a logarithmic axis, a panel for each section."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastpool.bench.report import Findings, Report
from fastpool.bench.units import show, show_ratio

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_OURS, _BASELINE, _OTHERS = "#1b7f5c", "#4a5568", "#b8c1cc"
_TEXT, _GRID = "#2d3748", "#e2e8f0"
_COLUMN_INCHES = 7.0
_BAR_INCHES = 0.26
# What a panel needs besides its bars, counted in bars: the title above and the axis below.
_PANEL_BARS = 2.8
_HEADER_INCHES = 0.8


def _colour(findings: Findings, peer: str) -> str:
    if peer == findings.baseline:
        return _BASELINE
    return _OURS if peer.startswith("fastpool") else _OTHERS


def _decade(value: float, unit: str) -> str:
    return f"{value:g} {unit}" if value < 1.0 else show(value, unit, digits=1)


def _draw_axis(axes: Axes, findings: Findings, best: list[float]) -> None:
    """Make the axis logarithmic, from the decade below the shortest bar, with a line a decade."""
    first = math.floor(math.log10(min(best)))
    low, high = 10.0**first, max(best)
    axes.set_xscale("log")
    # Two fifths more, for the figures beside the bars.
    axes.set_xlim(low, high * (high / low) ** 0.4)
    decades = [10.0**power for power in range(first, math.floor(math.log10(high)) + 1)]
    axes.set_xticks(decades, [_decade(value, findings.unit) for value in decades])
    axes.set_xticks([], minor=True)
    axes.grid(axis="x", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", length=0, labelsize=7, labelcolor=_TEXT)


def _draw_panel(axes: Axes, findings: Findings) -> None:
    known = [figure for figure in findings.figures if figure.best]
    best = [figure.best or 0.0 for figure in known]
    axes.barh(
        range(len(known)),
        best,
        color=[_colour(findings, figure.peer) for figure in known],
        height=0.72,
    )
    for row, figure in enumerate(known):
        is_baseline = figure.peer == findings.baseline
        ratio = "" if is_baseline else show_ratio(findings.ratio(figure))
        axes.annotate(
            f"{show(figure.best, findings.unit)}   {ratio}",
            (best[row], row),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=_TEXT,
        )
    axes.set_title(findings.title, loc="left", fontsize=9, fontweight="bold", color=_TEXT)
    axes.set_yticks(range(len(known)), [figure.peer for figure in known])
    axes.tick_params(axis="y", length=0, labelsize=8, labelcolor=_TEXT)
    axes.set_ylim(len(known) - 0.5, -0.5)
    axes.spines[:].set_visible(False)
    notes = [textwrap.fill(note, 84) for note in findings.notes]
    axes.set_xlabel("\n".join(notes), loc="left", fontsize=7, color=_TEXT)
    if best:
        _draw_axis(axes, findings, best)


def _bars(sections: Sequence[Findings]) -> float:
    """Tell how high a column of panels is, in bars."""
    return sum(len(findings.figures) + _PANEL_BARS for findings in sections)


def _columns(sections: Sequence[Findings]) -> list[Sequence[Findings]]:
    """Split the sections into two columns as equal as their order allows; few stay in one."""
    if len(sections) < 4:
        return [sections]
    splits = [(sections[:cut], sections[cut:]) for cut in range(1, len(sections))]
    return list(min(splits, key=lambda split: max(map(_bars, split))))


def save_plot(report: Report, path: str) -> None:
    """Draw the report.

    Parameters
    ----------
    report : Report
        What was found.
    path : str
        The image; its ending says the format.

    Raises
    ------
    ModuleNotFoundError
        If matplotlib, which the extra ``fastpool[plot]`` brings, is not installed.
    """
    # The class and not pyplot, which has global state and may look for a display.
    from matplotlib.figure import Figure

    columns = _columns(report.sections)
    height = _HEADER_INCHES + _BAR_INCHES * max(map(_bars, columns))
    figure = Figure(figsize=(_COLUMN_INCHES * len(columns), height), layout="constrained")
    parts = figure.subfigures(1, len(columns), squeeze=False)[0]
    for part, sections in zip(parts, columns, strict=True):
        sizes = [len(findings.figures) for findings in sections]
        panels = part.subplots(len(sections), 1, squeeze=False, height_ratios=sizes)[:, 0]
        for axes, findings in zip(panels, sections, strict=True):
            _draw_panel(axes, findings)
    figure.suptitle(
        "Cost of one job, on a logarithmic axis: shorter is better. "
        "\N{MULTIPLICATION SIGN}: how many times better than the dark bar.\n"
        + textwrap.fill(report.setting.summary(), int(14 * _COLUMN_INCHES * len(columns))),
        fontsize=10,
        color=_TEXT,
    )
    figure.savefig(path, dpi=150, facecolor="white")


def supported_formats() -> dict[str, str]:
    """List the image formats that can be written.

    Returns
    -------
    dict
        From file ending, without its dot, to a description.

    Raises
    ------
    ModuleNotFoundError
        If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    return Figure().canvas.get_supported_filetypes()
