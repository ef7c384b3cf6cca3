/* work.h - what a peer is given to do: a job, or a function of each element, always as a pointer, so that no compiler can
 * inline it into one peer and not into another. */
#ifndef WORK_H
#define WORK_H

#include <stdint.h>

typedef int (*work_job)(void *arg);
typedef double (*work_element)(double x);

#endif
