"""Inputs of other dtypes and layouts: converted as NumPy would, a piece at a time; and what is refused before anything runs."""

from __future__ import annotations

import math
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import native
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided
from support import WAIT, Held, idle_metrics

import fastpool
from fastpool import _signatures

MakePool = Callable[..., fastpool.Pool]

# Each gives its input back: x + 0 * nothing, for there is no data.
NAMES = {"d": "double", "f": "float", "q": "int64_t"}
SAME = {
    letter: fastpool.kernel(native.capsule(f"{letter}1p", f"{name} ({name}, void *)")) for letter, name in NAMES.items()
}
TWO = {
    letter: fastpool.kernel(native.capsule(f"{letter}2", f"{name} ({name}, {name})")) for letter, name in NAMES.items()
}
DTYPES = {"d": np.dtype("f8"), "f": np.dtype("f4"), "q": np.dtype("i8")}
NUMBERS = "?bBhHiIlLqQefd"
SAFE = [
    (letter, source)
    for letter, target in DTYPES.items()
    for source in dict.fromkeys(np.dtype(one).newbyteorder(order).str for one in NUMBERS for order in "<>")
    if np.can_cast(source, target, "safe")
]
UNSAFE = {
    "d": ["F", "D", ">D", "g", "G", "O", "S3", "U3", "M8[s]", "m8[s]", "V8", [("x", "f8")]],
    "f": ["i", "I", "q", "Q", "d", ">d", ">i4", "F", "g", "O", "S1", "U1", "M8[D]", "m8[D]", "V4", [("x", "f4")]],
    "q": ["Q", ">Q", "e", "f", "d", "F", "g", "O", "S1", "U1", "M8[D]", "m8[D]", "V8", [("x", "i8")]],
}
UNSAFE_PAIRS = [(letter, source) for letter, sources in UNSAFE.items() for source in sources]


@pytest.fixture(scope="module")
def workers() -> Iterator[fastpool.Pool]:
    """A pool for many examples."""
    with fastpool.Pool(2) as pool:
        yield pool
        idle_metrics(pool)


def same_bits(result: Any, wanted: Any) -> bool:
    """NaNs too, which no comparison of numbers tells apart."""
    return result.dtype == wanted.dtype and result.shape == wanted.shape and result.tobytes() == wanted.tobytes()


