/* fp_queue - the bounded queue of jobs: an array of records and rings of their indices.
 *
 * Journey: [SUBMIT -> RING -> WORKER]. Submitting takes a free record from the `free` ring (Q1), fills it (Q2) and enqueues
 * its index in the `ready` ring of its lane (Q3). Starting takes the index (Q4), copies the record (Q5) and gives it back
 * (Q6). There are exactly `capacity` records, whatever the rings round up to, so "none free" is "full" and the bound is exact.
 *
 * Progress   Lock-free, since both rings are and no step waits for another thread. A thread frozen between Q1 and Q3, or
 *            Q4 and Q6, keeps one record out of use and nothing else.
 * FIFO       In the order of Q3, within a lane. A range leaves the head only when all its jobs have started, so it keeps to
 *            it too.
 * "Full"     linearises at the `free` ring's D2, "empty" at the D2 of the last `ready` ring that was looked at.
 *
 * Lanes      Each has its own `ready` ring, of zero memory that is not touched before it is used; the records are for all, and
 *            so is the bound. `laned` says that another lane than the normal one has been used. It is set before the first
 *            push to such a lane, and never cleared; before that a look is one at the normal lane only. No look misses a job:
 *            all of it is seq_cst, so a look that comes after a push (E3) in the one order finds `laned` set, looks at all
 *            lanes, and finds the job, or it has been taken. No more is asked of looks (fp_pool.h, "Who looks"); that all
 *            lanes were empty at one instant is not.
 * Turns      Whoever starts one job after the other looks at the high lane first, then at the normal and the low one; but in
 *            every 4th turn at the normal lane first, and in every 16th at the low one (fp_lane_of_turn). So of 16 jobs that a
 *            worker starts, at least one is of the low lane while that has any, and three of the normal one while it has.
 * Beyond     A job of the overflow (fp_overflow.h) whose lane has nothing here does not wait for a place until others have
 *            started whose turn comes after its own: there are some records past the bound for these. Not in the normal lane,
 *            whose ring is to be no longer than the bound asks.
 *
 * Ranges     A worker that finds a range at the head joins it: it raises the record's `join` count while the record is
 *            open. From then on the record is not reused, so ctx is good from join to leave. Between the peek and the join
 *            the record may have come to hold a younger range, perhaps one that is not enqueued yet: whoever has joined
 *            asks whether its head is still the head, and else only leaves. The last to leave a closed record gives it
 *            back and ends the range. A range whose jobs have all started holds no place: whoever closes it puts a spare
 *            record into the free ring in its stead, and the record itself becomes the spare. Should the spares run out
 *            (each thread inside a range needs one, and a job may nest ranges) the place is free when the last has left.
 *   J1 join    CAS join: open|n -> open|n+1
 *   J2 close   take (D3), clear open, lend a spare        by a worker that is inside
 *   J3 leave   fetch_sub -> was 1, closed: the record is mine, to free or for the spares
 *
 * Order pairs (label: store -> load: what it publishes)
 *   FP_QUEUE_OPEN -> FP_QUEUE_JOIN   Q2 -> J1: the record's fields; and that the record's last holder was taken (D3), so
 *                                    that a stale head is seen to be stale
 *   FP_QUEUE_LEAVE                   J3 -> J3: all that others did inside, to the last one out, who ends the range
 */
#ifndef FP_QUEUE_H
#define FP_QUEUE_H

#include "fp_job.h"
#include "fp_ring.h"

#ifndef FP_QUEUE_OPEN
#define FP_QUEUE_OPEN fp_release
#endif
#ifndef FP_QUEUE_JOIN
#define FP_QUEUE_JOIN fp_acquire
#endif
#ifndef FP_QUEUE_LEAVE
#define FP_QUEUE_LEAVE fp_acq_rel
#endif

