# _paths.pyx - the paths: one native job for each block of them, submitted and waited for without the GIL.
import fastpool

from fastpool cimport (
    FASTPOOL_BROKEN, FASTPOOL_CANCELLED, FASTPOOL_CLOSED, FASTPOOL_FAILED, FASTPOOL_FOREVER, FASTPOOL_FULL,
    FASTPOOL_INTERRUPTED, FASTPOOL_NO_MEMORY, FASTPOOL_OK, FASTPOOL_TIMED_OUT, fastpool_from_object, fastpool_group,
    fastpool_group_free, fastpool_group_new, fastpool_import, fastpool_result, fastpool_status, fastpool_submit, fastpool_wait,
)
from libc.math cimport exp, fmax, isfinite, sqrt
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free

from montecarlo._random cimport mixed, normal_pair

fastpool_import()


cdef struct Path:
    double spot, strike
    double drift, deviation  # of the logarithm, from one date to the next
    double sign              # 1: a call; -1: a put
    int64_t dates
    uint64_t key             # of the random numbers


cdef struct Block:
    const Path *path
    int64_t begin, end  # pairs of paths
    double *sums        # of payoffs, and of their squares


cdef enum:
    NOT_FINITE = 1  # what a job returns then


# ---- a job: no Python from here on ----

cdef inline double payoff(const Path *path, double price) noexcept nogil:
    return fmax(0.0, path.sign * (price - path.strike))


# The two paths that one pair of normal deviates a date makes.
cdef void run_pair(const Path *path, uint64_t pair, double *sums) noexcept nogil:
    cdef double a = path.spot, b = path.spot, sum_a = 0, sum_b = 0, z_a = 0, z_b = 0
    cdef int64_t i
    for i in range(path.dates):
        normal_pair(path.key, pair * <uint64_t>path.dates + <uint64_t>i, &z_a, &z_b)
        a *= exp(path.drift + path.deviation * z_a)
        b *= exp(path.drift + path.deviation * z_b)
        sum_a += a
        sum_b += b
    a = payoff(path, sum_a / path.dates)
    b = payoff(path, sum_b / path.dates)
    sums[0] += a + b
    sums[1] += a * a + b * b


cdef int run_block(void *arg) noexcept nogil:
    cdef Block *block = <Block *>arg
    cdef double[2] sums  # not in the array yet, whose rows of two workers may share a cache line
    cdef int64_t pair
    sums[0] = sums[1] = 0
    for pair in range(block.begin, block.end):
        run_pair(block.path, <uint64_t>pair, sums)
    block.sums[0] = sums[0]
    block.sums[1] = sums[1]
    return 0 if isfinite(sums[1]) else NOT_FINITE


# ---- submitting and waiting ----

cdef fastpool_result submit_all(fastpool_group *group, Block *blocks, int64_t count) except? FASTPOOL_INTERRUPTED nogil:
    cdef fastpool_result result = FASTPOOL_OK
    cdef int64_t i
    for i in range(count):
        result = fastpool_submit(group, run_block, &blocks[i])
        if result != FASTPOOL_OK:
            break
    return result


# The exception that a result stands for. Not FASTPOOL_INTERRUPTED, which comes with one of its own.
cdef object error_of(fastpool_result result, fastpool_group *group):
    if result == FASTPOOL_FAILED:
        return FloatingPointError(f"payoffs are not finite (status {fastpool_status(group, NULL)})")
    if result == FASTPOOL_CANCELLED:
        return fastpool.CancelledError("the pool has dropped jobs that were queued")
    if result == FASTPOOL_FULL:
        return fastpool.PoolOverloaded("the queue is full")
    if result == FASTPOOL_TIMED_OUT:
        return fastpool.SubmitTimeout("the queue stayed full for all of submit_timeout")
    if result == FASTPOOL_CLOSED:
        return fastpool.PoolShutdown("the pool was shut down")
    if result == FASTPOOL_BROKEN:
        return fastpool.BrokenThreadPool("a worker's initializer failed")
    if result == FASTPOOL_NO_MEMORY:
        return MemoryError()
    return fastpool.PoolError(f"the pool cannot be used here (fastpool_result {<int>result})")


cdef run_all(object pool, Block *blocks, int64_t count):
    cdef fastpool_group *group = fastpool_group_new(fastpool_from_object(pool))
    cdef fastpool_result result
    if group is NULL:
        raise MemoryError
    try:
        with nogil:
            result = submit_all(group, blocks, count)
            if result == FASTPOOL_OK:
                result = fastpool_wait(group, FASTPOOL_FOREVER)  # Ctrl-C raises here
        if result != FASTPOOL_OK:
            raise error_of(result, group)
    finally:
        fastpool_group_free(group)  # jobs still queued are cancelled, running ones waited for: `blocks` may go now


cdef Path path_of(option, seed):
    cdef double step = option.years / option.dates
    cdef Path path
    path.spot, path.strike = option.spot, option.strike
    path.drift = (option.rate - option.volatility ** 2 / 2) * step
    path.deviation = option.volatility * sqrt(step)
    path.sign = 1 if option.is_call else -1
    path.dates = option.dates
    path.key = mixed(<uint64_t>(seed & 0xffffffffffffffff))
    return path


def simulate(pool, option, int64_t pairs, int64_t pairs_a_block, seed, double[:, ::1] sums):
    """Run `pairs` pairs of paths in blocks; each block's sum of payoffs, and of their squares, goes into its row of `sums`."""
    cdef Path path = path_of(option, seed)
    cdef int64_t i, count = sums.shape[0]
    cdef Block *blocks = <Block *>calloc(count, sizeof(Block))
    if blocks is NULL:
        raise MemoryError
    for i in range(count):
        blocks[i] = Block(&path, i * pairs_a_block, min(pairs, (i + 1) * pairs_a_block), &sums[i, 0])
    try:
        run_all(pool, blocks, count)
    finally:
        free(blocks)
