/* work.h - what a peer is given to do: a job, or a function of each element, as a pointer, so that no compiler can inline it into
 * one peer and not into another. Where loops with the function inlined are compared, that too is the same for all who can. */
#ifndef WORK_H
#define WORK_H

#include <stdint.h>

typedef int (*work_job)(void *arg);
typedef double (*work_element)(double x);

static inline double inlined_polynomial(double x)
{
    return 1.0 + x * (1.0 / 2 + x * (-1.0 / 3 + x * (1.0 / 4 + x * (-1.0 / 5 + x * (1.0 / 6)))));
}

static inline double inlined_affine(double x)
{
    return 1.5 * x + 0.25;
}

#endif
