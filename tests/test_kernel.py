"""A kernel: what kernel() takes and refuses, and what a native job gives back."""

from __future__ import annotations

import copy
import ctypes
import ctypes.util
import gc
import importlib
import itertools
import logging
import math
import pickle
import threading
import types
import weakref
from collections.abc import Callable
from typing import Any

import native
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import WAIT, Held, idle_metrics, in_thread, reached

import fastpool
from fastpool import _core, _signatures, kernels

MakePool = Callable[..., fastpool.Pool]

DTYPES = {"double": np.float64, "float": np.float32, "int64_t": np.int64}
SCALAR = [signature for signature in _core.SIGNATURES if signature.partition(" ")[0] in DTYPES]
WITH_DATA = [signature for signature in SCALAR if "void" in signature]


def result_type(signature: str) -> str:
    return signature.partition(" ")[0]


def inputs(signature: str) -> int:
    return signature.count(result_type(signature)) - 1


def scalars_of(signature: str) -> list[Any]:
    """Numbers that float holds exactly."""
    values = [5, -3, 11] if result_type(signature) == "int64_t" else [2.5, -0.125, 7.0]
    return values[: inputs(signature)]


def libm(name: str, arguments: int = 1) -> Any:
    function = ctypes.CDLL(ctypes.util.find_library("m"))[name]
    function.argtypes, function.restype = [ctypes.c_double] * arguments, ctypes.c_double
    return function


def callback(function: Callable[..., Any], *types_: Any) -> Any:
    return ctypes.CFUNCTYPE(*types_)(function)


# --- each signature, called in the three ways ---


def check_calls(pool: fastpool.Pool, kernel: fastpool.Kernel, scalars: list[Any], expected: Any) -> None:
    """One call is one value, however it is made; `expected` is exact."""
    assert kernel(*scalars) == expected
    assert type(kernel(*scalars)) is type(expected)
    assert pool.submit(kernel, *scalars).result(WAIT) == expected
    lists = [[x] * 3 for x in scalars]
    assert [future.result(WAIT) for future in pool.submit_many(kernel, *lists)] == [expected] * 3
    assert list(pool.map(kernel, *lists)) == [expected] * 3


@pytest.mark.parametrize("signature", SCALAR)
def test_a_capsule_of_each_scalar_signature_is_called_right(pool: fastpool.Pool, signature: str) -> None:
    kernel = fastpool.kernel(native.capsule(native.function_name(signature), signature))
    scalars = scalars_of(signature)
    check_calls(pool, kernel, scalars, native.expected(scalars, 0 if "void" in signature else None))


@pytest.mark.parametrize("signature", WITH_DATA)
def test_user_data_reaches_each_call(single: fastpool.Pool, signature: str) -> None:
    data = np.array([6], DTYPES[result_type(signature)])
    kernel = fastpool.kernel(native.capsule(native.function_name(signature), signature), data=data)
    scalars = scalars_of(signature)
    check_calls(single, kernel, scalars, native.expected(scalars, data[0].item()))
    data[0] = 1  # the buffer itself, not a copy
    check_calls(single, kernel, scalars, native.expected(scalars, 1))


@pytest.mark.parametrize("signature", SCALAR)
def test_a_ctypes_function_of_each_scalar_signature_is_called_right(single: fastpool.Pool, signature: str) -> None:
    function = ctypes.CDLL(native.library_path())[native.function_name(signature)]
    scalar = native.SCALARS[result_type(signature)][0]
    function.restype = scalar
    function.argtypes = [scalar] * inputs(signature) + [ctypes.c_void_p] * ("void" in signature)
    kernel = fastpool.kernel(function)
    assert kernel.signature == signature
    scalars = scalars_of(signature)
    check_calls(single, kernel, scalars, native.expected(scalars, 0 if "void" in signature else None))


def test_a_job_on_a_buffer_returns_its_zero(pool: fastpool.Pool) -> None:
    kernel = fastpool.kernel(native.capsule("status", "int (void *)"), data=np.zeros(1, np.intc))
    assert pool.submit(kernel).result(WAIT) == 0


