"""Another interpreter of the process gets an ImportError or a module that works; the first one's pool goes on."""

from __future__ import annotations

import sys

try:
    import _interpreters as interpreters  # type: ignore[import-not-found]
except ImportError:
    import _xxsubinterpreters as interpreters  # type: ignore[import-not-found, no-redef]

import fastpool

SCRIPT = """
try:
    import fastpool
except (ImportError, Warning):  # of numpy's, under -W error
    pass
else:
    with fastpool.Pool(1) as pool:
        assert pool.submit(str, 5).result(10) == "5"
"""

pool = fastpool.Pool(1)
assert pool.submit(int).result() == 0
try:
    own = interpreters.create("legacy") if sys.version_info >= (3, 13) else interpreters.create(isolated=False)
except TypeError:
    own = interpreters.create()
problem = interpreters.run_string(own, SCRIPT)
assert problem is None, problem
interpreters.destroy(own)
assert pool.submit(int).result() == 0
print("ok")
