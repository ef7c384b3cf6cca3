"""Where kernels come from: SciPy's callables, numba's cfuncs, pointers of cffi and ctypes. Each library is optional."""

from __future__ import annotations

import ctypes
import gc
import os
import pickle
import shutil
import subprocess
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import native
import numpy as np
import pytest
from support import WAIT, Held, idle_metrics

import fastpool
from fastpool import _core, _signatures, kernels

INNER = _signatures.INNER_LOOP
RANGE = "int (int64_t, int64_t, void *)"
DATA = "double (double, void *)"
SCALAR = [signature for signature in _core.SIGNATURES if signature.partition(" ")[0] in native.SCALARS]

Make = Callable[[], Any]


def optional(name: str) -> Any:
    return pytest.importorskip(name, exc_type=ImportError)


def check(signature: str, kernel: fastpool.Kernel, pool: fastpool.Pool) -> None:
    """`kernel`, of a scalar signature and without data, gives what native.c's function of that signature gives."""
    result, _, arguments = signature.partition(" (")
    values = [5, -3, 11] if result == "int64_t" else [2.5, -0.125, 7.0]
    scalars = values[: arguments.rstrip(")").split(", ").count(result)]
    assert kernel.signature == signature
    expected = native.expected(scalars, 0 if "void" in signature else None)
    assert (kernel(*scalars), pool.submit(kernel, *scalars).result(WAIT)) == (expected, expected)


def ctypes_function(name: str, restype: Any, *argtypes: Any) -> Any:
    function = ctypes.CDLL(native.library_path())[name]
    function.restype, function.argtypes = restype, argtypes
    return function


# --- the same function, 3 x + 1, from each source ---


def capsule() -> Any:
    return native.capsule("d1", "double (double)")


def of_ctypes() -> Any:
    return ctypes_function("d1", ctypes.c_double, ctypes.c_double)


def of_ctypes_callback() -> Any:
    return ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(lambda x: 3 * x + 1)


def of_scipy() -> Any:
    return optional("scipy").LowLevelCallable(of_ctypes_callback())


def of_numba() -> Any:
    @optional("numba").cfunc("float64(float64)")
    def line(x: float) -> float:
        return 3 * x + 1

    return line


def of_cffi() -> Any:
    ffi = optional("cffi").FFI()
    ffi.cdef("double d1(double);")
    return ffi.dlopen(native.library_path()).d1


def of_cffi_cast() -> Any:
    return optional("cffi").FFI().cast("double (*)(double)", native.address("d1"))


def of_cffi_callback() -> Any:
    return optional("cffi").FFI().callback("double (double)", lambda x: 3 * x + 1)


SOURCES = [
    capsule,
    of_ctypes,
    of_ctypes_callback,
    of_scipy,
    of_numba,
    of_cffi,
    of_cffi_cast,
    of_cffi_callback,
]
each_source = pytest.mark.parametrize("make", SOURCES, ids=lambda make: make.__name__)


@each_source
def test_a_function_from_each_source_is_called_right(pool: fastpool.Pool, make: Make) -> None:
    kernel = fastpool.kernel(make())
    assert kernel(2.0) == 7.0
    futures = [pool.submit(kernel, float(i)) for i in range(50)]
    assert [future.result(WAIT) for future in futures] == [3.0 * i + 1 for i in range(50)]
    assert list(pool.map_array(kernel, np.arange(50.0))) == [3.0 * i + 1 for i in range(50)]


@each_source
def test_the_owner_is_held_while_a_queued_job_may_call_it(single: fastpool.Pool, make: Make) -> None:
    with Held(single):
        futures = [single.submit(fastpool.kernel(make()), float(i)) for i in range(3)]
        array = single.submit_array(fastpool.kernel(make()), np.arange(3.0))
        gc.collect()
    assert [future.result(WAIT) for future in futures] == [1.0, 4.0, 7.0]
    assert list(array.result(WAIT)) == [1.0, 4.0, 7.0]


