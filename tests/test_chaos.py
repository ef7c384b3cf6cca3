"""Everything at once, at random, for twenty seconds: see `chaos`. ``make soak`` takes its time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import fastpool

SECONDS = 20
SEED = "tests"  # what each thread decides; how the threads are scheduled is another matter


def test_everything_at_once() -> None:
    """Conservation of jobs, each once, each future as its job, no threads, files or memory left: after each of many rounds."""
    here = Path(__file__).parent
    path = os.pathsep.join([str(Path(fastpool.__file__).parents[1]), str(here)])
    run = subprocess.run(
        [sys.executable, "-m", "chaos", "--seconds", str(SECONDS), "--seed", SEED],
        cwd=here,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=20 * SECONDS,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert int(run.stdout.split(" rounds")[0].split()[-1]) > 0
