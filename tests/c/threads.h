/* threads.h - threads, gates and a watchdog. A test waits for events, never for time; where nothing happens for a minute the
 * watchdog ends it, and that is a failure. */
#ifndef FP_TEST_THREADS_H
#define FP_TEST_THREADS_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>

#include "check.h"

/* A counter that threads can wait for: an event is a gate raised to 1. */
typedef struct gate {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    uint64_t count;
} gate;

#define GATE_INITIALIZER {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0}

__attribute__((unused)) static void gate_raise(gate *gate, uint64_t by)
{
    pthread_mutex_lock(&gate->mutex);
    gate->count += by;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->mutex);
}

__attribute__((unused)) static void gate_wait(gate *gate, uint64_t until)
{
    pthread_mutex_lock(&gate->mutex);
    while (gate->count < until)
        pthread_cond_wait(&gate->changed, &gate->mutex);
    pthread_mutex_unlock(&gate->mutex);
}

__attribute__((unused)) static void gate_reset(gate *gate)
{
    pthread_mutex_lock(&gate->mutex);
    gate->count = 0;
    pthread_mutex_unlock(&gate->mutex);
}

/* A group of threads that run one function, each with its number. */
enum { TEST_MOST_THREADS = 64 };

typedef struct threads {
    struct thread_start {
        void (*run)(void *arg, unsigned number);
        void *arg;
        unsigned number;
    } starts[TEST_MOST_THREADS];
    pthread_t ids[TEST_MOST_THREADS];
    unsigned count;
} threads;

static void *threads_main_(void *arg)
{
    struct thread_start *start = arg;
    start->run(start->arg, start->number);
    return NULL;
}

__attribute__((unused)) static void threads_start(threads *group, unsigned count, void (*run)(void *, unsigned), void *arg)
{
    CHECK(count <= TEST_MOST_THREADS);
    group->count = count;
    for (unsigned i = 0; i < count; i++) {
        group->starts[i] = (struct thread_start){run, arg, i};
        CHECK(pthread_create(&group->ids[i], NULL, threads_main_, &group->starts[i]) == 0);
    }
}

__attribute__((unused)) static void threads_join(threads *group)
{
    for (unsigned i = 0; i < group->count; i++)
        pthread_join(group->ids[i], NULL);
}

/* The watchdog. Tests call watchdog_pat() as they get on; `dump` prints the state of whatever is under test. */
enum { WATCHDOG_SECONDS = 60 };
static _Atomic uint64_t watchdog_pats_;
static void (*_Atomic watchdog_dump_)(void);

__attribute__((unused)) static void watchdog_pat(void)
{
    atomic_fetch_add_explicit(&watchdog_pats_, 1, memory_order_relaxed);
}

static void *watchdog_main_(void *unused)
{
    (void)unused;
    uint64_t seen = 0;
    for (int quiet = 0; quiet < WATCHDOG_SECONDS; quiet++) {
        struct timespec second = {.tv_sec = 1, .tv_nsec = 0};
        nanosleep(&second, NULL);
        uint64_t pats = atomic_load_explicit(&watchdog_pats_, memory_order_relaxed);
        if (pats != seen)
            quiet = 0;
        seen = pats;
    }
    void (*dump)(void) = atomic_load(&watchdog_dump_);
    if (dump != NULL)
        dump();
    test_fail("no progress for a minute: a lost wake-up or a deadlock", __FILE__, __LINE__);
}

__attribute__((unused)) static void watchdog_start(void (*dump)(void))
{
    pthread_t thread;
    atomic_store(&watchdog_dump_, dump);
    CHECK(pthread_create(&thread, NULL, watchdog_main_, NULL) == 0);
    pthread_detach(thread);
}

#endif
