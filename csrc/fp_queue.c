/* fp_queue.c - the steps Q1-Q6 and J1-J3 of fp_queue.h. */
#include "fp_queue.h"

#include <stdlib.h>

/* No fewer slots than this, so that a ring's cycle needs years to come round (fp_ring.h, I3). */
enum { LEAST_ORDER = 10 };

static unsigned order_for(uint32_t capacity)
{
    unsigned order = LEAST_ORDER;
    while ((UINT32_C(1) << order) < capacity)
        order++;
    return order;
}

bool fp_queue_init(fp_queue *queue, uint32_t capacity, uint32_t spares)
{
    /* Only the other lanes' rings may have to hold records past the bound. */
    unsigned order = order_for(capacity), lane_order = order_for(capacity + FP_QUEUE_BEYOND), spare_order = order_for(spares);
    size_t slots = (size_t)1 << order, lane_slots = (size_t)1 << lane_order, spare_slots = (size_t)1 << spare_order;
    size_t beyond_slots = (size_t)1 << LEAST_ORDER;
    /* calloc: large blocks come from the kernel already zero, and a page that no job ever needs is never touched. */
    fp_atomic(uint64_t) *words = calloc(2 * slots + 2 * lane_slots + spare_slots + beyond_slots, sizeof *words);
    queue->records = calloc(slots + spares + FP_QUEUE_BEYOND, sizeof *queue->records);
    if (words == NULL || queue->records == NULL) {
        free(words);
        free(queue->records);
        return false;
    }
    queue->capacity = capacity;
    fp_store(&queue->laned, false, fp_relaxed);
    fp_ring_init_full(&queue->free, words, order, capacity);
    fp_ring_init_empty(&queue->ready[FP_LANE_NORMAL], words += slots, order);
    fp_ring_init_empty(&queue->ready[FP_LANE_HIGH], words += slots, lane_order);
    fp_ring_init_empty(&queue->ready[FP_LANE_LOW], words += lane_slots, lane_order);
    fp_ring_init_empty(&queue->spare, words += lane_slots, spare_order);
    fp_ring_init_empty(&queue->beyond, words += spare_slots, LEAST_ORDER);
    for (uint32_t i = 0; i < spares; i++)
        fp_ring_enqueue(&queue->spare, (uint32_t)slots + i);
    for (uint32_t i = 0; i < FP_QUEUE_BEYOND; i++)
        fp_ring_enqueue(&queue->beyond, (uint32_t)slots + spares + i);
    return true;
}

void fp_queue_destroy(fp_queue *queue)
{
    free(queue->free.slots);
    free(queue->records);
}

static bool pop(fp_ring *ring, uint32_t *index)
{
    fp_ring_head head;
    do
        if (!fp_ring_peek(ring, &head))
            return false;
    while (!fp_ring_take(ring, head));
    *index = head.value;
    return true;
}

static bool push(fp_queue *queue, const fp_job_class *job_class, void *ctx, unsigned kind, fp_lane lane, uint64_t now_ticks,
                 bool beyond)
{
    uint32_t index;
    if (lane != FP_LANE_NORMAL && !fp_load(&queue->laned, fp_seq_cst))
        fp_store(&queue->laned, true, fp_seq_cst); /* before Q3: see "Lanes" */
    if (!pop(beyond ? &queue->beyond : &queue->free, &index)) /* Q1 */
        return false;
    fp_step("Q2");
    fp_job *record = &queue->records[index];
    fp_set(&record->job_class, job_class);
    fp_set(&record->ctx, ctx);
    fp_set(&record->submitted_ticks, now_ticks);
    fp_set(&record->beyond, beyond);
    if (kind & FP_JOB_RANGE)
        fp_store(&record->join, FP_JOIN_OPEN, FP_QUEUE_OPEN);
    fp_ring_enqueue(&queue->ready[lane], index << FP_JOB_KIND_BITS | kind); /* Q3 */
    return true;
}

bool fp_queue_try_push(fp_queue *queue, const fp_job_class *job_class, void *ctx, unsigned kind, fp_lane lane,
                       uint64_t now_ticks)
{
    return push(queue, job_class, ctx, kind, lane, now_ticks, false);
}

bool fp_queue_push_beyond(fp_queue *queue, const fp_job_class *job_class, void *ctx, unsigned kind, fp_lane lane,
                          uint64_t now_ticks)
{
    fp_queue_head head;
    return lane != FP_LANE_NORMAL && !fp_queue_peek_lane(queue, lane, &head) &&
           push(queue, job_class, ctx, kind, lane, now_ticks, true);
}

bool fp_queue_peek_lane(fp_queue *queue, fp_lane lane, fp_queue_head *head)
{
    if (lane != FP_LANE_NORMAL && !fp_load(&queue->laned, fp_seq_cst)) /* its memory is not to be touched */
        return false;
    if (!fp_ring_peek(&queue->ready[lane], &head->head))
        return false;
    head->kind = head->head.value & ((1u << FP_JOB_KIND_BITS) - 1);
    head->lane = lane;
    return true;
}

