/* ring.c - what the queue costs alone: one thread, one producer and one consumer, two of each. With a peer in the same run.
 *
 * The peer is the shape that most bounded rings have, after D. Vyukov: a sequence number in each slot. It is cheaper, and not
 * lock-free: a producer that stalls between claiming a slot and publishing it holds up all others (tests/c/test_freeze.c).
 */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "fp_backoff.h"
#include "fp_os.h"
#include "fp_queue.h"

enum { CAPACITY = 1024, ROUNDS = 9 };
static int64_t items = 2000000;

/* ---- the two queues behind one face ---- */

typedef struct vyukov_slot {
    fp_atomic(uint64_t) sequence;
    void *value;
} vyukov_slot;

static struct {
    vyukov_slot slots[CAPACITY];
    fp_aligned fp_atomic(uint64_t) enqueue_pos;
    fp_aligned fp_atomic(uint64_t) dequeue_pos;
} vyukov;

static void vyukov_reset(void)
{
    for (uint64_t i = 0; i < CAPACITY; i++)
        fp_store(&vyukov.slots[i].sequence, i, fp_relaxed);
    fp_store(&vyukov.enqueue_pos, UINT64_C(0), fp_relaxed);
    fp_store(&vyukov.dequeue_pos, UINT64_C(0), fp_relaxed);
}

static bool vyukov_push(void *value)
{
    uint64_t position = fp_load(&vyukov.enqueue_pos, fp_relaxed);
    for (;;) {
        vyukov_slot *slot = &vyukov.slots[position % CAPACITY];
        int64_t ahead = (int64_t)(fp_load(&slot->sequence, fp_acquire) - position);
        if (ahead < 0)
            return false;
        if (ahead > 0) {
            position = fp_load(&vyukov.enqueue_pos, fp_relaxed);
        } else if (fp_cas(&vyukov.enqueue_pos, &position, position + 1, fp_relaxed, fp_relaxed)) {
            slot->value = value;
            fp_store(&slot->sequence, position + 1, fp_release);
            return true;
        }
    }
}

static bool vyukov_pop(void **value)
{
    uint64_t position = fp_load(&vyukov.dequeue_pos, fp_relaxed);
    for (;;) {
        vyukov_slot *slot = &vyukov.slots[position % CAPACITY];
        int64_t ahead = (int64_t)(fp_load(&slot->sequence, fp_acquire) - (position + 1));
        if (ahead < 0)
            return false;
        if (ahead > 0) {
            position = fp_load(&vyukov.dequeue_pos, fp_relaxed);
        } else if (fp_cas(&vyukov.dequeue_pos, &position, position + 1, fp_relaxed, fp_relaxed)) {
            *value = slot->value;
            fp_store(&slot->sequence, position + CAPACITY, fp_release);
            return true;
        }
    }
}

static fp_queue queue;

static void queue_reset(void)
{
    if (queue.records != NULL)
        fp_queue_destroy(&queue);
    if (!fp_queue_init(&queue, CAPACITY, 1))
        abort();
}

static bool queue_push(void *value)
{
    return fp_queue_try_push(&queue, NULL, value, 0, FP_LANE_NORMAL, 0);
}

static bool queue_pop(void **value)
{
    fp_queue_head head;
    fp_started job;
    do
        if (!fp_queue_peek(&queue, FP_LANE_HIGH, &head))
            return false;
    while (!fp_queue_take(&queue, head, &job));
    *value = job.ctx;
    return true;
}

/* One ring of the two: what is left when records need no fields and no free list. */
static fp_ring ring;
static fp_atomic(uint64_t) * ring_slots;

static void ring_reset(void)
{
    free(ring_slots);
    ring_slots = calloc(CAPACITY, sizeof *ring_slots);
    if (ring_slots == NULL)
        abort();
    fp_ring_init_empty(&ring, ring_slots, 10);
}

static bool ring_push(void *value)
{
    if (fp_ring_size(&ring) >= CAPACITY - 8) /* a ring by itself relies on its user for the bound */
        return false;
    fp_ring_enqueue(&ring, (uint32_t)(uintptr_t)value & FP_RING_VALUE_MASK);
    return true;
}

static bool ring_pop(void **value)
{
    fp_ring_head head;
    do
        if (!fp_ring_peek(&ring, &head))
            return false;
    while (!fp_ring_take(&ring, head));
    *value = (void *)(uintptr_t)head.value;
    return true;
}

typedef struct subject {
    const char *name;
    void (*reset)(void);
    bool (*push)(void *value);
    bool (*pop)(void **value);
} subject;

