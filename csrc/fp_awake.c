/* fp_awake.c - one counter for the process. */
#include "fp_awake.h"

#include "fp_os.h"

static fp_atomic(int) awake;
static fp_atomic(uint32_t) generation; /* the fork generation that `awake` is of */

/* After a fork the child's first to come here has no other beside it that could have counted. */
static void forget_the_parents(void)
{
    if (fp_load(&generation, fp_relaxed) == fp_os_fork_generation)
        return;
    fp_store(&generation, fp_os_fork_generation, fp_relaxed);
    fp_store(&awake, 0, fp_relaxed);
}

void fp_awake_change(int change)
{
    forget_the_parents();
    fp_fetch_add(&awake, change, fp_relaxed);
}

uint32_t fp_awake_count(void)
{
    forget_the_parents();
    int count = fp_load(&awake, fp_relaxed);
    return count > 0 ? (uint32_t)count : 0;
}
