/* test_ring.c - the ring alone: nothing lost, nothing twice, order kept, and "empty" only when it is. */
#include "rings.h"

/* --- one thread, against a list ---------------------------------------------------------------------------------------- */

enum { LIST_MOST = 1 << 6 };

/* What the ring should hold. */
struct list {
    uint32_t values[LIST_MOST];
    uint64_t first, last; /* positions; as the ring's they only grow */
};

static void add(fp_ring *ring, struct list *list, uint32_t value)
{
    list->values[list->last++ % LIST_MOST] = value;
    fp_ring_enqueue(ring, value);
}

static void remove_and_compare(fp_ring *ring, struct list *list)
{
    uint32_t value;
    if (list->first == list->last) {
        CHECK(!ring_dequeue(ring, &value));
        return;
    }
    CHECK(ring_dequeue(ring, &value));
    CHECK_EQUAL(value, list->values[list->first++ % LIST_MOST]);
}

/* Values of all bits, and those whose xor with an index could be mistaken for something else. */
static uint32_t some_value(test_random *random)
{
    static const uint32_t special[] = {0, 1, 2, 3, FP_RING_VALUE_MASK, FP_RING_VALUE_MASK - 1, 1u << 25};
    uint32_t draw = test_random_below(random, 16);
    return draw < 7 ? special[draw] : test_random_below(random, 1u << FP_RING_VALUE_BITS);
}

static void behaves_as_a_list(unsigned order)
{
    fp_ring ring;
    struct list list = {.first = 0};
    test_random random = {order + 1};
    uint64_t capacity = UINT64_C(1) << order;
    ring_make_empty(&ring, order);
    for (int64_t i = test_rounds(200000); i > 0; i--) {
        if (list.last - list.first < capacity && test_random_below(&random, 2))
            add(&ring, &list, some_value(&random));
        else
            remove_and_compare(&ring, &list);
        CHECK_EQUAL(fp_ring_size(&ring), list.last - list.first);
        CHECK_EQUAL(fp_ring_enqueued(&ring), list.last);
    }
    CHECK(list.last > 100 * capacity); /* it went round many times */
    ring_free(&ring);
}

/* Only filled to the brim and emptied does each slot meet each edge of the cycle arithmetic. */
static void fills_and_empties(unsigned order)
{
    fp_ring ring;
    uint32_t capacity = 1u << order, value;
    ring_make_empty(&ring, order);
    for (uint32_t lap = 0; lap < 100; lap++) {
        for (uint32_t i = 0; i < capacity; i++)
            fp_ring_enqueue(&ring, lap * capacity + i);
        CHECK_EQUAL(fp_ring_size(&ring), capacity);
        for (uint32_t i = 0; i < capacity; i++) {
            CHECK(ring_dequeue(&ring, &value));
            CHECK_EQUAL(value, lap * capacity + i);
        }
        CHECK(!ring_dequeue(&ring, &value));
    }
    ring_free(&ring);
}

static void starts_full(unsigned order, uint32_t count)
{
    fp_ring ring;
    uint32_t capacity = 1u << order, value;
    ring_make_full(&ring, order, count);
    CHECK_EQUAL(fp_ring_size(&ring), count);
    for (uint32_t lap = 0; lap < 3; lap++) { /* the values of the start, and the same put in by hand */
        for (uint32_t i = capacity - count; i < capacity; i++) {
            CHECK(ring_dequeue(&ring, &value));
            CHECK_EQUAL(value, i);
        }
        CHECK(!ring_dequeue(&ring, &value));
        for (uint32_t i = capacity - count; i < capacity; i++)
            fp_ring_enqueue(&ring, i);
    }
    ring_free(&ring);
}

static void starts_full_with_any_count(void)
{
    for (unsigned order = 0; order <= 5; order++)
        for (uint32_t count = 0; count <= 1u << order; count++)
            starts_full(order, count);
}

/* --- peek and take --------------------------------------------------------------------------------------------------- */

static void peek_takes_nothing(void)
{
    fp_ring ring;
    fp_ring_head head, again;
    ring_make_empty(&ring, 1);
    CHECK(!fp_ring_peek(&ring, &head));
    fp_ring_enqueue(&ring, 7);
    fp_ring_enqueue(&ring, 8);
    CHECK(fp_ring_peek(&ring, &head) && fp_ring_peek(&ring, &again));
    CHECK(head.value == 7 && again.value == 7 && head.position == again.position);
    CHECK_EQUAL(fp_ring_size(&ring), 2);
    CHECK(fp_ring_take(&ring, head));
    CHECK(!fp_ring_take(&ring, again)); /* the same item, and it is gone */
    CHECK(fp_ring_peek(&ring, &head) && head.value == 8);
    ring_free(&ring);
}

