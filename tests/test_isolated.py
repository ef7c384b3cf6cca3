"""Exit, fork, signals, Ctrl-C, no threads, no memory: each case in an interpreter of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import native
import pytest

import fastpool

FOLDER = Path(__file__).with_name("isolated")

# Seconds after which a script counts as hung.
LIMIT = 60

# A script prints this unless said otherwise.
OK = "ok\n"

QUEUED = "main ends\nfirst\ncallback None\n0\n1\n2\na\nb\n"

# Script and arguments, what it prints, and its exit code.
EXITS = [
    ("exit_with_jobs_queued", QUEUED, 0),
    ("exit_with_jobs_queued exit", QUEUED, 3),
    ("exit_while_a_job_runs", "main ends\njob ends\n", 0),
    ("exit_of_pools_in_any_state", OK, 0),
    ("atexit_callbacks", "main ends\naccepted\n['a', 'b']\nposted\nrefused\nrefused\n", 0),
    ("exit_while_a_daemon_submits submit", "main ends\n", 0),
    ("exit_while_a_daemon_submits wait", "main ends\n", 0),
    ("exit_while_a_daemon_submits many", "main ends\n", 0),
    ("exit_then_a_thread_submits", "main ends\n45\n45\nposted\n", 0),
    ("exit_called_by_a_job", OK, 0),
    ("exit_called_by_a_job hard", OK, 5),
    ("exit_when_jobs_submit", "main ends\nrefused\n", 0),
]
FORKS = [
    ("fork_child_is_refused", f"the child's last job\n{OK}", 0),
    ("fork_and_fall_through", "the child's job\nthe parent's job\n", 0),
    ("fork_from_a_job", OK, 0),
    ("fork_while_others_submit", OK, 0),
    ("fork_by_multiprocessing", f"the child's last job\n{OK}", 0),
]
OTHERS = [
    ("signal_handler_submits", OK, 0),
    ("signal_handler_shuts_down", OK, 0),
    ("del_submits", OK, 0),
    ("pools_dropped_at_once", OK, 0),
    ("process_started_by_a_job", OK, 0),
]
WAITS = [
    "result",
    "wait_idle",
    "shutdown",
    "map",
    "imap_unordered",
    "submit",
    "submit_many",
    "map_array",
    "a_queued_map_array",
    "parallel_for",
    "a_queued_parallel_for",
    "submit_many_of_a_kernel",
    "a_result_of_many",
]


def start(case: str, *options: str, **variables: str) -> subprocess.Popen[str]:
    name, *arguments = case.split()
    # To find support.py, and the same fastpool as here.
    variables["PYTHONPATH"] = os.pathsep.join([str(FOLDER.parent), str(Path(fastpool.__file__).parents[1])])
    return subprocess.Popen(
        [sys.executable, *options, str(FOLDER / f"{name}.py"), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | variables,
    )


def end(process: subprocess.Popen[str]) -> tuple[str, str, int]:
    """Output, errors and exit code."""
    try:
        output, errors = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
        pytest.fail(f"hung; it printed {output!r} and {errors}")
    return output, errors, process.returncode


def check(case: str, output: str = OK, code: int = 0, **variables: str) -> None:
    """The script ends as it should: as it is, and with Python's checks of memory and warnings."""
    processes = [start(case, **variables), start(case, "-X", "dev", "-W", "error", **variables)]
    for printed, errors, returned in [end(process) for process in processes]:
        assert errors == ""
        assert (printed, returned) == (output, code)


@pytest.mark.parametrize(("case", "output", "code"), EXITS, ids=[case for case, *_ in EXITS])
def test_exit(case: str, output: str, code: int) -> None:
    check(case, output, code)


@pytest.mark.parametrize(("case", "output", "code"), FORKS, ids=[case for case, *_ in FORKS])
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_fork(case: str, output: str, code: int) -> None:
    check(case, output, code)


@pytest.mark.parametrize(("case", "output", "code"), OTHERS, ids=[case for case, *_ in OTHERS])
def test_reentry(case: str, output: str, code: int) -> None:
    check(case, output, code)


@pytest.mark.parametrize("wait", WAITS)
def test_ctrl_c_interrupts(wait: str) -> None:
    check(f"ctrl_c {wait}")


@pytest.mark.parametrize("where", ["leaving", "leaving_an_inner", "the_body", "asyncio"])
def test_ctrl_c_cancels_a_group(where: str) -> None:
    check(f"ctrl_c_in_a_group {where}")


def test_ctrl_c_ends_a_process_whose_exit_waits_for_ever() -> None:
    for process in [start("ctrl_c_at_exit"), start("ctrl_c_at_exit", "-X", "dev")]:
        output, errors, code = end(process)
        assert output == "main ends\ninterrupted\n"
        assert "KeyboardInterrupt" in errors
        assert code >= 0, errors


def test_a_message_at_exit_does_not_keep_jobs_from_running() -> None:
    assert end(start("exit_with_jobs_queued raise")) == (QUEUED, "with a message\n", 1)


def test_a_crash_in_a_job_shows_where_it_was() -> None:
    _, errors, code = end(start("crash_in_a_job"))
    assert code < 0
    assert "Segmentation fault" in errors
    assert "crashing_job" in errors


def test_another_interpreter_of_the_process_imports_or_is_told_that_it_cannot() -> None:
    pytest.importorskip("_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters")
    output, errors, code = end(start("subinterpreter"))
    assert (output, code) == (OK, 0), errors


@pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD is Linux's")
def test_where_no_thread_can_be_started_a_submit_is_refused() -> None:
    check("no_threads", LD_PRELOAD=native.compile_library(FOLDER / "fail_threads.c", "fail_threads.so"))


NO_MEMORY = pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")), reason="there the interpreter's own lists crash (3.13)"
)


@NO_MEMORY
@pytest.mark.parametrize(
    "way",
    ["submit", "submit_with_all", "submit_kernel", "submit_many", "submit_many_kernel", "post", "mapped", "array"],
)
def test_a_failed_allocation_queues_nothing(way: str) -> None:
    pytest.importorskip("_testcapi")
    check(f"no_memory {way}")


# From 3.12 on the interpreter's own heap suffers when it finds no memory for the dictionary of an object's attributes, and a
# worker that starts makes such objects in `threading`: on 3.13 valgrind shows set_dict_inline_values freeing them twice,
# and a debug build asserts, there in a worker that runs too.
START = pytest.param(
    "start", marks=pytest.mark.skipif(sys.version_info >= (3, 12), reason="the interpreter's heap suffers")
)
RUN = pytest.param("run", marks=pytest.mark.skipif(hasattr(sys, "gettotalrefcount"), reason="the interpreter asserts"))


@NO_MEMORY
@pytest.mark.parametrize("when", [RUN, "announce", START])
def test_a_failed_allocation_in_a_worker_loses_no_future(when: str) -> None:
    pytest.importorskip("_testcapi")
    check(f"no_memory_in_a_worker {when}")


def test_every_script_is_run() -> None:
    scripts = {path.stem for path in FOLDER.glob("*.py")} - {"forking", "interrupting"}  # which scripts import
    text = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert [script for script in sorted(scripts) if script not in text] == []
