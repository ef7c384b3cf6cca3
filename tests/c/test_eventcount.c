/* test_eventcount.c - the eventcount step by step, on an operating system that is played here: nothing sleeps.
 *
 * fp_os_wait and fp_os_wake below take the place of the real ones. They note each call, and a test may have something
 * happen at the very moment of a call, which is how the races of the proof in fp_eventcount.h come about for certain.
 */
#include <limits.h>
#include <string.h>

#include "check.h"
#include "fp_eventcount.h"

/* --- the operating system that is played --------------------------------------------------------------------------------- */

static struct {
    int wakes, last_count; /* calls of fp_os_wake */
    int waits, slept;      /* calls of fp_os_wait, and those that found the word unchanged */
    int asleep;            /* how many threads fp_os_wake may find */
    fp_wait_result sleep_ends_with;
    void (*before_compare)(void); /* in fp_os_wait, once */
} os;

static fp_eventcount ec;

fp_wait_result fp_os_wait(fp_atomic(uint32_t) *word, uint32_t expected, int64_t deadline_ns)
{
    void (*before_compare)(void) = os.before_compare;
    CHECK(word == &ec.epoch && deadline_ns == 12345);
    os.waits++;
    os.before_compare = NULL;
    if (before_compare != NULL)
        before_compare();
    if (fp_load(word, fp_seq_cst) != expected)
        return FP_WAIT_WOKEN;
    os.slept++;
    return os.sleep_ends_with;
}

int fp_os_wake(fp_atomic(uint32_t) *word, int count)
{
    CHECK(word == &ec.epoch && count >= 1);
    os.wakes++;
    os.last_count = count;
    int woken = os.asleep < count ? os.asleep : count;
    os.asleep -= woken;
    return woken;
}

static void begin(void)
{
    fp_eventcount_init(&ec);
    memset(&os, 0, sizeof os);
    os.sleep_ends_with = FP_WAIT_TIMED_OUT;
}

/* A thread prepares, finds nothing and goes to sleep: from then on the system may find it. */
static void fall_asleep(void)
{
    fp_eventcount_prepare(&ec);
    os.asleep++;
}

/* --- the notifier -------------------------------------------------------------------------------------------------------- */

static void nobody_to_wake(void)
{
    begin();
    uint32_t epoch = fp_load(&ec.epoch, fp_relaxed);
    CHECK(!fp_eventcount_notify_one(&ec));
    fp_eventcount_notify_all(&ec);
    CHECK_EQUAL(os.wakes, 0);
    CHECK_EQUAL(fp_load(&ec.epoch, fp_relaxed), epoch); /* only read: nobody's cache line was taken away */
}

static void a_burst_makes_one_call(void)
{
    begin();
    fall_asleep();
    CHECK(fp_eventcount_notify_one(&ec));
    for (int i = 0; i < 100; i++) /* the sleeper has not come round yet */
        CHECK(!fp_eventcount_notify_one(&ec));
    CHECK_EQUAL(os.wakes, 1);
    CHECK_EQUAL(os.last_count, 1);
}

static void each_call_wakes_one(void)
{
    enum { MANY = 50 };
    begin();
    for (int i = 0; i < MANY; i++)
        fall_asleep();
    for (int left = MANY; left > 0; left--) {
        CHECK_EQUAL(os.asleep, left);
        CHECK(fp_eventcount_notify_one(&ec));
    }
    CHECK_EQUAL(os.asleep, 0);
    CHECK(!fp_eventcount_notify_one(&ec));
}

static void all_are_woken_with_one_call(void)
{
    begin();
    for (int i = 0; i < 50; i++)
        fall_asleep();
    fp_eventcount_notify_all(&ec);
    CHECK(os.asleep == 0 && os.wakes == 1 && os.last_count == INT_MAX);
    fp_eventcount_notify_all(&ec);
    CHECK_EQUAL(os.wakes, 1);
}

/* --- the waiter, and notifications at the worst moments -------------------------------------------------------------------- */

static fp_wait_result wait_for(uint32_t key)
{
    return fp_eventcount_wait(&ec, key, 12345);
}

static void notify_one(void)
{
    fp_eventcount_notify_one(&ec);
}

static void notify_all(void)
{
    fp_eventcount_notify_all(&ec);
}

/* Prepared, and not yet asleep: no wake can find the thread, but the epoch tells it. */
static void notified_before_it_sleeps(void (*notify)(void))
{
    begin();
    uint32_t key = fp_eventcount_prepare(&ec);
    notify();
    CHECK(wait_for(key) == FP_WAIT_WOKEN);
    key = fp_eventcount_prepare(&ec);
    os.before_compare = notify; /* inside the system call */
    CHECK(wait_for(key) == FP_WAIT_WOKEN);
    CHECK(os.waits == 2 && os.slept == 0);
}

