/* work.c - the jobs and the element functions themselves, and the loop over one on one thread. */
#include "work.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "fp_kernels.h"

/* ---- a job that shows that it ran ---- */

enum { MOST_THREADS = 1024 };

typedef struct counter {
    _Alignas(128) int64_t jobs; /* padded: threads must not wait for each other's cache line */
    uint64_t squares;
} counter;

static counter counters[MOST_THREADS];
static _Atomic int threads;
static _Thread_local counter *own;

static counter *claim(void)
{
    int thread = atomic_fetch_add(&threads, 1);
    if (thread >= MOST_THREADS)
        abort();
    return &counters[thread];
}

/* Adds `arg`, a number, to the counter of its thread. */
int work_count(void *arg)
{
    uint64_t number = (uintptr_t)arg;
    counter *mine = own != NULL ? own : (own = claim());
    mine->jobs++;
    mine->squares += number * number;
    return 0;
}

/* How many jobs ran since the last call, and the sum of the squares of their numbers. No job may be running. */
void work_take_counts(int64_t *jobs, uint64_t *squares)
{
    *jobs = 0;
    *squares = 0;
    for (int thread = 0; thread < MOST_THREADS; thread++) {
        *jobs += counters[thread].jobs;
        *squares += counters[thread].squares;
        counters[thread] = (counter){0};
    }
}

/* ---- functions of an element; the cheap one is fp_kernel_polynomial ---- */

/* A Black-Scholes call. Of its years, for so no part of it is the same for all, which a compiler could compute once. */
double work_option(double years)
{
    return fp_kernel_black_scholes_call(105.0, 100.0, years, NULL);
}

double work_affine(double x)
{
    return inlined_affine(x);
}

/* The cheap ones as NumPy's inner loops: a call for many elements, which a compiler turns into vector instructions where they
 * lie side by side. */
#define INNER_LOOP(name, element)                                                                                           \
    void name(char **args, const int64_t *n, const int64_t *steps, void *unused)                                            \
    {                                                                                                                       \
        (void)unused;                                                                                                       \
        if (steps[0] == sizeof(double) && steps[1] == sizeof(double)) {                                                     \
            const double *x = (const double *)args[0];                                                                      \
            double *restrict out = (double *)args[1];                                                                       \
            for (int64_t i = 0; i < *n; i++)                                                                                \
                out[i] = element(x[i]);                                                                                     \
        } else {                                                                                                            \
            for (int64_t i = 0; i < *n; i++)                                                                                \
                *(double *)(args[1] + i * steps[1]) = element(*(const double *)(args[0] + i * steps[0]));                   \
        }                                                                                                                   \
    }

INNER_LOOP(work_polynomial_loop, inlined_polynomial)
INNER_LOOP(work_affine_loop, inlined_affine)

/* ---- what all peers are compared with: no threads, no scheduling ---- */

void work_map(work_element function, const double *x, double *out, int64_t n, int64_t calls)
{
    for (int64_t call = 0; call < calls; call++)
        for (int64_t i = 0; i < n; i++)
            out[i] = function(x[i]);
}
