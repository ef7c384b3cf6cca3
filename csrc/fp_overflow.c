/* fp_overflow.c - a list of chunks for each lane, first in first out. */
#include "fp_overflow.h"

#include <stdlib.h>

enum { CHUNK_JOBS = 170 }; /* 32 bytes each: a chunk is a little under 5.5 KiB */

typedef struct fp_overflow_chunk {
    struct fp_overflow_chunk *next;
    unsigned begin, end;
    struct {
        fp_started job;
        unsigned kind;
    } items[CHUNK_JOBS];
} fp_overflow_chunk;

void fp_overflow_init(fp_overflow *overflow)
{
    fp_store(&overflow->count, UINT64_C(0), fp_relaxed);
    fp_mutex_init(&overflow->mutex);
    overflow->turn = 0;
    for (unsigned lane = 0; lane < FP_LANES; lane++) {
        fp_store(&overflow->lists[lane].count, UINT64_C(0), fp_relaxed);
        overflow->lists[lane].first = overflow->lists[lane].last = NULL;
    }
}

void fp_overflow_destroy(fp_overflow *overflow)
{
    fp_mutex_destroy(&overflow->mutex);
    for (unsigned lane = 0; lane < FP_LANES; lane++)
        free(overflow->lists[lane].first); /* at most an empty chunk is kept: a pool ends only when its queue is drained */
}

/* The chunk to append to; NULL when memory is short. Called with the mutex. */
static fp_overflow_chunk *writable_chunk(fp_overflow_list *list)
{
    fp_overflow_chunk *last = list->last;
    if (last != NULL && last->end < CHUNK_JOBS)
        return last;
    fp_overflow_chunk *chunk = malloc(sizeof *chunk);
    if (chunk == NULL)
        return NULL;
    chunk->next = NULL;
    chunk->begin = chunk->end = 0;
    if (last == NULL)
        list->first = chunk;
    else
        last->next = chunk;
    list->last = chunk;
    return chunk;
}

bool fp_overflow_push(fp_overflow *overflow, fp_started job, unsigned kind, fp_lane lane)
{
    fp_overflow_list *list = &overflow->lists[lane];
    fp_mutex_lock(&overflow->mutex);
    fp_overflow_chunk *chunk = writable_chunk(list);
    if (chunk != NULL) {
        chunk->items[chunk->end].job = job;
        chunk->items[chunk->end].kind = kind;
        chunk->end++;
        fp_fetch_add(&list->count, UINT64_C(1), fp_seq_cst);
        fp_fetch_add(&overflow->count, UINT64_C(1), fp_seq_cst);
    }
    fp_mutex_unlock(&overflow->mutex);
    return chunk != NULL;
}

/* Moves the lane's oldest job on. False when the ring is full or the list empty. Called with the mutex. */
static bool move_one_of(fp_overflow *overflow, fp_lane lane, fp_queue *queue)
{
    fp_overflow_list *list = &overflow->lists[lane];
    fp_overflow_chunk *chunk = list->first;
    if (chunk == NULL || chunk->begin == chunk->end)
        return false;
    fp_started job = chunk->items[chunk->begin].job;
    unsigned kind = chunk->items[chunk->begin].kind;
    if (!fp_queue_try_push(queue, job.job_class, job.ctx, kind, lane, job.submitted_ticks) &&
        !fp_queue_push_beyond(queue, job.job_class, job.ctx, kind, lane, job.submitted_ticks))
        return false;
    fp_fetch_sub(&list->count, UINT64_C(1), fp_seq_cst); /* after the push: see FIFO in the header */
    fp_fetch_sub(&overflow->count, UINT64_C(1), fp_seq_cst);
    if (++chunk->begin < chunk->end)
        return true;
    if (chunk == list->last) { /* the last chunk is kept and starts anew: no malloc for each job at the brim */
        chunk->begin = chunk->end = 0;
        return true;
    }
    list->first = chunk->next;
    free(chunk);
    return true;
}

static bool move_one(fp_overflow *overflow, fp_queue *queue)
{
    fp_lane first = fp_lane_of_turn(overflow->turn);
    bool moved = move_one_of(overflow, first, queue);
    for (unsigned lane = FP_LANE_HIGH; lane < FP_LANES && !moved; lane++)
        moved = lane != first && move_one_of(overflow, (fp_lane)lane, queue);
    overflow->turn += moved;
    return moved;
}

void fp_overflow_refill(fp_overflow *overflow, fp_queue *queue)
{
    if (fp_overflow_count(overflow) == 0)
        return;
    fp_mutex_lock(&overflow->mutex);
    while (move_one(overflow, queue))
        ;
    fp_mutex_unlock(&overflow->mutex);
}

uint64_t fp_overflow_queued(fp_overflow *overflow, fp_queue *queue)
{
    /* An item leaves the count after it is in the ring, so with a count of 0 read first the rings have all of them. */
    if (fp_overflow_count(overflow) == 0)
        return fp_queue_pushed(queue);
    fp_mutex_lock(&overflow->mutex);
    uint64_t queued = fp_overflow_count(overflow) + fp_queue_pushed(queue);
    fp_mutex_unlock(&overflow->mutex);
    return queued;
}
