# __init__.pxd - fastpool.h for Cython: `from fastpool cimport ...`. No logic; what each does is said in fastpool.h.
#
# A module that cimports this calls fastpool_import() once, with the GIL, before anything else here; its setup adds
# fastpool.get_include() to include_dirs.
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int64_t, uint64_t


cdef extern from "fastpool.h" nogil:
    const int FASTPOOL_API_VERSION
    const int64_t FASTPOOL_FOREVER
    enum: FASTPOOL_JOBS_A_PLACE
    ctypedef struct fastpool_pool
    ctypedef struct fastpool_group
    ctypedef int (*fastpool_job)(void *arg) noexcept nogil
    ctypedef int (*fastpool_range)(int64_t begin, int64_t end, void *arg) noexcept nogil
    ctypedef enum fastpool_result:
        FASTPOOL_OK
        FASTPOOL_FAILED
        FASTPOOL_CANCELLED
        FASTPOOL_TIMED_OUT
        FASTPOOL_FULL
        FASTPOOL_CLOSED
        FASTPOOL_BROKEN
        FASTPOOL_FORKED
        FASTPOOL_NO_THREAD
        FASTPOOL_NO_MEMORY
        FASTPOOL_INTERRUPTED
        FASTPOOL_INVALID
    ctypedef struct fastpool_metrics:
        uint64_t workers, active_workers, queue_depth, queue_capacity
        uint64_t jobs_submitted, jobs_processed, jobs_failed, jobs_cancelled, jobs_timed_out, jobs_rejected
    int fastpool_import() except -1 with gil
    fastpool_pool *fastpool_from_object(object pool) except NULL with gil
    fastpool_group *fastpool_group_new(fastpool_pool *pool) noexcept
    void fastpool_group_free(fastpool_group *group) noexcept
    fastpool_result fastpool_submit(fastpool_group *group, fastpool_job job, void *arg) except? FASTPOOL_INTERRUPTED
    fastpool_result fastpool_submit_batch(fastpool_group *group, fastpool_job job, void *args, ptrdiff_t stride,
                                          int64_t count) except? FASTPOOL_INTERRUPTED
    fastpool_result fastpool_submit_range(fastpool_group *group, fastpool_range range, int64_t n, void *arg,
                                          int64_t grain) except? FASTPOOL_INTERRUPTED
    fastpool_result fastpool_parallel_for(fastpool_pool *pool, fastpool_range range, int64_t n, void *arg,
                                          int64_t grain) except? FASTPOOL_INTERRUPTED
    fastpool_result fastpool_wait(fastpool_group *group, int64_t timeout_ns) except? FASTPOOL_INTERRUPTED
    void fastpool_cancel(fastpool_group *group) noexcept
    int fastpool_cancelled(fastpool_group *group) noexcept
    int fastpool_should_stop() noexcept
    int fastpool_status(fastpool_group *group, int64_t *index) noexcept
    fastpool_result fastpool_read_metrics(fastpool_pool *pool, fastpool_metrics *metrics) noexcept
