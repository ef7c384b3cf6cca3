# _core.pyx - the extension module: the pool's handle, map's iterator, metrics, and the wiring of the C files.
#
# Journey: the hot path (submit, run, complete) is C and never comes through here; this is where pools are made, waited for,
# read and ended. Bad arguments are turned away in pool.py, before they come this far.
cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cpython.object cimport PyObject, PyTypeObject
from libc.stdlib cimport free, malloc

cimport numpy as cnp

from fastpool._capi cimport *

import concurrent.futures as _futures
import contextvars as _contextvars
import operator as _operator

from fastpool import _extras, errors as _errors

cdef extern from *:
    """
    #if defined(__linux__) && !defined(FP_OS_FORCE_POSIX)
    #define FASTPOOL_HAS_FUTEX 1
    #else
    #define FASTPOOL_HAS_FUTEX 0
    #endif
    #define OFFSETOF_CORE_OWNS ((Py_ssize_t)offsetof(py_core_object, owns))
    """
    bint HAS_FUTEX "FASTPOOL_HAS_FUTEX"
    Py_ssize_t offsetof_core_owns "OFFSETOF_CORE_OWNS"
    unsigned long CYTHON_HEX_VERSION


cdef fp_pool *pool_of(Core self) except NULL:
    if self.view.core is NULL:
        raise _errors.PoolError("the pool was not initialised")
    if fp_pool_is_forked(self.view.core.pool):
        raise _errors.PoolError("this pool was made by the parent process; make one in the child after fork()")
    return self.view.core.pool


ON_FULL = {"block": PY_ON_FULL_BLOCK, "raise": PY_ON_FULL_RAISE, "caller_runs": PY_ON_FULL_CALLER_RUNS,
           "discard_oldest": PY_ON_FULL_DISCARD_OLDEST}
PRIORITIES = {"high": FP_LANE_HIGH, "normal": FP_LANE_NORMAL, "low": FP_LANE_LOW}