#define FP_JOIN_OPEN UINT32_C(0x80000000)
#define FP_JOIN_LENT UINT32_C(0x40000000) /* a spare stands in for this record in the free ring */
enum { FP_QUEUE_BEYOND = 16 };
enum { FP_QUEUE_MOST = 1 << 23 }; /* records; an index and its kind must fit FP_RING_VALUE_BITS */

typedef struct fp_queue {
    fp_job *records;
    uint32_t capacity;
    fp_atomic(bool) laned; /* see "Lanes" */
    fp_ring ready[FP_LANES];
    fp_ring free;
    fp_ring beyond; /* free records past the bound */
    fp_ring spare;
} fp_queue;

typedef struct fp_queue_head {
    fp_ring_head head;
    unsigned kind; /* FP_JOB_ bits */
    fp_lane lane;
} fp_queue_head;

/* A started job: the record's contents, the record itself being free again. */
typedef struct fp_started {
    const fp_job_class *job_class;
    void *ctx;
    uint64_t submitted_ticks;
} fp_started;

/* Room for `capacity` jobs, 1 .. FP_QUEUE_MOST, and `spares` ranges that have all started and still run. False when memory
 * is short: nothing was made. */
bool fp_queue_init(fp_queue *queue, uint32_t capacity, uint32_t spares);
void fp_queue_destroy(fp_queue *queue);

/* Q1-Q3. False when the queue was full. `kind` is the class's, with FP_JOB_RANGE for a range. */
bool fp_queue_try_push(fp_queue *queue, const fp_job_class *job_class, void *ctx, unsigned kind, fp_lane lane,
                       uint64_t now_ticks);

/* The same past the bound, for the oldest job of its lane in the overflow: see "Beyond". False when it is not for that lane,
 * the lane has jobs here, or all such records are in use. */
bool fp_queue_push_beyond(fp_queue *queue, const fp_job_class *job_class, void *ctx, unsigned kind, fp_lane lane,
                          uint64_t now_ticks);

/* The lane to look at first in the turn of that number. */
static inline fp_lane fp_lane_of_turn(uint32_t turn)
{
    return turn % 16 == 15 ? FP_LANE_LOW : turn % 4 == 3 ? FP_LANE_NORMAL : FP_LANE_HIGH;
}

/* The head of lane `first`; if that is empty, of the highest lane that is not. False when the queue was empty. */
bool fp_queue_peek(fp_queue *queue, fp_lane first, fp_queue_head *head);

/* The head of that lane only. */
bool fp_queue_peek_lane(fp_queue *queue, fp_lane lane, fp_queue_head *head);

/* Q4-Q6, of a head that is no range. False when another worker was first. */
bool fp_queue_take(fp_queue *queue, fp_queue_head head, fp_started *job);

/* J1. The job of the range that the record holds, or false when it holds none. Only where fp_queue_is_head() still holds
 * after it is that the range which peek saw; in either case leave it. */
bool fp_queue_join(fp_queue *queue, fp_queue_head head, fp_started *job);

/* True while nobody has taken or closed what peek saw. */
bool fp_queue_is_head(fp_queue *queue, fp_queue_head head);

/* J2, inside: no job of the range is left to start, so the next in the queue moves up. True when that made room. */
bool fp_queue_close(fp_queue *queue, fp_queue_head head);

/* J3. FP_LEFT_LAST for the last one out of a closed range, who must end it; and perhaps there is room now. */
typedef enum fp_left { FP_LEFT, FP_LEFT_LAST, FP_LEFT_LAST_ROOM } fp_left;
fp_left fp_queue_leave(fp_queue *queue, fp_queue_head head);

/* Places in use, a range being one. */
uint64_t fp_queue_size(fp_queue *queue);

/* True when there are more than `count` in all lanes; as fp_ring_holds_more(), it misses none. */
bool fp_queue_holds_more(fp_queue *queue, uint64_t count);

/* All ever pushed. */
uint64_t fp_queue_pushed(fp_queue *queue);

/* True when a submitter would find room. seq_cst: the re-check of one that is about to wait for it. */
bool fp_queue_has_room(fp_queue *queue);

#endif
