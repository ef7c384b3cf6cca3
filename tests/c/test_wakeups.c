/* test_wakeups.c - the eventcount on the real system: under load no wake-up is lost.
 *
 * The data is a number of items. Waiters take an item or sleep; notifiers add one and notify. A lost wake-up leaves an item
 * lying beside a sleeper, everything comes to rest, and the watchdog ends the test.
 */
#include "fp_eventcount.h"
#include "threads.h"

struct stock {
    fp_eventcount ec;
    fp_atomic(int64_t) items;
    fp_atomic(int64_t) left; /* to be taken before all may go home */
    int64_t adds_each;
    unsigned notifiers;
    int64_t patience_ns; /* how long a waiter sleeps before it looks by itself; 0: until it is woken */
    uint32_t all_every;  /* each so many notifications is a notify_all; 0: none */
};

static struct stock *watched;

static void dump_stock(void)
{
    if (watched != NULL)
        fprintf(stderr, "      items %lld, left %lld, epoch %u, tokens %u\n",
                (long long)fp_load(&watched->items, fp_relaxed), (long long)fp_load(&watched->left, fp_relaxed),
                fp_load(&watched->ec.epoch, fp_relaxed), fp_load(&watched->ec.tokens, fp_relaxed));
}

static bool take_item(struct stock *stock)
{
    int64_t items = fp_load(&stock->items, fp_seq_cst);
    while (items > 0)
        if (fp_cas(&stock->items, &items, items - 1, fp_seq_cst, fp_seq_cst))
            return true;
    return false;
}

/* The waiter's recipe. False when all items have been taken. */
static bool take_or_sleep(struct stock *stock, test_random *random)
{
    while (!take_item(stock)) {
        uint32_t key = fp_eventcount_prepare(&stock->ec);
        if (fp_load(&stock->left, fp_seq_cst) == 0)
            return false;
        if (take_item(stock))
            return true; /* and leaves its token behind */
        int64_t deadline_ns = FP_FOREVER;
        if (stock->patience_ns != 0)
            deadline_ns = fp_os_now_ns() + test_random_below(random, (uint32_t)stock->patience_ns);
        fp_eventcount_wait(&stock->ec, key, deadline_ns);
    }
    return true;
}

static void take_until_none_is_left(struct stock *stock, unsigned number)
{
    test_random random = {number + 1};
    while (take_or_sleep(stock, &random)) {
        watchdog_pat();
        if (fp_fetch_sub(&stock->left, 1, fp_seq_cst) == 1)
            fp_eventcount_notify_all(&stock->ec);
    }
}

static void add_and_notify(struct stock *stock, unsigned number)
{
    test_random random = {number + 100};
    for (int64_t i = 0; i < stock->adds_each; i++) {
        fp_fetch_add(&stock->items, 1, fp_seq_cst);
        if (stock->all_every != 0 && test_random_below(&random, stock->all_every) == 0)
            fp_eventcount_notify_all(&stock->ec);
        else
            fp_eventcount_notify_one(&stock->ec);
        if (test_random_below(&random, 4) == 0) /* let the waiters run dry now and then */
            sched_yield();
    }
}

static void add_or_take(void *arg, unsigned number)
{
    struct stock *stock = arg;
    if (number < stock->notifiers)
        add_and_notify(stock, number);
    else
        take_until_none_is_left(stock, number);
}

static void every_item_is_taken(unsigned notifiers, unsigned waiters, int64_t patience_ns, uint32_t all_every)
{
    struct stock stock = {
        .notifiers = notifiers, .patience_ns = patience_ns, .all_every = all_every, .adds_each = test_rounds(15000) / notifiers + 1};
    threads threads;
    fp_eventcount_init(&stock.ec);
    fp_store(&stock.left, stock.adds_each * notifiers, fp_seq_cst);
    watched = &stock;
    threads_start(&threads, notifiers + waiters, add_or_take, &stock);
    threads_join(&threads);
    watched = NULL;
    CHECK_EQUAL(fp_load(&stock.items, fp_seq_cst), 0);
}

static void many_against_many(int64_t patience_ns, uint32_t all_every)
{
    static const unsigned counts[][2] = {{1, 1}, {1, 4}, {4, 1}, {3, 3}, {2, 12}};
    for (int i = 0; i < 5; i++)
        every_item_is_taken(counts[i][0], counts[i][1], patience_ns, all_every);
}

/* --- exactly as many notifications as sleepers ------------------------------------------------------------------------------ */

/* In each round each waiter takes one item and no more, so that no waiter's liveliness can make up for another's lost
 * wake-up: every single notify_one has to reach somebody. */
struct shifts {
    struct stock stock;
    int64_t rounds;
    unsigned waiters;
    pthread_barrier_t begin, end;
};

static void take_one_a_round(void *arg, unsigned number)
{
    struct shifts *shifts = arg;
    test_random random = {number + 1};
    for (int64_t i = 0; i < shifts->rounds; i++) {
        pthread_barrier_wait(&shifts->begin);
        CHECK(take_or_sleep(&shifts->stock, &random));
        watchdog_pat();
        pthread_barrier_wait(&shifts->end);
    }
}

static void each_notification_counts(unsigned waiters)
{
    static struct shifts shifts;
    threads threads;
    shifts = (struct shifts){.rounds = test_rounds(1000), .waiters = waiters, .stock.left = 1};
    fp_eventcount_init(&shifts.stock.ec);
    watched = &shifts.stock;
    pthread_barrier_init(&shifts.begin, NULL, waiters + 1);
    pthread_barrier_init(&shifts.end, NULL, waiters + 1);
    threads_start(&threads, waiters, take_one_a_round, &shifts);
    for (int64_t i = 0; i < shifts.rounds; i++) {
        pthread_barrier_wait(&shifts.begin);
        for (unsigned w = 0; w < waiters; w++) {
            if (i % 2) /* in every other round only once somebody has announced a wait */
                while (fp_load(&shifts.stock.ec.tokens, fp_seq_cst) == 0 && fp_load(&shifts.stock.items, fp_seq_cst) == 0)
                    sched_yield();
            fp_fetch_add(&shifts.stock.items, 1, fp_seq_cst);
            fp_eventcount_notify_one(&shifts.stock.ec);
        }
        pthread_barrier_wait(&shifts.end);
    }
    threads_join(&threads);
    watched = NULL;
    pthread_barrier_destroy(&shifts.begin);
    pthread_barrier_destroy(&shifts.end);
}

int main(void)
{
    watchdog_start(dump_stock);
    PROPERTY("wake-ups: none is lost, waiters that sleep until woken", many_against_many(0, 0));
    PROPERTY("wake-ups: none is lost beside notify_all", many_against_many(0, 5));
    PROPERTY("wake-ups: none is lost beside waiters that give up and come again", many_against_many(30000, 0));
    PROPERTY("wake-ups: each notification reaches somebody", for (unsigned w = 1; w <= 9; w += 2) each_notification_counts(w));
    return 0;
}