/* A head from any number of laps ago takes nothing, though the same value stands in the same slot again. */
static void stale_head_takes_nothing(unsigned order)
{
    fp_ring ring;
    fp_ring_head stale;
    uint32_t capacity = 1u << order, value;
    ring_make_full(&ring, order, capacity);
    CHECK(fp_ring_peek(&ring, &stale));
    for (uint32_t lap = 1; lap <= 20; lap++) {
        for (uint32_t i = 0; i < capacity; i++) {
            CHECK(ring_dequeue(&ring, &value));
            CHECK(!fp_ring_take(&ring, stale));
            fp_ring_enqueue(&ring, value);
        }
        CHECK(!fp_ring_take(&ring, stale));
        CHECK_EQUAL(fp_ring_size(&ring), capacity);
    }
    ring_free(&ring);
}

/* --- many threads ---------------------------------------------------------------------------------------------------- */

enum { MOST_PRODUCERS = 4, MOST_ITEMS = 1 << 10 };

/* Two rings, as in fp_queue: items that are free, and items that are on their way. */
struct exchange {
    fp_ring free, ready;
    struct item {
        unsigned producer; /* plain: what the ring's orders publish; ThreadSanitizer looks */
        uint32_t sequence;
    } items[MOST_ITEMS];
    uint32_t items_each;
    unsigned producers;
    fp_atomic(uint32_t) left; /* not yet taken */
    fp_atomic(uint8_t) *seen[MOST_PRODUCERS];
};

static void produce(struct exchange *exchange, unsigned number)
{
    uint32_t index;
    for (uint32_t i = 0; i < exchange->items_each; i++) {
        while (!ring_dequeue(&exchange->free, &index))
            sched_yield();
        exchange->items[index] = (struct item){number, i};
        fp_ring_enqueue(&exchange->ready, index);
    }
}

static void consume(struct exchange *exchange)
{
    uint32_t index, next[MOST_PRODUCERS] = {0};
    while (fp_load(&exchange->left, fp_relaxed) != 0) {
        if (!ring_dequeue(&exchange->ready, &index)) {
            sched_yield();
            continue;
        }
        struct item item = exchange->items[index];
        fp_ring_enqueue(&exchange->free, index);
        CHECK(item.producer < exchange->producers && item.sequence >= next[item.producer]); /* in the producer's order */
        next[item.producer] = item.sequence + 1;
        CHECK(fp_exchange(&exchange->seen[item.producer][item.sequence], 1, fp_relaxed) == 0); /* nothing twice */
        fp_fetch_sub(&exchange->left, 1, fp_relaxed);
        watchdog_pat();
    }
}

static void produce_or_consume(void *arg, unsigned number)
{
    struct exchange *exchange = arg;
    if (number < exchange->producers)
        produce(exchange, number);
    else
        consume(exchange);
}

static void nothing_lost_nothing_twice(unsigned producers, unsigned consumers, unsigned order, int64_t items)
{
    static struct exchange exchange;
    threads threads;
    exchange.producers = producers;
    exchange.items_each = (uint32_t)test_rounds(items / producers);
    ring_make_empty(&exchange.ready, order);
    ring_make_full(&exchange.free, order, UINT64_C(1) << order);
    fp_store(&exchange.left, exchange.items_each * producers, fp_relaxed);
    for (unsigned p = 0; p < producers; p++)
        CHECK((exchange.seen[p] = calloc(exchange.items_each, 1)) != NULL);
    threads_start(&threads, producers + consumers, produce_or_consume, &exchange);
    threads_join(&threads);
    for (unsigned p = 0; p < producers; p++)
        free(exchange.seen[p]);
    CHECK_EQUAL(fp_ring_size(&exchange.ready), 0);
    CHECK_EQUAL(fp_ring_size(&exchange.free), UINT64_C(1) << order); /* and each index came back */
    CHECK_EQUAL(fp_ring_enqueued(&exchange.ready), exchange.items_each * producers);
    ring_free(&exchange.ready);
    ring_free(&exchange.free);
}

static void exchange_among(unsigned producers, unsigned consumers)
{
    for (unsigned order = 0; order <= 2; order++) /* a lap each 1, 2 or 4 items */
        nothing_lost_nothing_twice(producers, consumers, order, 30000);
    nothing_lost_nothing_twice(producers, consumers, 10, 300000);
}

