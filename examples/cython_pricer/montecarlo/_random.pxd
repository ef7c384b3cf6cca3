# _random.pxd - random numbers by counter: the i-th is a function of the key and i alone, so that each job finds its own.
#
# The bits are SplitMix64's (G. Steele, D. Lea and C. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014),
# whose state is a counter in steps of an odd constant; the normal deviates are those of G. Box and M. Muller ("A note on the
# generation of random normal deviates", Ann. Math. Statist. 29, 1958).
from libc.math cimport cos, log, sin, sqrt
from libc.stdint cimport uint64_t


cdef extern from *:
    """
    #define MONTECARLO_STEP UINT64_C(0x9e3779b97f4a7c15)
    #define MONTECARLO_MIX1 UINT64_C(0xbf58476d1ce4e5b9)
    #define MONTECARLO_MIX2 UINT64_C(0x94d049bb133111eb)
    """
    const uint64_t STEP "MONTECARLO_STEP"
    const uint64_t MIX1 "MONTECARLO_MIX1"
    const uint64_t MIX2 "MONTECARLO_MIX2"


cdef inline uint64_t mixed(uint64_t x) noexcept nogil:
    x = (x ^ (x >> 30)) * MIX1
    x = (x ^ (x >> 27)) * MIX2
    return x ^ (x >> 31)


cdef inline uint64_t bits(uint64_t key, uint64_t i) noexcept nogil:
    return mixed(key + (i + 1) * STEP)


# Two independent normal deviates, the pair of number i.
cdef inline void normal_pair(uint64_t key, uint64_t i, double *first, double *second) noexcept nogil:
    cdef double tau = 6.283185307179586, unit = 1.0 / 9007199254740992.0
    cdef double above_0 = <double>((bits(key, 2 * i) >> 11) + 1) * unit
    cdef double angle = tau * <double>(bits(key, 2 * i + 1) >> 11) * unit
    cdef double radius = sqrt(-2 * log(above_0))
    first[0] = radius * cos(angle)
    second[0] = radius * sin(angle)