@cython.no_gc_clear  # __dealloc__ looks at `base`, and the view's settings borrow the others
cdef class Core:
    """The C pool behind a Pool, or behind a view of one. Its hot methods, submit and post, are added from _submit.c."""
    cdef py_view view    # first (and no cdef methods), for C reads these two: py_core_object; .core is NULL until _open
    cdef bint owns       # the pool: it is no view. `base` does not tell when the garbage collector has cleared it
    cdef object base     # of a view: what it is a view of, which holds the pool
    cdef object context  # what the view's settings borrow
    cdef object watcher

    def __dealloc__(self):
        if self.owns:
            py_pool_destroy(self.view.core)

    def _open(self, hooks, uint32_t max_workers, uint32_t min_workers, uint32_t queue_size, str on_full, submit_timeout,
              job_timeout, idle_timeout, bint histograms):
        cdef fp_pool_options options
        cdef py_settings settings
        if self.view.core is not NULL:
            raise _errors.PoolError("the pool was initialised before")
        settings.on_full, settings.lane = ON_FULL[on_full], FP_LANE_NORMAL
        settings.until_ns = FP_FOREVER
        settings.context, settings.watcher, settings.copies_context = NULL, NULL, False
        py_duration_from(submit_timeout, b"submit_timeout", &settings.submit_timeout_ns)
        py_duration_from(job_timeout, b"job_timeout", &settings.timeout_ns)
        py_duration_from(idle_timeout, b"idle_timeout", &options.idle_ns)
        options.max_workers = max_workers
        options.min_workers = min_workers
        options.queue_capacity = queue_size
        options.spin_ns = py_spin_ns
        options.unmeasured = not histograms
        self.view.core = py_pool_create(&options, hooks, &settings)
        self.owns = True
        self.view.settings = settings

    def _derive(self, Core base, dict options):
        """Makes this a view: of the pool of `base`, submitting as it does but for the checked `options`."""
        pool_of(base)
        cdef py_settings *settings = &self.view.settings
        cdef int64_t deadline_ns
        if self.view.core is not NULL:
            raise _errors.PoolError("the view was initialised before")
        self.view = base.view
        self.base, self.context, self.watcher = base, options.get("context", base.context), options.get("watcher", base.watcher)
        settings.context = NULL if self.context is None else <PyObject *>self.context
        settings.watcher = NULL if self.watcher is None else <PyObject *>self.watcher
        if "on_full" in options:
            settings.on_full = ON_FULL[options["on_full"]]
        if "priority" in options:
            settings.lane = PRIORITIES[options["priority"]]
        if "submit_timeout" in options:
            py_duration_from(options["submit_timeout"], b"submit_timeout", &settings.submit_timeout_ns)
        if "timeout" in options:
            py_duration_from(options["timeout"], b"timeout", &settings.timeout_ns)
        if "copies_context" in options:
            settings.copies_context = options["copies_context"]
        if "until_ns" in options:
            deadline_ns = options["until_ns"]
            settings.until_ns = min(settings.until_ns, deadline_ns)

    def _on_own_worker(self):
        cdef fp_pool *pool = pool_of(self)
        cdef fp_worker *worker = fp_worker_current()
        return worker is not NULL and worker.pool is pool

    def _runs_own_job(self):
        """Whether this thread runs a job of the pool, is a worker of it, or calls back for a job of it that the timer ends."""
        cdef fp_pool *pool = pool_of(self)
        return self._on_own_worker() or fp_running_is_of(pool) or py_timer_ends_job_of(pool)

    def _close(self):
        fp_pool_close(pool_of(self))

    def _pause(self):
        cdef fp_pool *pool = pool_of(self)
        with nogil:
            fp_pool_pause(pool)

    def _resume(self):
        cdef fp_pool *pool = pool_of(self)
        with nogil:
            fp_pool_resume(pool)

    def _resize(self, uint32_t min_workers, uint32_t max_workers):
        cdef fp_pool *pool = pool_of(self)
        cdef bint done
        with nogil:
            done = fp_pool_resize(pool, min_workers, max_workers)
        if not done:
            raise MemoryError

    def _sizes(self):
        """The fewest and the most workers."""
        cdef fp_pool *pool = pool_of(self)
        return pool.min_workers, pool.max_workers

    def _ask_to_stop(self):
        """Running jobs see that they are cancelled."""
        py_pool_ask_to_stop(pool_of(self))

    def _discard_paused(self):
        """Discards what is queued by now in a paused pool: closing it ends the pause, and workers would start it."""
        cdef fp_pool *pool = pool_of(self)
        cdef uint64_t left
        if fp_pool_is_paused(pool):
            left = fp_pool_queued(pool)
            while left > 0 and fp_pool_discard_oldest(pool):
                left -= 1

    def _discard_queued(self):
        cdef fp_pool *pool = pool_of(self)
        while fp_pool_discard_oldest(pool):
            pass

    def _room_key(self):
        """For _wait_for_room: taken before the look at what one waits for."""
        return fp_pool_room_key(pool_of(self))

    def _wait_for_room(self, uint32_t key):
        """Sleeps until there may be room, the pool is closed, or _tell_of_room. Not for the main thread: no signals."""
        cdef fp_pool *pool = pool_of(self)
        with nogil:
            fp_pool_wait_for_room_since(pool, key, FP_FOREVER)

    def _tell_of_room(self):
        """Wakes all who wait for room, to look again."""
        fp_pool_tell_of_room(pool_of(self))

    def _waits_for_room(self):
        """Whether a submit that finds the queue full waits. A job's does not: see push_full in _submit.c."""
        cdef py_on_full policy = self.view.settings.on_full
        return (policy == PY_ON_FULL_BLOCK or policy == PY_ON_FULL_CALLER_RUNS) and not self._on_own_worker()

    def _submit_deadline_ns(self):
        """When a submit that waits from now on gives up."""
        cdef int64_t timeout_ns = self.view.settings.submit_timeout_ns
        return timeout_ns if timeout_ns == FP_FOREVER else fp_os_now_ns() + timeout_ns

    def _until_ns(self):
        """When the jobs have to have ended, whenever they are submitted."""
        return self.view.settings.until_ns

    def _count_rejected(self):
        py_count_rejected(self.view.core)

    def _job_deadline_ns(self):
        """When a job has to have ended that is submitted now."""
        return py_settings_deadline(&self.view.settings)

    def _copies_context(self):
        return self.context is True

    def _has_context(self):
        """One that jobs run in, and not at the same time."""
        return self.context is not None and self.context is not True

    def _wait_ended(self, timeout):
        """True when all workers have ended within `timeout` seconds."""
        cdef fp_pool *pool = pool_of(self)
        cdef int64_t deadline_ns
        cdef fp_wait_result why
        cdef bint ended
        py_deadline_from(timeout, b"timeout", &deadline_ns)
        while True:
            with nogil:
                ended = fp_pool_wait_ended(pool, py_slice_until(deadline_ns), &why)
            if ended or fp_os_now_ns() >= deadline_ns:
                return ended
            PyErr_CheckSignals()

    def _wait_idle(self, timeout):
        cdef fp_pool *pool = pool_of(self)
        cdef int64_t deadline_ns
        cdef bint idle
        py_deadline_from(timeout, b"timeout", &deadline_ns)
        while True:
            with nogil:
                idle = fp_pool_is_idle(pool)
                if not idle:
                    fp_pool_wait_idle(pool, py_slice_until(deadline_ns))
                    idle = fp_pool_is_idle(pool)
            if idle or fp_os_now_ns() >= deadline_ns:
                return idle
            PyErr_CheckSignals()

    def _map(self, fn, list items, bint star, int64_t grain, deadline_ns):
        """Queues one call for each item; an iterator over the results in order."""
        pool_of(self)
        cdef Batch batch = Batch.__new__(Batch)
        batch.prepare(self, fn, items, star, grain)
        iterator = MapIterator(batch, deadline_ns)
        if items:
            py_batch_submit(batch.batch)  # last: nothing can fail after it
        return iterator

    def _read_metrics(self):
        """The counters as a dict; histograms as (sum, max, [(lower, upper, count), ...]) in nanoseconds."""
        cdef fp_pool *pool = pool_of(self)
        cdef fp_metrics *read = <fp_metrics *>malloc(sizeof(fp_metrics))
        if read is NULL:
            raise MemoryError
        try:
            with nogil:
                fp_pool_read_metrics(pool, read)
            return {
                "workers": read.workers, "active_workers": read.active_workers, "queue_depth": read.queue_depth,
                "queue_capacity": read.queue_capacity or None, "jobs_submitted": read.submitted,
                "jobs_processed": read.ended[FP_DONE], "jobs_failed": read.ended[FP_FAILED],
                "jobs_cancelled": read.ended[FP_CANCELLED], "jobs_timed_out": read.ended[FP_TIMED_OUT],
                "jobs_rejected": read.rejected, "panics": self.view.core.panics,
                "job_duration": _histogram(&read.duration), "queue_wait": _histogram(&read.wait),
            }
        finally:
            free(read)