@pytest.mark.parametrize("status", [1, -1, 2**31 - 1, -(2**31)])
def test_a_status_other_than_zero_is_a_native_job_error(pool: fastpool.Pool, status: int) -> None:
    kernel = fastpool.kernel(kernels.fail, data=np.array([status], np.intc))
    future = pool.submit(kernel)
    error = future.exception(WAIT)
    assert isinstance(error, fastpool.NativeJobError)
    assert error.status == status
    assert error.index is None
    assert str(status) in str(error)
    with pytest.raises(fastpool.NativeJobError, match=str(status)):
        future.result()
    assert pool.submit(kernels.identity, 1.0).result(WAIT) == 1.0, "the worker goes on"
    assert idle_metrics(pool).jobs_failed == 1


def test_the_kernels_of_the_package_compute_what_they_say(pool: fastpool.Pool) -> None:
    assert pool.submit(kernels.identity, -0.0).result(WAIT).hex() == "-0x0.0p+0"
    assert pool.submit(kernels.normal_cdf, 1.0).result(WAIT) == pytest.approx(0.8413447460685429, rel=1e-15)
    assert pool.submit(kernels.polynomial, 1.0).result(WAIT) == pytest.approx(1 + 1 / 2 - 1 / 3 + 1 / 4 - 1 / 5 + 1 / 6)
    assert pool.submit(kernels.black_scholes_call, 100.0, 100.0, 1.0).result(WAIT) == pytest.approx(10.4505835721856)
    with pytest.raises(fastpool.NativeJobError):
        pool.submit(kernels.fail).result(WAIT)


# --- capsules ---


@pytest.mark.parametrize("name", _core.sample_capsules())
def test_a_capsule_says_its_signature_by_its_name(name: str) -> None:
    sample = _core.sample_capsules()[name]
    kernel = fastpool.kernel(sample)
    assert kernel.signature == _core.capsule_signature(sample) == getattr(kernels, name).signature
    assert kernel.signature in repr(kernel)


