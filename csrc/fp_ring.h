/* fp_ring - a bounded, lock-free, multi-producer multi-consumer FIFO of small numbers.
 *
 * Journey: submit -> [RING] -> worker -> kernel or callable -> completion -> future.
 * The numbers are handles of job records (fp_queue.h), a few bits of kind beside an index.
 *
 * Algorithm   Nikolaev, "A Scalable, Portable, and Memory-Efficient Lock-Free FIFO Queue", DISC 2019, the ring he calls
 *             NCQ. A slot is one 64-bit word, cycle | value, and a value goes in with one compare-and-swap that both
 *             claims the slot and publishes it: there is no moment in which a slot is taken and not yet readable.
 * Differences Dequeue is cut in two, peek and take, and a value has room for kind bits: a worker learns whether the head
 *             needs the interpreter before it claims it. A slot holds the value xor its own index, so that zero-filled
 *             memory is already the full ring 0, 1, 2 ...: creating a large pool touches no page of it.
 * Why this one Vyukov's ring is cheaper but a producer that stalls between claim and publication stops every consumer.
 *             SCQ costs twice NCQ here and gains only with many producers. wCQ and LCRQ need a double-width CAS. A Treiber
 *             stack of free records in the place of the second ring is 30 % cheaper for one thread and several times
 *             dearer for two: both ends fight for its one word.
 *
 * Progress    Lock-free: each retry is caused by an operation of another thread that took effect, and a position that
 *             a stalled thread leaves behind is advanced by whoever meets it (E2). tests/c/test_freeze.c stops a thread
 *             before every step and lets the others finish.
 *
 * Enqueue     E1 read enqueue_pos      E2 slot already of this cycle: help advance enqueue_pos, again
 *             E3 CAS the slot  <- linearisation point      E4 advance enqueue_pos (may fail: someone helped)
 * Dequeue     D1 read dequeue_pos      D2 slot of an older cycle: empty  <- linearisation point of "empty"
 *             D3 CAS dequeue_pos  <- linearisation point of success
 *             There is no "full": a ring never meets more than `capacity` values (fp_queue.h sees to it).
 *
 * Ownership   Before E3 the producer owns what the value names; after D3 the consumer does; in between, the ring.
 *
 * Invariants  I1 enqueue_pos - dequeue_pos <= capacity.   I2 slot s holds the cycle of the last position p with
 *             p mod capacity == s that was enqueued.   I3 positions only grow; a cycle has 38 bits, so a CAS could be
 *             deceived only by a thread asleep for 2^38 laps (with the 1,024 slots a pool has at the least, 2^48 jobs).
 *
 * Order pairs (label: store -> load: what it publishes)
 *   FP_RING_PUBLISH  E3 -> D2   the job record's fields; seq_cst, for the parking proof needs it (fp_eventcount.h)
 *   FP_RING_ADVANCE  E2,E4 -> E1   that slot enqueue_pos-1 is filled: a producer that reads a position sees its slots
 *   FP_RING_TAKE     D3 -> D1   what the taker had enqueued before: with its item taken by another, it must not find the
 *                               ring empty. Release is enough: D3 succeeds on the very value that D1 acquired
 *   FP_RING_PEEK     the load in D2; seq_cst: the re-check of a worker about to park
 * Each has a mutant that a check kills: tests/c/relacy.
 */
#ifndef FP_RING_H
#define FP_RING_H

#include "fp_atomic.h"

#ifndef FP_RING_PUBLISH
#define FP_RING_PUBLISH fp_seq_cst
#endif
#ifndef FP_RING_ADVANCE
#define FP_RING_ADVANCE fp_release
#endif
#ifndef FP_RING_POSITION
#define FP_RING_POSITION fp_acquire
#endif
#ifndef FP_RING_TAKE
#define FP_RING_TAKE fp_release
#endif
#ifndef FP_RING_PEEK
#define FP_RING_PEEK fp_seq_cst
#endif

enum { FP_RING_VALUE_BITS = 26 };
#define FP_RING_VALUE_MASK ((UINT64_C(1) << FP_RING_VALUE_BITS) - 1)

typedef struct fp_ring {
    fp_atomic(uint64_t) *slots; /* cycle << FP_RING_VALUE_BITS | value ^ slot's index; zero-filled at creation */
    uint64_t mask;              /* capacity - 1 */
    unsigned order;             /* log2(capacity) */
    fp_aligned fp_atomic(uint64_t) enqueue_pos;
    fp_aligned fp_atomic(uint64_t) dequeue_pos;
} fp_ring;

/* What peek saw: the head's value, and the position by which take() claims just that item. */
typedef struct fp_ring_head {
    uint64_t position;
    uint32_t value;
} fp_ring_head;

/* An empty ring with slots for `1 << order` values. `slots` must be zero; the ring does not own it. */
void fp_ring_init_empty(fp_ring *ring, fp_atomic(uint64_t) *slots, unsigned order);

/* The same, holding `count` values: (1 << order) - count, and so on up to (1 << order) - 1. */
void fp_ring_init_full(fp_ring *ring, fp_atomic(uint64_t) *slots, unsigned order, uint64_t count);

/* Adds a value (at most FP_RING_VALUE_BITS bits). The caller keeps to the bound, so this cannot fail. */
void fp_ring_enqueue(fp_ring *ring, uint32_t value);

/* True and the head, without taking it; false when the ring was empty at one instant of the call. */
bool fp_ring_peek(fp_ring *ring, fp_ring_head *head);

/* Takes the item that peek saw. False when another consumer was first. */
bool fp_ring_take(fp_ring *ring, fp_ring_head head);

/* True while the item that peek saw has not been taken. */
bool fp_ring_is_head(fp_ring *ring, fp_ring_head head);

/* True when there are more than `count` items. seq_cst like peek, of which it is the general case: it misses no item whose
 * enqueuing comes before it in the one order of seq_cst, where fp_ring_size() may; items being taken it may count. */
bool fp_ring_holds_more(fp_ring *ring, uint64_t count);

/* Items in the ring: exact when nobody else is at work, else a value that was true near the call. */
uint64_t fp_ring_size(fp_ring *ring);

/* All items ever enqueued. */
uint64_t fp_ring_enqueued(fp_ring *ring);

#endif