cdef tuple _histogram(fp_histogram_sum *histogram):
    cdef double ns = fp_clock_ns_per_tick()
    cdef int bucket
    buckets = []
    for bucket in range(FP_HISTOGRAM_BUCKETS):
        if histogram.buckets[bucket]:
            lower, upper = fp_histogram_lower_bound(bucket), fp_histogram_lower_bound(bucket + 1)
            buckets.append((lower * ns, upper * ns, histogram.buckets[bucket]))
    return histogram.sum * ns, histogram.max * ns, buckets


@cython.final
cdef class Batch:
    """What the queue holds for a map: the calls and their results, until the last has ended."""
    cdef py_batch *batch
    cdef object core     # keeps the pool while results are waited for
    cdef object fn       # the callable
    cdef list items      # its arguments, one call each
    cdef list results    # result or exception of each call; None before
    cdef object context  # each call runs in a copy of it; None: in the worker's own

    cdef int prepare(self, Core core, fn, list items, bint star, int64_t grain) except -1:
        self.core, self.fn, self.items, self.results = core, fn, items, [None] * len(items)
        self.context = _contextvars.copy_context() if core.context is True else core.context
        self.batch = py_batch_new(&core.view, self, fn, items, star, self.results, grain,
                                  NULL if self.context is None else <PyObject *>self.context)
        return 0

    def __dealloc__(self):
        if self.batch is not NULL:
            py_batch_free(self.batch)

    cdef object take_result(self, Py_ssize_t index):
        """The result, or exception, of an ended call, which is then forgotten here."""
        value = self.results[index]
        self.results[index] = None
        return value

    cdef object take(self, Py_ssize_t index):
        """The result of a call that has ended or never will; or what there is to raise."""
        cdef int done = py_batch_done(self.batch, index)
        if done == PY_BATCH_PENDING:
            if py_batch_reason(self.batch) == FP_DISCARD_BROKEN:
                raise _errors.BrokenThreadPool("a worker's initializer failed; the job was not run")
            if py_batch_reason(self.batch) == FP_DISCARD_TIMED_OUT:
                raise _errors.JobTimeout("the job's deadline passed before it could start")
            raise _futures.CancelledError()
        value = self.take_result(index)
        if done == PY_BATCH_RESULT:
            return value
        if isinstance(value, StopIteration):  # to a for loop it would mean the end, so here it is what generators make of it
            raise RuntimeError("a call of the map raised StopIteration") from value
        raise value


