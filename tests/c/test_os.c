/* test_os.c - the seam to the operating system: sleeping on a word, waking exactly so many, deadlines. */
#define _GNU_SOURCE
#include <limits.h>
#include <signal.h>

#include "fp_os.h"
#include "threads.h"

/* --- waits that end by themselves ---------------------------------------------------------------------------------------- */

static void changed_word_does_not_sleep(void)
{
    fp_atomic(uint32_t) word = 5;
    CHECK(fp_os_wait(&word, 4, FP_FOREVER) == FP_WAIT_WOKEN);
    CHECK(fp_os_wait(&word, 4, 0) == FP_WAIT_WOKEN);
    CHECK_EQUAL(fp_os_wake(&word, INT_MAX), 0);
}

static void sleep_until(int64_t deadline_ns)
{
    fp_atomic(uint32_t) word = 5;
    fp_wait_result result;
    while ((result = fp_os_wait(&word, 5, deadline_ns)) == FP_WAIT_WOKEN)
        ; /* for no reason, as it may */
    CHECK(result == FP_WAIT_TIMED_OUT);
    CHECK(fp_os_now_ns() >= deadline_ns);
}

static void deadlines_are_kept(void)
{
    sleep_until(0);
    sleep_until(fp_os_now_ns() - 1);
    sleep_until(fp_os_now_ns());
    sleep_until(fp_os_now_ns() + 1);
    sleep_until(fp_os_now_ns() + 2000000);
    sleep_until((fp_os_now_ns() / 1000000000 + 1) * 1000000000); /* a whole second: no nanoseconds in it */
}

/* --- waking exactly so many ---------------------------------------------------------------------------------------------- */

enum { SLEEPERS = 4 };

struct bed {
    fp_atomic(uint32_t) word; /* never changes: who returns has been woken */
    fp_atomic(uint32_t) returned;
    threads sleepers;
};

static void sleep_once(void *arg, unsigned number)
{
    struct bed *bed = arg;
    (void)number;
    CHECK(fp_os_wait(&bed->word, 0, FP_FOREVER) == FP_WAIT_WOKEN);
    fp_fetch_add(&bed->returned, 1, fp_seq_cst);
    watchdog_pat();
}

/* Wakes until all have returned; how many the calls said they woke. A sleeper that is still on its way to bed is met by a
 * later round. */
static uint32_t wake_all_but(struct bed *bed, int at_once, struct bed *other)
{
    uint32_t woken = 0;
    while (fp_load(&bed->returned, fp_seq_cst) < SLEEPERS) {
        int now = fp_os_wake(&bed->word, at_once);
        CHECK(now >= 0 && now <= at_once);
        woken += (uint32_t)now;
        CHECK(woken <= SLEEPERS);
        CHECK_EQUAL(fp_load(&other->returned, fp_seq_cst), 0);
        sched_yield();
    }
    return woken;
}

static void wakes_exactly(int at_once, size_t words_apart)
{
    static struct bed beds[2 * 64 + 1];
    struct bed *first = &beds[0], *second = &beds[words_apart];
    fp_store(&first->returned, 0, fp_seq_cst);
    fp_store(&second->returned, 0, fp_seq_cst);
    threads_start(&first->sleepers, SLEEPERS, sleep_once, first);
    threads_start(&second->sleepers, SLEEPERS, sleep_once, second);
    CHECK_EQUAL(wake_all_but(first, at_once, second), SLEEPERS);
    threads_join(&first->sleepers);
    /* Had a wake been spent on the other word, the other's count would now fall short. */
    CHECK_EQUAL(wake_all_but(second, at_once, &(struct bed){.returned = 0}), SLEEPERS);
    threads_join(&second->sleepers);
    CHECK_EQUAL(fp_os_wake(&first->word, INT_MAX) + fp_os_wake(&second->word, INT_MAX), 0);
}

/* Words of one bucket of fp_os_posix.c too: those that are a multiple of 64 words apart. */
static void wakes_exactly_so_many(void)
{
    CHECK(sizeof(struct bed) % sizeof(uint32_t) == 0);
    for (int64_t round = test_rounds(40); round > 0; round--)
        for (int at_once = 1; at_once <= SLEEPERS; at_once++) {
            wakes_exactly(at_once, 1);
            wakes_exactly(at_once, 64);
        }
}

