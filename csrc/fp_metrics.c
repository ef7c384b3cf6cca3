/* fp_metrics.c - merging the workers' counters. */
#include "fp_metrics.h"

void fp_histogram_merge(fp_histogram_sum *into, fp_histogram *histogram)
{
    uint64_t max = fp_load(&histogram->max, fp_relaxed);
    into->sum += fp_load(&histogram->sum, fp_relaxed);
    into->max = max > into->max ? max : into->max;
    for (unsigned i = 0; i < FP_HISTOGRAM_BUCKETS; i++)
        into->buckets[i] += fp_load(&histogram->buckets[i], fp_relaxed);
}

void fp_metrics_merge(fp_metrics *into, fp_worker_metrics *worker)
{
    for (unsigned i = 0; i < FP_OUTCOMES; i++)
        into->ended[i] += fp_load(&worker->ended[i], fp_acquire);
    into->active_workers += fp_load(&worker->running, fp_relaxed);
    fp_histogram_merge(&into->duration, &worker->duration);
    fp_histogram_merge(&into->wait, &worker->wait);
}