def test_a_capsules_context_is_its_user_data(single: fastpool.Pool) -> None:
    """SciPy's convention for LowLevelCallable."""
    data = np.array([6.0])
    kernel = fastpool.kernel(native.capsule("d1p", "double (double, void *)", data.ctypes.data))
    assert single.submit(kernel, 1.0).result(WAIT) == 25.0
    assert fastpool.kernel(kernel, data=np.array([1.0]))(1.0) == 5.0, "data= goes before it"
    assert kernel(1.0) == 25.0


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        (None, TypeError, "without a name"),
        ("", ValueError, "not a C signature"),
        ("numpy.random.BitGenerator", ValueError, "not a C signature"),
        ("double (double", ValueError, "not a C signature"),
        ("double x(double)", ValueError, "can call|not a C signature"),
        ("double (double) extra", ValueError, "not a C signature"),
        ("double (double,)", ValueError, "not a C signature"),
        ("double ()", ValueError, "a pool can call"),
        ("void (double)", ValueError, "a pool can call"),
        ("double *(double)", ValueError, "a pool can call"),
        ("double (double *)", ValueError, "a pool can call"),
        ("double (float)", ValueError, "a pool can call"),
        ("float (double, double)", ValueError, "a pool can call"),
        ("int (int)", ValueError, "a pool can call"),
        ("unsigned long (unsigned long)", ValueError, "a pool can call"),
        ("int64_t (int64_t, int64_t, int64_t)", ValueError, "a pool can call"),
        ("double (double, double, double, double)", ValueError, "a pool can call"),
        ("double (void *, double)", ValueError, "a pool can call"),
    ],
)
def test_a_capsule_of_another_signature_is_refused(name: str | None, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        fastpool.kernel(native.capsule("d1", name))


# --- spelling ---

INTEGERS = [
    "long long",
    "long long int",
    "signed long long",
    "long  signed long",
    "int64_t",
    "npy_int64",
    "npy_intp",
    "intptr_t",
    "ptrdiff_t",
    "ssize_t",
    "Py_ssize_t",
    "PY_LONG_LONG",
]
SPELLINGS = {
    "double": ["double", "npy_double", "npy_float64"],
    "float": ["float", "npy_float", "npy_float32"],
    "int64_t": INTEGERS,
    "int": ["int", "signed", "signed int", "int32_t", "npy_int32"],
    "void": ["void"],
    "char": ["char"],
}
blank = st.text(" \t\n", max_size=2)


@st.composite
def spelled_type(draw: st.DrawFn, name: str) -> str:
    """`name` as somebody may write it as a parameter's type."""
    target, *stars = name.split("*")
    word = draw(st.sampled_from(SPELLINGS[target.split()[0]]))
    if "const" in target:
        word = draw(st.sampled_from([f"const {word}", f"{word} const", f"{word} const volatile"]))
    if not stars:
        const = draw(st.sampled_from(["{}", "const {}", "{} const", "volatile {}"]))
        return draw(blank) + const.format(word) + draw(blank)
    pointers = "".join(f"{draw(blank)}*" for _ in stars)
    return draw(blank) + word + pointers + draw(st.sampled_from(["", " const", "const"])) + draw(blank)


@st.composite
def spelled(draw: st.DrawFn) -> tuple[str, str]:
    """A signature that a pool can call, and another spelling of it."""
    signature = draw(st.sampled_from(sorted(_core.SIGNATURES)))
    result, _, rest = signature.partition(" (")
    arguments = [draw(spelled_type(name)) for name in rest.rstrip(")").split(", ")]
    return signature, f"{draw(spelled_type(result))}({','.join(arguments)}){draw(blank)}"


@given(both=spelled())
def test_every_spelling_is_brought_to_one(both: tuple[str, str]) -> None:
    signature, spelling = both
    assert _signatures.normalise(spelling) == signature
    dtypes = "dd->d" if signature == _signatures.INNER_LOOP else None
    assert fastpool.kernel(native.capsule("d1", spelling), dtypes=dtypes).signature == signature


@pytest.mark.skipif(ctypes.sizeof(ctypes.c_long) != 8, reason="long is no int64_t here")
def test_long_is_what_the_system_says() -> None:
    assert _signatures.normalise("long int (signed long)") == "int64_t (int64_t)"


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("double(const double*)", "double (double const *)"),
        ("double(double const*)", "double (double const *)"),
        ("double(double *const)", "double (double *)"),
        ("double(const double *const)", "double (double const *)"),
        (
            "void(char**,const npy_intp*,npy_intp const *,void*)",
            "void (char **, int64_t const *, int64_t const *, void *)",
        ),
        ("int(long long,long long,void*)", "int (int64_t, int64_t, void *)"),
        ("double(void)", "double ()"),
    ],
)
def test_const_of_a_pointers_target_matters_and_of_the_pointer_does_not(text: str, canonical: str) -> None:
    assert _signatures.normalise(text) == canonical
    assert _signatures.normalise(canonical) == canonical


@given(text=st.text("double int*(), const_t64\t", max_size=30))
def test_any_text_is_a_signature_or_refused(text: str) -> None:
    try:
        canonical = _signatures.normalise(text)
    except ValueError as error:
        assert "is not a C signature" in str(error)
    else:
        assert _signatures.normalise(canonical) == canonical


# --- ctypes ---


def test_functions_of_libm_are_kernels(pool: fastpool.Pool) -> None:
    assert pool.submit(fastpool.kernel(libm("cos")), 0.5).result(WAIT) == math.cos(0.5)
    assert pool.submit(fastpool.kernel(libm("pow", 2)), 2.0, 10.0).result(WAIT) == 1024.0
    assert pool.submit(fastpool.kernel(libm("fma", 3)), 2.0, 3.0, 4.0).result(WAIT) == 10.0