def quiet(array: Any, dtype: Any) -> Any:
    """As NumPy converts it; a signalling NaN is no error here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return array.astype(dtype)


def values_of(dtype: Any, count: int) -> Any:
    """Every byte pattern there is, or many, the ends among them."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return (np.arange(count) % 3 == 0).astype(dtype)
    bits = np.random.default_rng(5).integers(0, 256, (count, dtype.itemsize), np.uint8).reshape(-1).view(dtype)
    if dtype.kind in "iu":
        ends = np.iinfo(dtype)
        bits[: min(6, count)] = np.array([ends.min, ends.max, 0, 1, ends.max - 1, ends.max // 2], dtype)[:count]
    else:
        ends = np.finfo(dtype)
        special = [0.0, -0.0, np.inf, -np.inf, np.nan, ends.max, ends.tiny, ends.smallest_subnormal]
        bits[: min(8, count)] = np.array(special, dtype)[:count]
    return bits


# --- what comes out ---


@pytest.mark.parametrize("count", [1, 511, 512, 513, 5000])
@pytest.mark.parametrize(("letter", "source"), SAFE)
def test_every_safe_cast_is_numpys_to_the_last_bit(
    workers: fastpool.Pool, letter: str, source: str, count: int
) -> None:
    values = values_of(source, count)
    wanted = workers.map_array(SAME[letter], quiet(values, DTYPES[letter]))
    for array in (values, values[::-1], values[::3]):
        result = workers.map_array(SAME[letter], array)
        assert same_bits(result, workers.map_array(SAME[letter], quiet(array, DTYPES[letter])))
    assert same_bits(workers.submit_array(SAME[letter], values, grain=100).result(WAIT), wanted)


def test_each_of_the_halves_is_converted_right(workers: fastpool.Pool) -> None:
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    for letter in "df":
        wanted = workers.map_array(
            SAME[letter], quiet(halves, DTYPES[letter])
        )  # whose addition makes every NaN a quiet one
        assert same_bits(workers.map_array(SAME[letter], halves), wanted)
        assert same_bits(workers.map_array(SAME[letter], halves.astype(">f2")), wanted)


def misaligned(array: Any) -> Any:
    raw = np.empty(array.nbytes + 1, np.uint8)
    moved = raw[1:].view(array.dtype).reshape(array.shape)
    moved[...] = array
    return moved


BASES = {
    "f4": np.arange(24, dtype="f4"),
    ">i2": np.arange(24, dtype=">i2"),
    "u1": np.arange(24, dtype="u1"),
    "f8": np.arange(24.0),
}
LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "as it is": lambda x: x,
    "every second": lambda x: x[::2],
    "reversed": lambda x: x[::-1],
    "every third, reversed": lambda x: x[::-3],
    "C order": lambda x: x.reshape(2, 3, 4),
    "F order": lambda x: np.asfortranarray(x.reshape(4, 6)),
    "transposed": lambda x: x.reshape(2, 3, 4).transpose(2, 0, 1),
    "a box": lambda x: x.reshape(4, 6)[1:3, ::-2],
    "broadcast rows": lambda x: np.broadcast_to(x, (5, 24)),
    "broadcast columns": lambda x: np.broadcast_to(x[:, None], (24, 5)),
    "one for all": lambda x: np.broadcast_to(x[3], (7, 11)),
    "sliding windows": lambda x: np.lib.stride_tricks.sliding_window_view(x, 5),
    "no dimension": lambda x: x[5].reshape(()),
    "empty": lambda x: x[:0],
    "empty in one of several": lambda x: x.reshape(4, 6)[:, :0],
    "misaligned": misaligned,
    "misaligned and reversed": lambda x: misaligned(x)[::-1],
    "misaligned F order": lambda x: misaligned(x.reshape(4, 6)).T,
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype),
    "a record's field": lambda x: np.array([(0, value) for value in x.tolist()], [("pad", "u1"), ("x", x.dtype)])["x"],
    "a subclass": lambda x: x.view(np.recarray),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("base", BASES.values(), ids=BASES)
def test_an_input_of_any_layout_is_cast_as_its_copy_is(workers: fastpool.Pool, base: Any, layout: Any) -> None:
    array = layout(base)
    wanted = np.ascontiguousarray(array).astype("f8").reshape(array.shape)
    assert same_bits(workers.map_array(SAME["d"], array), wanted)
    assert same_bits(workers.map_array(TWO["d"], array, array), wanted - 2 * wanted)
    assert same_bits(workers.map_array(TWO["d"], array, 0.5), wanted - 1)
    out = np.full((*array.shape, 2), 7.0)[..., 0]
    assert workers.map_array(SAME["d"], array, out=out, grain=3) is out
    assert np.array_equal(out, wanted)


@given(data=st.data())
def test_inputs_of_different_dtypes_broadcast_together(workers: fastpool.Pool, data: st.DataObject) -> None:
    letter = data.draw(st.sampled_from("dfq"))
    sources = [source for one, source in SAFE if one == letter]
    rows, columns = data.draw(st.integers(0, 4)), data.draw(st.sampled_from([0, 1, 3, 600]))
    arrays = []
    for shape in ((rows, columns), data.draw(st.sampled_from([(columns,), (rows, 1), (1, 1), ()]))):
        base = np.arange(math.prod(shape)) % 100
        source = data.draw(st.sampled_from(sources))
        array = base.astype(source).reshape(shape)
        arrays.append(array[..., ::-1] if shape and data.draw(st.booleans()) else array)
    x, y = (array.astype(DTYPES[letter]) for array in arrays)
    result = workers.map_array(TWO[letter], *arrays, grain=data.draw(st.none() | st.integers(1, 700)))
    assert same_bits(result, np.ascontiguousarray(np.broadcast_to(x - 2 * y, (rows, columns))))


@pytest.mark.parametrize("mode", ["r", "c", "r+"])
def test_a_memory_map_is_an_input(workers: fastpool.Pool, tmp_path: Path, mode: Any) -> None:
    np.arange(3000, dtype=">i4").tofile(tmp_path / "in")
    mapped = np.memmap(tmp_path / "in", ">i4", mode)
    assert same_bits(workers.map_array(SAME["q"], mapped), np.arange(3000))
    assert type(workers.map_array(SAME["q"], mapped)) is np.ndarray
    mapped._mmap.close()


def test_no_whole_copy_of_an_input_is_made(workers: fastpool.Pool) -> None:
    count = 25 * 10**6
    x = np.ones(count, np.float32)
    out = np.empty(count)
    swapped = x[: count // 4].view(">f4")
    workers.map_array(SAME["d"], x[:10], out=out[:10])
    tracemalloc.start()
    try:
        workers.map_array(SAME["d"], x, out=out)
        workers.map_array(SAME["d"], x[::-1], out=out)
        workers.map_array(TWO["d"], x[::4], swapped, out=out[::4])
        workers.submit_array(SAME["d"], x, out=out).result(WAIT)
        _, peak = tracemalloc.get_traced_memory()
        kept = x.astype(np.float64)  # tracemalloc does see NumPy's memory
        _, copied = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * 2**20
    assert copied > kept.nbytes
    assert np.all(out == 1)


# --- what is refused ---


@pytest.mark.parametrize(("letter", "source"), UNSAFE_PAIRS, ids=str)
def test_a_dtype_that_does_not_cast_safely_is_refused_by_name(single: fastpool.Pool, letter: str, source: Any) -> None:
    good, bad, out = np.zeros(3, DTYPES[letter]), np.zeros(3, source), np.full(3, 7, DTYPES[letter])
    for method in (single.map_array, single.submit_array):
        for i, arrays in enumerate([(bad, good), (good, bad)]):
            with pytest.raises(TypeError, match=f"input {i} has dtype .*does not safely cast to the kernel's"):
                method(TWO[letter], *arrays, out=out)
        with pytest.raises(TypeError, match="input 0"):
            method(SAME[letter], bad[:0])
        if source != "O":  # of which an element is whatever it is
            with pytest.raises(TypeError, match="input 0"):
                method(SAME[letter], bad[0])
    assert single.metrics().jobs_submitted == 0
    assert out.tolist() == [7] * 3


@pytest.mark.parametrize(
    ("letter", "value", "wanted"),
    [
        ("d", 0.5, 0.5), ("d", 2, 2.0), ("d", True, 1.0), ("d", 2**60 + 1, float(2**60)), ("d", math.inf, math.inf),
        ("f", 0.5, 0.5), ("f", 0.1, float(np.float32(0.1))), ("f", 16777217, 16777216.0), ("f", False, 0.0),
        ("f", -math.inf, -math.inf),
        ("q", 5, 5), ("q", -(2**63), -(2**63)), ("q", 2**63 - 1, 2**63 - 1), ("q", True, 1),
    ],
)  # fmt: skip
def test_a_number_of_pythons_takes_the_kernels_dtype(
    workers: fastpool.Pool, letter: str, value: Any, wanted: Any
) -> None:
    for result in (workers.map_array(SAME[letter], value), workers.submit_array(SAME[letter], value).result(WAIT)):
        assert (result.shape, result.dtype, result.item()) == ((), DTYPES[letter], wanted)
    zeros = np.zeros((2, 3), DTYPES[letter])
    wide = zeros + DTYPES[letter].type(value)
    assert np.array_equal(workers.map_array(TWO[letter], value, zeros), wide)


@pytest.mark.parametrize("letter", "df")
def test_nan_is_a_number_too(workers: fastpool.Pool, letter: str) -> None:
    assert math.isnan(workers.map_array(SAME[letter], math.nan).item())


@pytest.mark.parametrize(
    ("letter", "value", "error"),
    [
        ("q", 0.5, TypeError), ("q", 1.0, TypeError), ("q", math.nan, TypeError), ("q", 1j, TypeError), ("d", 1j, TypeError),
        ("f", 0j, TypeError), ("q", 10**30, OverflowError), ("q", 2**63, OverflowError), ("q", -(2**63) - 1, OverflowError),
        ("d", 10**400, OverflowError), ("d", "1", TypeError), ("d", b"1", TypeError), ("d", None, TypeError),
        ("q", np.float64(1), TypeError), ("f", np.float64(0.5), TypeError), ("q", np.uint64(1), TypeError),
    ],
)  # fmt: skip
def test_a_number_that_the_kernels_dtype_cannot_hold_is_refused(
    single: fastpool.Pool, letter: str, value: Any, error: type[Exception]
) -> None:
    for method in (single.map_array, single.submit_array):
        with pytest.raises(error, match="input 1"):
            method(TWO[letter], np.zeros(3, DTYPES[letter]), value)
    assert single.metrics().jobs_submitted == 0


@pytest.mark.parametrize("dtype", ["f8", "f4", "?"])
def test_a_masked_array_is_refused(single: fastpool.Pool, dtype: str) -> None:
    masked = np.ma.masked_array(np.zeros(3, dtype), [True, False, False])
    for array in (masked, masked[:0], np.ma.masked):
        with pytest.raises(TypeError, match="input 0 is a masked array"):
            single.map_array(SAME["d"], array)
    assert single.metrics().jobs_submitted == 0


def test_a_ragged_list_is_refused(single: fastpool.Pool) -> None:
    with pytest.raises(ValueError, match="inhomogeneous"):
        single.map_array(SAME["d"], [[1.0], [1.0, 2.0]])
    assert single.metrics().jobs_submitted == 0


# --- out, with inputs of another dtype ---


def broadcast_out() -> Any:
    return as_strided(np.zeros(1), (4,), (0,))


def read_only() -> Any:
    array = np.zeros(4)
    array.flags.writeable = False
    return array


BAD_OUT: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "a list": (lambda: [0.0] * 4, TypeError, "out must be a numpy array, not list"),
    "float32": (lambda: np.zeros(4, "f4"), TypeError, "out has dtype float32"),
    "int64": (lambda: np.zeros(4, "i8"), TypeError, "out has dtype int64"),
    "complex": (lambda: np.zeros(4, "D"), TypeError, "out has dtype complex128"),
    "big endian": (lambda: np.zeros(4, ">f8"), TypeError, "out has dtype >f8"),
    "shape": (lambda: np.zeros(5), ValueError, r"out has shape \(5,\)"),
    "more dimensions": (lambda: np.zeros((1, 4)), ValueError, r"out has shape \(1, 4\)"),
    "fewer dimensions": (lambda: np.zeros(()), ValueError, r"out has shape \(\)"),
    "read-only": (read_only, ValueError, "out is read-only"),
    "misaligned": (lambda: misaligned(np.zeros(4)), ValueError, "out is not aligned"),
    "broadcast": (broadcast_out, ValueError, "out has elements that share memory"),
    "masked": (lambda: np.ma.zeros(4), TypeError, "out is a masked array"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "error", "says"), BAD_OUT.values(), ids=BAD_OUT)
def test_an_out_that_does_not_fit_is_refused_and_stays(
    single: fastpool.Pool, make: Callable[[], Any], error: type[Exception], says: str
) -> None:
    out = make()
    before = np.array(out)
    for source in ("f8", "f4", ">i2"):
        for method in (single.map_array, single.submit_array):
            with pytest.raises(error, match=says):
                method(SAME["d"], np.ones(4, source), out=out)
    assert single.metrics().jobs_submitted == 0
    assert np.array_equal(np.array(out), before)


SHARED: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    "shifted by one": lambda raw: (raw[8:88].view("f8"), raw[:80].view("f8")),
    "shifted by half of one": lambda raw: (raw[4:44].view("f4"), raw[:80].view("f8")),
    "packed where out is wide": lambda raw: (raw[:40].view("f4"), raw[:80].view("f8")),
    "packed, and read from the end": lambda raw: (raw[40:80].view("f4")[::-1], raw[:80].view("f8")),
    "in reverse": lambda raw: (raw[:80].view("f8")[::-1], raw[:80].view("f8")),
    "in reverse, of other type": lambda raw: (raw[:80].view("i8")[::-1], raw[:80].view("f8")),
    "the upper halves": lambda raw: (raw[:80].view("f4")[1::2], raw[:80].view("f8")),
    "one byte": lambda raw: (np.broadcast_to(raw[79:80], 10), raw[:80].view("f8")),
    "one element for all": lambda raw: (np.broadcast_to(raw[:8].view("f8"), 10), raw[:80].view("f8")),
}


