/* fp_awake - how many workers of this process, of all pools, are not parked.
 *
 * Journey: completion -> [FUTURE: wait]. Whoever thinks of spinning for a job asks whether a CPU is to spare. A hint: relaxed, and
 * changed only when a worker parks, wakes, starts or ends.
 */
#ifndef FP_AWAKE_H
#define FP_AWAKE_H

#include <stdint.h>

/* A worker more, or one fewer. */
void fp_awake_change(int change);

/* In a forked child it starts at 0 again. */
uint32_t fp_awake_count(void);

#endif
