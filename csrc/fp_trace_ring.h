/* fp_trace_ring - the latest events of one thread: written by it alone, and read by another at any time.
 *
 * Journey: worker -> [TRACE]. Event i lies in slot i % capacity, so a full ring keeps the latest `capacity`. The writer never
 * waits: a reader may find that the event it has just read was being overwritten, and leaves it out.
 *
 * Writing    P1 begun = i + 1   P2 the words of the slot   P3 written = i + 1
 * Reading    G1 written: events below it are there   G2 the words   G3 begun: above i + capacity, and P2 of a later event
 *            has reached the slot perhaps
 *
 * Order pairs  P3 -> G1 (FP_TRACE_WRITTEN, release -> acquire): the words, to who learns that they are there.
 *              P2 -> G2 (FP_TRACE_WORD, release; FP_TRACE_LOOK, acquire): who reads a word of a later event has seen that
 *              event's P1, so G3 finds it out. A sequence lock without fences, for a fence ThreadSanitizer does not see.
 *              tests/c/relacy/trace.cpp has a mutant for each.
 */
#ifndef FP_TRACE_RING_H
#define FP_TRACE_RING_H

#include "fp_atomic.h"

#ifndef FP_TRACE_WRITTEN
#define FP_TRACE_WRITTEN fp_release
#endif
#ifndef FP_TRACE_END
#define FP_TRACE_END fp_acquire
#endif
#ifndef FP_TRACE_WORD
#define FP_TRACE_WORD fp_release
#endif
#ifndef FP_TRACE_LOOK
#define FP_TRACE_LOOK fp_acquire
#endif

/* So many jobs of this name, one after the other. */
typedef struct fp_trace_event {
    const char *name; /* never freed */
    uint64_t start_ticks, end_ticks;
    int64_t jobs;
    uint32_t depth;  /* of the queue, when they had ended */
    uint32_t thread; /* in a ring that several threads write, one after the other: which it was; else 0 */
} fp_trace_event;

enum { FP_TRACE_WORDS = 5 };

typedef struct fp_trace_slot {
    fp_atomic(uint64_t) words[FP_TRACE_WORDS];
} fp_trace_slot;

typedef struct fp_trace_ring {
    uint64_t capacity;
    fp_trace_slot *slots;
    fp_atomic(uint64_t) begun, written; /* events, since the beginning */
} fp_trace_ring;

/* By the owner alone. */
static inline void fp_trace_put(fp_trace_ring *ring, const fp_trace_event *event)
{
    uint64_t words[FP_TRACE_WORDS] = {(uint64_t)(uintptr_t)event->name, event->start_ticks, event->end_ticks,
                                      (uint64_t)event->jobs, (uint64_t)event->thread << 32 | event->depth};
    uint64_t i = fp_load(&ring->written, fp_relaxed);
    fp_trace_slot *slot = &ring->slots[i % ring->capacity];
    fp_store(&ring->begun, i + 1, fp_relaxed); /* P1 */
    for (int k = 0; k < FP_TRACE_WORDS; k++)
        fp_store(&slot->words[k], words[k], FP_TRACE_WORD); /* P2 */
    fp_store(&ring->written, i + 1, FP_TRACE_WRITTEN); /* P3 */
}

/* G1: events [0, this) have been written. */
static inline uint64_t fp_trace_end(fp_trace_ring *ring)
{
    return fp_load(&ring->written, FP_TRACE_END);
}

/* Event i, below an fp_trace_end(). False: it has been overwritten. */
static inline bool fp_trace_get(fp_trace_ring *ring, uint64_t i, fp_trace_event *event)
{
    uint64_t words[FP_TRACE_WORDS];
    fp_trace_slot *slot = &ring->slots[i % ring->capacity];
    for (int k = 0; k < FP_TRACE_WORDS; k++)
        words[k] = fp_load(&slot->words[k], FP_TRACE_LOOK); /* G2 */
    if (fp_load(&ring->begun, fp_relaxed) > i + ring->capacity) /* G3 */
        return false;
    event->name = (const char *)(uintptr_t)words[0];
    event->start_ticks = words[1];
    event->end_ticks = words[2];
    event->jobs = (int64_t)words[3];
    event->depth = (uint32_t)words[4];
    event->thread = (uint32_t)(words[4] >> 32);
    return true;
}

#endif
