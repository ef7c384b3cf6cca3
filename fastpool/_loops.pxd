# _loops.pxd - csrc's kernels and loops, and the array jobs, declared for Cython. No logic.
from cpython.object cimport PyObject
from libc.stddef cimport ptrdiff_t, size_t
from libc.stdint cimport int64_t

from fastpool._capi cimport py_pool, py_view


cdef extern from "fp_cast.h":
    ctypedef enum fp_type:
        FP_BOOL, FP_I8, FP_U8, FP_I16, FP_U16, FP_I32, FP_U32, FP_I64, FP_U64, FP_F16, FP_F32, FP_F64, FP_C64, FP_C128, FP_TYPES
    size_t fp_type_bytes(fp_type type) noexcept nogil
    ctypedef void (*fp_cast)(void *target, const char *source, ptrdiff_t stride, int64_t n) noexcept nogil
    fp_cast fp_cast_find(fp_type from_, fp_type to, bint swapped) noexcept nogil


cdef extern from "fp_loops.h":
    ctypedef void (*fp_function)() noexcept nogil
    ctypedef int fp_signature
    enum: FP_SIGNATURES
    enum: FP_SIG_STATUS_P
    enum: FP_SIG_RANGE
    enum: FP_SIG_INNER
    enum: FP_MOST_SCALARS
    enum: FP_MOST_INPUTS
    ctypedef struct fp_signature_info:
        const char *text
        int inputs
        char type
        size_t element_bytes
        bint has_data
    const fp_signature_info *fp_signatures
    ctypedef union fp_scalar:
        double f64
        float f32
        int64_t i64
    fp_scalar fp_call_scalar(fp_signature signature, fp_function fn, const fp_scalar *args, void *data) noexcept nogil
    ctypedef struct fp_elementwise:
        fp_signature signature
        fp_function fn
        void *data
        int inputs
        int dims
        int64_t *shape
        char **base
        ptrdiff_t (*stride)[64]
        size_t *operand_bytes
        fp_cast *cast


cdef extern from "fp_kernels.h":
    double fp_kernel_black_scholes_call(double, double, double, void *) noexcept nogil
    double fp_kernel_normal_cdf(double) noexcept nogil
    double fp_kernel_polynomial(double) noexcept nogil
    double fp_kernel_identity(double) noexcept nogil
    int fp_kernel_fail(void *) noexcept nogil


cdef extern from "_bridge.h":
    ctypedef struct py_future:
        pass
    int (*py_kernel_convert)(PyObject *kernel, Py_ssize_t i, PyObject *value, fp_scalar *scalar) except -1
    int py_kernel_publish(object kernel) except -1
    const char *py_kernel_name(object kernel) noexcept
    object py_scalar_box(char type, fp_scalar scalar)
    ctypedef struct py_array_job:
        fp_elementwise work
        int (*range)(int64_t begin, int64_t end, void *data) noexcept nogil
        void *data
        const char *name
        int64_t *job_ps
    object py_array_job_new(py_array_job **job)
    bint py_array_progress(py_future *future, int64_t *started, int64_t *total) noexcept
    object py_array_submit(const py_view *view, object capsule, object owners, object out, int64_t n, int64_t grain)
    object py_array_run(const py_view *view, object capsule, object owners, object out, int64_t n, int64_t grain)
    object py_many_new(py_pool *core, object kernel, int64_t calls, char **columns)
    object py_many_submit(const py_view *view, object capsule)
    int py_scalar_from(PyObject *kernel, Py_ssize_t i, PyObject *value, fp_scalar *scalar) except -1