/* --- "empty" ----------------------------------------------------------------------------------------------------------- */

struct always_one {
    fp_ring ring;
    int64_t rounds;
};

/* As many threads as places, and each puts one in before it takes one out: whenever one looks, there is something. */
static void put_in_then_take_out(void *arg, unsigned number)
{
    struct always_one *all = arg;
    uint32_t value = number;
    for (int64_t i = 0; i < all->rounds; i++) {
        fp_ring_enqueue(&all->ring, value);
        CHECK(ring_dequeue(&all->ring, &value));
        watchdog_pat();
    }
}

static void never_empty_by_mistake(unsigned order)
{
    struct always_one all = {.rounds = test_rounds(100000) >> order};
    threads threads;
    ring_make_empty(&all.ring, order);
    threads_start(&threads, 1u << order, put_in_then_take_out, &all);
    threads_join(&threads);
    CHECK_EQUAL(fp_ring_size(&all.ring), 0);
    ring_free(&all.ring);
}

/* --- counts while others are at work ----------------------------------------------------------------------------------- */

struct counted_ring {
    fp_ring ring;
    int64_t rounds;
    fp_atomic(uint64_t) begun, done, taking, taken; /* enqueues and dequeues */
    fp_atomic(bool) over;
};

static void enqueue_and_dequeue(struct counted_ring *all)
{
    uint32_t value = 1;
    for (int64_t i = 0; i < all->rounds; i++) {
        fp_fetch_add(&all->begun, 1, fp_seq_cst);
        fp_ring_enqueue(&all->ring, value);
        fp_fetch_add(&all->done, 1, fp_seq_cst);
        fp_fetch_add(&all->taking, 1, fp_seq_cst);
        CHECK(ring_dequeue(&all->ring, &value));
        fp_fetch_add(&all->taken, 1, fp_seq_cst);
        watchdog_pat();
    }
    fp_store(&all->over, true, fp_seq_cst);
}

/* A count lies between what had surely happened before the call and what may have happened when it returned. */
static void watch_counts(struct counted_ring *all)
{
    while (!fp_load(&all->over, fp_seq_cst)) {
        uint64_t done = fp_load(&all->done, fp_seq_cst), taken = fp_load(&all->taken, fp_seq_cst);
        uint64_t enqueued = fp_ring_enqueued(&all->ring), size = fp_ring_size(&all->ring);
        uint64_t taking = fp_load(&all->taking, fp_seq_cst), begun = fp_load(&all->begun, fp_seq_cst);
        CHECK(done <= enqueued && enqueued <= begun);
        CHECK(size <= begun - taken && (done <= taking || size >= done - taking));
    }
}

static void work_or_watch(void *arg, unsigned number)
{
    if (number == 0)
        watch_counts(arg);
    else
        enqueue_and_dequeue(arg);
}

static void counts_hold_meanwhile(void)
{
    static struct counted_ring all;
    threads threads;
    all.rounds = test_rounds(80000);
    ring_make_empty(&all.ring, 2);
    threads_start(&threads, 4, work_or_watch, &all);
    threads_join(&threads);
    CHECK_EQUAL(fp_ring_enqueued(&all.ring), 3 * (uint64_t)all.rounds);
    ring_free(&all.ring);
}

int main(void)
{
    watchdog_start(NULL);
    PROPERTY("ring: behaves as a list, sizes 1 to 64", for (unsigned o = 0; o <= 6; o++) behaves_as_a_list(o));
    PROPERTY("ring: fills and empties, lap after lap", for (unsigned o = 0; o <= 10; o++) fills_and_empties(o));
    PROPERTY("ring: starts full with exactly the values it promises", starts_full_with_any_count());
    PROPERTY("ring: peek takes nothing, take takes once", peek_takes_nothing());
    PROPERTY("ring: a stale head takes nothing", for (unsigned o = 0; o <= 3; o++) stale_head_takes_nothing(o));
    PROPERTY("ring: nothing lost, nothing twice, each producer's order (1 producer, 1 consumer)", exchange_among(1, 1));
    PROPERTY("ring: nothing lost, nothing twice, each producer's order (2 and 2)", exchange_among(2, 2));
    PROPERTY("ring: nothing lost, nothing twice, each producer's order (4 and 4)", exchange_among(4, 4));
    PROPERTY("ring: never empty by mistake, 1 to 8 threads", for (unsigned o = 0; o <= 3; o++) never_empty_by_mistake(o));
    PROPERTY("ring: counts hold while others are at work", counts_hold_meanwhile());
    return 0;
}
