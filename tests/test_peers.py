"""benchmarks/peers: it runs with next to no peers, and says which are missing. The figures are nobody's business here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Everything that may be missing is: two headers, and two modules, which None stands for in sys.modules.
WITHOUT_PEERS = """
import dataclasses, pathlib, sys
from benchmarks.peers import __main__, build

build.BUILD = pathlib.Path(sys.argv[1])
build.OPENMP, build.TBB = (
    dataclasses.replace(program, header=f"no-such/{program.header}") for program in (build.OPENMP, build.TBB)
)
sys.modules["numba"] = sys.modules["numexpr"] = None
sys.exit(__main__.main(sys.argv[2:]))
"""


def compare(build: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_PEERS, str(build), "--quick", "--only", "small", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler on this machine")
def test_missing_peers_are_passed_over(tmp_path: Path) -> None:
    done = compare(tmp_path, "--repeat", "1", "--json", "-")
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    for line in (
        "skipped: OpenMP: no-such/omp.h not found (Debian: gcc)",
        "skipped: numba: import of numba halted; None in sys.modules (pip install numba)",
        "skipped: numexpr: import of numexpr halted; None in sys.modules (pip install numexpr)",
    ):
        assert lines.count(line) == 1, done.stderr
    assert sum(line.startswith("skipped: oneTBB: ") for line in lines) == 1
    assert "verified: the results of every sample were checked" in lines
    report = json.loads(done.stdout)
    assert report["verified"] is True
    assert [section["name"] for section in report["sections"]] == ["small"]
    peers = [figure["peer"] for figure in report["sections"][0]["figures"]]
    assert "fastpool map_array" in peers and "NumPy, one thread" in peers
    assert not any("TBB" in peer or "OpenMP" in peer or "numba" in peer for peer in peers)


def test_without_a_c_compiler_there_is_nothing_to_compare(tmp_path: Path) -> None:
    done = compare(tmp_path, CC="no-such-compiler")
    assert done.returncode == 2
    assert done.stderr == "benchmarks.peers: C: no compiler no-such-compiler (Debian: gcc)\n"
