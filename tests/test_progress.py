"""map_array's progress=True: a bar on stderr while it runs, on a terminal only, and nothing of it afterwards."""

from __future__ import annotations

import ctypes
import importlib.util
import io
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import WAIT, Held, idle_metrics, reached
from test_isolated import LIMIT

import fastpool
from fastpool import _core, _progress, kernels

MakePool = Callable[..., fastpool.Pool]

SCRIPT = Path(__file__).with_name("terminal") / "show_progress.py"
DONE = "[-0.0, -1.0, -2.0, -3.0]\n"


class Screen:
    """What a process writes to its terminal."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self.text = ""

    def _read(self) -> str:
        try:
            return os.read(self._terminal, 4096).decode()
        except OSError:  # what Linux says when the last writer has gone
            return ""

    def until(self, pattern: str) -> None:
        while not re.search(pattern, self.text):
            text = self._read()
            assert text, f"{pattern} did not come: {self.text!r}"
            self.text += text

    def until_end(self) -> None:
        while text := self._read():
            self.text += text

    def is_empty(self) -> bool:
        """Whether nothing is left to see: after the last end of a line, or its erasure, there are blanks alone."""
        seen = re.split(r"\x1b\[2K|\r", self.text)[-1]
        return not re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", seen).strip()


class Run:
    """terminal/show_progress.py with `screen` as its stderr."""

    def __init__(self, *arguments: str) -> None:
        ours, theirs = pty.openpty()
        self.screen = Screen(ours)
        path = os.pathsep.join([str(SCRIPT.parents[1]), os.path.dirname(os.path.dirname(fastpool.__file__))])
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=theirs,
            text=True,
            env=os.environ | {"PYTHONPATH": path, "TERM": "xterm", "COLUMNS": "80"},
        )
        os.close(theirs)

    def end(self, line: str = "") -> str:
        """What it prints until its end, having read `line`."""
        printed, _ = self.process.communicate(line, timeout=LIMIT)
        self.screen.until_end()
        assert self.process.returncode == 0, self.screen.text
        return printed


@pytest.fixture
def run() -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def start(*arguments: str) -> Run:
        if "rich" in arguments:
            pytest.importorskip("rich")
        runs.append(Run(*arguments))
        return runs[-1]

    yield start
    for each in runs:
        each.process.kill()
        each.process.communicate()
        os.close(each.screen._terminal)


@pytest.fixture(params=["ufunc", "kernel"])
def what(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["rich", "plain"])
def look(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_bar_is_shown_while_the_array_is_computed_and_reaches_its_end(
    run: Callable[..., Run], what: str, look: str
) -> None:
    shown = run(what, look)
    shown.screen.until("(25|50|75) ?%")
    assert not re.search("100 ?%", shown.screen.text)
    assert shown.process.poll() is None
    assert shown.end("go on\n") == DONE
    assert re.search("100 ?%", shown.screen.text)
    assert {"ufunc": "wait_half_way", "kernel": "ctypes"}[what] in shown.screen.text
    assert shown.screen.is_empty(), shown.screen.text


def test_ctrl_c_erases_the_bar_and_is_raised_and_nothing_more_begins(
    run: Callable[..., Run], what: str, look: str
) -> None:
    shown = run(what, look)
    shown.screen.until("(25|50|75) ?%")
    shown.process.send_signal(signal.SIGINT)
    assert shown.end() == {"ufunc": "interrupted\n", "kernel": "interrupted, 3 began\n"}[what]
    assert shown.screen.is_empty(), shown.screen.text


def test_nothing_is_shown_unless_asked_for(run: Callable[..., Run], what: str) -> None:
    shown = run(what, "off")
    assert shown.end("go on\n") == DONE
    assert shown.screen.text == ""


def test_nothing_is_written_where_stderr_is_no_terminal(pool: fastpool.Pool, capfd: pytest.CaptureFixture[str]) -> None:
    x = np.arange(1000.0)
    assert np.array_equal(pool.map_array(np.negative, x, grain=10, progress=True), -x)
    assert np.array_equal(pool.map_array(kernels.identity, x, progress=True), x)
    assert capfd.readouterr() == ("", "")


def test_nothing_is_written_where_there_is_no_stderr(single: fastpool.Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert single.map_array(np.negative, [1], progress=True).tolist() == [-1]
    assert single.map_array(kernels.identity, [1], progress=True).tolist() == [1]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """The plain bar's."""
    stderr = Terminal()
    # Not sys.stderr itself, which pytest changes between a fixture and its test.
    monkeypatch.setattr(_progress, "sys", types.SimpleNamespace(stderr=stderr))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    return stderr


