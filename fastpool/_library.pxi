# _library.pxi - keeping the shared library that a kernel's code is in; part of _core.pyx, for there is one extension module.
#
# A function pointer need not hold its library: one of cffi's does not, and cffi unloads a library with the last reference to
# it. So each kernel opens the library at its address once more; the system counts how often one is open.

cdef extern from "<dlfcn.h>" nogil:
    ctypedef struct Dl_info:
        const char *dli_fname
    int dladdr(const void *address, Dl_info *info)
    void *dlopen(const char *path, int mode)
    int dlclose(void *library)
    enum: RTLD_LAZY
    enum: RTLD_NOLOAD


@cython.final
cdef class _LibraryHold:
    """One opening of a library; none for code that is in none, such as a callback's or numba's."""
    cdef void *handle

    cdef void hold(self, void *address) noexcept:
        cdef Dl_info info
        if dladdr(address, &info) != 0 and info.dli_fname is not NULL:
            # NOLOAD: NULL for the main program, which is never unloaded
            self.handle = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD)

    def __dealloc__(self):
        if self.handle is not NULL:
            dlclose(self.handle)