/* --- waking beside deadlines: a sleeper is woken or times out, never both, and the list of sleepers stays whole ----------- */

struct dozing {
    fp_atomic(uint32_t) word;
    fp_atomic(uint32_t) woken, awake;
    int64_t rounds;
};

static void doze(void *arg, unsigned number)
{
    struct dozing *all = arg;
    test_random random = {number + 1};
    for (int64_t i = 0; i < all->rounds; i++) {
        int64_t deadline_ns = fp_os_now_ns() + test_random_below(&random, 60000);
        fp_wait_result result = fp_os_wait(&all->word, 0, deadline_ns);
        CHECK(result == FP_WAIT_WOKEN || result == FP_WAIT_TIMED_OUT);
        if (result == FP_WAIT_WOKEN)
            fp_fetch_add(&all->woken, 1, fp_seq_cst);
        watchdog_pat();
    }
    fp_fetch_sub(&all->awake, 1, fp_seq_cst);
}

static void woken_or_timed_out(void)
{
    struct dozing all = {.awake = SLEEPERS, .rounds = test_rounds(2000)};
    threads sleepers;
    uint32_t woken = 0;
    threads_start(&sleepers, SLEEPERS, doze, &all);
    for (int count = 1; fp_load(&all.awake, fp_seq_cst) != 0; count = count % 3 + 1) {
        woken += (uint32_t)fp_os_wake(&all.word, count);
        sched_yield();
    }
    threads_join(&sleepers);
    CHECK_EQUAL(fp_load(&all.woken, fp_seq_cst), woken); /* each wake that was counted arrived, and no other */
    CHECK_EQUAL(fp_os_wake(&all.word, INT_MAX), 0);
}

/* --- the rest ------------------------------------------------------------------------------------------------------------- */

struct noted {
    sigset_t blocked;
    size_t stack_bytes;
};

static void *note_thread(void *arg)
{
    struct noted *noted = arg;
    pthread_attr_t attributes;
    pthread_sigmask(SIG_BLOCK, NULL, &noted->blocked);
    CHECK(pthread_getattr_np(pthread_self(), &attributes) == 0);
    CHECK(pthread_attr_getstacksize(&attributes, &noted->stack_bytes) == 0);
    pthread_attr_destroy(&attributes);
    return NULL;
}

static struct noted start_and_note(void)
{
    struct noted noted;
    fp_thread thread;
    CHECK(fp_thread_start(&thread, note_thread, &noted) == 0);
    fp_thread_join(thread);
    return noted;
}

static void threads_have_their_creators_signal_mask(void)
{
    sigset_t some, before;
    sigemptyset(&some);
    sigaddset(&some, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &some, &before);
    struct noted noted = start_and_note();
    CHECK(sigismember(&noted.blocked, SIGUSR1) == 1 && sigismember(&noted.blocked, SIGUSR2) == 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    noted = start_and_note();
    CHECK(sigismember(&noted.blocked, SIGUSR1) == 0);
}

/* Where threads get little by default, as they do on some systems, a worker's has what the main thread's usually has. */
static void threads_have_a_deep_stack(void)
{
    pthread_attr_t small;
    pthread_attr_init(&small);
    CHECK(pthread_attr_setstacksize(&small, 512 << 10) == 0 && pthread_setattr_default_np(&small) == 0);
    CHECK(start_and_note().stack_bytes >= 8 << 20);
    pthread_attr_destroy(&small);
}

static void some_cpu_is_ours(void)
{
    CHECK(fp_os_usable_cpus() >= 1);
}

int main(void)
{
    watchdog_start(NULL);
    PROPERTY("os: a word that has changed does not put to sleep", changed_word_does_not_sleep());
    PROPERTY("os: deadlines are absolute, and never early", deadlines_are_kept());
    PROPERTY("os: wake(n) wakes at most n, says how many, and none that sleeps on another word", wakes_exactly_so_many());
    PROPERTY("os: a sleeper is woken or times out, never both", woken_or_timed_out());
    PROPERTY("os: threads have their creator's signal mask", threads_have_their_creators_signal_mask());
    PROPERTY("os: threads have a deep stack", threads_have_a_deep_stack());
    PROPERTY("os: at least one CPU", some_cpu_is_ours());
    return 0;
}
