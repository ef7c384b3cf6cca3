# _loops.pxd - csrc's kernels and loops, and the array jobs, declared for Cython. No logic.
from cpython.object cimport PyObject
from libc.stddef cimport ptrdiff_t, size_t
from libc.stdint cimport int64_t, uint8_t

from fastpool._capi cimport py_native_call, py_pool


cdef extern from "fp_loops.h":
    ctypedef void (*fp_function)() noexcept nogil
    ctypedef int fp_signature
    enum: FP_SIGNATURES
    enum: FP_SIG_STATUS_P
    enum: FP_SIG_RANGE
    enum: FP_SIG_INNER
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
        int dims
        int64_t *shape
        char **base
        ptrdiff_t (*stride)[64]


cdef extern from "fp_kernels.h":
    double fp_kernel_black_scholes_call(double, double, double, void *) noexcept nogil
    double fp_kernel_normal_cdf(double) noexcept nogil
    double fp_kernel_polynomial(double) noexcept nogil
    double fp_kernel_identity(double) noexcept nogil
    int fp_kernel_fail(void *) noexcept nogil


cdef extern from "_bridge.h":
    ctypedef struct fp_range:
        int64_t n
    int64_t fp_range_left(fp_range *range) noexcept nogil
    ctypedef struct py_array_job:
        fp_range range
        fp_elementwise work
    ctypedef struct py_future:
        uint8_t kind
        PyObject *fn
    enum: PY_ARRAY
    object py_array_job_new(py_array_job **job)
    void py_array_cancel(py_pool *core, object capsule) noexcept
    object py_array_submit(py_pool *core, object capsule, object owners, object out, int64_t n, int64_t grain)
