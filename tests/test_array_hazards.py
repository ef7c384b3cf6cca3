"""What users do to arrays while a job has them, sizes beyond any integer's, and cancelling what runs."""

from __future__ import annotations

import ctypes
import gc
import os
import shutil
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import native
import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided
from support import WAIT, Held, idle_metrics, in_thread, reached

import fastpool
from fastpool import kernels

MakePool = Callable[..., fastpool.Pool]
FAR = 2**31 + 1000


class Gate:
    """A kernel that says when it is inside, at each element of `stops`, and waits there until opened."""

    def __init__(self, *stops: float) -> None:
        self.inside, self.opened = threading.Event(), threading.Event()
        self.calls: list[float] = []
        self._stops = stops
        self.kernel = fastpool.kernel(ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(self._pass))

    def _pass(self, x: float) -> float:
        self.calls.append(x)
        if x in self._stops:
            self.inside.set()
            self.opened.wait(WAIT)
        return x


# --- arrays in the hands of others ---


@pytest.mark.parametrize("which", ["input", "out"])
def test_an_array_is_not_resized_while_a_job_has_it(single: fastpool.Pool, which: str) -> None:
    gate = Gate(5.0)
    x, out = np.arange(10.0), np.zeros(10)
    future = single.submit_array(gate.kernel, x, out=out, grain=1)
    reached(gate.inside)
    with pytest.raises(ValueError, match="cannot resize"):
        (x if which == "input" else out).resize(10_000)
    gate.opened.set()
    assert future.result(WAIT) is out
    x.resize(20)  # who has waited for the end owns the inputs alone again
    assert out.tolist() == list(range(10))


def test_arrays_that_the_user_has_dropped_live_while_a_job_runs(single: fastpool.Pool) -> None:
    gate = Gate(0.0)
    x, out = np.arange(50_000.0), np.zeros(50_000)
    gone = weakref.ref(x), weakref.ref(out)
    future = single.submit_array(gate.kernel, x[::-1], out=out, grain=7)
    del x, out
    future_too = single.submit_array(kernels.identity, np.arange(3.0))
    del future, future_too
    gc.collect()
    assert [ref() is None for ref in gone] == [False, False]
    gate.opened.set()
    metrics = idle_metrics(single)
    assert metrics.jobs_processed == 50_003
    single.submit(int).result(WAIT)
    gc.collect()
    assert [ref() is None for ref in gone] == [True, True]


@pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")  # of NumPy 2.5, which means to take it away
def test_a_view_may_be_given_other_strides_while_a_job_has_it(single: fastpool.Pool) -> None:
    """The job has its own idea of the array from when it was submitted."""
    x, out = np.arange(12.0), np.zeros(12)
    view, target = x[:], out[:]
    with Held(single):
        future = single.submit_array(kernels.identity, view, out=target)
        view.shape = target.shape = (3, 4)
    assert future.result(WAIT) is target
    assert out.tolist() == list(range(12))


def test_arrays_that_others_write_meanwhile_give_some_mix(make_pool: MakePool) -> None:
    pool = make_pool(2)
    x, out = np.zeros(200_000), np.zeros(200_000)
    ones, twos = np.ones(x.size), np.full(x.size, 2.0)
    futures = [pool.submit_array(kernels.identity, source, out=x, grain=997) for source in (ones, twos) * 5]
    readers = [pool.submit_array(kernels.identity, x, out=out, grain=1009) for _ in range(5)]
    x[::2] = 3.0
    for future in futures + readers:
        future.result(WAIT)
    assert set(np.unique(x)) <= {1.0, 2.0, 3.0}
    assert set(np.unique(out)) <= {0.0, 1.0, 2.0, 3.0}
    assert idle_metrics(pool).jobs_processed == 15 * 200_000


def test_one_out_for_many_jobs_holds_one_of_their_results(pool: fastpool.Pool) -> None:
    out = np.zeros(1000)
    futures = [pool.submit_array(kernels.identity, np.full(1000, float(i)), out=out) for i in range(30)]
    assert all(future.result(WAIT) is out for future in futures)
    assert set(np.unique(out)) <= set(map(float, range(30)))