def test_a_callback_made_of_a_python_function_works_from_every_worker(pool: fastpool.Pool) -> None:
    barrier = threading.Barrier(pool._max_workers)
    seen: list[int] = []

    def python(x: float) -> float:
        barrier.wait(WAIT)
        seen.append(threading.get_ident())
        return 2 * x

    kernel = fastpool.kernel(callback(python, ctypes.c_double, ctypes.c_double))
    futures = [pool.submit(kernel, float(i)) for i in range(pool._max_workers)]
    assert [future.result(WAIT) for future in futures] == [2.0 * i for i in range(pool._max_workers)]
    assert len(set(seen)) == pool._max_workers


def test_a_kernel_runs_with_the_interpreter_released(pool: fastpool.Pool) -> None:
    with native.Told() as told:
        future = pool.submit(told.kernel)
    assert future.result(WAIT) == 0


def test_signature_is_for_a_function_that_declares_none() -> None:
    function = ctypes.CDLL(native.library_path())["d2"]
    with pytest.raises(TypeError, match="argtypes"):
        fastpool.kernel(function)
    assert fastpool.kernel(function, "double (const double, npy_double)")(7.0, 2.0) == 3.0


def test_signature_given_must_be_the_one_declared() -> None:
    assert fastpool.kernel(libm("cos"), signature="double(double)").signature == "double (double)"
    assert fastpool.kernel(kernels.identity, "double (const double)").signature == "double (double)"
    for obj in (libm("cos"), kernels.identity, native.capsule("d1", "double (double)"), "fastpool.kernels:identity"):
        with pytest.raises(TypeError, match=r"double \(double\).*not.*float \(float\)"):
            fastpool.kernel(obj, signature="float(float)")


@pytest.mark.parametrize("signature", [5, b"double (double)", object(), ("double", "double")])
def test_a_signature_that_is_no_text_is_refused(signature: Any) -> None:
    with pytest.raises(TypeError, match="signature must be a str"):
        fastpool.kernel(libm("cos"), signature)


@pytest.mark.parametrize(
    "declared", [ctypes.c_char_p, ctypes.c_uint64, ctypes.POINTER(ctypes.c_uint64), ctypes.py_object]
)
def test_a_ctypes_type_that_no_kernel_has_is_refused(declared: Any) -> None:
    function = ctypes.CDLL(native.library_path())["d1"]
    function.argtypes, function.restype = [declared], ctypes.c_double
    with pytest.raises(TypeError, match="obj declares the ctypes type"):
        fastpool.kernel(function)


def test_a_null_function_pointer_is_refused() -> None:
    with pytest.raises(ValueError, match="NULL"):
        fastpool.kernel(ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)())


# --- what is no kernel ---


@pytest.mark.parametrize(
    "obj",
    [12345, True, 0, None, 1.5, math.cos, lambda x: x, libm, object(), b"fastpool.kernels:identity", np.sin],
    ids=lambda obj: type(obj).__name__,
)
def test_what_is_no_kernel_is_refused(obj: Any) -> None:
    with pytest.raises(TypeError, match=f"obj must be a PyCapsule.*not {type(obj).__name__}"):
        fastpool.kernel(obj)
    with pytest.raises(TypeError, match="obj must be"):
        fastpool.kernel(obj, "double (double)")


def test_a_kernel_is_made_by_kernel_only() -> None:
    with pytest.raises(TypeError, match=r"fastpool\.kernel\(\)"):
        fastpool.Kernel()
    with pytest.raises(TypeError):
        type("Sub", (fastpool.Kernel,), {})


# --- "module:function" ---


def test_a_kernel_is_found_by_name(module: types.ModuleType, single: fastpool.Pool) -> None:
    module.capsule = native.capsule("d1", "double (double)")
    module.function = libm("cos")
    module.kernel = kernels.identity
    module.__pyx_capi__ = {"hidden": native.capsule("d2", "double (double, double)")}
    assert single.submit(fastpool.kernel("fastpool_test_module:capsule"), 1.0).result(WAIT) == 4.0
    assert single.submit(fastpool.kernel("fastpool_test_module:function"), 0.0).result(WAIT) == 1.0
    assert single.submit(fastpool.kernel("fastpool_test_module:kernel"), 5.0).result(WAIT) == 5.0
    assert single.submit(fastpool.kernel("fastpool_test_module:hidden"), 5.0, 1.0).result(WAIT) == 3.0
    assert "fastpool.kernels:identity" in repr(fastpool.kernel("fastpool.kernels:identity"))


