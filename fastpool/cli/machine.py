"""What a figure has to be read with: the Python, its GIL, and the CPUs of this process."""

from __future__ import annotations

import os
import platform
import sys
import sysconfig

from fastpool import _core


def gil_state() -> str:
    """Say whether the GIL is on, and whether this build could do without it.

    Returns
    -------
    str
        "GIL", "free-threaded" or "free-threaded build, GIL on".
    """
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "GIL"
    # Importing an extension that does not declare itself safe turns the GIL back on.
    enabled: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
    return "free-threaded build, GIL on" if enabled else "free-threaded"


def usable_cpus() -> int:
    """Count the CPUs that this process may be scheduled on.

    Returns
    -------
    int
        From the affinity mask where the system has one, else all CPUs; at least 1.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def python_name() -> str:
    """Name the interpreter.

    Returns
    -------
    str
        As "CPython 3.13.0".
    """
    return f"{platform.python_implementation()} {platform.python_version()}"


def default_workers() -> int:
    """Count the workers that a pool has when it is not told.

    Returns
    -------
    int
        From the affinity mask and the cgroup's quota; at least 1.
    """
    return _core.usable_cpus()
