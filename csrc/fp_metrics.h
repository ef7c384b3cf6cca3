/* fp_metrics - what happened to the jobs: one padded set of counters for each worker, merged when read.
 *
 * Journey: worker -> [METRICS]. A worker writes its own set with plain stores (fp_histogram.h); what other threads do to
 * jobs (a submitter that runs or discards one) goes to the pool's own counters with atomic additions, for it is rare.
 *
 * The accounting identity: submitted == done + failed + cancelled + timed out, once the pool is idle. At any other time
 * submitted is at least the sum: the reader reads the ends first.
 */
#ifndef FP_METRICS_H
#define FP_METRICS_H

#include "fp_histogram.h"
#include "fp_job.h"

typedef struct fp_worker_metrics {
    fp_aligned fp_atomic(uint64_t) ended[FP_OUTCOMES];
    fp_atomic(uint64_t) taken;   /* jobs that are counted as submitted when they are taken (fp_burst.h) */
    fp_atomic(uint64_t) running; /* 1 while a job runs */
    fp_histogram duration;
    fp_histogram wait; /* from submit to start */
} fp_worker_metrics;

typedef struct fp_histogram_sum {
    uint64_t sum, max, buckets[FP_HISTOGRAM_BUCKETS];
} fp_histogram_sum;

/* A snapshot. Durations in ticks. */
typedef struct fp_metrics {
    uint64_t workers, active_workers, queue_depth, queue_capacity; /* capacity 0: unbounded */
    uint64_t submitted, ended[FP_OUTCOMES], rejected;
    fp_histogram_sum duration, wait;
} fp_metrics;

void fp_histogram_merge(fp_histogram_sum *into, fp_histogram *histogram);

/* Adds one worker's counters to a snapshot. */
void fp_metrics_merge(fp_metrics *into, fp_worker_metrics *worker);

#endif
