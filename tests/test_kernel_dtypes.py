"""The dtypes of an inner loop: what kernel() takes for them and refuses, and that they go with the kernel."""

from __future__ import annotations

import copy
import pickle
import types
from typing import Any

import native
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastpool
from fastpool import _core, _signatures, kernels

RANGE = "int (int64_t, int64_t, void *)"


def inner(**options: Any) -> fastpool.Kernel:
    """A kernel that is never called."""
    return fastpool.kernel(native.capsule("d1", _signatures.INNER_LOOP), **options)


def test_the_inner_loop_is_a_signature_of_the_core() -> None:
    assert _signatures.INNER_LOOP in _core.SIGNATURES
    assert RANGE in _core.SIGNATURES


# --- spellings ---


@given(characters=st.text("?bBhHiIlLqQefdgFDGmM", min_size=2, max_size=8))
def test_every_spelling_of_dtypes_means_the_same(characters: str) -> None:
    meant = tuple(np.dtype(one) for one in characters)
    spellings = [
        characters,
        f"{characters[:-1]}->{characters[-1]}",
        list(characters),
        meant,
        [one.type for one in meant],
    ]
    for spelling in spellings:
        assert inner(dtypes=spelling).dtypes == meant


def test_dtypes_are_anything_that_numpy_makes_one_of() -> None:
    record = np.dtype([("x", "f8"), ("n", "i4")])
    kernel = inner(dtypes=[np.float32, "datetime64[ns]", bool, "S5", record, np.dtype("c16")])
    assert kernel.dtypes == tuple(map(np.dtype, ("f4", "M8[ns]", "?", "S5", record, "c16")))


# --- what is refused ---


@pytest.mark.parametrize("dtypes", ["", "d", "->d", ["d"], [], (), "d" * 9, "dddddddd->d", [float] * 20])
def test_too_few_and_too_many_dtypes_are_refused(dtypes: Any) -> None:
    with pytest.raises(ValueError, match="dtypes must be 1 to 7 inputs and one output"):
        inner(dtypes=dtypes)


@pytest.mark.parametrize("dtypes", ["d->", "dd->dd", "->", "d->d->d", "d-> d"])
def test_an_arrow_is_followed_by_one_output(dtypes: str) -> None:
    with pytest.raises(ValueError, match="dtypes must have one output"):
        inner(dtypes=dtypes)


@pytest.mark.parametrize(
    ("dtype", "says"),
    [
        ("O", "references"),
        ([("a", "f8"), ("b", "O")], "references"),
        ("U", "no size"),
        ("S0", "no size"),
        ("V0", "no size"),
        ([], "no size"),
        (np.dtype("f8").newbyteorder("S"), "byte order"),
        (np.dtype("M8[s]").newbyteorder("S"), "byte order"),
        ([("a", np.dtype("i4").newbyteorder("S"))], "byte order"),
        ((float, (3,)), "an array by itself"),
    ],
    ids=str,
)
def test_dtypes_that_are_no_plain_bytes_are_refused_in_any_place(dtype: Any, says: str) -> None:
    for dtypes in ([dtype, "d", "d"], ["d", "d", dtype]):
        with pytest.raises(ValueError, match=f"dtypes holds .*{says}"):
            inner(dtypes=dtypes)


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="this NumPy has none")
def test_numpys_variable_strings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"dtypes holds StringDType.*references"):
        inner(dtypes=[np.dtypes.StringDType(), "d"])


@pytest.mark.parametrize(
    "dtypes", [5, 1.5, True, b"dd", np.dtype("d"), np.float64, {"d", "f"}, iter("dd"), object()], ids=repr
)
def test_what_is_no_sequence_of_dtypes_is_refused(dtypes: Any) -> None:
    with pytest.raises(TypeError, match=f"dtypes must be a str .*not {type(dtypes).__name__}"):
        inner(dtypes=dtypes)


@pytest.mark.parametrize(
    "dtypes", ["dz->d", "d d", ["d", 5], ["d", "no such"], ["d", None], [None, None], [object(), "d"]]
)
def test_what_is_no_dtype_is_refused(dtypes: Any) -> None:
    with pytest.raises(TypeError, match=r"dtypes (holds|must hold)"):
        inner(dtypes=dtypes)


def test_an_inner_loop_needs_dtypes() -> None:
    with pytest.raises(TypeError, match="dtypes is needed"):
        inner()


def test_only_an_inner_loop_has_dtypes() -> None:
    for obj in (
        native.capsule("d1", "double (double)"),
        native.capsule("d1", RANGE),
        kernels.identity,
        "fastpool.kernels:identity",
    ):
        with pytest.raises(TypeError, match="dtypes is for a NumPy inner loop"):
            fastpool.kernel(obj, dtypes="dd->d")
    assert kernels.identity.dtypes is None


def test_an_inner_loop_is_no_job_by_itself(single: fastpool.Pool) -> None:
    kernel = inner(dtypes="d->d")
    for call in (kernel, lambda *args: single.submit(kernel, *args)):
        with pytest.raises(TypeError, match="no job by itself"):
            call(1.0)


# --- a kernel given again ---


def test_a_kernel_given_again_keeps_its_dtypes() -> None:
    kernel = inner(dtypes="fd->d")
    assert fastpool.kernel(kernel) is kernel
    assert fastpool.kernel(kernel, dtypes=[np.float32, "f8", float]) is kernel
    assert fastpool.kernel(kernel, _signatures.INNER_LOOP) is kernel
    assert fastpool.kernel(kernel, data=np.zeros(1)).dtypes == kernel.dtypes
    with pytest.raises(TypeError, match=r"dtypes of .* are .*float32.*, not 'dd->d'"):
        fastpool.kernel(kernel, dtypes="dd->d")
    with pytest.raises(ValueError, match="dtypes"):
        fastpool.kernel(kernel, dtypes="d")
    with pytest.raises(TypeError, match=r"not 'double \(double\)'"):
        fastpool.kernel(kernel, "double (double)")


# --- pickling ---


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_inner_loop_is_pickled_with_its_dtypes(module: types.ModuleType, protocol: int) -> None:
    module.loop = native.capsule("d1", _signatures.INNER_LOOP)
    record = np.dtype([("x", "f8"), ("n", "i4")])
    kernel = fastpool.kernel("fastpool_test_module:loop", dtypes=["d", record])
    again = pickle.loads(pickle.dumps(kernel, protocol))
    assert (again.dtypes, again.signature, again.name) == (kernel.dtypes, kernel.signature, kernel.name)
    assert copy.copy(kernel).dtypes == kernel.dtypes


def test_an_inner_loop_without_a_name_is_not_pickled() -> None:
    with pytest.raises(TypeError, match='no "module:function" name'):
        pickle.dumps(inner(dtypes="d->d"))
