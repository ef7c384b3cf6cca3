/* fp_os_linux.c - sleeping on a word with the futex. */
#if defined(__linux__) && !defined(FP_OS_FORCE_POSIX)
#define _GNU_SOURCE
#include "fp_os.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long futex(fp_atomic(uint32_t) *word, int operation, uint32_t value, const struct timespec *deadline)
{
    return syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, deadline, NULL, FUTEX_BITSET_MATCH_ANY);
}

fp_wait_result fp_os_wait(fp_atomic(uint32_t) *word, uint32_t expected, int64_t deadline_ns)
{
    if (deadline_ns < 0)
        deadline_ns = 0; /* long past, where the kernel would say that it is no time at all */
    struct timespec deadline = {.tv_sec = deadline_ns / 1000000000, .tv_nsec = deadline_ns % 1000000000};
    /* WAIT_BITSET, for it takes an absolute time of CLOCK_MONOTONIC; plain WAIT takes a relative one. */
    if (futex(word, FUTEX_WAIT_BITSET, expected, deadline_ns == FP_FOREVER ? NULL : &deadline) == 0)
        return FP_WAIT_WOKEN;
    if (errno == ETIMEDOUT)
        return FP_WAIT_TIMED_OUT;
    return errno == EINTR ? FP_WAIT_INTERRUPTED : FP_WAIT_WOKEN;
}

int fp_os_wake(fp_atomic(uint32_t) *word, int count)
{
    return (int)futex(word, FUTEX_WAKE, (uint32_t)count, NULL);
}

#endif
