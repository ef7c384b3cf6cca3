"""NumPy inner loops as kernels, and kernels of numba, SciPy, cffi and ctypes on arrays and ranges."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from typing import Any

import native
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import WAIT, Held, idle_metrics

import fastpool
from fastpool import _signatures

MakePool = Callable[..., fastpool.Pool]
INNER = _signatures.INNER_LOOP
RANGE = "int (int64_t, int64_t, void *)"


def loop(function: str, dtypes: Any, **options: Any) -> fastpool.Kernel:
    return fastpool.kernel(native.loop(function), dtypes=dtypes, **options)


def both(pool: fastpool.Pool, *arguments: Any, **options: Any) -> list[Any]:
    """The results of map_array and submit_array."""
    return [pool.map_array(*arguments, **options), pool.submit_array(*arguments, **options).result(WAIT)]


def numbers(count: int, dtype: Any = "f8") -> Any:
    return (np.arange(count) * 7 % 31 - 11).astype(dtype)


# --- loops of native_loops.c ---


@pytest.mark.parametrize("grain", [None, 1, 100, 10_000])
@pytest.mark.parametrize("count", [1, 2, 511, 513, 5000])
def test_a_loop_gives_what_numpys_own_gives(pool: fastpool.Pool, count: int, grain: int | None) -> None:
    x, y = numbers(count), numbers(count)[::-1]
    for result in both(pool, loop("add", "dd->d"), x, y, grain=grain):
        assert result.dtype == np.float64
        assert np.array_equal(result, x + y)
    assert idle_metrics(pool).jobs_processed == 2 * count


def test_loops_of_every_mix_of_dtypes(pool: fastpool.Pool) -> None:
    x, y = numbers(1000), numbers(1000)[::-1]
    z, w = x + 1j * y, y - 2j * x
    whole = numbers(1000, "i4")
    short, single, flag = numbers(1000, "i2"), numbers(1000, "f4"), x > 3
    for result in both(pool, loop("multiply", "DDD"), z, w):
        assert result.dtype == np.complex128
        assert np.allclose(result, z * w, rtol=1e-14)
    for result in both(pool, loop("widen", ["i4", "f8"]), whole):
        assert result.dtype == np.float64
        assert np.array_equal(result, whole + 0.5)
    for result in both(pool, loop("less", (np.float64, np.float64, bool)), x, y):
        assert result.dtype == np.bool_
        assert np.array_equal(result, x < y)
    for result in both(pool, loop("mixed", "fh?->d"), single, short, flag):
        assert result.dtype == np.float64
        assert np.array_equal(result, np.where(flag, single, short))


def test_a_loop_of_seven_inputs_has_them_in_their_order(pool: fastpool.Pool) -> None:
    seven = loop("seven", "ddddddd->d")
    inputs = [numbers(24 - k)[0] if k == 3 else numbers(24).reshape(2, 3, 4)[: 1 + k % 2] * k for k in range(7)]
    wanted = sum((k + 1) * one for k, one in enumerate(inputs))
    for result in both(pool, seven, *inputs):
        assert result.shape == (2, 3, 4)
        assert np.array_equal(result, wanted)
    narrow = [np.arange(5000).astype(dtype) % 120 for dtype in ("i1", ">i2", "f4", "f8", "u4", "f2", "?")]
    wanted = sum((k + 1) * one.astype("f8") for k, one in enumerate(narrow))
    for result in both(pool, seven, *narrow):
        assert np.array_equal(result, wanted)


def test_a_loop_reads_its_user_data_and_holds_it(single: fastpool.Pool) -> None:
    factor = np.array([2.5])
    scale = loop("scale", "dd", data=factor)
    other = fastpool.kernel(scale, data=np.array([-1.0]))
    assert other.dtypes == scale.dtypes
    with Held(single):
        futures = [single.submit_array(one, numbers(100)) for one in (scale, other)]
        del scale, other, factor
        gc.collect()
    assert np.array_equal(futures[0].result(WAIT), 2.5 * numbers(100))
    assert np.array_equal(futures[1].result(WAIT), -numbers(100))


def test_a_loop_on_dates_keeps_their_unit(pool: fastpool.Pool) -> None:
    dates = np.array(["2026-01-01", "NaT", "1969-12-31"], "M8[D]")
    days = np.array([1, 1, 2], "m8[D]")
    later = loop("later", ["M8[D]", "m8[D]", "M8[D]"])
    for result in both(pool, later, dates[[0, 2]], days[1:]):
        assert result.dtype == np.dtype("M8[D]")
        assert result.tolist() == (dates[[0, 2]] + days[1:]).tolist()
    before = idle_metrics(pool).jobs_submitted
    for wrong in (dates.astype("M8[s]"), dates.astype("i8"), np.arange(3.0), dates.astype(">M8[D]"), 5):
        with pytest.raises(TypeError, match="input 0"):
            pool.map_array(later, wrong, days)
    with pytest.raises(TypeError, match="out has dtype"):
        pool.map_array(later, dates, days, out=np.zeros(3, "M8[s]"))
    assert pool.metrics().jobs_submitted == before


@given(data=st.data())
def test_a_loop_goes_by_the_steps_it_is_given(data: st.DataObject) -> None:
    """Strided, reversed, broadcast, and in an out that is so too, with nothing written beside it."""
    steps = st.sampled_from([1, -1, 2, -3])
    rows, columns = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 7))

    def laid_out() -> Any:
        up, along = data.draw(steps), data.draw(steps)
        return np.arange(float(rows * abs(up) * columns * abs(along))).reshape(rows * abs(up), -1)[::up, ::along]

    x, y, out = laid_out(), laid_out(), laid_out()
    x = data.draw(st.sampled_from([x, x[:1], x[:, :1], x[0], np.asfortranarray(x)]))
    whole = out if out.base is None else out.base
    whole[...] = -7.0
    wanted = np.broadcast_to(x + y, (rows, columns)).copy()
    with fastpool.Pool(2) as pool:
        assert (
            pool.map_array(loop("add", "dd->d"), x, y, out=out, grain=data.draw(st.none() | st.integers(1, 9))) is out
        )
    assert np.array_equal(out, wanted)
    assert np.count_nonzero(whole == -7.0) == whole.size - out.size


@pytest.mark.parametrize("source", ["?", "i1", ">u2", "i4", "f2", ">f4", "f4"])
def test_inputs_of_a_loop_are_converted_in_pieces(pool: fastpool.Pool, source: str) -> None:
    x = np.arange(5000).astype(source)
    y = numbers(5000)
    for result in both(pool, loop("add", "dd->d"), x[::-1], y):
        assert np.array_equal(result, x[::-1].astype("f8") + y)
    for result in both(pool, loop("multiply", "DDD"), x, y):
        assert np.array_equal(result, x.astype("D") * y)
    square = np.arange(3600).astype(source).reshape(60, 60)
    for result in both(pool, loop("add", "dd->d"), square.T, square[0], grain=77):
        assert np.array_equal(result, square.T.astype("f8") + square[0].astype("f8"))


def test_a_loop_may_spoil_the_pointers_it_is_given(pool: fastpool.Pool) -> None:
    x = numbers(6000).reshape(60, 100)
    for array in (x, x[:, ::2], x.T, x.astype("f4"), x[::3, ::-1].astype(">i4")):
        for result in both(pool, loop("spoil", "dd"), array, grain=130):
            assert np.array_equal(result, array + 1.0)


def test_a_loop_works_in_place(pool: fastpool.Pool) -> None:
    x, y = numbers(5000), numbers(5000)[::-1].copy()
    wanted = x + y
    assert pool.map_array(loop("add", "dd->d"), x, y, out=x) is x
    assert np.array_equal(x, wanted)
    twice = x + x
    pool.map_array(loop("add", "dd->d"), x, x, out=x, grain=17)
    assert np.array_equal(x, twice)


def test_a_loop_refuses_what_a_scalar_kernel_does(single: fastpool.Pool) -> None:
    add, less = loop("add", "dd->d"), loop("less", "dd->?")
    for arrays, error, says in [
        ([np.zeros(3)], TypeError, "takes 2 arrays, got 1"),
        ([np.zeros(3), np.zeros(3, "D")], TypeError, "input 1 .*does not safely cast"),
        ([np.zeros(3), np.zeros(4)], ValueError, "broadcast"),
        ([np.zeros(3), 1j], TypeError, "input 1"),
    ]:
        with pytest.raises(error, match=says):
            single.map_array(add, *arrays)
    with pytest.raises(TypeError, match="out has dtype uint8"):
        single.map_array(less, np.zeros(3), np.zeros(3), out=np.zeros(3, "u1"))
    for call in (lambda: single.submit(add, 1.0, 2.0), lambda: single.submit_many(add, [1.0], [2.0])):
        with pytest.raises(TypeError, match="map_array"):
            call()
    with pytest.raises(TypeError, match="signature"):
        single.parallel_for(add, 5)
    assert single.metrics().jobs_submitted == 0


# --- kernels of other libraries ---


def ctypes_loop() -> Any:
    pointers, steps = ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_ssize_t)

    def add(args: Any, dimensions: Any, strides: Any, data: Any) -> None:
        for i in range(dimensions[0]):
            x, y, z = (ctypes.c_double.from_address(args[k] + i * strides[k]) for k in range(3))
            z.value = x.value + y.value

    callback = ctypes.CFUNCTYPE(None, ctypes.POINTER(ctypes.c_char_p), steps, steps, ctypes.c_void_p)
    return fastpool.kernel(
        callback(lambda args, n, strides, data: add(ctypes.cast(args, pointers), n, strides, data)), dtypes="dd->d"
    )


def cffi_loop() -> Any:
    ffi = pytest.importorskip("cffi", exc_type=ImportError).FFI()
    pointer = ctypes.cast(native._loops()["add"], ctypes.c_void_p).value
    return fastpool.kernel(
        ffi.cast("void (*)(char **, const intptr_t *, const intptr_t *, void *)", pointer), dtypes="dd->d"
    )


def scipy_loop() -> Any:
    scipy = pytest.importorskip("scipy", exc_type=ImportError)
    return fastpool.kernel(scipy.LowLevelCallable(native.loop("add")), dtypes="dd->d")


@pytest.mark.parametrize("make", [ctypes_loop, cffi_loop, scipy_loop], ids=lambda make: make.__name__)
def test_an_inner_loop_of_another_library_works_and_is_held(pool: fastpool.Pool, make: Callable[[], Any]) -> None:
    x, y = numbers(600), numbers(600, "i4")
    for result in both(pool, make(), x[::2], y[::-2]):
        assert np.array_equal(result, x[::2] + y[::-2])
    with Held(pool, pool._max_workers):
        future = pool.submit_array(make(), x, y)  # nobody else has the kernel, or what it is made of
        gc.collect()
        churn = [make() for _ in range(3)]
    assert np.array_equal(future.result(WAIT), x + y)
    assert len(churn) == 3


def test_a_numba_inner_loop_works_and_is_held(pool: fastpool.Pool) -> None:
    numba = pytest.importorskip("numba", exc_type=ImportError)
    types = numba.types
    pointers, steps = types.CPointer(types.CPointer(types.char)), types.CPointer(types.intp)

    def make() -> fastpool.Kernel:
        @numba.cfunc(types.void(pointers, steps, steps, types.voidptr))
        def add_bytes(args: Any, dimensions: Any, strides: Any, data: Any) -> None:
            for i in range(dimensions[0]):
                args[2][i * strides[2]] = args[0][i * strides[0]] + args[1][i * strides[1]]

        return fastpool.kernel(add_bytes, dtypes="bb->b")

    x = (np.arange(300) % 60).astype("i1")
    with Held(pool, pool._max_workers):
        future = pool.submit_array(make(), x, x[::-1])
        gc.collect()
    assert np.array_equal(future.result(WAIT), x + x[::-1])
    assert np.array_equal(pool.map_array(make(), x[::3], np.int8(5)), x[::3] + 5)


def ctypes_range() -> Any:
    declared = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)

    def count(begin: int, end: int, data: int) -> int:
        for i in range(begin, end):
            ctypes.c_int32.from_address(data + 4 * i).value += 1
        return 0

    return fastpool.kernel(declared(count))


def numba_range() -> Any:
    numba = pytest.importorskip("numba", exc_type=ImportError)
    types = numba.types

    @numba.cfunc(types.int32(types.int64, types.int64, types.voidptr))
    def count(begin: int, end: int, data: Any) -> int:
        counts = numba.carray(data, (end,), numba.int32)
        for i in range(begin, end):
            counts[i] += 1
        return 0

    return fastpool.kernel(count)


def cffi_range() -> Any:
    ffi = pytest.importorskip("cffi", exc_type=ImportError).FFI()
    ffi.cdef("int count_each(int64_t, int64_t, void *);")
    return fastpool.kernel(ffi.dlopen(native.library_path()).count_each)


def scipy_range() -> Any:
    scipy = pytest.importorskip("scipy", exc_type=ImportError)
    return fastpool.kernel(scipy.LowLevelCallable(native.capsule("count_each", RANGE)))


RANGES = [ctypes_range, numba_range, cffi_range, scipy_range]


@pytest.mark.parametrize("make", RANGES, ids=lambda make: make.__name__)
def test_a_range_of_another_library_runs_over_each_i_once(pool: fastpool.Pool, make: Callable[[], Any]) -> None:
    counts = np.zeros(700, np.int32)
    for grain in (None, 1, 64):
        pool.parallel_for(make(), 700, counts, grain)
    assert np.all(counts == 3)


def elementwise(make: str) -> fastpool.Kernel:
    """3 x + 1."""
    if make == "ctypes":
        return fastpool.kernel(ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(lambda x: 3 * x + 1))
    if make == "numba":
        return fastpool.kernel(
            pytest.importorskip("numba", exc_type=ImportError).cfunc("float64(float64)")(lambda x: 3 * x + 1)
        )
    if make == "scipy":
        scipy = pytest.importorskip("scipy", exc_type=ImportError)
        return fastpool.kernel(
            scipy.LowLevelCallable(ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(lambda x: 3 * x + 1))
        )
    ffi = pytest.importorskip("cffi", exc_type=ImportError).FFI()
    return fastpool.kernel(ffi.callback("double (double)", lambda x: 3 * x + 1))


@pytest.mark.parametrize("make", ["ctypes", "numba", "scipy", "cffi"])
def test_what_a_queued_job_calls_lives_though_every_reference_is_dropped(single: fastpool.Pool, make: str) -> None:
    x = numbers(500)
    with Held(single):
        array = single.submit_array(elementwise(make), x)
        many = single.submit_many(elementwise(make), x)
        one = single.submit(elementwise(make), 2.0)
        gc.collect()
        others = [elementwise(make) for _ in range(5)]  # in the memory of what was dropped, had it been
        assert len(others) == 5
    assert np.array_equal(array.result(WAIT), 3 * x + 1)
    assert [future.result(WAIT) for future in many] == (3 * x + 1).tolist()
    assert one.result(WAIT) == 7.0
