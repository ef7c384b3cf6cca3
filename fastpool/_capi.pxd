# _capi.pxd - csrc and the C half of the bridge, declared for Cython. No logic.
from cpython.object cimport PyObject, PyTypeObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t


cdef extern from "fp_pool.h":
    enum: FP_FOREVER
    enum: FP_MOST_WORKERS
    enum: FP_QUEUE_MOST
    enum: FP_HISTOGRAM_BUCKETS
    enum:
        FP_DONE, FP_FAILED, FP_CANCELLED, FP_TIMED_OUT, FP_OUTCOMES
    enum fp_wait_result:
        FP_WAIT_WOKEN, FP_WAIT_TIMED_OUT, FP_WAIT_INTERRUPTED
    enum:
        FP_DISCARD_CANCELLED, FP_DISCARD_BROKEN, FP_DISCARD_TIMED_OUT
    enum fp_lane:
        FP_LANE_HIGH, FP_LANE_NORMAL, FP_LANE_LOW
    ctypedef struct fp_worker:
        fp_pool *pool
        uint32_t id
    ctypedef struct fp_pool:
        uint32_t min_workers
        uint32_t max_workers
    ctypedef struct fp_pool_options:
        uint32_t max_workers
        uint32_t min_workers
        uint32_t queue_capacity
        int64_t idle_ns
        int64_t spin_ns
        bint unmeasured
    ctypedef struct fp_histogram_sum:
        uint64_t sum
        uint64_t max
        uint64_t *buckets
    ctypedef struct fp_metrics:
        uint64_t workers, active_workers, queue_depth, queue_capacity, submitted, rejected
        uint64_t *ended
        fp_histogram_sum duration
        fp_histogram_sum wait
    void fp_pool_close(fp_pool *pool) noexcept nogil
    void fp_pool_pause(fp_pool *pool) noexcept nogil
    void fp_pool_resume(fp_pool *pool) noexcept nogil
    bint fp_pool_resize(fp_pool *pool, uint32_t min_workers, uint32_t max_workers) noexcept nogil
    void fp_pool_retain(fp_pool *pool) noexcept nogil
    void fp_pool_release(fp_pool *pool) noexcept nogil
    bint fp_pool_wait_ended(fp_pool *pool, int64_t deadline_ns, fp_wait_result *why) noexcept nogil
    bint fp_pool_is_idle(fp_pool *pool) noexcept nogil
    bint fp_pool_is_forked(fp_pool *pool) noexcept nogil
    bint fp_pool_is_paused(fp_pool *pool) noexcept nogil
    uint64_t fp_pool_queued(fp_pool *pool) noexcept nogil
    bint fp_pool_discard_oldest(fp_pool *pool) noexcept
    uint32_t fp_pool_room_key(fp_pool *pool) noexcept nogil
    fp_wait_result fp_pool_wait_for_room_since(fp_pool *pool, uint32_t key, int64_t deadline_ns) noexcept nogil
    void fp_pool_tell_of_room(fp_pool *pool) noexcept nogil
    fp_wait_result fp_pool_wait_idle(fp_pool *pool, int64_t deadline_ns) noexcept nogil
    void fp_pool_read_metrics(fp_pool *pool, fp_metrics *metrics) noexcept nogil


cdef extern from "fp_running.h":
    bint fp_running_is_of(const fp_pool *pool) noexcept nogil


cdef extern from "fp_worker.h":
    fp_worker *fp_worker_current() noexcept nogil


cdef extern from "fp_histogram.h":
    uint64_t fp_histogram_lower_bound(int bucket) noexcept nogil


cdef extern from "fp_clock.h":
    double fp_clock_ns_per_tick() noexcept nogil


cdef extern from "fp_os.h":
    int64_t fp_os_now_ns() noexcept nogil
    int fp_os_usable_cpus() noexcept nogil


cdef extern from "_bridge.h":
    ctypedef enum py_on_full:
        PY_ON_FULL_BLOCK, PY_ON_FULL_RAISE, PY_ON_FULL_CALLER_RUNS, PY_ON_FULL_DISCARD_OLDEST
    ctypedef struct py_pool:
        fp_pool *pool
        uint64_t panics
    ctypedef struct py_settings:
        py_on_full on_full
        fp_lane lane
        int64_t submit_timeout_ns
        int64_t timeout_ns
        int64_t until_ns
        PyObject *context
        PyObject *watcher
        bint copies_context
    ctypedef struct py_view:
        py_pool *core
        py_settings settings
    ctypedef struct py_future:
        pass
    ctypedef struct py_task:
        fp_pool *pool
    ctypedef struct py_batch:
        int64_t deadline_ns
    bint py_running_keep() except -1
    py_task *py_running_task(int64_t *deadline_ns, uint64_t *job_id) except? NULL
    void py_task_retain(py_task *task) noexcept
    void py_task_drop(py_task *task) noexcept
    bint py_task_was_stopped(py_task *task) noexcept
    bint py_pool_was_stopped(fp_pool *pool) noexcept
    void py_pool_ask_to_stop(fp_pool *pool) noexcept
    enum: PY_BATCH_PENDING
    enum: PY_BATCH_RESULT
    enum: PY_BATCH_EXCEPTION
    PyTypeObject *py_future_type
    PyTypeObject *py_kernel_type
    int (*py_kernel_refuse)(PyObject *kernel, Py_ssize_t count) except -1
    int py_errors_init(object errors) except -1
    int py_host_init() except -1
    int64_t py_spin_ns
    uint32_t py_usable_cpus
    int py_future_init(object standard_future, object extras_module) except -1
    int py_deadline_from(object timeout, const char *name, int64_t *deadline_ns) except -1
    int64_t py_slice_until(int64_t deadline_ns) noexcept nogil
    int py_duration_from(object timeout, const char *name, int64_t *duration_ns) except -1
    py_pool *py_pool_create(const fp_pool_options *options, object hooks, const py_settings *settings) except NULL
    bint py_timer_ends_job_of(const fp_pool *pool) noexcept
    int64_t py_settings_deadline(const py_settings *settings) noexcept
    void py_count_rejected(py_pool *core) noexcept
    void py_pool_destroy(py_pool *core) noexcept
    int py_pools_drain_all() except -1
    int py_core_add_methods(object core_type) except -1
    object py_capi_capsule()
    py_batch *py_batch_new(const py_view *view, object owner, object fn, list items, bint star, list results,
                           int64_t grain, PyObject *context) except NULL
    void py_batch_free(py_batch *batch) noexcept
    int py_batch_submit(py_batch *batch) except -1
    int py_batch_wait(py_batch *batch, int64_t index, int64_t deadline_ns) except -1
    int py_batch_done(py_batch *batch, int64_t index) noexcept
    int py_batch_reason(py_batch *batch) noexcept
    void py_batch_cancel_counted(py_batch *batch) noexcept