@pytest.mark.parametrize("shape", [(0,), (1,), (30, 20)], ids=str)
@pytest.mark.parametrize("kernel", [np.negative, kernels.identity], ids=["ufunc", "kernel"])
def test_arrays_of_any_size_have_a_bar(
    pool: fastpool.Pool, terminal: Terminal, kernel: Any, shape: tuple[int, ...]
) -> None:
    out = np.empty(shape)
    assert pool.map_array(kernel, np.ones(shape), out=out, grain=7, progress=True) is out
    assert np.all(np.abs(out) == 1)
    if out.size:
        assert "100 %" in terminal.getvalue()


@pytest.mark.parametrize("kernel", [np.negative, kernels.identity], ids=["ufunc", "kernel"])
def test_a_job_of_the_same_pool_may_show_its_progress(single: fastpool.Pool, terminal: Terminal, kernel: Any) -> None:
    result = single.submit(lambda: single.map_array(kernel, np.ones(100), grain=1, progress=True)).result(WAIT)
    assert np.all(np.abs(result) == 1)
    assert "100 %" in terminal.getvalue()
    idle_metrics(single)


def test_an_error_erases_the_bar_and_is_raised(pool: fastpool.Pool, terminal: Terminal) -> None:
    with np.errstate(all="raise"), pytest.raises(FloatingPointError):
        pool.map_array(np.divide, 1.0, np.zeros(100), grain=10, progress=True)
    with pytest.raises(TypeError, match="takes 1 arrays"):
        pool.map_array(kernels.identity, 1.0, 2.0, progress=True)
    assert terminal.getvalue().endswith("\r")


@pytest.mark.filterwarnings("ignore")
def test_an_array_that_never_starts_ends_the_bar(make_pool: MakePool, terminal: Terminal) -> None:
    for kernel in (np.negative, kernels.identity):
        with pytest.raises(fastpool.BrokenThreadPool):
            make_pool(1, initializer=lambda: 1 / 0).map_array(kernel, np.ones(5), progress=True)


@pytest.mark.parametrize("progress", [1, 0, None, "yes", np.True_])
def test_progress_is_true_or_false(single: fastpool.Pool, progress: Any) -> None:
    for kernel in (np.negative, kernels.identity):
        with pytest.raises(TypeError, match="progress must be True or False, not "):
            single.map_array(kernel, [1.0], progress=progress)
    assert single.metrics().jobs_submitted == 0


# --- how far a kernel's array is ---


def test_the_elements_done_are_none_before_and_all_after(single: fastpool.Pool) -> None:
    with Held(single):
        future = single.submit_array(kernels.identity, np.ones(50))
        assert (_core.elements_done(future), _core.elements_total(future)) == (0, 50)
    future.result(WAIT)
    idle_metrics(single)
    single.submit(int).result(WAIT)  # whoever comes next drops what the kernel's workers have left
    assert (_core.elements_done(future), _core.elements_total(future)) == (50, 50)


def test_an_array_that_was_cancelled_is_done_with_nothing(single: fastpool.Pool) -> None:
    with Held(single):
        future = single.submit_array(kernels.identity, np.ones(50))
        assert future.cancel()
    idle_metrics(single)
    single.submit(int).result(WAIT)
    assert (_core.elements_done(future), _core.elements_total(future)) == (0, 0)
    future.cancel()


def test_a_cancelled_array_lets_what_is_under_way_end_and_begins_nothing(single: fastpool.Pool) -> None:
    inside, opened = threading.Event(), threading.Event()

    def hold(x: float) -> float:
        inside.set()
        reached(opened)
        return x

    kernel = fastpool.kernel(ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(hold))
    out = np.full(10, -1.0)
    future = single.submit_array(kernel, np.ones(10), out=out, grain=1)
    reached(inside)
    future.cancel()
    opened.set()
    with pytest.raises(fastpool.CancelledError):
        future.result(WAIT)
    assert out.tolist() == [1.0] + [-1.0] * 9
    assert idle_metrics(single).jobs_cancelled == 9
