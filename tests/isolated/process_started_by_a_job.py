"""A process that a job starts has the signal mask of the program, so that it can be ended."""

from __future__ import annotations

import subprocess
import sys

import fastpool

command = [sys.executable, "-c", "import signal; print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])))"]
here = subprocess.check_output(command)
with fastpool.Pool(1) as pool:
    assert pool.submit(subprocess.check_output, command).result() == here
    sleeper = pool.submit(subprocess.Popen, ["sleep", "1000"]).result()
    sleeper.terminate()
    assert sleeper.wait(10) == -15
print("ok")
