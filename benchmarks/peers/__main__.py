"""``python -m benchmarks.peers``: fastpool against the best of other languages and libraries, in one run."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import fastpool
from benchmarks.peers import arrays, jobs
from benchmarks.peers.build import Missing
from benchmarks.peers.load import Load
from benchmarks.peers.peers import WORKERS, Peers
from benchmarks.peers.scale import FULL, QUICK, Context
from fastpool.bench.jobs import calibrate
from fastpool.bench.report import Findings, Report, Setting
from fastpool.bench.section import Section
from fastpool.cli import bench
from fastpool.cli.errors import CommandError
from fastpool.cli.machine import gil_state, python_name, usable_cpus

SECTIONS: dict[str, Callable[[Context], Section]] = {
    "dispatch": jobs.dispatch,
    "results": jobs.results,
    "loop": arrays.loop,
    "small": arrays.small,
    "compute-bound": arrays.compute_bound,
    "memory-bound": arrays.memory_bound,
}


@dataclass(frozen=True)
class PeerSetting(Setting):
    """A setting that says also who was there; the names are the JSON's.

    Attributes
    ----------
    peers : dict
        From peer to version.
    skipped : list of str
        Who was not there, and why.
    others : float or None
        CPUs that other processes used during the run, on average, where the system says so.
    verified : bool
        Whether each sample's results were checked. A wrong one ends the run, so no report says False.
    """

    peers: dict[str, str]
    skipped: list[str]
    others: float | None
    verified: bool = True

    def details(self) -> list[str]:
        versions = [f"{name}: {version}" for name, version in self.peers.items()]
        others = [] if self.others is None else [f"CPUs that other processes used meanwhile: {self.others:.2f}"]
        return [*versions, *others, "verified: the results of every sample were checked"]


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller counts")
    parser.add_argument("--only", action="append", metavar="SECTION", help=f"of: {', '.join(SECTIONS)}; repeatable")
    parser.add_argument("--repeat", type=int, metavar="N", help="timed rounds (default 9; 3 with --quick)")
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON; '-' is stdout")
    parser.add_argument("--plot", metavar="FILE", help="draw the report; needs matplotlib")
    options = parser.parse_args(arguments)
    if options.repeat is not None and options.repeat < 1:
        parser.error(f"--repeat: {options.repeat} is below 1")
    return options


def _setting(options: argparse.Namespace, peers: Peers, repeat: int, load: Load) -> PeerSetting:
    return PeerSetting(
        fastpool=fastpool.__version__,
        python=python_name(),
        gil=gil_state(),
        machine=f"{platform.system()} {platform.machine()}",
        cpus=usable_cpus(),
        workers=WORKERS,
        quick=options.quick,
        repeat=repeat,
        spins_per_us=calibrate(),
        peers=peers.versions(),
        skipped=peers.skipped,
        others=load.others(),
    )


def _measure(names: Sequence[str], context: Context, repeat: int) -> list[Findings]:
    sections = {name: SECTIONS[name](context) for name in names}
    return bench.measure_sections({name: section for name, section in sections.items() if section.cases}, repeat)


def _compare(options: argparse.Namespace) -> None:
    names = bench.chosen(options.only, SECTIONS)
    bench.check_outputs(options)
    scale = QUICK if options.quick else FULL
    repeat = options.repeat or scale.repeat
    stream = sys.stderr if options.json == "-" else sys.stdout
    load = Load()
    with Peers(lambda line: print(line, file=stream, flush=True)) as peers:
        try:
            findings = _measure(names, Context(peers, scale), repeat)
        except Missing as missing:  # what no comparison can do without
            raise CommandError(str(missing)) from missing
    bench.show(Report(_setting(options, peers, repeat, load), findings), options)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, and show what came out: 0, or 1 where a result was wrong, or 2 where an option cannot be met."""
    options = _parse(arguments)
    try:
        _compare(options)
    except CommandError as error:
        print(f"benchmarks.peers: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
