/* fp_backoff - what a spinning thread does between two looks. */
#ifndef FP_BACKOFF_H
#define FP_BACKOFF_H

#include "fp_atomic.h"

/* Tells the core that this is a spin loop: it saves power and leaves the pipeline to a sibling thread. */
static inline void fp_cpu_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
}

#endif
