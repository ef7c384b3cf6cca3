"""fastpool: a worker pool for Python whose core is C.

>>> import fastpool
>>> with fastpool.Pool() as pool:
...     pool.submit(sum, range(10)).result()
45
"""

from __future__ import annotations

import atexit as _atexit
import os as _os

from fastpool import _core
from fastpool._core import Future, Job, current_job
from fastpool._hooks import JobError
from fastpool._version import __version__
from fastpool.errors import (
    BrokenThreadPool,
    CancelledError,
    JobTimeout,
    NativeJobError,
    PoolError,
    PoolOverloaded,
    PoolShutdown,
    SubmitTimeout,
)
from fastpool.executor import ThreadPoolExecutor
from fastpool.group import Group
from fastpool.kernel import Kernel, kernel
from fastpool.metrics import Histogram, Metrics
from fastpool.pool import Pool
from fastpool.trace import Trace
from fastpool.view import View

__all__ = [
    "BrokenThreadPool",
    "CancelledError",
    "Future",
    "Group",
    "Histogram",
    "Job",
    "JobError",
    "JobTimeout",
    "Kernel",
    "Metrics",
    "NativeJobError",
    "Pool",
    "PoolError",
    "PoolOverloaded",
    "PoolShutdown",
    "SubmitTimeout",
    "ThreadPoolExecutor",
    "Trace",
    "View",
    "__version__",
    "current_job",
    "get_include",
    "kernel",
]


def get_include() -> str:
    """The directory of ``fastpool.h``, for the ``include_dirs`` of an extension module that submits native jobs.

    Examples
    --------
    >>> import os, fastpool
    >>> os.path.isfile(os.path.join(fastpool.get_include(), "fastpool.h"))
    True
    """
    return _os.path.join(_os.path.dirname(__file__), "include")


# Interpreter exit drains like ThreadPoolExecutor. atexit runs after the non-daemon threads have ended, so unlike there
# they may submit to the last.
_atexit.register(_core.drain_all)