@pytest.mark.parametrize("name", ["", ":", "fastpool.kernels", "fastpool.kernels:", ":identity"])
def test_a_name_needs_module_and_function(name: str) -> None:
    with pytest.raises(ValueError, match="module:function"):
        fastpool.kernel(name)


def test_a_name_that_leads_to_nothing_says_so() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        fastpool.kernel("no_such_module:f")
    with pytest.raises(AttributeError, match="no_such_function"):
        fastpool.kernel("fastpool.kernels:no_such_function")
    with pytest.raises(TypeError, match="math:cos is no kernel"):
        fastpool.kernel("math:cos")


# --- user data ---

DATA_SIGNATURE = "double (double, void *)"


def with_data(data: Any) -> fastpool.Kernel:
    return fastpool.kernel(native.capsule("d1p", DATA_SIGNATURE), data=data)


def bytes_of(value: float) -> bytes:
    return np.float64(value).tobytes()


@pytest.mark.parametrize(
    "make",
    [bytes, bytearray, memoryview, lambda raw: np.frombuffer(raw), lambda raw: ctypes.c_double.from_buffer_copy(raw)],
    ids=["bytes", "bytearray", "memoryview", "read-only array", "ctypes"],
)
def test_data_is_anything_with_a_buffer(single: fastpool.Pool, make: Callable[[bytes], Any]) -> None:
    assert single.submit(with_data(make(bytes_of(6.0))), 1.0).result(WAIT) == 25.0


def test_data_may_be_a_capsule(single: fastpool.Pool) -> None:
    data = np.array([6.0])
    for name in (None, "whatever"):
        assert single.submit(with_data(native.capsule_of(data.ctypes.data, name)), 1.0).result(WAIT) == 25.0


@pytest.mark.parametrize(
    "data",
    [memoryview(bytes(64))[::2], np.zeros((4, 4))[:, :2], np.zeros((4, 3)).T, 5, 1.5, "text", [1.0], object()],
    ids=["strided view", "sliced array", "transposed array", "int", "float", "str", "list", "object"],
)
def test_data_without_a_contiguous_buffer_is_refused(data: Any) -> None:
    with pytest.raises(TypeError, match=f"data must be.*not {type(data).__name__}"):
        with_data(data)


def test_data_for_a_kernel_without_a_pointer_is_refused() -> None:
    for obj in (kernels.identity, libm("cos"), native.capsule("q1", "int64_t (int64_t)")):
        with pytest.raises(TypeError, match=r"data was given.*no void \*"):
            fastpool.kernel(obj, data=np.zeros(1))


def test_a_buffer_cannot_be_resized_while_the_kernel_lives() -> None:
    data = bytearray(bytes_of(6.0))
    kernel = with_data(data)
    with pytest.raises(BufferError):
        data.clear()
    assert kernel(1.0) == 25.0
    del kernel
    data.clear()


def test_a_queued_job_holds_its_kernel_and_its_data(single: fastpool.Pool) -> None:
    data = bytearray(bytes_of(6.0))
    with Held(single):
        future = single.submit(with_data(data), 1.0)
        gc.collect()
        with pytest.raises(BufferError):
            data.clear()
    assert future.result(WAIT) == 25.0


def test_an_ended_job_lets_go_of_its_data(pool: fastpool.Pool) -> None:
    data = bytearray(bytes_of(6.0))
    future = pool.submit(with_data(data), 1.0)
    assert future.result(WAIT) == 25.0
    idle_metrics(pool)
    pool.submit(int).result(WAIT)  # whoever comes next drops what the kernel's worker has left
    data.clear()
    assert future.result(WAIT) == 25.0, "the result is kept"


