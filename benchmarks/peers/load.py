"""How busy other processes kept the machine: the CPUs that they had, no peer could have."""

from __future__ import annotations

import os
import time
from pathlib import Path

_STAT = Path("/proc/stat")


class Load:
    """What was used from its making on."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._others = _others()

    def others(self) -> float | None:
        """CPUs that other processes used, on average; None where the system does not say.

        Child processes count as others until they have ended and been waited for.
        """
        now = _others()
        if self._others is None or now is None:
            return None
        return max(0.0, now - self._others) / (time.monotonic() - self._begin)


def _others() -> float | None:
    """CPU seconds used by the whole system, less those of this process and its children."""
    try:
        columns = _STAT.read_text().partition("\n")[0].split()
    except OSError:
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, columns[1:9])
    used = user + nice + system + irq + softirq + steal
    return used / os.sysconf("SC_CLK_TCK") - sum(os.times()[:4])
