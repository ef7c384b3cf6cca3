"""The Go peer: a child process that runs one round for each line it is sent."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any


class Go:
    """The running program.

    Parameters
    ----------
    path : Path
        Of the program.
    """

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def round(self, name: str, count: int) -> dict[str, Any]:
        """Run one round of `count` jobs; the answer has its nanoseconds and what to check it by."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        stdin.write(f"{name} {count}\n")
        stdin.flush()
        answer: dict[str, Any] = json.loads(stdout.readline())
        return answer

    def close(self) -> None:
        """End the program, which does so when its input does."""
        self._process.communicate()
