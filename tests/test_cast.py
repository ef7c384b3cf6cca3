"""csrc/fp_cast.c, compiled by itself, against NumPy: the same casts are there, and they give the same bits."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from native import compile_library

# In the order of fp_type.
TYPES = [np.dtype(code) for code in ("?", "b", "B", "h", "H", "i", "I", "q", "Q", "e", "f", "d", "F", "D")]
PAIRS = [(a, b) for a in TYPES for b in TYPES if np.can_cast(a, b, "safe")]
Cast = Callable[[int, int, int, int], None]


@functools.cache
def library() -> ctypes.CDLL:
    source = Path(__file__).parents[1] / "csrc" / "fp_cast.c"
    made = ctypes.CDLL(compile_library(source, "cast.so"))
    made.fp_cast_find.restype = ctypes.c_void_p
    made.fp_cast_find.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_bool]
    made.fp_type_bytes.restype = ctypes.c_size_t
    return made


def find(source: np.dtype, target: np.dtype, swapped: bool) -> Cast | None:
    address = library().fp_cast_find(TYPES.index(source), TYPES.index(target), swapped)
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int64)
    return call(address) if address else None


def cast(array: np.ndarray, target: np.dtype) -> np.ndarray:
    """What fp_cast makes of a one-dimensional array."""
    out = np.empty(array.shape, target)
    function = find(array.dtype.newbyteorder("="), target, not array.dtype.isnative)
    assert function is not None
    function(out.ctypes.data, array.ctypes.data, array.strides[0], array.size)
    return out


def numpy_cast(array: np.ndarray, target: np.dtype) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # a signalling NaN
        return array.astype(target)


def any_bits(dtype: np.dtype, n: int) -> np.ndarray:
    """Random bits, with zero bytes among them, and so small numbers and subnormals. Bools are valid: NumPy copies any byte."""
    random = np.random.default_rng(n)
    raw = random.integers(0, 256, (n, dtype.itemsize), np.uint8)
    raw *= random.integers(0, 4, raw.shape, np.uint8) > 0
    return (raw & 1 if dtype.kind == "b" else raw).reshape(-1).view(dtype)


def test_there_are_numpys_safe_casts() -> None:
    for a in TYPES:
        assert library().fp_type_bytes(TYPES.index(a)) == a.itemsize
        for b in TYPES:
            for swapped in (False, True):
                assert (find(a, b, swapped) is not None) == np.can_cast(a, b, "safe"), (a, b)


@pytest.mark.parametrize(("a", "b"), PAIRS, ids=str)
def test_casts_give_numpys_bits(a: np.dtype, b: np.dtype) -> None:
    native = any_bits(a, 10_000)
    swapped = native.view(a.newbyteorder())
    shifted = np.frombuffer(b"x" + native.tobytes(), a, offset=1)
    assert a.itemsize == 1 or not shifted.flags.aligned
    for array in (native, swapped, shifted, native[::-1], native[::3], swapped[::-2], np.broadcast_to(native[5], 9)):
        assert cast(array, b).tobytes() == numpy_cast(array, b).tobytes()


@pytest.mark.parametrize("target", ["e", "f", "d", "F", "D"])
def test_every_half_gives_numpys_bits(target: str) -> None:
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    for array in (halves, halves.view(halves.dtype.newbyteorder())):
        assert cast(array, np.dtype(target)).tobytes() == numpy_cast(array, np.dtype(target)).tobytes()


def test_any_byte_but_0_is_true() -> None:
    raw = np.arange(256, dtype=np.uint8).view(bool)
    for target in TYPES:
        assert cast(raw, target).tolist() == [0] + [1] * 255
