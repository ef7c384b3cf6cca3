/* native.c - kernels for the tests: one of each signature, which tells its arguments apart, and some that can be watched. */
#include <sched.h>
#include <stdint.h>
#include <time.h>

/* Each argument counts differently, so that one in another's place shows; user data is one more, or absent. */
#define KERNELS_1_2(T, t)                                                                    \
    T t##1(T x) { return 3 * x + 1; }                                                        \
    T t##2(T x, T y) { return x - 2 * y; }                                                   \
    T t##1p(T x, void *data) { return x + (data ? 4 * *(T *)data : 0); }                     \
    T t##2p(T x, T y, void *data) { return x - 2 * y + (data ? 4 * *(T *)data : 0); }

#define KERNELS_3(T, t)                                                                      \
    T t##3(T x, T y, T z) { return x - 2 * y + 8 * z; }                                      \
    T t##3p(T x, T y, T z, void *data) { return x - 2 * y + 8 * z + (data ? 4 * *(T *)data : 0); }

KERNELS_1_2(double, d)
KERNELS_3(double, d)
KERNELS_1_2(float, f)
KERNELS_3(float, f)
KERNELS_1_2(int64_t, q)

/* A job on a buffer: its first int is the status. */
int status(void *data)
{
    return data != 0 ? *(int *)data : 0;
}

/* int32[2]: writes the first, then spins until somebody writes the second; after some five seconds gives up with status 1. */
int until_told(void *data)
{
    int *words = data;
    time_t begin = time(0);
    __atomic_store_n(&words[0], 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&words[1], __ATOMIC_SEQ_CST) == 0) {
        if (time(0) - begin > 5)
            return 1;
        sched_yield();
    }
    return 0;
}

/* The same for each element: -1 when it gave up. */
double until_told_element(double x, void *data)
{
    return until_told(data) == 0 ? x : -1;
}

/* Counts its calls in an int64. */
double counted(double x, void *calls)
{
    __atomic_fetch_add((int64_t *)calls, 1, __ATOMIC_SEQ_CST);
    return x;
}