def test_a_kernel_that_calls_back_into_python_may_do_what_it_likes_with_the_arrays(single: fastpool.Pool) -> None:
    x, out = np.arange(100.0), np.zeros(100)

    @ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)
    def meddle(value: float) -> float:
        gc.collect(0)
        if value == 3.0:
            x[50:] = -1.0
        return float(out[int(value)]) + value + len(np.zeros(10))

    result = single.map_array(fastpool.kernel(meddle), x[:50], out=out[:50])
    assert result.tolist() == [i + 10.0 for i in range(50)]
    assert out[50:].tolist() == [0.0] * 50


# --- sizes ---


@pytest.mark.parametrize(
    "shapes",
    [
        [(2**31, 1), (1, 2**31)],
        [(2**62, 1), (2,)],
        [(2**40, 1, 1), (2**20, 1), (2**20,)],
        [(2**62,), (2**62,)],
        [(2**59,), ()],
    ],
    ids=str,
)
def test_shapes_whose_product_no_memory_holds_are_refused_before_anything_runs(
    single: fastpool.Pool, shapes: list[tuple[int, ...]]
) -> None:
    """Views of one element, so the inputs need no memory."""
    name = "double (" + ", ".join(["double"] * len(shapes)) + ")"
    kernel = fastpool.kernel(native.capsule(f"d{len(shapes)}", name))
    one = np.zeros(1, np.int8)
    arrays = [as_strided(one, shape, (0,) * len(shape)) for shape in shapes]
    for method in (single.map_array, single.submit_array):
        with pytest.raises((ValueError, MemoryError)):
            method(kernel, *arrays)
        with pytest.raises(ValueError, match=r"out has shape|dimension|too large|too big"):
            method(kernel, *arrays, out=np.zeros(3))
    assert single.metrics().jobs_submitted == 0


def test_an_out_that_repeats_one_element_is_refused_however_long(single: fastpool.Pool) -> None:
    ones = np.broadcast_to(np.float64(1), (2**40,))
    endless = as_strided(np.zeros(1), (2**40,), (0,))
    with pytest.raises(ValueError, match="share memory"):
        single.map_array(kernels.identity, ones, out=endless)
    assert single.metrics().jobs_submitted == 0


