"""Everything at once, at random: some seconds of what ``make soak`` does for ten minutes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastpool

SECONDS = 18
SEED = "make-test"
LIMIT = SECONDS + 110  # seconds: a round that hangs says so itself before that (chaos.watch)


def test_chaos() -> None:
    folder = Path(__file__).parent
    path = os.pathsep.join([str(folder), str(Path(fastpool.__file__).parents[1])])
    command = [sys.executable, "-m", "chaos", "--seconds", str(SECONDS), "--seed", SEED]
    try:
        ended = subprocess.run(
            command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=LIMIT
        )
    except subprocess.TimeoutExpired as hung:
        pytest.fail(f"hung: {hung.stderr!r}")
    assert ended.returncode == 0, ended.stdout + ended.stderr
