/* fp_burst - one place in the queue for jobs that are submitted one after the other, and that may be run meanwhile.
 *
 * Journey: [SUBMIT] -> ring -> [WORKER]. A submit that goes through the queue costs three compare-and-swaps on each side; so a
 * group (fp_group.h) queues a burst with its first job, and puts the next ones into it as long as no worker has sealed it.
 * Workers join the record as they do a range's (fp_queue.h), and take what is there.
 *
 * Append  U1 write the job behind the last one   U2 CAS filled: n -> n+1   by the one thread that submits to the group.
 *         Linearises at U2. It fails only where a worker has sealed the burst: then the job goes into a new one.
 * Take    T1 load filled   T2 CAS cursor: c -> c+k, no further than filled <- the jobs c .. c+k-1 are this thread's
 * Seal    V1 CAS filled: n -> n|SEALED, by a worker that finds all n taken, or by the submitter, who wants no more in
 *         V2 balance += n
 * End     T3 balance -= k for k jobs that have ended. Whoever takes it to 0 by T3 or V2 ends the burst: before V2 it is
 *         negative as soon as a job has ended, so it comes to 0 once, when all n have.
 *
 * No job is left lying. An open burst is in the queue, for only a thread inside closes the record, and it does not before the
 * burst is sealed. So a worker that looks at the queue finds the burst; each that joins it looks at `filled` after its last
 * job and leaves only where it is sealed; V1 and U2 change the same word, so a job that is in is seen, and one that is not
 * in goes elsewhere. The wake-up of the push (fp_pool.h, S3) is the debt for all of them: it brings workers one
 * after the other for as long as the record is at the head, and one that finds nothing to take seals.
 *
 * Progress    Lock-free for the workers. The submitter's append is wait-free: one CAS, which fails at most once a burst.
 * Order pairs
 *   FP_BURST_FILL   U2 -> T1: the job
 *   FP_BURST_END    T3, V2 -> T3, V2: all that the jobs have written, to who ends the burst
 */
#ifndef FP_BURST_H
#define FP_BURST_H

#include "fp_atomic.h"

#ifndef FP_BURST_FILL
#define FP_BURST_FILL fp_release
#endif
#ifndef FP_BURST_TAKE
#define FP_BURST_TAKE fp_acquire
#endif
#ifndef FP_BURST_END
#define FP_BURST_END fp_acq_rel
#endif

#ifndef FP_BURST_JOBS
#define FP_BURST_JOBS 128
#endif
#define FP_BURST_SEALED UINT32_C(0x80000000)

typedef int (*fp_job_function)(void *arg); /* 0: success */

typedef struct fp_burst_job {
    fp_plain(fp_job_function) function;
    fp_plain(void *) arg;
} fp_burst_job;

typedef struct fp_burst {
    fp_aligned fp_atomic(uint32_t) filled; /* jobs in it, and FP_BURST_SEALED */
    fp_aligned fp_atomic(uint32_t) cursor; /* jobs taken */
    fp_atomic(int32_t) balance;
    fp_aligned fp_burst_job jobs[FP_BURST_JOBS];
} fp_burst;

/* An open burst of one job. */
static inline void fp_burst_init(fp_burst *burst, fp_job_function function, void *arg)
{
    fp_set(&burst->jobs[0].function, function);
    fp_set(&burst->jobs[0].arg, arg);
    fp_store(&burst->filled, UINT32_C(1), fp_relaxed); /* published by the push */
    fp_store(&burst->cursor, UINT32_C(0), fp_relaxed);
    fp_store(&burst->balance, 0, fp_relaxed);
}

/* Puts in the job at place n, there being n < FP_BURST_JOBS. False: it is sealed, and the job is not in it. */
static inline bool fp_burst_append(fp_burst *burst, uint32_t n, fp_job_function function, void *arg)
{
    fp_set(&burst->jobs[n].function, function); /* U1 */
    fp_set(&burst->jobs[n].arg, arg);
    return fp_cas(&burst->filled, &n, n + 1, FP_BURST_FILL, fp_relaxed); /* U2 */
}

/* Takes up to `most` jobs: [*begin, *end). False when there is none to take. *filled: what was seen of it. */
static inline bool fp_burst_take(fp_burst *burst, uint32_t most, uint32_t *begin, uint32_t *end, uint32_t *filled)
{
    *filled = fp_load(&burst->filled, FP_BURST_TAKE); /* T1 */
    uint32_t n = *filled & ~FP_BURST_SEALED;
    *begin = fp_load(&burst->cursor, fp_relaxed);
    do {
        if (*begin >= n)
            return false;
        *end = most < n - *begin ? *begin + most : n;
    } while (!fp_cas(&burst->cursor, begin, *end, fp_relaxed, fp_relaxed)); /* T2 */
    return true;
}

/* V1. False where another was first, or there are more than n jobs in it. */
static inline bool fp_burst_seal(fp_burst *burst, uint32_t n)
{
    return fp_cas(&burst->filled, &n, n | FP_BURST_SEALED, fp_relaxed, fp_relaxed);
}

/* T3, with the negative of how many jobs have ended; or V2, with how many there are. True: this ends the burst. */
static inline bool fp_burst_settle(fp_burst *burst, int32_t jobs)
{
    return fp_fetch_add(&burst->balance, jobs, FP_BURST_END) == -jobs;
}

#endif