class Owner(bytearray):
    """A buffer that can be watched."""


def test_cancelling_a_queued_kernel_frees_its_data_at_once(single: fastpool.Pool) -> None:
    owner = Owner(bytes_of(6.0))
    gone = weakref.ref(owner)
    with Held(single):
        future = single.submit(with_data(owner), 1.0)
        del owner
        assert gone() is not None
        assert future.cancel()
        assert gone() is None
    assert future.cancelled()
    assert idle_metrics(single).jobs_cancelled == 1


def test_a_kernel_with_other_data_leaves_the_first_as_it_is() -> None:
    first = with_data(np.array([6.0]))
    second = fastpool.kernel(first, data=np.array([1.0]))
    assert fastpool.kernel(first) is first
    assert (first(1.0), second(1.0)) == (25.0, 5.0)
    del first
    gc.collect()
    assert second(1.0) == 5.0


def test_the_functions_owner_lives_as_long_as_the_kernel() -> None:
    function = callback(lambda x: 2 * x, ctypes.c_double, ctypes.c_double)
    gone = weakref.ref(function)
    kernel = fastpool.kernel(function)
    del function
    gc.collect()
    assert gone() is not None
    assert kernel(4.0) == 8.0
    del kernel
    gc.collect()
    assert gone() is None


# --- pickling ---


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_kernel_with_a_name_is_pickled_by_it(protocol: int) -> None:
    for kernel in (kernels.normal_cdf, fastpool.kernel("fastpool.kernels:normal_cdf")):
        text = pickle.dumps(kernel, protocol)
        assert b"fastpool.kernels:normal_cdf" in text
        again = pickle.loads(text)
        assert (again(1.0), again.signature) == (kernel(1.0), kernel.signature)
    assert copy.copy(kernels.identity)(3.0) == 3.0


def test_a_kernel_that_has_no_name_or_has_data_is_not_pickled() -> None:
    for kernel in (fastpool.kernel(libm("cos")), fastpool.kernel(native.capsule("d1", "double (double)"))):
        with pytest.raises(TypeError, match='no "module:function" name'):
            pickle.dumps(kernel)
    for kernel in (
        fastpool.kernel(kernels.black_scholes_call, data=np.zeros(2)),
        fastpool.kernel("fastpool.kernels:fail", data=np.zeros(1, np.intc)),
    ):
        with pytest.raises(TypeError, match="has user data"):
            pickle.dumps(kernel)


def test_user_data_in_a_capsules_context_is_pickled_only_by_name(module: types.ModuleType) -> None:
    """The name brings back the capsule, and with it its context."""
    data = np.array([6.0])
    module.capsule = native.capsule("d1p", DATA_SIGNATURE, data.ctypes.data)
    again = pickle.loads(pickle.dumps(fastpool.kernel("fastpool_test_module:capsule")))
    assert again(1.0) == 25.0


# --- scalars ---


def int_kernel() -> fastpool.Kernel:
    return fastpool.kernel(native.capsule("q2", "int64_t (int64_t, int64_t)"))


def calls(pool: fastpool.Pool, kernel: fastpool.Kernel) -> list[Callable[..., Any]]:
    """The ways in which scalars are given: each checks them before anything is queued."""
    return [kernel, lambda *args: pool.submit(kernel, *args), lambda *args: pool.post(kernel, *args)]


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**30])
def test_an_int_beyond_int64_is_refused(single: fastpool.Pool, value: int) -> None:
    for call in calls(single, int_kernel()):
        with pytest.raises(OverflowError, match=r"argument 1 .*does not fit"):
            call(0, value)
    assert single.metrics().jobs_submitted == 0


@pytest.mark.parametrize("value", [1.0, math.nan, "1", None, 1j, [1], np.float64(1), np.zeros(2)])
def test_what_is_no_integer_is_refused_for_int64(single: fastpool.Pool, value: Any) -> None:
    for call in calls(single, int_kernel()):
        with pytest.raises(TypeError, match=r"argument 1 .*must be an integer"):
            call(0, value)
    assert single.metrics().jobs_submitted == 0


