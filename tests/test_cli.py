"""The command line: what it prints, writes and refuses. Figures are checked for sense, not size."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastpool
import fastpool.kernels
from fastpool import _progress as progress
from fastpool.__main__ import main
from fastpool.bench import section
from fastpool.bench.measure import Case, Figure, WrongResult, equals, measure, timed
from fastpool.bench.report import Findings, Report, Setting
from fastpool.bench.sections import SECTIONS
from fastpool.bench.table import write_table
from fastpool.cli import run

CDF = "fastpool.kernels:normal_cdf"
CALL = "fastpool.kernels:black_scholes_call"

# Enough of everything to go down each path, and done in a moment.
TINY = section.Scale(
    repeat=2,
    jobs=64,
    process_jobs=8,
    trips=4,
    work_jobs=16,
    work_us=400,
    options=5_000,
    single_options=50,
    queued=500,
    queued_repeat=1,
)


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fastpool", *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        timeout=300,
        check=False,
    )


def call(*arguments: str | Path) -> int:
    """Do as `command` does, without the price of a process."""
    return main([str(argument) for argument in arguments])


def normal_cdf(x: np.ndarray) -> np.ndarray:
    flat = [0.5 * math.erfc(-value / math.sqrt(2)) for value in x.ravel().tolist()]
    return np.array(flat).reshape(x.shape)


def save(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


@pytest.fixture
def x_file(tmp_path: Path) -> Path:
    return save(tmp_path / "x.npy", np.linspace(-4, 4, 2_500))


# --- the commands themselves ---


def test_no_command_is_refused() -> None:
    done = command()
    assert done.returncode == 2
    assert "usage" in done.stderr


def test_info_names_versions_and_kernels() -> None:
    done = command("info")
    assert done.returncode == 0, done.stderr
    assert fastpool.__version__ in done.stdout
    assert np.__version__ in done.stdout
    kernel = next(line for line in done.stdout.splitlines() if CDF in line)
    assert fastpool.kernels.normal_cdf.signature in kernel


# --- run: what it computes ---


def test_run_writes_what_the_kernel_computes(x_file: Path) -> None:
    out = x_file.with_name("out.npy")
    done = command("run", CDF, x_file, out, "--workers", "2", "--grain", "100")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2500 elements in ")
    assert "2 workers" in done.stdout
    assert done.stderr == ""
    np.testing.assert_allclose(np.load(out), normal_cdf(np.load(x_file)), rtol=1e-9)


def test_run_gives_every_slice_its_own_elements(x_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "SLICE_ELEMENTS", 999)
    out = x_file.with_name("out.npy")
    assert call("run", CDF, x_file, out) == 0
    np.testing.assert_allclose(np.load(out), normal_cdf(np.load(x_file)), rtol=1e-9)


def test_run_takes_an_input_for_each_argument(tmp_path: Path) -> None:
    spot = save(tmp_path / "spot.npy", np.full((3, 4), 100.0))
    strike = save(tmp_path / "strike.npy", np.linspace(80, 120, 12).reshape(3, 4))
    years = save(tmp_path / "years.npy", np.array(1.0))
    out = tmp_path / "out.npy"
    assert call("run", CALL, spot, strike, years, out) == 0
    prices = np.load(out)
    assert prices.shape == (3, 4)
    # At rate 0.05 and volatility 0.2, the textbook's option at the money costs 10.4506.
    assert (np.diff(prices.ravel()) < 0).all()
    assert prices.min() < 10.4506 < prices.max()


@pytest.mark.parametrize(
    "array",
    [np.array(0.5), np.empty(0), np.arange(12).reshape(3, 4), np.ones((2, 1, 3), dtype=">f4")],
    ids=["scalar", "empty", "integers", "big-endian"],
)
def test_run_keeps_the_shape_and_casts_safely(tmp_path: Path, array: np.ndarray) -> None:
    out = tmp_path / "out.npy"
    assert call("run", CDF, save(tmp_path / "in.npy", array), out) == 0
    result = np.load(out)
    assert result.dtype == np.float64
    assert result.shape == array.shape
    np.testing.assert_allclose(result, normal_cdf(array.astype(float)), rtol=1e-6)


def test_run_replaces_the_target_of_a_link_and_keeps_the_link(x_file: Path) -> None:
    target = x_file.with_name("target.npy")
    target.write_bytes(b"old")
    link = x_file.with_name("link.npy")
    link.symlink_to(target)
    assert call("run", CDF, x_file, link) == 0
    assert link.is_symlink()
    assert np.load(target).shape == (2_500,)


# --- run: what it refuses ---


def _missing(folder: Path) -> Path:
    return folder / "missing.npy"


def _text(folder: Path) -> Path:
    path = folder / "text.npy"
    path.write_text("not an array")
    return path


def _nothing(folder: Path) -> Path:
    path = folder / "nothing.npy"
    path.touch()
    return path


def _cut_short(folder: Path) -> Path:
    path = save(folder / "cut.npy", np.zeros(1000))
    os.truncate(path, 4000)
    return path


def _cut_header(folder: Path) -> Path:
    path = save(folder / "header.npy", np.zeros(1000))
    os.truncate(path, 40)
    return path


def _complex(folder: Path) -> Path:
    return save(folder / "complex.npy", np.zeros(3, complex))


def _records(folder: Path) -> Path:
    return save(folder / "records.npy", np.zeros(3, [("a", "f8")]))


def _objects(folder: Path) -> Path:
    path = folder / "objects.npy"
    np.save(path, np.array([{}]), allow_pickle=True)
    return path


def _fortran(folder: Path) -> Path:
    return save(folder / "fortran.npy", np.asfortranarray(np.zeros((3, 4))))


def _archive(folder: Path) -> Path:
    path = folder / "archive.npz"
    np.savez(path, a=np.zeros(3))
    return path


def _folder(folder: Path) -> Path:
    return folder


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_missing, "No such file"),
        (_folder, "directory"),
        (_text, "not an .npy file"),
        (_nothing, "not an .npy file"),
        (_archive, "not an .npy file"),
        (_cut_short, "cannot be mapped"),
        (_cut_header, "cannot be mapped"),
        (_objects, "Python objects"),
        (_complex, "does not cast safely"),
        (_records, "records"),
        (_fortran, "Fortran order"),
    ],
)
def test_run_refuses_an_input_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: object, words: str
) -> None:
    assert callable(make)
    bad = make(tmp_path)
    before = sorted(os.listdir(tmp_path))
    assert call("run", CDF, bad, tmp_path / "out.npy") == 2
    message = capsys.readouterr().err
    assert message.startswith(f"fastpool run: {bad}: ")
    assert words in message
    assert message.count("\n") == 1
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize(
    "name",
    ["fastpool.kernels:no_such_kernel", "no_such_module:kernel", "no_colon", "math:sqrt", ":"],
)
def test_run_refuses_what_is_no_kernel(x_file: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert call("run", name, x_file, x_file.with_name("out.npy")) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"fastpool run: {name}: ")
    assert message.count("\n") == 1


def test_run_refuses_the_wrong_number_of_inputs(x_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = x_file.with_name("out.npy")
    assert call("run", CALL, x_file, x_file, out) == 2
    assert "takes 3 input files, and 2 were given" in capsys.readouterr().err
    assert call("run", CDF, x_file, x_file, out) == 2
    assert "takes 1 input file, and 2 were given" in capsys.readouterr().err


def test_run_refuses_inputs_of_unlike_shapes(x_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = save(x_file.with_name("short.npy"), np.ones(7))
    assert call("run", CALL, x_file, short, x_file, x_file.with_name("out.npy")) == 2
    assert "shape (7,) differs from the (2500,)" in capsys.readouterr().err


def test_run_refuses_an_output_that_is_an_input(x_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    link = x_file.with_name("link.npy")
    link.symlink_to(x_file)
    content = x_file.read_bytes()
    for output in (x_file, link):
        assert call("run", CDF, x_file, output) == 2
        assert "same file as the input" in capsys.readouterr().err
    assert x_file.read_bytes() == content


def test_run_refuses_an_output_that_cannot_be_put_in_place(x_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("run", CDF, x_file, x_file.parent / "none" / "out.npy") == 2
    assert "folder does not exist" in capsys.readouterr().err
    assert call("run", CDF, x_file, x_file.parent) == 2
    assert "not a regular file" in capsys.readouterr().err


def test_run_shows_no_traceback(tmp_path: Path) -> None:
    done = command("run", CDF, _missing(tmp_path), tmp_path / "out.npy")
    assert done.returncode == 2
    assert done.stderr.startswith("fastpool run: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.parametrize("option", ["--workers", "--grain"])
@pytest.mark.parametrize("value", ["0", "-3", "many"])
def test_run_refuses_counts_below_one(x_file: Path, option: str, value: str) -> None:
    with pytest.raises(SystemExit) as stop:
        call("run", CDF, x_file, x_file.with_name("out.npy"), f"{option}={value}")
    assert stop.value.code == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [(KeyboardInterrupt(), 130), (fastpool.PoolError("it broke"), 1), (OSError(28, "full"), 1)],
    ids=["interrupt", "pool", "disk"],
)
def test_run_that_stops_halfway_leaves_the_old_output(
    x_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
) -> None:
    def stop_halfway(pool: fastpool.Pool, task: object, output: np.ndarray) -> None:
        output[:10] = 7.0
        raise error

    monkeypatch.setattr(run, "_run_slices", stop_halfway)
    out = x_file.with_name("out.npy")
    out.write_bytes(b"old")
    assert call("run", CDF, x_file, out) == code
    assert out.read_bytes() == b"old"
    assert sorted(os.listdir(x_file.parent)) == ["out.npy", "x.npy"]
    assert capsys.readouterr().err.startswith("fastpool run: ")


# --- bench ---


def test_bench_measures_and_writes_json() -> None:
    done = command("bench", "--quick", "--only", "round-trip", "--repeat", "1", "--json", "-")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["schema"] == 1
    assert report["repeat"] == 1
    (findings,) = report["sections"]
    assert findings["name"] == "round-trip"
    assert findings["baseline"] == "ThreadPoolExecutor"
    # The table goes out of the JSON's way.
    assert "round trip" in done.stderr


def test_bench_has_a_right_result_in_every_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastpool.cli.bench.FULL", TINY)
    path = tmp_path / "report.json"
    assert call("bench", "--json", path) == 0
    report = json.loads(path.read_text(encoding="utf-8"))
    assert [findings["name"] for findings in report["sections"]] == list(SECTIONS)
    for findings in report["sections"]:
        figures = {figure["peer"]: figure for figure in findings["figures"]}
        assert len(figures) == len(findings["figures"])
        assert findings["baseline"] in figures
        base = figures[findings["baseline"]]["best"]
        for figure in figures.values():
            if findings["unit"] == "ns":
                assert 0 < figure["best"] == min(figure["samples"]) <= figure["median"]
                assert len(figure["samples"]) == TINY.repeat
                assert figure["ratio"] == pytest.approx(base / figure["best"])


def test_bench_runs_sections_in_its_own_order(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fastpool.cli.bench.QUICK", TINY)
    chosen = ("--only", "grain", "--only", "options-submit")
    assert call("bench", "--quick", *chosen, "--json", "-") == 0
    report = json.loads(capsys.readouterr().out)
    assert [findings["name"] for findings in report["sections"]] == ["options-submit", "grain"]
    assert report["quick"] is True


def test_bench_stops_at_a_wrong_result(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = timed("liar", 1, lambda: 41, equals(42))
    monkeypatch.setitem(SECTIONS, "lies", lambda context: section.Section("lies", "ns", "liar", [wrong]))
    assert call("bench", "--only", "lies") == 1
    captured = capsys.readouterr()
    assert "lies: wrong result: liar: expected 42, got 41" in captured.err
    assert captured.out == ""


def test_bench_refuses_an_unknown_section(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("bench", "--only", "nonsense") == 2
    message = capsys.readouterr().err
    assert "no section 'nonsense'" in message
    assert "round-trip" in message


@pytest.mark.parametrize("option", ["--json", "--plot"])
def test_bench_refuses_a_file_it_cannot_write(tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    assert call("bench", option, tmp_path / "none" / "report.png") == 2
    assert "cannot be written" in capsys.readouterr().err


def test_bench_names_the_extra_that_plots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    assert call("bench", "--plot", tmp_path / "report.png") == 2
    message = capsys.readouterr().err
    assert "fastpool[plot]" in message
    assert message.count("\n") == 1


def test_samples_are_taken_in_turns() -> None:
    order: list[str] = []

    def case(name: str) -> Case:
        return Case(name, 1, lambda: float(len(order)))

    figures = measure([case("a"), case("b")], 2, warm_up=True, step=lambda case: order.append(case.peer))
    assert order == ["a", "b"] * 3
    # The first round, where the list was of length 1 and 2, is not counted.
    assert [figure.samples for figure in figures] == [(3.0, 5.0), (4.0, 6.0)]


def test_a_job_that_raises_wrong_result_is_named() -> None:
    with pytest.raises(WrongResult, match="liar: expected"):
        measure([timed("liar", 1, int, equals(1))], 1, warm_up=False, step=lambda case: None)


# --- what shows a report ---


def stub_report() -> Report:
    figures = [
        Figure("fastpool submit", 1000, (80.0, 90.0)),
        Figure("ThreadPoolExecutor", 1000, (9850.0, 8000.0)),
        Figure("somewhere else", 1000, ()),
    ]
    setting = Setting("1.0", "CPython 3.13.0", "GIL", "Linux x86_64", 2, 2, False, 2, 20.0)
    return Report(
        setting,
        [Findings(f"stub{i}", f"stub {i}", "ns", "ThreadPoolExecutor", figures, ["a note"]) for i in range(5)],
    )


@pytest.mark.parametrize("rich", [True, False], ids=["rich", "plain"])
def test_table_shows_best_median_and_ratio(rich: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if rich:
        pytest.importorskip("rich")
    else:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    stream = io.StringIO()
    write_table(stub_report(), stream)
    lines = stream.getvalue().splitlines()
    ours = next(line for line in lines if "fastpool submit" in line)
    shown = ["fastpool", "submit", "1,000", "80.0", "ns", "85.0", "ns", "100x", "105x"]
    assert ours.replace("\N{MULTIPLICATION SIGN}", "x").split() == shown
    theirs = next(line for line in lines if "ThreadPoolExecutor" in line)
    assert theirs.split()[-1] == "baseline"
    unknown = next(line for line in lines if "somewhere else" in line)
    assert unknown.split()[3:] == ["n/a", "n/a"]
    assert "a note" in stream.getvalue()


def test_plot_is_an_image(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from fastpool.bench.plot import save_plot

    path = tmp_path / "report.png"
    save_plot(stub_report(), str(path))
    assert path.read_bytes().startswith(b"\x89PNG")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_keeps_out_of_pipes(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    with progress.progress_bar(2) as bar:
        bar.label("work")
        bar.advance(2)
    assert stderr.getvalue() == ""


@pytest.mark.parametrize("rich", [True, False], ids=["rich", "plain"])
def test_progress_is_drawn_on_a_terminal(rich: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if rich:
        pytest.importorskip("rich")
    else:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    stderr = Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setenv("TERM", "xterm")
    with progress.progress_bar(2) as bar:
        bar.label("work")
        bar.advance(1)
    assert "work" in stderr.getvalue()
    assert "50" in stderr.getvalue()