@pytest.mark.parametrize("views", SHARED.values(), ids=SHARED)
def test_an_input_in_the_memory_of_out_is_read_as_if_apart_or_refused(
    make_pool: MakePool, views: Callable[[Any], tuple[Any, Any]]
) -> None:
    """Whatever the types; whichever of the two, nothing is computed of what was written before."""
    pool = make_pool(2)
    raw = np.arange(1000.0).view(np.uint8).copy()
    array, out = views(raw)
    before, wanted = raw.copy(), pool.map_array(TWO["d"], array.copy(), np.zeros(10))
    submitted = idle_metrics(pool).jobs_submitted
    for method in (pool.map_array, lambda *arrays, **options: pool.submit_array(*arrays, **options).result(WAIT)):
        raw[:] = before
        try:
            method(TWO["d"], array, np.zeros(10), out=out, grain=1)
        except ValueError as error:
            assert "out overlaps input 0" in str(error)
            assert np.array_equal(raw, before)
            assert idle_metrics(pool).jobs_submitted == submitted
        else:
            assert same_bits(out, wanted)
            submitted = idle_metrics(pool).jobs_submitted


IN_PLACE: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    "itself": lambda raw: (raw.view("f8"), raw.view("f8")),
    "of other type": lambda raw: (raw.view("i8"), raw.view("f8")),
    "of the other byte order": lambda raw: (raw.view(">f8"), raw.view("f8")),
    "the first halves": lambda raw: (raw.view("f4")[::2], raw.view("f8")),
    "the first bytes": lambda raw: (raw[::8], raw.view("f8")),
    "both reversed": lambda raw: (raw.view("i8")[::-1], raw.view("f8")[::-1]),
    "every second": lambda raw: (raw.view("f8")[::2], raw.view("f8")[::2]),
    "a field of its records": lambda raw: (
        raw.view([("x", "f4"), ("y", "f4")])["x"],
        raw.view([("whole", "f8")])["whole"],
    ),
}


