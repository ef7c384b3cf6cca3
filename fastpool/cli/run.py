"""``python -m fastpool run``: a native kernel over .npy files of any size.

The files are memory-mapped and worked through in slices, so that they may be larger than
memory and a progress bar has something to count.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

import fastpool
from fastpool._progress import progress_bar
from fastpool.cli.errors import CommandError
from fastpool.cli.machine import default_workers
from fastpool.cli.npyfile import Array, check_output, create_output, new_file, open_input

# Large enough that the pool's wake-up at each slice vanishes (some tens of microseconds in
# tens of milliseconds), small enough that the bar moves.
SLICE_ELEMENTS = 1 << 22

_DTYPES = {"double": np.float64, "float": np.float32, "int64_t": np.int64}


def _load_kernel(name: str) -> fastpool.Kernel:
    try:
        return fastpool.kernel(name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise CommandError(f"{name}: {error}") from error


def _scalar_types(kernel: fastpool.Kernel, name: str) -> tuple[np.dtype[Any], int]:
    """Read the element type and the number of inputs off the kernel's signature."""
    result, _, rest = kernel.signature.partition("(")
    arguments = [text.strip() for text in rest.rstrip(") ").split(",")]
    if arguments[-1].replace(" ", "") == "void*":
        arguments.pop()
    result = result.strip()
    if result not in _DTYPES or not arguments or set(arguments) != {result}:
        raise CommandError(f"{name}: is {kernel.signature}; run takes kernels from scalars to a scalar")
    return np.dtype(_DTYPES[result]), len(arguments)


def _common_shape(inputs: list[Array], paths: list[str]) -> tuple[int, ...]:
    """Find the shape of the output; a file of one element goes with any other."""
    shaped = [(array.shape, path) for array, path in zip(inputs, paths, strict=True) if array.size != 1]
    if not shaped:
        shapes: list[tuple[int, ...]] = [array.shape for array in inputs]
        return max(shapes, key=len)
    shape: tuple[int, ...] = shaped[0][0]
    first = shaped[0][1]
    for other, path in shaped[1:]:
        if other != shape:
            raise CommandError(f"{path}: shape {other} differs from the {shape} of {first}")
    return shape


@dataclass(frozen=True)
class _Task:
    """What is to be run: checked, and nothing of it done yet."""

    kernel: fastpool.Kernel
    inputs: list[Array]
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    workers: int
    grain: int | None


def _checked_task(options: argparse.Namespace) -> _Task:
    kernel = _load_kernel(options.kernel)
    dtype, wanted = _scalar_types(kernel, options.kernel)
    if wanted != len(options.inputs):
        raise CommandError(
            f"{options.kernel}: {kernel.signature} takes {wanted} input "
            f"file{'s' if wanted > 1 else ''}, and {len(options.inputs)} were given"
        )
    inputs = [open_input(path, dtype) for path in options.inputs]
    shape = _common_shape(inputs, options.inputs)
    workers = options.workers or default_workers()
    return _Task(kernel, inputs, dtype, shape, workers, options.grain)


def _run_slices(pool: fastpool.Pool, task: _Task, output: Array) -> None:
    """Run the kernel over flat views of the arrays, a slice at a time."""
    inputs = [array.reshape(-1) for array in task.inputs]
    flat = output.reshape(-1)
    with progress_bar(flat.size) as bar:
        bar.label("running")
        for begin in range(0, flat.size, SLICE_ELEMENTS):
            end = min(begin + SLICE_ELEMENTS, flat.size)
            parts = [array if array.size == 1 else array[begin:end] for array in inputs]
            pool.map_array(task.kernel, *parts, out=flat[begin:end], grain=task.grain)
            bar.advance(end - begin)


def _write(task: _Task, path: str) -> str:
    """Compute the whole output into the file, and describe how it went."""
    mapped = create_output(path, task.dtype, task.shape)
    # The pool is left before the file is: after Ctrl-C the workers may still be writing to it.
    with fastpool.Pool(task.workers) as pool:
        begin = time.perf_counter()
        _run_slices(pool, task, np.asarray(mapped))
        computed = time.perf_counter() - begin
    mapped.flush()
    on_disk = time.perf_counter() - begin
    per_element = f"{computed * 1e9 / mapped.size:.2f} ns/element, " if mapped.size else ""
    return (
        f"{mapped.size} elements in {computed:.3f} s, {per_element}"
        f"{task.workers} worker{'s' if task.workers > 1 else ''}; on disk after {on_disk:.3f} s"
    )


def main(options: argparse.Namespace) -> int:
    """Run a kernel over files.

    Parameters
    ----------
    options : argparse.Namespace
        ``kernel``, ``inputs``, ``output``, ``workers`` and ``grain``.

    Returns
    -------
    int
        The exit code, 0.

    Raises
    ------
    CommandError
        If the kernel or a file cannot be used (exit code 2), or the work failed (1). What the
        output file held before is then still there, and no temporary file is left.
    """
    task = _checked_task(options)
    target = check_output(options.output, options.inputs)
    try:
        with new_file(target) as temporary:
            closing_line = _write(task, temporary)
    except fastpool.PoolError as error:
        raise CommandError(str(error), exit_code=1) from error
    print(closing_line)
    return 0