static void sleeps_when_not_notified(void)
{
    begin();
    uint32_t key = fp_eventcount_prepare(&ec);
    CHECK(wait_for(key) == FP_WAIT_TIMED_OUT);
    os.sleep_ends_with = FP_WAIT_INTERRUPTED;
    key = fp_eventcount_prepare(&ec);
    CHECK(wait_for(key) == FP_WAIT_INTERRUPTED);
    CHECK_EQUAL(os.slept, 2);
    notify_one(); /* a notification from before the next prepare is not seen by it: the data is, W3 */
    key = fp_eventcount_prepare(&ec);
    CHECK(wait_for(key) == FP_WAIT_INTERRUPTED);
}

/* --- tokens left behind ---------------------------------------------------------------------------------------------------- */

/* Those who prepared and found something to do, or whose wait timed out, leave tokens. They may cost calls; what they must
 * not do is keep a notifier from a thread that sleeps. */
static void tokens_left_behind_hide_nobody(int left_behind, int sleepers)
{
    begin();
    for (int i = 0; i < left_behind; i++)
        fp_eventcount_prepare(&ec);
    for (int i = 0; i < sleepers; i++)
        fall_asleep();
    for (int left = sleepers; left > 0; left--) {
        CHECK(fp_eventcount_notify_one(&ec)); /* the token may have been another's, but it is a sleeper that wakes */
        CHECK_EQUAL(os.asleep, left - 1);
    }
    for (int i = 0; i < left_behind; i++)
        CHECK(!fp_eventcount_notify_one(&ec)); /* used up, one call each */
    CHECK_EQUAL(os.wakes, left_behind + sleepers);
    CHECK(!fp_eventcount_notify_one(&ec));
    CHECK_EQUAL(os.wakes, left_behind + sleepers);
}

/* As many tokens as threads asleep or more, after any history: the invariant of the header. */
static void never_fewer_tokens_than_sleepers(void)
{
    test_random random = {7};
    begin();
    for (int64_t i = test_rounds(1000000); i > 0; i--) {
        switch (test_random_below(&random, 8)) {
        case 0:
        case 1:
            fall_asleep();
            break;
        case 2: /* finds something to do */
            fp_eventcount_prepare(&ec);
            break;
        case 3: /* times out */
            os.asleep -= os.asleep > 0;
            break;
        case 4:
            if (test_random_below(&random, 16) == 0)
                fp_eventcount_notify_all(&ec);
            break;
        default: {
            int before = os.asleep;
            CHECK(fp_eventcount_notify_one(&ec) == (before > 0));
            CHECK_EQUAL(os.asleep, before - (before > 0));
        }
        }
        CHECK(fp_load(&ec.tokens, fp_relaxed) >= (uint32_t)os.asleep);
    }
}

static void tokens_do_not_wrap(void)
{
    begin();
    for (uint32_t i = 0; i < FP_EC_MOST + 5u; i++)
        fp_eventcount_prepare(&ec);
    CHECK_EQUAL(fp_load(&ec.tokens, fp_relaxed), FP_EC_MOST);
    fall_asleep();
    CHECK(fp_eventcount_notify_one(&ec));
}

static void epoch_may_wrap(void)
{
    begin();
    fp_store(&ec.epoch, UINT32_MAX, fp_relaxed);
    uint32_t key = fp_eventcount_prepare(&ec);
    notify_one();
    CHECK(wait_for(key) == FP_WAIT_WOKEN);
    CHECK_EQUAL(fp_load(&ec.epoch, fp_relaxed), 0);
}

int main(void)
{
    PROPERTY("eventcount: with nobody to wake a notification only reads", nobody_to_wake());
    PROPERTY("eventcount: a burst of notifications makes one system call", a_burst_makes_one_call());
    PROPERTY("eventcount: each notify_one wakes one of those asleep", each_call_wakes_one());
    PROPERTY("eventcount: notify_all wakes all with one call", all_are_woken_with_one_call());
    PROPERTY("eventcount: a notification between prepare and sleep is not lost", notified_before_it_sleeps(notify_one);
             notified_before_it_sleeps(notify_all));
    PROPERTY("eventcount: without a notification it sleeps", sleeps_when_not_notified());
    PROPERTY("eventcount: tokens left behind hide no sleeper", for (int left = 0; left <= 5; left++)
             for (int asleep = 0; asleep <= 5; asleep++) tokens_left_behind_hide_nobody(left, asleep));
    PROPERTY("eventcount: never fewer tokens than sleepers", never_fewer_tokens_than_sleepers());
    PROPERTY("eventcount: tokens do not wrap", tokens_do_not_wrap());
    PROPERTY("eventcount: the epoch may wrap", epoch_may_wrap());
    return 0;
}