@pytest.mark.parametrize("make", [of_ctypes_callback, of_numba, of_cffi_callback], ids=lambda make: make.__name__)
def test_the_owner_is_let_go_of_with_the_last_job(single: fastpool.Pool, make: Make) -> None:
    owner = make()
    gone = weakref.ref(owner)
    with Held(single):
        future = single.submit(fastpool.kernel(owner), 1.0)
        del owner
        gc.collect()
        assert gone() is not None
    assert future.result(WAIT) == 4.0
    idle_metrics(single)
    single.submit(int).result(WAIT)  # whoever comes next drops what the kernel's worker has left
    gc.collect()
    assert gone() is None


@each_source
def test_signature_given_must_be_the_one_declared(make: Make) -> None:
    obj = make()
    assert fastpool.kernel(obj, "double(const double)").signature == "double (double)"
    with pytest.raises(TypeError, match=r"'double \(double\)', not 'float \(float\)'"):
        fastpool.kernel(obj, "float (float)")
    with pytest.raises(TypeError, match=r"data was given.*no void \*"):
        fastpool.kernel(obj, data=np.zeros(1))


@each_source
def test_each_source_can_be_found_by_name_and_pickled_by_it(module: types.ModuleType, make: Make) -> None:
    module.line = make()
    kernel = pickle.loads(pickle.dumps(fastpool.kernel("fastpool_test_module:line")))
    assert (kernel(2.0), kernel.name) == (7.0, "fastpool_test_module:line")