def sparse(folder: Path, size: int) -> Any:
    """A file of that many bytes, most of which are never touched; skips where the file system makes them at once."""
    if sys.maxsize < 2**32:
        pytest.skip("needs 64 bits of address space")
    path = folder / "sparse"
    try:
        with path.open("wb") as file:
            file.truncate(size)
    except OSError as error:
        pytest.skip(f"no file of {size} bytes here: {error}")
    if os.stat(path).st_blocks * 512 > size // 2:
        path.unlink()
        pytest.skip("this file system has no sparse files")
    if shutil.disk_usage(folder).free < 64 * 2**20:
        pytest.skip("too little room on the disk for the pages that are written")
    return np.memmap(path, np.uint8, "r+", shape=(size,))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_loop_crosses_the_bound_of_int32(make_pool: MakePool, tmp_path: Path, workers: int) -> None:
    """The loop touches the two ends of each of its pieces only."""
    mapped = sparse(tmp_path, FAR)
    seen = np.zeros(2, np.int64)
    mark = fastpool.kernel(native.loop("mark_ends"), dtypes="BB", data=seen)
    pool = make_pool(workers)
    assert pool.map_array(mark, mapped, out=mapped) is mapped
    assert seen[0] == FAR
    assert seen[1] < 1_000_000  # pieces grew, though a new page of the file may take long
    assert mapped[0] & 1
    assert mapped[FAR - 1] & 2
    grain = 2**28 + 12_345
    seen[:] = 0
    view = mapped[::-1]
    assert pool.map_array(mark, np.broadcast_to(np.uint8(0), FAR), out=view, grain=grain) is view
    assert seen.tolist() == [FAR, -(-FAR // grain)]
    begins = range(0, FAR, grain)
    assert all(view[begin] & 1 for begin in begins)
    assert all(view[min(begin + grain, FAR) - 1] & 2 for begin in begins)
    metrics = idle_metrics(pool)
    assert metrics.jobs_processed == metrics.job_duration.count == 2 * FAR


def test_rows_and_columns_cross_the_bound_of_int32(make_pool: MakePool, tmp_path: Path) -> None:
    """Dimensions that do not merge: the column is broadcast, and the rows have a gap."""
    rows, columns = 7, 2**29
    mapped = sparse(tmp_path, rows * (columns + 64)).reshape(rows, -1)[:, :columns]
    seen = np.zeros(2, np.int64)
    mark = fastpool.kernel(native.loop("mark_ends"), dtypes="BB", data=seen)
    column = np.arange(rows, dtype=np.uint8)[:, None]
    make_pool(2).map_array(mark, np.broadcast_to(column, mapped.shape), out=mapped, grain=columns * 2)
    assert seen.tolist() == [rows * columns, rows]
    assert all(mapped[row, 0] == 1 and mapped[row, -1] == 2 for row in range(rows))


# --- cancelling what runs ---


def test_an_array_that_runs_stops_at_the_next_piece(single: fastpool.Pool) -> None:
    gate = Gate(500.0)
    out = np.full(1000, -1.0)
    future = single.submit_array(gate.kernel, np.arange(1000.0), out=out, grain=10)
    reached(gate.inside)
    assert in_thread(future.cancel)() is True
    assert future.cancel() is True, "and from then on"
    assert (future.running(), future.done(), future.cancelled()) == (True, False, False)
    with pytest.raises(TimeoutError):
        future.result(0)
    gate.opened.set()
    for method in (future.result, future.exception):
        with pytest.raises(CancelledError):
            method(WAIT)
    assert (future.running(), future.done(), future.cancelled(), future.cancel()) == (False, True, True, True)
    assert out.tolist() == [*range(510), *[-1.0] * 490]
    metrics = idle_metrics(single)
    assert (metrics.jobs_processed, metrics.jobs_cancelled, metrics.jobs_failed) == (510, 490, 0)
    assert metrics.job_duration.count == 510


def test_cancelling_from_many_threads_tells_all_the_same(single: fastpool.Pool) -> None:
    gate = Gate(0.0)
    future = single.submit_array(gate.kernel, np.arange(100.0), grain=1)
    reached(gate.inside)
    assert [result() for result in [in_thread(future.cancel) for _ in range(8)]] == [True] * 8
    gate.opened.set()
    with pytest.raises(CancelledError):
        future.result(WAIT)
    metrics = idle_metrics(single)
    assert (metrics.jobs_processed, metrics.jobs_cancelled) == (1, 99)


def test_an_array_is_not_cancelled_after_its_end_or_in_its_last_piece(single: fastpool.Pool) -> None:
    gate = Gate(9.0)
    future = single.submit_array(gate.kernel, np.arange(10.0), grain=5)
    reached(gate.inside)
    assert [future.cancel(), in_thread(future.cancel)()] == [False, False]
    gate.opened.set()
    assert future.result(WAIT).tolist() == list(range(10))
    assert [future.cancel(), future.cancelled(), future.done()] == [False, False, True]
    assert idle_metrics(single).jobs_cancelled == 0


def test_a_cancelled_array_tells_its_callbacks_once_the_last_piece_has_ended(pool: fastpool.Pool) -> None:
    gate = Gate(0.0)
    future = pool.submit_array(gate.kernel, np.arange(10_000.0), grain=1)
    told: list[bool] = []
    done = threading.Event()
    future.add_done_callback(lambda one: (told.append(one.cancelled()), done.set()))
    reached(gate.inside)
    future.cancel()
    assert told == [] or future.done()
    gate.opened.set()
    reached(done)
    assert told == [future.cancelled()]


def test_cancelling_while_pieces_end_leaves_whole_pieces(make_pool: MakePool, fast_switching: None) -> None:
    pool = make_pool(2)
    for attempt in range(100):
        out = np.full(3000, -1.0)
        future = pool.submit_array(kernels.identity, np.arange(3000.0), out=out, grain=5)
        cancelled = future.cancel()
        if cancelled:
            with pytest.raises(CancelledError):
                future.result(WAIT)
        else:
            assert future.result(WAIT) is out
        before = out.copy()
        done = (out.reshape(-1, 5) >= 0).all(axis=1)
        assert (done | (out.reshape(-1, 5) == -1).all(axis=1)).all(), attempt
        assert cancelled or done.all()
        metrics = idle_metrics(pool)
        assert np.array_equal(out, before), "nothing is written once the future has ended"
    assert metrics.jobs_processed + metrics.jobs_cancelled == 300_000


def test_a_job_cancels_an_array_of_its_own_pool(single: fastpool.Pool) -> None:
    def job() -> bool:
        future = single.submit_array(kernels.identity, np.zeros(100))
        return future.cancel() and future.cancelled()

    assert single.submit(job).result(WAIT) is True
    assert idle_metrics(single).jobs_cancelled == 100
