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

/* int64[2]: how many are inside, how many there are to be. Spins until there are so many; -1 when some seconds have passed. */
double together(double x, void *data)
{
    int64_t *words = data;
    time_t begin = time(0);
    __atomic_fetch_add(&words[0], 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&words[0], __ATOMIC_SEQ_CST) < words[1]) {
        if (time(0) - begin > 5)
            return -1;
        sched_yield();
    }
    return x;
}

/* int64[3]: how many are inside, how many found somebody else there, calls. */
double alone(double x, void *data)
{
    int64_t *words = data;
    if (__atomic_fetch_add(&words[0], 1, __ATOMIC_SEQ_CST) != 0)
        __atomic_fetch_add(&words[1], 1, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&words[2], 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < 200; i++)
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
    __atomic_fetch_sub(&words[0], 1, __ATOMIC_SEQ_CST);
    return x;
}

/* Its place among all calls with this int64. */
double stamp(double x, void *data)
{
    (void)x;
    return (double)__atomic_fetch_add((int64_t *)data, 1, __ATOMIC_SEQ_CST);
}

/* Ranges. Each counts in an int32 of its own how often it came by. */
int count_each(int64_t begin, int64_t end, void *data)
{
    for (int64_t i = begin; i < end; i++)
        __atomic_fetch_add((int32_t *)data + i, 1, __ATOMIC_RELAXED);
    return 0;
}

/* int64[6]: sum of lengths, pieces, lowest begin, highest end, longest piece, pieces that are none. */
int measure_pieces(int64_t begin, int64_t end, void *data)
{
    static int lock;
    int64_t *words = data;
    while (__atomic_exchange_n(&lock, 1, __ATOMIC_ACQUIRE) != 0)
        sched_yield();
    words[0] += end - begin;
    words[1]++;
    words[2] = begin < words[2] ? begin : words[2];
    words[3] = end > words[3] ? end : words[3];
    words[4] = end - begin > words[4] ? end - begin : words[4];
    words[5] += begin < 0 || begin >= end;
    __atomic_store_n(&lock, 0, __ATOMIC_RELEASE);
    return 0;
}

/* int64[3]: which i fails, with what status, how many i were in pieces that did not. */
int fail_at(int64_t begin, int64_t end, void *data)
{
    int64_t *words = data;
    if (begin <= words[0] && words[0] < end)
        return (int)words[1];
    __atomic_fetch_add(&words[2], end - begin, __ATOMIC_SEQ_CST);
    return 0;
}

/* As until_told. */
int until_told_range(int64_t begin, int64_t end, void *data)
{
    (void)begin, (void)end;
    return until_told(data);
}