@pytest.mark.parametrize("views", IN_PLACE.values(), ids=IN_PLACE)
@pytest.mark.parametrize("grain", [None, 1, 700])
def test_an_input_in_the_place_of_out_is_read_before_it_is_written(
    pool: fastpool.Pool, views: Callable[[Any], tuple[Any, Any]], grain: int | None
) -> None:
    raw = np.arange(3000.0).view(np.uint8).copy()
    array, out = views(raw)
    wanted = pool.map_array(SAME["d"], array.copy())
    assert pool.map_array(SAME["d"], array, out=out, grain=grain) is out
    assert same_bits(np.ascontiguousarray(out), wanted)


def test_out_of_a_float_kernel_in_the_memory_of_an_int16_input(workers: fastpool.Pool) -> None:
    raw = np.arange(4000, dtype="i2")
    array, out = raw[::2], raw.view("f4")
    wanted = array.astype("f4")
    workers.map_array(SAME["f"], array, out=out)
    assert same_bits(out, wanted)
    raw = np.arange(4000, dtype="i2")
    with pytest.raises(ValueError, match="out overlaps input 1"):
        workers.map_array(TWO["f"], np.zeros(2000, "f4"), raw[:2000], out=raw.view("f4"))
    assert np.array_equal(raw, np.arange(4000))


def test_a_wide_input_is_not_converted_into_the_place_of_a_narrow_out(workers: fastpool.Pool) -> None:
    """Elements of out that lie within others of the input: of an inner loop, whose types may differ."""
    less = fastpool.kernel(native.loop("less"), signature=_signatures.INNER_LOOP, dtypes="dd->?")
    x = np.arange(100.0)
    with pytest.raises(ValueError, match="out overlaps input 0"):
        workers.map_array(less, x, 50.0, out=x.view("?")[:100])
    assert np.array_equal(x, np.arange(100.0))
    apart = np.zeros(100, "?")
    assert workers.map_array(less, x, 50.0, out=apart).sum() == 50


def test_casts_are_made_by_the_workers_and_the_input_read_when_they_come_to_it(single: fastpool.Pool) -> None:
    """submit_array promises no copy: its inputs must not be written until it ends."""
    x = np.zeros(10, "f4")
    with Held(single):
        future = single.submit_array(SAME["d"], x)
        x[:] = 5
    assert future.result(WAIT).tolist() == [5.0] * 10
