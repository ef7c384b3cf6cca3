/* fp_overflow - where the jobs of an unbounded pool wait when the ring is full.
 *
 * Journey: submit -> [OVERFLOW ->] ring -> worker. ThreadPoolExecutor's queue has no bound, so its drop-in needs one without,
 * and a ring cannot grow without safe memory reclamation. Beyond the ring's length jobs go to a chunked list under a
 * mutex, and workers move them on into the ring as room comes. Not lock-free, and not claimed to be.
 *
 * Lanes        Each has a list. Jobs are moved on by turns, as they are started (fp_queue.h, "Turns"): of 16 that are moved
 *              one at least is of the low lane while its list has any. A high or low job that is the first of its lane need
 *              not wait for a place ("Beyond"), so none waits behind a full ring of other lanes.
 * FIFO         A submitter goes to its lane's list as long as that is not empty, and an item leaves the counts only after it
 *              has been enqueued in the ring; so a submitter never overtakes itself within a lane.
 * Order pairs  FP_OVERFLOW_COUNT: count raised (seq_cst) -> a worker's re-check before it parks. The rest is the mutex's.
 */
#ifndef FP_OVERFLOW_H
#define FP_OVERFLOW_H

#include "fp_os.h"
#include "fp_queue.h"

struct fp_overflow_chunk;

typedef struct fp_overflow_list {
    fp_atomic(uint64_t) count;
    struct fp_overflow_chunk *first;
    struct fp_overflow_chunk *last;
} fp_overflow_list;

typedef struct fp_overflow {
    fp_atomic(uint64_t) count; /* jobs in all lists */
    fp_mutex mutex;
    fp_overflow_list lists[FP_LANES];
    uint32_t turn; /* jobs moved */
} fp_overflow;

void fp_overflow_init(fp_overflow *overflow);
void fp_overflow_destroy(fp_overflow *overflow);

/* Appends a job. False when memory is short: nothing was queued. */
bool fp_overflow_push(fp_overflow *overflow, fp_started job, unsigned kind, fp_lane lane);

/* Moves jobs into the ring while it has room. Cheap when the lists are empty. */
void fp_overflow_refill(fp_overflow *overflow, fp_queue *queue);

/* All jobs ever queued, here or in the ring; each once, also one that is being moved. */
uint64_t fp_overflow_queued(fp_overflow *overflow, fp_queue *queue);

static inline uint64_t fp_overflow_count(fp_overflow *overflow)
{
    return fp_load(&overflow->count, fp_seq_cst);
}

/* Whether a job of the lane has to go behind others here. */
static inline bool fp_overflow_holds(fp_overflow *overflow, fp_lane lane)
{
    return fp_overflow_count(overflow) != 0 && fp_load(&overflow->lists[lane].count, fp_seq_cst) != 0;
}

#endif
