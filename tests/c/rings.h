/* rings.h - a ring in memory of its own, for the tests that have a ring and nothing round it. */
#ifndef FP_TEST_RINGS_H
#define FP_TEST_RINGS_H

#include "fp_ring.h"
#include "threads.h"

static fp_atomic(uint64_t) *ring_slots(unsigned order)
{
    fp_atomic(uint64_t) *slots = calloc((size_t)1 << order, sizeof *slots);
    CHECK(slots != NULL);
    return slots;
}

__attribute__((unused)) static void ring_make_empty(fp_ring *ring, unsigned order)
{
    fp_ring_init_empty(ring, ring_slots(order), order);
}

__attribute__((unused)) static void ring_make_full(fp_ring *ring, unsigned order, uint64_t count)
{
    fp_ring_init_full(ring, ring_slots(order), order, count);
}

__attribute__((unused)) static void ring_free(fp_ring *ring)
{
    free(ring->slots);
}

/* Peek and take until one of them settles it. False when the ring was empty. */
__attribute__((unused)) static bool ring_dequeue(fp_ring *ring, uint32_t *value)
{
    fp_ring_head head;
    do
        if (!fp_ring_peek(ring, &head))
            return false;
    while (!fp_ring_take(ring, head));
    *value = head.value;
    return true;
}

#endif
