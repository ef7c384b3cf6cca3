# _jobs.pxi - current_job(): what a running job can know of itself; part of _core.pyx.


@cython.final
cdef class Job:
    """The job that runs on the calling thread, as `current_job` gives it.

    Attributes
    ----------
    id : int
        Unique in the process.
    worker_id : int
        The worker that runs it, counted from 0; -1 on a thread that is no worker of its pool.
    deadline : float or None
        When its time is over, on the clock of `time.monotonic`.
    cancelled : bool
        True when it should stop: somebody has cancelled it, its deadline has passed, or the time that `Pool.shutdown` was
        given is over.

    Notes
    -----
    Thread safety: every method may be called from any thread, and after the job has ended too.
    Cost: some tens of nanoseconds to ask; the first `current_job` of a job a few hundred.

    Examples
    --------
    >>> import fastpool
    >>> def long_job():
    ...     job = fastpool.current_job()
    ...     for step in range(1000):
    ...         job.check()  # raises when the job should stop
    ...     return job.remaining() > 0
    >>> with fastpool.Pool(1) as pool:
    ...     pool.options(timeout=60).submit(long_job).result()
    True
    """
    cdef py_task *task       # holds the pool
    cdef int64_t deadline_ns
    cdef readonly object id
    cdef readonly int worker_id

    def __init__(self):
        raise TypeError("a Job is what fastpool.current_job() returns")

    def __dealloc__(self):
        if self.task is not NULL:
            py_task_drop(self.task)

    @property
    def deadline(self):
        return None if self.deadline_ns == FP_FOREVER else self.deadline_ns / 1e9

    def remaining(self):
        """Seconds until the deadline, at least 0; None: there is none."""
        return seconds_until(self.deadline_ns)

    @property
    def cancelled(self):
        return py_task_was_stopped(self.task) or self._is_late()

    cdef bint _is_late(self):
        return self.deadline_ns != FP_FOREVER and fp_os_now_ns() >= self.deadline_ns

    def check(self):
        """Do nothing, or raise when the job should stop.

        Raises
        ------
        JobTimeout
            If its deadline has passed.
        CancelledError
            If it was cancelled. A job that lets this through ends as cancelled.
        """
        if self._is_late():
            raise _errors.JobTimeout("the job's deadline has passed")
        if py_task_was_stopped(self.task):
            raise _futures.CancelledError("the job was cancelled")

    def __repr__(self):
        return f"<Job {self.id} on worker {self.worker_id}>"


def keep_future():
    """The calling job's future ends only when the job returns, even where its deadline passes before: with JobTimeout then."""
    if not py_running_keep():
        raise _errors.JobTimeout("the job's deadline has passed")


def current_deadline_ns():
    """When the calling job has to have ended."""
    cdef Job job = current_job()
    cdef int64_t deadline_ns = FP_FOREVER
    if job is not None:
        deadline_ns = job.deadline_ns
    return deadline_ns


def current_job():
    """The `Job` that the calling thread runs; None outside of jobs, and in kernels that run for an array.

    Examples
    --------
    >>> import fastpool
    >>> fastpool.current_job() is None
    True
    """
    cdef int64_t deadline_ns
    cdef uint64_t job_id
    cdef Job job
    cdef fp_worker *worker = fp_worker_current()
    cdef py_task *task = py_running_task(&deadline_ns, &job_id)
    if task is NULL:
        return None
    job = Job.__new__(Job)
    py_task_retain(task)
    job.task, job.deadline_ns, job.id = task, deadline_ns, job_id
    job.worker_id = worker.id if worker is not NULL and worker.pool is task.pool else -1
    return job
