/* fp_clock - the cheap clock of the metrics: the CPU's time-stamp counter where it is one clock for the whole machine.
 *
 * A reading costs 9.5 ns here where clock_gettime costs 23.5 (both under a hypervisor), and each job needs two. Ticks are
 * turned into nanoseconds only when someone reads the metrics: the rate is measured between process start and the first time that
 * anyone asks.
 */
#ifndef FP_CLOCK_H
#define FP_CLOCK_H

#include <stdint.h>

#include "fp_os.h"

#if defined(__x86_64__) && defined(__linux__)
#include <x86intrin.h>
#define FP_CLOCK_HAS_TSC 1
extern int fp_clock_tsc_is_good; /* the kernel itself uses it as its clock */
static inline uint64_t fp_clock_ticks(void)
{
    return fp_clock_tsc_is_good ? __rdtsc() : (uint64_t)fp_os_now_ns();
}
#elif defined(__aarch64__)
static inline uint64_t fp_clock_ticks(void)
{
    uint64_t ticks;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
}
#else
static inline uint64_t fp_clock_ticks(void)
{
    return (uint64_t)fp_os_now_ns();
}
#endif

/* Nanoseconds in a tick: the same in each call. The first one may take up to 10 ms, for the rate needs a span to be measured over. */
double fp_clock_ns_per_tick(void);

#endif
