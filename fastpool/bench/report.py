"""What a run found, and its JSON form.

The JSON is one object::

    {
      "schema": 1,
      "fastpool": "1.0.0",            versions
      "python": "CPython 3.13.0",
      "gil": "GIL",                   or "free-threaded", "free-threaded build, GIL on"
      "machine": "Linux x86_64",
      "cpus": 2,                      usable by this process
      "workers": 2,                   of each pool, where a section says nothing else
      "quick": false,
      "repeat": 5,                    samples of each figure
      "spins_per_us": 21.5,           iterations of the timed Python job in a microsecond
      "sections": [
        {
          "name": "empty",            as --only takes it
          "title": "empty Python jobs",
          "unit": "ns",               "ns" or "B", for one job
          "baseline": "ThreadPoolExecutor",
          "notes": [],                what follows from several figures, a line each
          "figures": [
            {
              "peer": "fastpool submit",
              "jobs": 100000,         in one sample
              "best": 80.1,           null where it cannot be known, as are the next three
              "median": 84.0,
              "ratio": 101.3,         best of the baseline divided by this best
              "median_ratio": 98.7,   the same of the medians: far from `ratio`, the figure is
                                      now this and now that, and the best is luck
              "samples": [80.1, 84.0] in the order they were taken
            }
          ]
        }
      ]
    }

New keys may be added under the same schema number; what is there keeps its meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fastpool.bench.measure import Figure

SCHEMA = 1


def _quotient(baseline: float | None, value: float | None) -> float | None:
    return baseline / value if baseline and value else None


@dataclass(frozen=True)
class Findings:
    """One section's figures."""

    name: str
    title: str
    unit: str
    baseline: str
    figures: Sequence[Figure]
    notes: Sequence[str] = ()

    def ratio(self, figure: Figure) -> float | None:
        """Tell how many times as fast, or as small, as the baseline a figure is at its best.

        Parameters
        ----------
        figure : Figure
            One of this section's.

        Returns
        -------
        float or None
            Above 1 is better than the baseline; None where a figure is missing.
        """
        return _quotient(self._base().best, figure.best)

    def median_ratio(self, figure: Figure) -> float | None:
        """Do as `ratio`, with the medians."""
        return _quotient(self._base().median, figure.median)

    def _base(self) -> Figure:
        return next(figure for figure in self.figures if figure.peer == self.baseline)

    def to_json(self) -> dict[str, object]:
        """Return the section as the JSON object described above."""
        return {
            "name": self.name,
            "title": self.title,
            "unit": self.unit,
            "baseline": self.baseline,
            "notes": list(self.notes),
            "figures": [
                {
                    "peer": figure.peer,
                    "jobs": figure.jobs,
                    "best": figure.best,
                    "median": figure.median,
                    "ratio": self.ratio(figure),
                    "median_ratio": self.median_ratio(figure),
                    "samples": list(figure.samples),
                }
                for figure in self.figures
            ],
        }


@dataclass(frozen=True)
class Setting:
    """Under what the figures were taken; the names are the JSON's."""

    fastpool: str
    python: str
    gil: str
    machine: str
    cpus: int
    workers: int
    quick: bool
    repeat: int
    spins_per_us: float

    def summary(self) -> str:
        """Return it as the line that stands above the figures."""
        return (
            f"fastpool {self.fastpool}, {self.python} ({self.gil}), {self.machine}, "
            f"{self.cpus} CPUs, {self.workers} workers, best of {self.repeat}"
        )

    def details(self) -> list[str]:
        """Return what else a reader of the table should know, a line each."""
        return [f"timed Python jobs: {self.spins_per_us:.1f} iterations a microsecond"]


@dataclass
class Report:
    """All that a run found."""

    setting: Setting
    sections: list[Findings] = field(default_factory=list)

    def to_json(self) -> dict[str, object]:
        """Return the report as the JSON object described above."""
        return {
            "schema": SCHEMA,
            **vars(self.setting),
            "sections": [findings.to_json() for findings in self.sections],
        }