static const subject subjects[] = {
    {"fastpool's queue (two rings, a record)", queue_reset, queue_push, queue_pop},
    {"fastpool's ring by itself", ring_reset, ring_push, ring_pop},
    {"Vyukov's ring, not lock-free", vyukov_reset, vyukov_push, vyukov_pop},
};

/* ---- measuring ---- */

static int threads_a_side;
static const subject *measured;
static pthread_barrier_t start;
static fp_atomic(uint64_t) checksum;

static void *produce(void *unused)
{
    (void)unused;
    unsigned round = 0;
    pthread_barrier_wait(&start);
    for (int64_t i = 1; i <= items / threads_a_side; i++) {
        while (!measured->push((void *)(uintptr_t)(i & 1023)))
            fp_backoff(&round);
        round = 0;
    }
    return NULL;
}

static void *consume(void *unused)
{
    (void)unused;
    unsigned round = 0;
    uint64_t sum = 0;
    pthread_barrier_wait(&start);
    for (int64_t i = 1; i <= items / threads_a_side; i++) {
        void *value;
        while (!measured->pop(&value))
            fp_backoff(&round);
        round = 0;
        sum += (uintptr_t)value;
    }
    fp_fetch_add(&checksum, sum, fp_relaxed);
    return NULL;
}

static uint64_t expected_sum(void)
{
    uint64_t sum = 0;
    for (int64_t i = 1; i <= items / threads_a_side; i++)
        sum += (uint64_t)(i & 1023);
    return sum * (uint64_t)threads_a_side;
}

static void check_sum(void)
{
    if (fp_exchange(&checksum, UINT64_C(0), fp_relaxed) != expected_sum()) {
        fprintf(stderr, "%s: items were lost or doubled\n", measured->name);
        exit(1);
    }
}

static double side_by_side(void)
{
    pthread_t threads[8];
    pthread_barrier_init(&start, NULL, 2 * (unsigned)threads_a_side + 1);
    for (int i = 0; i < threads_a_side; i++) {
        if (pthread_create(&threads[2 * i], NULL, produce, NULL) != 0 || pthread_create(&threads[2 * i + 1], NULL, consume, NULL) != 0)
            abort();
    }
    pthread_barrier_wait(&start);
    int64_t begin = fp_os_now_ns();
    for (int i = 0; i < 2 * threads_a_side; i++)
        pthread_join(threads[i], NULL);
    double elapsed = (double)(fp_os_now_ns() - begin);
    pthread_barrier_destroy(&start);
    check_sum();
    return elapsed / (double)items;
}

static double alone(void)
{
    uint64_t sum = 0;
    int64_t begin = fp_os_now_ns();
    for (int64_t i = 1; i <= items; i++) {
        void *value = NULL;
        if (!measured->push((void *)(uintptr_t)(i & 1023)) || !measured->pop(&value))
            abort();
        sum += (uintptr_t)value;
    }
    double elapsed = (double)(fp_os_now_ns() - begin);
    fp_fetch_add(&checksum, sum, fp_relaxed);
    threads_a_side = 1;
    check_sum();
    return elapsed / (double)items;
}

static double measure(int threads)
{
    measured->reset();
    threads_a_side = threads;
    return threads == 0 ? alone() : side_by_side();
}

static int ascending(const void *left, const void *right)
{
    double l = *(const double *)left, r = *(const double *)right;
    return (l > r) - (l < r);
}

/* The subjects take turns, so that a slow second of the machine falls on all of them. The median: threads that happen to
 * share a CPU for a while never meet in the ring, and look faster than they are. */
static void section(const char *title, int threads)
{
    enum { SUBJECTS = sizeof subjects / sizeof *subjects };
    double ns[SUBJECTS][ROUNDS];
    for (int round = 0; round < ROUNDS; round++)
        for (int s = 0; s < SUBJECTS; s++) {
            measured = &subjects[s];
            ns[s][round] = measure(threads);
        }
    printf("%s\n", title);
    for (int s = 0; s < SUBJECTS; s++)
        qsort(ns[s], ROUNDS, sizeof *ns[s], ascending);
    for (int s = 0; s < SUBJECTS; s++)
        printf("  %-40s %7.1f ns an item   %5.2f times the last\n", subjects[s].name, ns[s][ROUNDS / 2],
               ns[s][ROUNDS / 2] / ns[SUBJECTS - 1][ROUNDS / 2]);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        items = atoll(argv[1]);
    printf("%lld items, capacity %d, median of %d\n", (long long)items, CAPACITY, ROUNDS);
    section("one thread, push and pop", 0);
    section("1 producer, 1 consumer", 1);
    section("2 producers, 2 consumers", 2);
    return 0;
}
