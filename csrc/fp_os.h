/* fp_os - the seam to the operating system: sleeping on a word, threads, mutexes, the clock.
 *
 * fp_os_linux.c has the futex; fp_os_posix.c does the same with mutexes and condition variables and serves elsewhere (and
 * in a test on Linux, built with -DFP_OS_FORCE_POSIX). A model checker puts its own in the place of both.
 */
#ifndef FP_OS_H
#define FP_OS_H

#include "fp_atomic.h"

/* Results of a wait. A wait may return FP_WAIT_WOKEN for no reason: callers look again at what they waited for. */
typedef enum fp_wait_result {
    FP_WAIT_WOKEN,       /* woken, or the word no longer had the expected value */
    FP_WAIT_TIMED_OUT,   /* the deadline passed */
    FP_WAIT_INTERRUPTED, /* a signal arrived; only some systems notice, so who has to know of signals waits in slices */
} fp_wait_result;

/* No deadline. Deadlines are absolute, in nanoseconds of fp_os_now_ns(). */
#define FP_FOREVER INT64_MAX

/* Sleeps while *word == expected, until woken, `deadline_ns`, or a signal.
 * Not a fence: what must be ordered round it is ordered by the caller's own atomics. */
fp_wait_result fp_os_wait(fp_atomic(uint32_t) *word, uint32_t expected, int64_t deadline_ns);

/* Wakes up to `count` threads that sleep on `word`; how many were woken (at least: one that was about to sleep does not
 * count). After a fork the child has nobody to wake: harmless. */
int fp_os_wake(fp_atomic(uint32_t) *word, int count);

/* Nanoseconds of a clock that never steps back. */
int64_t fp_os_now_ns(void);

#ifndef FP_RELACY

#include <pthread.h>

typedef pthread_mutex_t fp_mutex;
void fp_mutex_init(fp_mutex *mutex);
void fp_mutex_destroy(fp_mutex *mutex);
void fp_mutex_lock(fp_mutex *mutex);
void fp_mutex_unlock(fp_mutex *mutex);

typedef pthread_t fp_thread;
/* 0, or the errno of a thread that could not be started (EAGAIN: no thread or memory to be had). The new thread has its
 * creator's signal mask: processes that jobs start inherit it, and so do handlers of faults. */
int fp_thread_start(fp_thread *thread, void *(*main)(void *), void *arg);
void fp_thread_join(fp_thread thread);
void fp_thread_detach(fp_thread thread);
bool fp_thread_is_self(fp_thread thread);
void fp_thread_set_name(const char *name);

/* CPUs that this process may use: its affinity mask, cut down by a cgroup's quota (rounded up), at least 1. */
int fp_os_usable_cpus(void);

/* Raised in the child by every fork of this process, whoever calls it; 0 at the start. Read-only. */
extern uint32_t fp_os_fork_generation;

#endif
#endif