@cython.final
@cython.no_gc_clear  # __dealloc__ looks at the batch
cdef class MapIterator:
    """Results of a map in the order of its arguments. Closing it, or an error, cancels the calls not yet started."""
    cdef Batch batch
    cdef Py_ssize_t next_index
    cdef Py_ssize_t count
    cdef int64_t deadline_ns
    cdef bint started  # as with the standard map's generator, an iterator that nobody began cancels nothing

    def __init__(self, Batch batch, int64_t deadline_ns):
        self.batch = batch
        self.count = len(batch.items)
        self.deadline_ns = deadline_ns

    def __iter__(self):
        return self

    def __next__(self):
        cdef Py_ssize_t index
        with cython.critical_section(self):  # several threads may share it: each gets a call of its own
            index = self.next_index
            if index < self.count:
                self.next_index = index + 1
                self.started = True
        if index >= self.count:
            raise StopIteration
        if py_batch_done(self.batch.batch, index) == PY_BATCH_RESULT:
            return self.batch.take_result(index)
        return self.wait_for(index)

    cdef object wait_for(self, Py_ssize_t index):
        """Waits for a call; whatever goes wrong ends the iteration."""
        try:
            if py_batch_done(self.batch.batch, index) == PY_BATCH_PENDING:
                if py_batch_wait(self.batch.batch, index, min(self.deadline_ns, self.batch.batch.deadline_ns)) == 0:
                    if self.batch.batch.deadline_ns <= self.deadline_ns:
                        raise _errors.JobTimeout("the job's deadline passed before it ended")
                    raise TimeoutError
            return self.batch.take(index)
        except BaseException:
            self.next_index = self.count
            py_batch_cancel_counted(self.batch.batch)
            raise

    def close(self):
        """Cancel the calls that have not started."""
        self.next_index = self.count
        if self.batch is not None:
            py_batch_cancel_counted(self.batch.batch)

    def __length_hint__(self):
        return self.count - self.next_index

    def __dealloc__(self):
        if self.started and self.next_index < self.count:
            py_batch_cancel_counted(self.batch.batch)


include "_library.pxi"
include "_kernel.pxi"
include "_arrays.pxi"
include "_many.pxi"
include "_gate.pxi"
include "_jobs.pxi"
include "_trace.pxi"


def deadline_from(timeout):
    """An absolute time in nanoseconds for `timeout` seconds from now."""
    cdef int64_t deadline_ns
    py_deadline_from(timeout, b"timeout", &deadline_ns)
    return deadline_ns


def seconds_until(int64_t deadline_ns):
    """Seconds left until a time of deadline_from, at least 0; None: for ever."""
    return None if deadline_ns == FP_FOREVER else max(0, deadline_ns - fp_os_now_ns()) / 1e9


def duration_from(seconds, str name):
    """Nanoseconds, or ValueError and TypeError that say `name`."""
    cdef int64_t duration_ns
    py_duration_from(seconds, name.encode(), &duration_ns)
    return duration_ns


def usable_cpus():
    """CPUs that this process may use: affinity and cgroup quota."""
    return fp_os_usable_cpus()


def drain_all():
    """Closes every pool of the process and waits for its workers."""
    py_pools_drain_all()


def build_info():
    """How this module was built and how its workers wait."""
    import platform
    cython_version = ".".join(str(CYTHON_HEX_VERSION >> shift & 255) for shift in (24, 16, 8))
    return {"cython": cython_version, "compiler": platform.python_compiler(), "spin_us": py_spin_ns / 1000,
            "park": "futex" if HAS_FUTEX else "condition variable", "max_workers": FP_MOST_WORKERS,
            "queue_size_max": FP_QUEUE_MOST}


cdef int _set_spin() except -1:
    global py_spin_ns, py_usable_cpus
    import os
    py_usable_cpus = fp_os_usable_cpus()
    text = os.environ.get("FASTPOOL_SPIN_US", "")
    if text:
        py_spin_ns = duration_from(float(text) / 1e6, "FASTPOOL_SPIN_US")
    elif py_usable_cpus > 1:
        py_spin_ns = 20000
    return 0


cdef int _wire() except -1:
    global py_kernel_type, py_kernel_refuse, py_kernel_convert
    cdef Core probe = Core.__new__(Core)
    if (<char *>&probe.view - <char *><PyObject *>probe != sizeof(PyObject) or
            <char *>&probe.owns - <char *><PyObject *>probe != offsetof_core_owns):
        raise ImportError("fastpool: Core is not laid out as _bridge.h says")
    cnp.import_array()
    py_errors_init(_errors)
    py_host_init()
    py_kernel_type, py_kernel_refuse, py_kernel_convert = <PyTypeObject *>Kernel, _refuse, _convert
    _check_layout()
    py_future_init(_futures.Future, _extras)
    return py_core_add_methods(Core)


_set_spin()
_wire()
Future = <object>py_future_type
_c_api = py_capi_capsule()
