# _gate.pxi - a door for work on memory that is not its own: it can be shut, and what is inside waited for; part of _core.pyx.
#
# Compiled, and not in Python, for the sake of Ctrl-C: between two lines of Python a signal's handler may raise, here only where
# something is called. So no thread that has gone in is forgotten, and no interrupt cuts the waiting short.
import _thread


@cython.final
cdef class Gate:
    """Runs functions until it is shut. Leaving its `with` block shuts it and waits for those that run.

    Whatever ended the block. What a signal's handler raises meanwhile is raised when the waiting is over.
    """
    cdef Py_ssize_t inside  # threads in run()
    cdef bint shut
    cdef object empty       # a lock that is held until nobody is inside a shut gate

    def __cinit__(self):
        self.empty = _thread.allocate_lock()
        self.empty.acquire()

    def run(self, fn, argument):
        """``fn(argument)``; None when the gate is shut."""
        with cython.critical_section(self):
            if self.shut:
                return None
            self.inside += 1
        try:
            return fn(argument)
        finally:
            self._leave()

    cdef int _leave(self) except -1:
        cdef bint last
        with cython.critical_section(self):
            self.inside -= 1
            last = self.shut and self.inside == 0
        if last:
            self.empty.release()
        return 0

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        cdef bint wait
        interrupt = None
        with cython.critical_section(self):
            self.shut = True
            wait = self.inside > 0
        while wait:
            try:
                # In slices, for a signal that comes just before the system call does not interrupt it.
                wait = not self.empty.acquire(True, 0.05)
                PyErr_CheckSignals()
            except BaseException as raised:
                interrupt = raised
        if interrupt is not None:
            raise interrupt
