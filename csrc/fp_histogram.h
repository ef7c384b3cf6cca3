/* fp_histogram - durations in logarithmic buckets, written by one thread and read by any.
 *
 * Journey: worker -> [METRICS]. A bucket is an octave cut in 16 equal parts (HdrHistogram's layout, Tene 2012): a value is
 * known to within 1/16 of itself, its midpoint to within 3.2 %. Values are clock ticks (fp_clock.h); whoever reads the
 * histogram knows how long a tick is.
 *
 * Counters have one writer: an increment is a relaxed load and a relaxed store, no locked instruction.
 */
#ifndef FP_HISTOGRAM_H
#define FP_HISTOGRAM_H

#include "fp_atomic.h"

enum {
    FP_HISTOGRAM_PARTS_LOG2 = 4,
    FP_HISTOGRAM_PARTS = 1 << FP_HISTOGRAM_PARTS_LOG2,
    FP_HISTOGRAM_OCTAVES = 44, /* up to 2^48 ticks: a day at 3 GHz; longer ones are counted in the last bucket */
    FP_HISTOGRAM_BUCKETS = FP_HISTOGRAM_PARTS * (FP_HISTOGRAM_OCTAVES + 1),
};

typedef struct fp_histogram {
    fp_atomic(uint64_t) sum; /* ticks */
    fp_atomic(uint64_t) max; /* ticks */
    fp_atomic(uint64_t) buckets[FP_HISTOGRAM_BUCKETS];
} fp_histogram;

/* The bucket of a value: 0..15 stand for themselves, then 16 buckets an octave. */
static inline unsigned fp_histogram_bucket(uint64_t ticks)
{
    if (ticks < FP_HISTOGRAM_PARTS)
        return (unsigned)ticks;
    unsigned octave = 63u - (unsigned)__builtin_clzll(ticks) - FP_HISTOGRAM_PARTS_LOG2;
    unsigned part = (unsigned)(ticks >> octave) & (FP_HISTOGRAM_PARTS - 1);
    unsigned bucket = (octave + 1) * FP_HISTOGRAM_PARTS + part;
    return bucket < FP_HISTOGRAM_BUCKETS ? bucket : FP_HISTOGRAM_BUCKETS - 1;
}

/* The smallest value of a bucket; that of bucket + 1 is where it ends. */
static inline uint64_t fp_histogram_lower_bound(unsigned bucket)
{
    if (bucket < FP_HISTOGRAM_PARTS)
        return bucket;
    unsigned octave = bucket / FP_HISTOGRAM_PARTS - 1;
    return (uint64_t)(FP_HISTOGRAM_PARTS + bucket % FP_HISTOGRAM_PARTS) << octave;
}

/* Adds to a counter that only the calling thread writes. */
static inline void fp_counter_add(fp_atomic(uint64_t) *counter, uint64_t n)
{
    fp_store(counter, fp_load(counter, fp_relaxed) + n, fp_relaxed);
}

/* Notes `n` jobs of `ticks` each. By the owning thread only. */
static inline void fp_histogram_add(fp_histogram *histogram, uint64_t ticks, uint64_t n)
{
    fp_counter_add(&histogram->buckets[fp_histogram_bucket(ticks)], n);
    fp_counter_add(&histogram->sum, ticks * n);
    if (ticks > fp_load(&histogram->max, fp_relaxed))
        fp_store(&histogram->max, ticks, fp_relaxed);
}

/* The same of a histogram that several threads write. */
static inline void fp_histogram_add_shared(fp_histogram *histogram, uint64_t ticks, uint64_t n)
{
    fp_fetch_add(&histogram->buckets[fp_histogram_bucket(ticks)], n, fp_relaxed);
    fp_fetch_add(&histogram->sum, ticks * n, fp_relaxed);
    uint64_t max = fp_load(&histogram->max, fp_relaxed);
    while (ticks > max && !fp_cas(&histogram->max, &max, ticks, fp_relaxed, fp_relaxed))
        ;
}

#endif
