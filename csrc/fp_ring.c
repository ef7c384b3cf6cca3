/* fp_ring.c - the steps E1-E4 and D1-D3 of fp_ring.h. */
#include "fp_ring.h"

static uint64_t cycle_of_position(const fp_ring *ring, uint64_t position)
{
    return (position >> ring->order) & (UINT64_MAX >> FP_RING_VALUE_BITS);
}

static uint64_t cycle_of_slot(uint64_t slot)
{
    return slot >> FP_RING_VALUE_BITS;
}

static void init(fp_ring *ring, fp_atomic(uint64_t) *slots, unsigned order, uint64_t dequeue_pos)
{
    ring->slots = slots;
    ring->order = order;
    ring->mask = (UINT64_C(1) << order) - 1;
    fp_store(&ring->enqueue_pos, UINT64_C(1) << order, fp_relaxed);
    fp_store(&ring->dequeue_pos, dequeue_pos, fp_relaxed);
}

void fp_ring_init_empty(fp_ring *ring, fp_atomic(uint64_t) *slots, unsigned order)
{
    init(ring, slots, order, UINT64_C(1) << order); /* in cycle 1, where a zero slot is one cycle old: empty */
}

void fp_ring_init_full(fp_ring *ring, fp_atomic(uint64_t) *slots, unsigned order, uint64_t count)
{
    init(ring, slots, order, (UINT64_C(1) << order) - count); /* in cycle 0, where a zero slot is filled */
}

static void advance(fp_atomic(uint64_t) *position, uint64_t from)
{
    uint64_t expected = from;
    fp_cas(position, &expected, from + 1, FP_RING_ADVANCE, fp_relaxed);
}

void fp_ring_enqueue(fp_ring *ring, uint32_t value)
{
    for (;;) {
        fp_step("E1");
        uint64_t position = fp_load(&ring->enqueue_pos, FP_RING_POSITION);
        uint64_t cycle = cycle_of_position(ring, position);
        fp_atomic(uint64_t) *slot = &ring->slots[position & ring->mask];
        uint64_t seen = fp_load(slot, fp_relaxed);
        if (cycle_of_slot(seen) == cycle) { /* E2: filled, but the position was left behind */
            fp_step("E2");
            advance(&ring->enqueue_pos, position);
            continue;
        }
        uint64_t filled = cycle << FP_RING_VALUE_BITS | (value ^ (position & ring->mask));
        fp_step("E3");
        /* A slot that is not exactly one cycle old means that `position` is stale; the CAS of a stale thread must not
         * be tried, since the slot may by now be in a later cycle. */
        if (((cycle_of_slot(seen) + 1) << FP_RING_VALUE_BITS) != (cycle << FP_RING_VALUE_BITS) ||
            !fp_cas(slot, &seen, filled, FP_RING_PUBLISH, fp_relaxed))
            continue;
        fp_step("E4");
        advance(&ring->enqueue_pos, position);
        return;
    }
}

bool fp_ring_peek(fp_ring *ring, fp_ring_head *head)
{
    for (;;) {
        fp_step("D1");
        uint64_t position = fp_load(&ring->dequeue_pos, FP_RING_POSITION);
        uint64_t cycle = cycle_of_position(ring, position);
        fp_step("D2");
        uint64_t seen = fp_load(&ring->slots[position & ring->mask], FP_RING_PEEK);
        if (cycle_of_slot(seen) == cycle) {
            head->position = position;
            head->value = (uint32_t)((seen ^ (position & ring->mask)) & FP_RING_VALUE_MASK);
            return true;
        }
        if (((cycle_of_slot(seen) + 1) << FP_RING_VALUE_BITS) == (cycle << FP_RING_VALUE_BITS))
            return false;
        /* A newer cycle: `position` is stale, for others have gone a whole lap ahead. */
    }
}

bool fp_ring_take(fp_ring *ring, fp_ring_head head)
{
    fp_step("D3");
    uint64_t expected = head.position;
    return fp_cas(&ring->dequeue_pos, &expected, head.position + 1, FP_RING_TAKE, fp_relaxed);
}

bool fp_ring_is_head(fp_ring *ring, fp_ring_head head)
{
    return fp_load(&ring->dequeue_pos, FP_RING_POSITION) == head.position;
}

bool fp_ring_holds_more(fp_ring *ring, uint64_t count)
{
    uint64_t position = fp_load(&ring->dequeue_pos, FP_RING_POSITION) + count;
    if (count > ring->mask)
        return false;
    /* Slots are filled in order, so the last of them tells. One in a newer cycle: `position` is stale, for it was taken. */
    uint64_t seen = fp_load(&ring->slots[position & ring->mask], FP_RING_PEEK);
    return ((cycle_of_slot(seen) + 1) << FP_RING_VALUE_BITS) != (cycle_of_position(ring, position) << FP_RING_VALUE_BITS);
}

uint64_t fp_ring_size(fp_ring *ring)
{
    /* dequeue_pos first, and still enqueue_pos may lag behind it by an item that is taken already. */
    uint64_t first = fp_load(&ring->dequeue_pos, fp_acquire);
    uint64_t last = fp_load(&ring->enqueue_pos, fp_acquire);
    return last > first ? last - first : 0;
}

uint64_t fp_ring_enqueued(fp_ring *ring)
{
    /* A taken item was enqueued, even where enqueue_pos still lags behind it. */
    uint64_t taken = fp_load(&ring->dequeue_pos, fp_acquire);
    uint64_t added = fp_load(&ring->enqueue_pos, fp_acquire);
    return (added > taken ? added : taken) - (UINT64_C(1) << ring->order);
}