@pytest.mark.parametrize("value", ["1", b"1", None, 1j, [1.0], object()])
@pytest.mark.parametrize("signature", ["double (double, double)", "float (float, float)"])
def test_what_is_no_number_is_refused_for_floats(single: fastpool.Pool, signature: str, value: Any) -> None:
    kernel = fastpool.kernel(native.capsule(native.function_name(signature), signature))
    for call in calls(single, kernel):
        with pytest.raises(TypeError, match=r"argument 1 .*must be a real number"):
            call(0.0, value)
    assert single.metrics().jobs_submitted == 0


def test_an_int_beyond_any_double_is_refused(single: fastpool.Pool) -> None:
    for call in calls(single, kernels.identity):
        with pytest.raises(OverflowError, match=r"argument 0 .*does not fit"):
            call(10**400)


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63), np.int8(-5), np.uint64(7), True])
def test_integers_of_every_kind_arrive_exactly(single: fastpool.Pool, value: Any) -> None:
    assert single.submit(int_kernel(), value, 0).result(WAIT) == int(value)


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, -0.0, 5e-324, np.float32(0.1), np.float64(0.1), 3, True]
)
def test_numbers_of_every_kind_arrive_exactly(single: fastpool.Pool, value: Any) -> None:
    assert single.submit(kernels.identity, value).result(WAIT).hex() == float(value).hex()


class Tells:
    """A number whose conversion fails in its own way."""

    def __float__(self) -> float:
        raise ZeroDivisionError

    def __index__(self) -> int:
        raise ZeroDivisionError


def test_an_argument_that_fails_to_convert_raises_its_own_error(single: fastpool.Pool) -> None:
    for kernel, rest in ((kernels.identity, ()), (int_kernel(), (1,))):
        for call in calls(single, kernel):
            with pytest.raises(ZeroDivisionError):
                call(Tells(), *rest)
    assert single.metrics().jobs_submitted == 0


@pytest.mark.parametrize("count", [0, 1, 3, 4, 200])
def test_the_number_of_scalars_must_be_the_signatures(single: fastpool.Pool, count: int) -> None:
    for call in calls(single, int_kernel()):
        with pytest.raises(TypeError, match=f"takes 2 scalars, got {count}"):
            call(*[1] * count)


def test_a_kernel_takes_no_keywords(single: fastpool.Pool) -> None:
    with pytest.raises(TypeError, match="keyword"):
        kernels.identity(x=1.0)
    for method in (single.submit, single.post):
        with pytest.raises(TypeError, match="keyword"):
            method(kernels.identity, x=1.0)
    assert single.metrics().jobs_submitted == 0


# --- failures that no future carries ---


