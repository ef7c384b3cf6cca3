/* fp_os_posix.c - sleeping on a word where there is no futex: a parking lot of mutexes and condition variables.
 *
 * A word maps to a bucket by its address, and a bucket has a list of those who sleep, first come first. A sleeper compares
 * the word under the bucket's mutex and the waker takes that mutex too, so a wake cannot fall between the comparison and
 * the sleep. The waker takes sleepers off the list and marks them, so it knows how many it has woken, as the futex does.
 */
#if !defined(__linux__) || defined(FP_OS_FORCE_POSIX)
#define _GNU_SOURCE
#include "fp_os.h"

#include <pthread.h>
#include <time.h>

enum { BUCKETS = 64 };

typedef struct sleeper {
    struct sleeper *next;
    fp_atomic(uint32_t) *word;
    pthread_cond_t woken_up;
    bool woken; /* and off the list */
} sleeper;

static struct bucket {
    fp_aligned pthread_mutex_t mutex;
    sleeper *first, **end; /* end: where the next one is linked in */
} buckets[BUCKETS];

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_buckets(void)
{
    for (int i = 0; i < BUCKETS; i++) {
        pthread_mutex_init(&buckets[i].mutex, NULL);
        buckets[i].first = NULL;
        buckets[i].end = &buckets[i].first;
    }
}

/* A child has none of the threads that slept, nor those that held a mutex. */
static void watch_forks_too(void)
{
    make_buckets();
    pthread_atfork(NULL, NULL, make_buckets);
}

static struct bucket *bucket_of(fp_atomic(uint32_t) *word)
{
    pthread_once(&once, watch_forks_too);
    return &buckets[(uintptr_t)word / sizeof *word % BUCKETS];
}

static void init_condition(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
#ifndef __APPLE__
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
#endif
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

static void sleep_until(sleeper *self, pthread_mutex_t *mutex, int64_t until_ns)
{
    if (until_ns == FP_FOREVER) {
        pthread_cond_wait(&self->woken_up, mutex);
        return;
    }
#ifdef __APPLE__ /* no monotonic deadline there: a relative wait */
    int64_t left_ns = until_ns - fp_os_now_ns();
    left_ns = left_ns < 0 ? 0 : left_ns;
    struct timespec left = {.tv_sec = left_ns / 1000000000, .tv_nsec = left_ns % 1000000000};
    pthread_cond_timedwait_relative_np(&self->woken_up, mutex, &left);
#else
    struct timespec until = {.tv_sec = until_ns / 1000000000, .tv_nsec = until_ns % 1000000000};
    pthread_cond_timedwait(&self->woken_up, mutex, &until);
#endif
}

static void link_in(struct bucket *bucket, sleeper *self)
{
    self->next = NULL;
    *bucket->end = self;
    bucket->end = &self->next;
}

static void take_out(struct bucket *bucket, sleeper **place)
{
    sleeper *gone = *place;
    *place = gone->next;
    if (bucket->end == &gone->next)
        bucket->end = place;
}

static sleeper **place_of(struct bucket *bucket, const sleeper *self)
{
    sleeper **place = &bucket->first;
    while (*place != self)
        place = &(*place)->next;
    return place;
}

/* Signals do not interrupt a condition variable: this never returns FP_WAIT_INTERRUPTED. */
fp_wait_result fp_os_wait(fp_atomic(uint32_t) *word, uint32_t expected, int64_t deadline_ns)
{
    struct bucket *bucket = bucket_of(word);
    sleeper self = {.word = word};
    pthread_mutex_lock(&bucket->mutex);
    if (fp_load(word, fp_seq_cst) != expected) {
        pthread_mutex_unlock(&bucket->mutex);
        return FP_WAIT_WOKEN;
    }
    init_condition(&self.woken_up);
    link_in(bucket, &self);
    while (!self.woken && (deadline_ns == FP_FOREVER || fp_os_now_ns() < deadline_ns))
        sleep_until(&self, &bucket->mutex, deadline_ns);
    if (!self.woken)
        take_out(bucket, place_of(bucket, &self));
    pthread_mutex_unlock(&bucket->mutex);
    pthread_cond_destroy(&self.woken_up);
    return self.woken ? FP_WAIT_WOKEN : FP_WAIT_TIMED_OUT;
}

int fp_os_wake(fp_atomic(uint32_t) *word, int count)
{
    struct bucket *bucket = bucket_of(word);
    int woken = 0;
    pthread_mutex_lock(&bucket->mutex);
    for (sleeper **place = &bucket->first; *place != NULL && woken < count;) {
        sleeper *found = *place;
        if (found->word != word) {
            place = &found->next;
            continue;
        }
        take_out(bucket, place);
        found->woken = true;
        pthread_cond_signal(&found->woken_up); /* under the mutex: `found` lives until its owner gets it */
        woken++;
    }
    pthread_mutex_unlock(&bucket->mutex);
    return woken;
}

#endif
