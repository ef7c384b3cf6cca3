/* fp_range - N jobs behind one place in the queue: a cursor that workers move.
 *
 * Journey: submit -> ring -> [WORKER: chunk after chunk] -> kernel -> completion. Workers that have joined the range
 * (fp_queue.h) claim chunks with one fetch_add each, so a worker that stalls holds up its own chunk only.
 *
 * Claim        G1 fetch_add(cursor, grain) <- linearisation point; past n: nothing is left
 * Cancel       G2 exchange(cursor, n) <- linearisation point; what lay beyond the old value is cancelled and never starts
 * Order        Both relaxed: the range's contents were published with the record (Q3, J1), and results are published by
 *              leaving (J3).
 * Bound        n is at most 2^62 and a grain is cut to 2^48. Who sees that nothing is left does not move the cursor, so each
 *              thread moves it past n once at most, and it cannot wrap with fewer than 2^14 threads.
 */
#ifndef FP_RANGE_H
#define FP_RANGE_H

#include "fp_atomic.h"

#define FP_RANGE_MOST (INT64_C(1) << 62)
#define FP_RANGE_GRAIN_MOST (INT64_C(1) << 48)

typedef struct fp_range {
    int64_t n; /* jobs in the range */
    fp_aligned fp_atomic(int64_t) cursor; /* the first job that no worker has claimed */
} fp_range;

static inline void fp_range_init(fp_range *range, int64_t n)
{
    range->n = n;
    fp_store(&range->cursor, INT64_C(0), fp_relaxed);
}

/* Claims up to `grain` jobs: [*begin, *end). False when none is left. */
static inline bool fp_range_claim(fp_range *range, int64_t grain, int64_t *begin, int64_t *end)
{
    if (grain > FP_RANGE_GRAIN_MOST)
        grain = FP_RANGE_GRAIN_MOST;
    if (fp_load(&range->cursor, fp_relaxed) >= range->n)
        return false;
    int64_t first = fp_fetch_add(&range->cursor, grain, fp_relaxed); /* G1 */
    if (first >= range->n)
        return false;
    *begin = first;
    *end = grain < range->n - first ? first + grain : range->n;
    return true;
}

/* Jobs not yet claimed. */
static inline int64_t fp_range_left(fp_range *range)
{
    int64_t next = fp_load(&range->cursor, fp_relaxed);
    return next < range->n ? range->n - next : 0;
}

/* Lets no further job start; how many never will. */
static inline int64_t fp_range_cancel(fp_range *range)
{
    int64_t next = fp_exchange(&range->cursor, range->n, fp_relaxed); /* G2 */
    return next < range->n ? range->n - next : 0;
}

#endif