def test_a_posted_kernel_that_fails_is_logged_counted_and_given_to_on_error(
    make_pool: MakePool, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[fastpool.JobError] = []
    pool = make_pool(1, on_error=seen.append)
    with caplog.at_level(logging.ERROR, "fastpool"):
        pool.post(fastpool.kernel(kernels.fail, data=np.array([7], np.intc)))
        metrics = idle_metrics(pool)
    (error,) = seen
    assert isinstance(error.exception, fastpool.NativeJobError)
    assert error.exception.status == 7
    assert isinstance(error.fn, fastpool.Kernel)
    assert error.worker_id == 0
    (record,) = caplog.records
    assert "fastpool.kernels:fail" in record.getMessage()
    assert (metrics.jobs_failed, metrics.panics) == (1, 1)


def test_a_failed_kernel_with_a_future_is_no_panic(single: fastpool.Pool, caplog: pytest.LogCaptureFixture) -> None:
    assert single.submit(kernels.fail).exception(WAIT) is not None
    assert idle_metrics(single).panics == 0
    assert not caplog.records


# --- a full queue ---


def test_a_kernel_runs_on_its_caller_when_the_queue_is_full(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1, on_full="caller_runs")
    ran: list[int] = []

    def python(x: float) -> float:
        ran.append(threading.get_ident())
        return x

    kernel = fastpool.kernel(callback(python, ctypes.c_double, ctypes.c_double))
    with Held(pool):
        queued = pool.submit(kernel, 1.0)
        here = pool.submit(kernel, 2.0)
        assert here.done()
        assert here.result() == 2.0
        assert not queued.done()
        failed = pool.submit(kernels.fail)
        with pytest.raises(fastpool.NativeJobError):
            failed.result()
    assert queued.result(WAIT) == 1.0
    assert ran[0] == threading.get_ident() != ran[1]
    metrics = idle_metrics(pool)
    assert (metrics.jobs_processed, metrics.jobs_failed) == (3, 1)


def test_a_kernel_on_its_caller_runs_with_the_interpreter_released(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1, on_full="caller_runs")
    with Held(pool):
        pool.submit(int)
        with native.Told() as told:
            result = in_thread(lambda: pool.submit(told.kernel).result(WAIT))
        assert result() == 0


def test_a_job_queues_kernels_past_the_bound_of_its_own_full_queue(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1)
    with native.Told() as told:
        job = pool.submit(lambda: [pool.submit(told.kernel), pool.submit(int)])
    assert [future.result(WAIT) for future in job.result(WAIT)] == [0, 0]


def test_the_oldest_queued_kernel_gives_way(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=2, on_full="discard_oldest")
    with Held(pool):
        futures = [pool.submit(kernels.identity, float(i)) for i in range(5)]
        assert [future.cancelled() for future in futures] == [True, True, True, False, False]
    assert [future.result(WAIT) for future in futures[3:]] == [3.0, 4.0]
    metrics = idle_metrics(pool)
    assert metrics.jobs_cancelled == 3


def test_a_full_queue_refuses_a_kernel_and_keeps_none_of_its_data(make_pool: MakePool) -> None:
    pool = make_pool(1, queue_size=1, on_full="raise")
    owner = Owner(bytes_of(6.0))
    gone = weakref.ref(owner)
    with Held(pool):
        pool.submit(int)
        with pytest.raises(fastpool.PoolOverloaded):
            pool.submit(with_data(owner), 1.0)
        del owner
        assert gone() is None
    assert idle_metrics(pool).jobs_rejected == 1


# --- beside Python jobs ---


def test_kernels_and_python_jobs_start_in_the_order_of_their_submits(single: fastpool.Pool) -> None:
    started: list[float] = []

    def note(x: float) -> float:
        started.append(x)
        return x

    kernel = fastpool.kernel(callback(note, ctypes.c_double, ctypes.c_double))
    with Held(single):
        for i, job in zip(range(600), itertools.cycle([kernel, note, note, kernel, kernel]), strict=False):
            single.post(job, float(i))
    single.submit(int).result(WAIT)
    assert started == [float(i) for i in range(600)]


def test_callbacks_of_a_native_future_run_once_it_has_ended(pool: fastpool.Pool) -> None:
    done = threading.Event()
    seen: list[float] = []
    with Held(pool, pool._max_workers):
        future = pool.submit(kernels.identity, 4.0)
        future.add_done_callback(lambda ended: (seen.append(ended.result()), done.set()))
    reached(done)
    assert seen == [4.0]


def test_a_job_waits_for_a_kernel_on_its_own_one_worker_pool(single: fastpool.Pool) -> None:
    def job() -> float:
        return single.submit(kernels.identity, 2.0).result(WAIT)

    assert single.submit(job).result(WAIT) == 2.0
    assert idle_metrics(single).jobs_processed == 2


def test_a_sample_is_the_same_after_its_module_is_imported_again() -> None:
    again = importlib.reload(kernels)
    assert again.identity(2.0) == 2.0


def test_a_function_of_the_python_api_is_refused() -> None:
    """It needs the GIL, and a kernel runs without."""
    is_true = ctypes.pythonapi.PyObject_IsTrue
    with pytest.raises(TypeError, match="PyDLL"):
        fastpool.kernel(is_true, "int (void *)")
