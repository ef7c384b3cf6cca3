/* fp_backoff - how a thread spins: a little with pauses, then giving its CPU away between two looks.
 *
 * The pauses serve when the thread waited for runs on another CPU; the yields when it is queued behind this one on the same
 * CPU, where pausing would keep it from running. After crossbeam's Backoff, but bounded in time by the caller.
 */
#ifndef FP_BACKOFF_H
#define FP_BACKOFF_H

#include <sched.h>

#include "fp_atomic.h"

enum { FP_BACKOFF_PAUSES = 128 };

/* Tells the core that this is a spin loop: it saves power and leaves the pipeline to a sibling thread. */
static inline void fp_cpu_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
}

/* Between two looks; `*round` starts at 0. */
static inline void fp_backoff(unsigned *round)
{
    if (++*round < FP_BACKOFF_PAUSES)
        fp_cpu_pause();
    else
        sched_yield();
}

#endif
