/* fp_os_posix.c - sleeping on a word where there is no futex: a small table of mutexes and condition variables.
 *
 * A word maps to a bucket by its address. The sleeper compares the word under the bucket's mutex and the waker takes that
 * mutex before it signals, so a wake cannot fall between the comparison and the sleep. Words may share a bucket, so a
 * wake is a broadcast, and sleepers of other words return for no reason, as fp_os.h allows.
 */
#if !defined(__linux__) || defined(FP_OS_FORCE_POSIX)
#define _GNU_SOURCE
#include "fp_os.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

enum { BUCKETS = 64 };

static struct bucket {
    fp_aligned pthread_mutex_t mutex;
    pthread_cond_t changed;
    int sleepers;
} buckets[BUCKETS];

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_buckets(void)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
#ifndef __APPLE__
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
#endif
    for (int i = 0; i < BUCKETS; i++) {
        pthread_mutex_init(&buckets[i].mutex, NULL);
        pthread_cond_init(&buckets[i].changed, &attributes);
    }
    pthread_condattr_destroy(&attributes);
}

static struct bucket *bucket_of(fp_atomic(uint32_t) *word)
{
    pthread_once(&once, make_buckets);
    return &buckets[(uintptr_t)word / sizeof *word % BUCKETS];
}

/* Signals do not interrupt a condition variable, so a wait is cut into slices that report one may have come. */
enum { SLICE_NS = 50 * 1000 * 1000 };

fp_wait_result fp_os_wait(fp_atomic(uint32_t) *word, uint32_t expected, int64_t deadline_ns)
{
    struct bucket *bucket = bucket_of(word);
    int64_t slice_ns = fp_os_now_ns() + SLICE_NS;
    int64_t until_ns = deadline_ns < slice_ns ? deadline_ns : slice_ns;
    struct timespec until = {.tv_sec = until_ns / 1000000000, .tv_nsec = until_ns % 1000000000};
#ifdef __APPLE__ /* no monotonic deadline there: a relative wait */
    int64_t left_ns = until_ns - fp_os_now_ns();
    left_ns = left_ns < 0 ? 0 : left_ns;
    struct timespec left = {.tv_sec = left_ns / 1000000000, .tv_nsec = left_ns % 1000000000};
#endif
    int error = 0;
    pthread_mutex_lock(&bucket->mutex);
    if (fp_load(word, fp_seq_cst) == expected) {
        bucket->sleepers++;
#ifdef __APPLE__
        error = pthread_cond_timedwait_relative_np(&bucket->changed, &bucket->mutex, &left);
        (void)until;
#else
        error = pthread_cond_timedwait(&bucket->changed, &bucket->mutex, &until);
#endif
        bucket->sleepers--;
    }
    pthread_mutex_unlock(&bucket->mutex);
    if (error != ETIMEDOUT)
        return FP_WAIT_WOKEN;
    return until_ns == deadline_ns ? FP_WAIT_TIMED_OUT : FP_WAIT_INTERRUPTED;
}

int fp_os_wake(fp_atomic(uint32_t) *word, int count)
{
    struct bucket *bucket = bucket_of(word);
    pthread_mutex_lock(&bucket->mutex);
    int woken = bucket->sleepers < count ? bucket->sleepers : count;
    pthread_cond_broadcast(&bucket->changed);
    pthread_mutex_unlock(&bucket->mutex);
    return woken; /* a guess where words share the bucket: sleepers look again, and so does a notifier */
}

#endif