def test_no_library_is_imported_to_recognise_its_objects() -> None:
    script = (
        "import sys, fastpool\n"
        "for obj in ('fastpool.kernels:identity', object(), print):\n"
        "    try: fastpool.kernel(obj)\n"
        "    except TypeError: pass\n"
        "print([name for name in ('scipy', 'numba', 'cffi', '_cffi_backend') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout == "[]\n"


# --- scipy ---


@pytest.fixture
def scipy() -> Any:
    return optional("scipy")


@pytest.mark.parametrize("signature", SCALAR)
def test_a_low_level_callable_of_each_scalar_signature_is_called_right(
    scipy: Any, single: fastpool.Pool, signature: str
) -> None:
    function = native.capsule(native.function_name(signature), signature)
    check(signature, fastpool.kernel(scipy.LowLevelCallable(function)), single)


def test_user_data_of_a_low_level_callable_reaches_the_function(scipy: Any, single: fastpool.Pool) -> None:
    six, one = np.array([6.0]), np.array([1.0])
    function = native.capsule("d1p", DATA)
    for data in (ctypes.c_void_p(six.ctypes.data), native.capsule_of(six.ctypes.data, None)):
        kernel = fastpool.kernel(scipy.LowLevelCallable(function, data))
        assert single.submit(kernel, 1.0).result(WAIT) == 25.0
        assert fastpool.kernel(scipy.LowLevelCallable(function, data), data=one)(1.0) == 5.0, "data= goes before it"
        assert kernel(1.0) == 25.0


def test_a_low_level_callable_holds_its_user_data_for_a_queued_job(scipy: Any, single: fastpool.Pool) -> None:
    class Pointer(ctypes.c_void_p):
        """One that can be watched, and that keeps what it points to."""

    array = np.array([6.0])
    data = Pointer(array.ctypes.data)
    data.keeps = array
    gone = weakref.ref(data)
    with Held(single):
        future = single.submit(fastpool.kernel(scipy.LowLevelCallable(native.capsule("d1p", DATA), data)), 1.0)
        del data, array
        gc.collect()
        assert gone() is not None
    assert future.result(WAIT) == 25.0


def test_a_low_level_callable_of_another_one_is_taken(scipy: Any) -> None:
    inside = scipy.LowLevelCallable(capsule())
    assert fastpool.kernel(scipy.LowLevelCallable(inside))(2.0) == 7.0


def test_a_low_level_callable_of_another_signature_is_refused(scipy: Any) -> None:
    function = ctypes_function("d1", ctypes.c_double, ctypes.POINTER(ctypes.c_double))
    with pytest.raises(ValueError, match=r"LowLevelCallable, is 'double \(double \*\)'.*a pool can call"):
        fastpool.kernel(scipy.LowLevelCallable(function))


def test_const_in_a_low_level_callable_matters_where_its_capsule_could_say_it(scipy: Any) -> None:
    """The signature of a ctypes function is SciPy's text, of types that have no const."""
    text = INNER.replace(" const", "")
    pointer, step = ctypes.POINTER(ctypes.POINTER(ctypes.c_char)), ctypes.POINTER(ctypes.c_int64)
    function = ctypes_function("d1", None, pointer, step, step, ctypes.c_void_p)
    assert fastpool.kernel(scipy.LowLevelCallable(function), dtypes="d->d").signature == INNER
    with pytest.raises(ValueError, match="a pool can call"):
        fastpool.kernel(scipy.LowLevelCallable(native.capsule("d1", text)), dtypes="d->d")


def test_a_python_function_cannot_come_in_a_low_level_callables_place(scipy: Any) -> None:
    with pytest.raises(TypeError, match=r"obj must be a PyCapsule.*not tuple"):
        fastpool.kernel((capsule(), None, None))


# --- numba ---

NUMBA = {"double": "float64", "float": "float32", "int64_t": "int64", "void *": "voidptr"}
BODIES: dict[str, Callable[..., Any]] = {
    "1": lambda x: 3 * x + 1,
    "2": lambda x, y: x - 2 * y,
    "3": lambda x, y, z: x - 2 * y + 8 * z,
    "1p": lambda x, data: x,
    "2p": lambda x, y, data: x - 2 * y,
    "3p": lambda x, y, z, data: x - 2 * y + 8 * z,
}


@pytest.fixture
def numba() -> Any:
    return optional("numba")


def never_called(numba: Any, signature: str) -> Any:
    """A cfunc of four arguments that returns nothing, or of three that returns 0."""
    bodies = {3: lambda a, b, c: 0, 4: lambda a, b, c, d: None}
    return numba.cfunc(signature)(bodies[signature.count(",") + 1])


@pytest.mark.parametrize("signature", SCALAR)
def test_a_numba_cfunc_of_each_scalar_signature_is_called_right(
    numba: Any, single: fastpool.Pool, signature: str
) -> None:
    result, _, arguments = signature.partition(" (")
    types_ = ",".join(NUMBA[one] for one in arguments.rstrip(")").split(", "))
    body = BODIES[native.function_name(signature)[1:]]
    check(signature, fastpool.kernel(numba.cfunc(f"{NUMBA[result]}({types_})")(body)), single)


def test_a_numba_cfunc_reads_user_data(numba: Any, single: fastpool.Pool) -> None:
    carray = numba.carray

    def with_data(x, data):  # type: ignore[no-untyped-def]
        return x + 4 * carray(data, (1,), numba.float64)[0]

    def typed(x, data):  # type: ignore[no-untyped-def]
        return x + 4 * data[0]

    six = np.array([6.0])
    kernel = fastpool.kernel(numba.cfunc("float64(float64, voidptr)")(with_data), data=six)
    assert single.submit(kernel, 1.0).result(WAIT) == 25.0
    cfunc = numba.cfunc("float64(float64, CPointer(float64))")(typed)
    with pytest.raises(TypeError, match=r"if it is 'double \(double, void \*\)', say so by signature="):
        fastpool.kernel(cfunc, data=six)
    assert single.submit(fastpool.kernel(cfunc, DATA, data=six), 1.0).result(WAIT) == 25.0


def test_a_numba_cfunc_says_its_name(numba: Any) -> None:
    kernel = fastpool.kernel(of_numba())
    assert kernel.name == "numba cfunc line"
    assert "numba cfunc line" in repr(kernel)


@pytest.mark.parametrize("integer", ["int64", "intp", "longlong", "ssize_t"])
def test_a_numba_cfunc_is_a_range(numba: Any, integer: str) -> None:
    assert fastpool.kernel(never_called(numba, f"int32({integer},{integer},voidptr)")).signature == RANGE


@pytest.mark.parametrize("step", ["CPointer(intp)", "CPointer(int64)"])
def test_a_numba_cfunc_is_an_inner_loop(numba: Any, step: str) -> None:
    cfunc = never_called(numba, f"void(CPointer(CPointer(char)),{step},{step},voidptr)")
    kernel = fastpool.kernel(cfunc, dtypes="dd->d")
    assert (kernel.signature, kernel.dtypes) == (INNER, (np.dtype("d"),) * 3)
    with pytest.raises(TypeError, match="dtypes is needed"):
        fastpool.kernel(cfunc)


@pytest.mark.parametrize(
    "declared",
    [
        "void(voidptr,voidptr,voidptr,voidptr)",
        "void(CPointer(voidptr),CPointer(intp),CPointer(intp),voidptr)",
        "void(CPointer(CPointer(char)),CPointer(intp),CPointer(intp),CPointer(float64))",
    ],
)
def test_an_untyped_pointer_of_numba_is_taken_for_another_only_where_signature_says_so(
    numba: Any, declared: str
) -> None:
    cfunc = never_called(numba, declared)
    with pytest.raises(TypeError, match="say so by signature="):
        fastpool.kernel(cfunc, dtypes="d->d")
    assert fastpool.kernel(cfunc, INNER, dtypes="d->d").signature == INNER


@pytest.mark.parametrize(
    "declared",
    [
        "void(CPointer(CPointer(float64)),CPointer(intp),CPointer(intp),voidptr)",
        "void(CPointer(CPointer(char)),CPointer(float64),CPointer(intp),voidptr)",
        "void(CPointer(CPointer(char)),CPointer(voidptr),CPointer(intp),voidptr)",
        "void(CPointer(CPointer(char)),intp,CPointer(intp),voidptr)",
        "int32(int64,int32,voidptr)",
    ],
)
def test_another_type_of_numbas_is_refused_whatever_signature_says(numba: Any, declared: str) -> None:
    cfunc = never_called(numba, declared)
    wanted = RANGE if declared.startswith("int32") else INNER
    with pytest.raises(ValueError, match="a pool can call"):
        fastpool.kernel(cfunc)
    with pytest.raises(TypeError, match=r"numba cfunc, is .*, not"):
        fastpool.kernel(cfunc, wanted, dtypes="d->d")


@pytest.mark.parametrize("name", ["uint64", "complex128", "int8", "boolean"])
def test_a_numba_type_that_no_kernel_has_is_refused(numba: Any, name: str) -> None:
    cfunc = numba.cfunc(f"{name}({name})")(lambda x: x)
    for signature in (None, "double (double)"):
        with pytest.raises(TypeError, match=r"obj declares the ctypes type|must have types that ctypes has"):
            fastpool.kernel(cfunc, signature)


def test_what_numba_compiles_by_jit_is_refused(numba: Any) -> None:
    with pytest.raises(TypeError, match=r"a numba cfunc.*not CPUDispatcher"):
        fastpool.kernel(numba.njit("float64(float64)")(lambda x: x))


def test_a_numba_cfunc_that_raises_reports_it_and_the_worker_goes_on(
    numba: Any, pool: fastpool.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: reported.append(args.exc_type))

    @numba.cfunc("float64(float64)")
    def raises(x: float) -> float:
        if x < 0:
            raise ValueError("negative")
        return 2 * x

    kernel = fastpool.kernel(raises)
    futures = [pool.submit(kernel, -1.0 if i % 2 else float(i)) for i in range(40)]
    results = [future.result(WAIT) for future in futures]
    assert results[::2] == [2.0 * i for i in range(0, 40, 2)], "what a call that raised gives is undefined"
    assert reported == [ValueError] * 20
    assert pool.submit(int).result(WAIT) == 0


# --- cffi ---

CFFI_SPELLINGS = ["int64_t", "long long", "intptr_t", "ssize_t", "ptrdiff_t", "signed long long int"]


@pytest.fixture
def ffi() -> Any:
    return optional("cffi").FFI()


def pointer(ffi: Any, declaration: str, function: str = "d1") -> Any:
    return ffi.cast(declaration, native.address(function))


@pytest.mark.parametrize("signature", SCALAR)
def test_a_cffi_pointer_of_each_scalar_signature_is_called_right(
    ffi: Any, single: fastpool.Pool, signature: str
) -> None:
    declaration = signature.replace(" (", " (*)(")
    check(signature, fastpool.kernel(pointer(ffi, declaration, native.function_name(signature))), single)


def test_a_cffi_function_takes_user_data(ffi: Any, single: fastpool.Pool) -> None:
    function = pointer(ffi, "double (*)(double, void *)", "d1p")
    assert single.submit(fastpool.kernel(function, data=np.array([6.0])), 1.0).result(WAIT) == 25.0


@pytest.mark.parametrize("integer", CFFI_SPELLINGS)
def test_every_spelling_of_cffis_is_brought_to_one(ffi: Any, integer: str) -> None:
    assert fastpool.kernel(pointer(ffi, f"{integer}(*)({integer})")).signature == "int64_t (int64_t)"
    assert fastpool.kernel(pointer(ffi, f"int (*)({integer}, {integer}, void *)")).signature == RANGE
    for text in (
        f"char **, {integer} *, {integer} *, void *",
        f"char *const *, const {integer} *, {integer} const *, void *",
    ):
        assert fastpool.kernel(pointer(ffi, f"void (*)({text})"), dtypes="d->d").signature == INNER


def test_an_untyped_pointer_of_cffi_is_taken_for_another_only_where_signature_says_so(ffi: Any) -> None:
    function = pointer(ffi, "void (*)(void *, void *, void *, void *)")
    with pytest.raises(TypeError, match="say so by signature="):
        fastpool.kernel(function, dtypes="d->d")
    assert fastpool.kernel(function, INNER, dtypes="d->d").signature == INNER


@pytest.mark.parametrize("declaration", ["double *", "void *", "intptr_t", "double (**)(double)", "double"])
def test_what_is_no_function_of_cffis_is_refused(ffi: Any, declaration: str) -> None:
    with pytest.raises(TypeError, match=r"obj must be a cffi function pointer.*not a cffi"):
        fastpool.kernel(ffi.cast(declaration, native.address("d1")), "double (double)")
    with pytest.raises(TypeError, match="obj must be a cffi function pointer"):
        fastpool.kernel(ffi.new("double[2]"))


def test_a_variadic_function_of_cffis_is_refused(ffi: Any) -> None:
    with pytest.raises(TypeError, match="a fixed number of arguments"):
        fastpool.kernel(pointer(ffi, "double (*)(double, ...)"), "double (double)")


def test_a_function_of_cffis_with_other_types_is_refused(ffi: Any) -> None:
    with pytest.raises(ValueError, match=r"cffi function, is 'unsigned long .*a pool can call"):
        fastpool.kernel(pointer(ffi, "unsigned long (*)(unsigned long)"))
    with pytest.raises(TypeError, match="obj declares the cffi type"):
        fastpool.kernel(pointer(ffi, "double (*)(double (*)(double))"))


def test_a_null_pointer_of_cffis_is_refused(ffi: Any) -> None:
    with pytest.raises(ValueError, match="NULL"):
        fastpool.kernel(ffi.cast("double (*)(double)", 0))


def test_a_callback_of_cffis_works_from_every_worker(ffi: Any, pool: fastpool.Pool) -> None:
    barrier = threading.Barrier(pool._max_workers)

    def python(x: float) -> float:
        barrier.wait(WAIT)
        return 2 * x

    kernel = fastpool.kernel(ffi.callback("double (double)", python))
    futures = [pool.submit(kernel, float(i)) for i in range(pool._max_workers)]
    assert [future.result(WAIT) for future in futures] == [2.0 * i for i in range(pool._max_workers)]


def is_loaded(path: Path) -> bool:
    return str(path) in Path("/proc/self/maps").read_text()


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="tells what is loaded")
def test_a_library_of_cffis_is_loaded_for_as_long_as_a_job_may_call_it(
    ffi: Any, single: fastpool.Pool, tmp_path: Path
) -> None:
    """cffi's pointers do not hold it, and cffi unloads it."""
    path = tmp_path / "held.so"
    shutil.copy(native.library_path(), path)
    other = optional("cffi").FFI()
    other.cdef("double d1(double);")
    library = other.dlopen(str(path))
    with Held(single):
        future = single.submit(fastpool.kernel(library.d1), 2.0)
        other.dlclose(library)
        del library, other
        gc.collect()
        assert is_loaded(path)
    assert future.result(WAIT) == 7.0
    del future
    idle_metrics(single)
    single.submit(int).result(WAIT)
    assert not is_loaded(path)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A module that cffi has compiled: its API mode."""
    optional("setuptools")
    folder = tmp_path_factory.mktemp("cffi")
    builder = optional("cffi").FFI()
    builder.cdef('double line(double); extern "Python" double python(double);')
    builder.set_source("fastpool_test_cffi", "static double line(double x) { return 3 * x + 1; }")
    native.needs_compiler()
    builder.compile(str(folder))
    sys.path.insert(0, str(folder))
    try:
        yield __import__("fastpool_test_cffi")
    finally:
        sys.path.remove(str(folder))


def test_a_function_of_a_compiled_cffi_module_is_taken_by_its_address(compiled: Any, single: fastpool.Pool) -> None:
    kernel = fastpool.kernel(compiled.ffi.addressof(compiled.lib, "line"))
    assert single.submit(kernel, 2.0).result(WAIT) == 7.0


def test_a_wrapper_in_a_compiled_cffi_module_is_refused_with_what_to_give(compiled: Any) -> None:
    with pytest.raises(TypeError, match=r"ffi\.addressof\(lib, 'line'\)"):
        fastpool.kernel(compiled.lib.line, "double (double)")


def test_a_python_function_that_a_compiled_cffi_module_calls_is_a_kernel(compiled: Any, single: fastpool.Pool) -> None:
    compiled.ffi.def_extern("python")(lambda x: 5 * x)
    assert single.submit(fastpool.kernel(compiled.lib.python), 2.0).result(WAIT) == 10.0


# --- ctypes ---

CHARS = [
    ctypes.POINTER(ctypes.POINTER(ctypes.c_char)),
    ctypes.POINTER(ctypes.POINTER(ctypes.c_byte)),
    ctypes.POINTER(ctypes.c_char_p),
]
STEP = ctypes.POINTER(ctypes.c_int64)


@pytest.mark.parametrize("chars", CHARS, ids=lambda one: one.__name__)
def test_a_ctypes_function_is_an_inner_loop(chars: Any) -> None:
    for step in (STEP, ctypes.POINTER(ctypes.c_ssize_t), ctypes.POINTER(ctypes.c_longlong)):
        function = ctypes_function("d1", None, chars, step, step, ctypes.c_void_p)
        for signature in (None, INNER):
            assert fastpool.kernel(function, signature, dtypes="d->d").signature == INNER


def test_a_ctypes_function_is_a_range() -> None:
    function = ctypes_function("status", ctypes.c_int, ctypes.c_int64, ctypes.c_ssize_t, ctypes.c_void_p)
    assert fastpool.kernel(function).signature == RANGE


@pytest.mark.parametrize(
    "argtypes",
    [
        [ctypes.c_void_p] * 4,
        [ctypes.POINTER(ctypes.c_void_p), STEP, STEP, ctypes.c_void_p],
        [CHARS[0], STEP, STEP, ctypes.POINTER(ctypes.c_double)],
    ],
)
def test_an_untyped_pointer_of_ctypes_is_taken_for_another_only_where_signature_says_so(argtypes: list[Any]) -> None:
    function = ctypes_function("d1", None, *argtypes)
    with pytest.raises(TypeError, match="say so by signature="):
        fastpool.kernel(function, dtypes="d->d")
    assert fastpool.kernel(function, INNER, dtypes="d->d").signature == INNER


@pytest.mark.parametrize(
    "argtypes",
    [
        [ctypes.POINTER(ctypes.c_double), STEP, STEP, ctypes.c_void_p],
        [CHARS[0], STEP, ctypes.POINTER(ctypes.c_int), ctypes.c_void_p],
        [CHARS[0], STEP, ctypes.c_int64, ctypes.c_void_p],
        [CHARS[0], STEP, STEP],
        [],
    ],
)
def test_another_type_of_ctypess_is_refused_whatever_signature_says(argtypes: list[Any]) -> None:
    function = ctypes_function("d1", None, *argtypes)
    with pytest.raises(ValueError, match=r"ctypes function, is .*a pool can call"):
        fastpool.kernel(function)
    with pytest.raises(TypeError, match=r"ctypes function, is .*, not"):
        fastpool.kernel(function, INNER, dtypes="d->d")


def test_a_typed_pointer_of_ctypes_is_the_user_data_where_signature_says_so() -> None:
    function = ctypes_function("d1p", ctypes.c_double, ctypes.c_double, ctypes.POINTER(ctypes.c_double))
    with pytest.raises(TypeError, match="say so by signature="):
        fastpool.kernel(function)
    assert fastpool.kernel(function, DATA, data=np.array([6.0]))(1.0) == 25.0


def test_a_restype_that_is_no_type_is_refused() -> None:
    """ctypes calls it with the result, and a kernel is not called through ctypes."""
    function = ctypes_function("d1", lambda value: value, ctypes.c_double)
    with pytest.raises(TypeError, match="obj declares the ctypes type"):
        fastpool.kernel(function)


def test_a_pointer_to_an_incomplete_type_is_refused() -> None:
    class Incomplete(ctypes._Pointer):  # type: ignore[type-arg]
        pass

    function = ctypes.CFUNCTYPE(ctypes.c_double)(lambda: 1.0)
    function.argtypes = [Incomplete]
    with pytest.raises(TypeError, match="obj declares the ctypes type"):
        fastpool.kernel(function)


def test_a_ctypes_callback_that_raises_reports_it_and_the_worker_goes_on(
    pool: fastpool.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: reported.append(args.exc_type))

    def raises(x: float) -> float:
        raise ValueError(x)

    kernel = fastpool.kernel(ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(raises))
    for future in [pool.submit(kernel, 1.0) for _ in range(20)]:
        future.result(WAIT)
    assert reported == [ValueError] * 20
    assert pool.submit(int).result(WAIT) == 0


# --- by name ---


def test_what_declares_nothing_is_pickled_with_its_signature(module: types.ModuleType) -> None:
    module.bare = ctypes.CDLL(native.library_path())["d1"]
    kernel = fastpool.kernel("fastpool_test_module:bare", "double (double)")
    assert pickle.loads(pickle.dumps(kernel))(2.0) == 7.0


def test_a_pickled_kernel_is_not_another_function_of_its_name(module: types.ModuleType) -> None:
    module.line = capsule()
    text = pickle.dumps(fastpool.kernel("fastpool_test_module:line"))
    module.line = native.capsule("q1", "int64_t (int64_t)")
    with pytest.raises(TypeError, match=r"'int64_t \(int64_t\)', not 'double \(double\)'"):
        pickle.loads(text)


def test_a_kernel_that_a_module_holds_is_pickled_by_its_name_there_data_included(module: types.ModuleType) -> None:
    module.market = fastpool.kernel(kernels.black_scholes_call, data=np.array([0.01, 0.3]))
    module.line = fastpool.kernel(of_ctypes())
    line, market = (fastpool.kernel(f"fastpool_test_module:{name}") for name in ("line", "market"))
    assert pickle.loads(pickle.dumps(line))(2.0) == 7.0
    assert pickle.loads(pickle.dumps(market))(100.0, 100.0, 1.0) == module.market(100.0, 100.0, 1.0)
    with pytest.raises(TypeError, match="user data"):
        pickle.dumps(fastpool.kernel(market, data=np.zeros(2)))
    for kernel in (module.line, module.market):
        with pytest.raises(TypeError, match="cannot pickle"):
            pickle.dumps(kernel)