bool fp_queue_peek(fp_queue *queue, fp_lane first, fp_queue_head *head)
{
    if (!fp_load(&queue->laned, fp_seq_cst))
        return fp_queue_peek_lane(queue, FP_LANE_NORMAL, head);
    if (fp_queue_peek_lane(queue, first, head))
        return true;
    for (unsigned lane = FP_LANE_HIGH; lane < FP_LANES; lane++)
        if (lane != first && fp_queue_peek_lane(queue, (fp_lane)lane, head))
            return true;
    return false;
}

static fp_job *record_of(fp_queue *queue, fp_queue_head head)
{
    return &queue->records[head.head.value >> FP_JOB_KIND_BITS];
}

static void copy_out(fp_job *record, fp_started *job)
{
    job->job_class = fp_get(&record->job_class);
    job->ctx = fp_get(&record->ctx);
    job->submitted_ticks = fp_get(&record->submitted_ticks);
}

/* Where the record came from. Of the queue's own records, not the spares. */
static fp_ring *home_of(fp_queue *queue, fp_queue_head head)
{
    return fp_get(&record_of(queue, head)->beyond) ? &queue->beyond : &queue->free;
}

static void give_back(fp_ring *ring, fp_queue_head head)
{
    fp_step("Q6");
    fp_ring_enqueue(ring, head.head.value >> FP_JOB_KIND_BITS);
}

bool fp_queue_take(fp_queue *queue, fp_queue_head head, fp_started *job)
{
    if (!fp_ring_take(&queue->ready[head.lane], head.head)) /* Q4 */
        return false;
    fp_step("Q5");
    copy_out(record_of(queue, head), job);
    give_back(home_of(queue, head), head);
    return true;
}

bool fp_queue_join(fp_queue *queue, fp_queue_head head, fp_started *job)
{
    fp_job *record = record_of(queue, head);
    uint32_t join = fp_load(&record->join, fp_relaxed);
    do
        if (!(join & FP_JOIN_OPEN))
            return false;
    while (!fp_cas(&record->join, &join, join + 1, FP_QUEUE_JOIN, fp_relaxed)); /* J1 */
    copy_out(record, job);
    return true;
}

bool fp_queue_is_head(fp_queue *queue, fp_queue_head head)
{
    return fp_ring_is_head(&queue->ready[head.lane], head.head);
}

bool fp_queue_close(fp_queue *queue, fp_queue_head head)
{
    uint32_t spare;
    if (!fp_ring_take(&queue->ready[head.lane], head.head)) /* J2 */
        return false;
    fp_atomic(uint32_t) *join = &record_of(queue, head)->join;
    fp_fetch_and(join, ~FP_JOIN_OPEN, fp_relaxed);
    if (!pop(&queue->spare, &spare))
        return false;
    fp_fetch_or(join, FP_JOIN_LENT, fp_relaxed); /* before this thread's own J3, so the last one out sees it */
    fp_ring_enqueue(home_of(queue, head), spare);
    return true;
}

fp_left fp_queue_leave(fp_queue *queue, fp_queue_head head)
{
    uint32_t join = fp_fetch_sub(&record_of(queue, head)->join, UINT32_C(1), FP_QUEUE_LEAVE); /* J3 */
    if ((join & ~FP_JOIN_LENT) != 1)
        return FP_LEFT;
    bool lent = join & FP_JOIN_LENT;
    give_back(lent ? &queue->spare : home_of(queue, head), head);
    return lent ? FP_LEFT_LAST : FP_LEFT_LAST_ROOM;
}

uint64_t fp_queue_size(fp_queue *queue)
{
    uint64_t size = 0;
    for (unsigned lane = 0; lane < FP_LANES; lane++)
        size += fp_ring_size(&queue->ready[lane]);
    uint64_t most = (uint64_t)queue->capacity + (fp_load(&queue->laned, fp_relaxed) ? FP_QUEUE_BEYOND : 0);
    return size < most ? size : most; /* its loads may be far apart */
}

uint64_t fp_queue_pushed(fp_queue *queue)
{
    uint64_t pushed = 0;
    for (unsigned lane = 0; lane < FP_LANES; lane++)
        pushed += fp_ring_enqueued(&queue->ready[lane]);
    return pushed;
}

bool fp_queue_holds_more(fp_queue *queue, uint64_t count)
{
    if (!fp_load(&queue->laned, fp_seq_cst))
        return fp_ring_holds_more(&queue->ready[FP_LANE_NORMAL], count);
    uint64_t seen = 0;
    /* A lane is left when it holds no more than was seen of it: so what was there before, and is not counted, has been taken.
     * */
    for (unsigned lane = 0; lane < FP_LANES; lane++)
        for (uint64_t in_lane = 0; fp_ring_holds_more(&queue->ready[lane], in_lane); in_lane++)
            if (++seen > count)
                return true;
    return false;
}

bool fp_queue_has_room(fp_queue *queue)
{
    fp_ring_head head;
    return fp_ring_peek(&queue->free, &head);
}
