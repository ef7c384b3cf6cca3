# _trace.pxi - a trace's rings, read; part of _core.pyx, for there is one extension module.
#
# Journey: worker -> [TRACE]. What is recorded, and how, is in csrc/fp_trace.h; what becomes of it in trace.py.

cdef extern from "fp_trace.h":
    enum: FP_TRACE_CALLERS
    enum: FP_TRACE_MOST
    ctypedef struct fp_trace_event:
        const char *name
        uint64_t start_ticks, end_ticks
        int64_t jobs
        uint32_t depth
        uint32_t thread
    ctypedef struct fp_trace_ring:
        pass
    ctypedef struct fp_trace_row:
        fp_trace_ring ring
        fp_trace_row *next
        uint32_t id
    ctypedef struct fp_trace:
        uint64_t lost
        uint64_t start_ticks
    fp_trace *fp_trace_create(uint32_t events) noexcept
    void fp_trace_release(fp_trace *trace) noexcept
    bint fp_trace_open(fp_trace *trace, fp_pool *pool) noexcept
    void fp_trace_close(fp_trace *trace, fp_pool *pool) noexcept
    fp_trace_row *fp_trace_rows(fp_trace *trace, fp_pool *pool) noexcept
    void fp_trace_range(fp_trace *trace, fp_trace_row *row, uint64_t *first, uint64_t *end) noexcept
    bint fp_trace_get(fp_trace_ring *ring, uint64_t i, fp_trace_event *event) noexcept

cdef extern from "_bridge.h":
    const char *py_name_of(object fn) noexcept

TRACE_CALLERS = FP_TRACE_CALLERS
TRACE_EVENTS_MOST = FP_TRACE_MOST


def named_after(partial, fn):
    """`partial`, which in a trace is called as `fn` would be: it is what runs fn for this package."""
    partial.__qualname__ = py_name_of(fn).decode("utf-8", "replace")
    return partial


@cython.final
@cython.no_gc_clear  # __dealloc__ looks at the core
cdef class Recorder:
    """One trace of one pool: opened once, closed, and read at any time."""
    cdef fp_trace *trace
    cdef Core core             # the pool, while the trace is open
    cdef double ns_per_tick    # one for all readings, or what follows each other would seem to overlap; 0: not yet read

    def __cinit__(self, Core core not None, uint32_t events):
        cdef fp_pool *pool = pool_of(core)
        self.trace = fp_trace_create(events)
        if self.trace is NULL:
            raise MemoryError
        if not fp_trace_open(self.trace, pool):
            raise _errors.PoolError("another trace of this pool is open")
        self.core = core

    def __dealloc__(self):
        if self.trace is not NULL:
            self.shut()
            fp_trace_release(self.trace)

    cdef void shut(self) noexcept:
        if self.core is not None and not fp_pool_is_forked(self.core.view.core.pool):  # a child's memory of it is never read
            fp_trace_close(self.trace, self.core.view.core.pool)

    def close(self):
        with cython.critical_section(self):
            self.shut()
            self.core = None

    cdef fp_trace_row *first_row(self) except? NULL:
        cdef fp_trace_row *row
        with cython.critical_section(self):
            row = fp_trace_rows(self.trace, NULL if self.core is None else pool_of(self.core))
        return row

    def rows(self):
        """(row, first, end) of each thread's row: its number, and which events it has kept."""
        cdef uint64_t first, end
        cdef fp_trace_row *row = self.first_row()
        rows = []
        while row is not NULL:
            fp_trace_range(self.trace, row, &first, &end)
            rows.append((row.id, first, end))
            row = row.next
        return sorted(rows)

    def lost(self):
        """Events that there was no memory for."""
        return self.trace.lost

    def read(self, uint32_t number, uint64_t first, uint64_t end):
        """Events [first, end) of a row as (name, start_ns, end_ns, jobs, depth, thread); overwritten ones are left out."""
        cdef fp_trace_event event
        cdef fp_trace_row *row = self.first_row()
        cdef uint64_t i
        if self.ns_per_tick == 0:
            self.ns_per_tick = fp_clock_ns_per_tick()
        while row is not NULL and row.id != number:
            row = row.next
        events = []
        for i in range(first, end if row is not NULL else first):
            if fp_trace_get(&row.ring, i, &event):
                events.append((event.name.decode("utf-8", "replace"), self.since_start(event.start_ticks),
                               self.since_start(event.end_ticks), event.jobs, event.depth, event.thread))
        return events

    cdef int64_t since_start(self, uint64_t ticks) noexcept:
        """Nanoseconds; 0 of what began before, in an older session."""
        return <int64_t>((ticks - self.trace.start_ticks) * self.ns_per_tick) if ticks > self.trace.start_ticks else 0
