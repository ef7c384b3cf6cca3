/* fp_clock.c - is the counter to be trusted, and how fast does it run. */
#include "fp_clock.h"

#include <stdio.h>
#include <string.h>

static uint64_t origin_ticks;
static int64_t origin_ns;

#ifdef FP_CLOCK_HAS_TSC
int fp_clock_tsc_is_good;

/* The kernel measures for itself whether the counters of all CPUs agree and never stop; its verdict is its choice. */
static int kernel_uses_tsc(void)
{
    char name[16] = "";
    FILE *file = fopen("/sys/devices/system/clocksource/clocksource0/current_clocksource", "re");
    if (file == NULL)
        return 0;
    if (fgets(name, sizeof name, file) == NULL)
        name[0] = 0;
    fclose(file);
    return strcmp(name, "tsc\n") == 0;
}
#endif

__attribute__((constructor)) static void start_clock(void)
{
#ifdef FP_CLOCK_HAS_TSC
    fp_clock_tsc_is_good = kernel_uses_tsc();
#endif
    origin_ns = fp_os_now_ns();
    origin_ticks = fp_clock_ticks();
}

static double measure(void)
{
    enum { SPAN_NS = 10 * 1000 * 1000 }; /* two clock readings are some 50 ns apart: an error of 5 parts in a million */
    int64_t now_ns;
    do
        now_ns = fp_os_now_ns();
    while (now_ns - origin_ns < SPAN_NS);
    return (double)(now_ns - origin_ns) / (double)(fp_clock_ticks() - origin_ticks);
}

/* Once, for all: of two readings of a sum that has not changed the second must not be the smaller by a millionth. */
double fp_clock_ns_per_tick(void)
{
    static fp_atomic(uint64_t) known; /* the bits of it */
    double rate;
    uint64_t bits = fp_load(&known, fp_relaxed);
    if (bits == 0) {
        uint64_t measured;
        rate = measure();
        memcpy(&measured, &rate, sizeof measured);
        if (fp_cas(&known, &bits, measured, fp_relaxed, fp_relaxed))
            bits = measured;
    }
    memcpy(&rate, &bits, sizeof rate);
    return rate;
}
