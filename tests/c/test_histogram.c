/* test_histogram.c - the buckets: without a gap, in order, and narrow enough for what the metrics promise. */
#include "check.h"
#include "fp_histogram.h"

/* Beyond this, values are counted in the last bucket. */
static const uint64_t limit = UINT64_C(1) << (FP_HISTOGRAM_OCTAVES + FP_HISTOGRAM_PARTS_LOG2);

static void buckets_meet(void)
{
    CHECK_EQUAL(fp_histogram_lower_bound(0), 0);
    for (unsigned bucket = 0; bucket < FP_HISTOGRAM_BUCKETS; bucket++) {
        uint64_t first = fp_histogram_lower_bound(bucket), end = fp_histogram_lower_bound(bucket + 1);
        CHECK(end > first);
        CHECK_EQUAL(fp_histogram_bucket(first), bucket);
        CHECK_EQUAL(fp_histogram_bucket(end - 1), bucket);
        CHECK((end - first) * FP_HISTOGRAM_PARTS <= (first < FP_HISTOGRAM_PARTS ? FP_HISTOGRAM_PARTS : first)); /* 1/16 */
    }
    CHECK_EQUAL(fp_histogram_lower_bound(FP_HISTOGRAM_BUCKETS), limit);
}

static void value_is_in_its_bucket(uint64_t value)
{
    unsigned bucket = fp_histogram_bucket(value);
    CHECK(bucket < FP_HISTOGRAM_BUCKETS && fp_histogram_lower_bound(bucket) <= value);
    if (value < limit)
        CHECK(value < fp_histogram_lower_bound(bucket + 1));
    else
        CHECK_EQUAL(bucket, FP_HISTOGRAM_BUCKETS - 1);
}

static void values_are_in_their_buckets(void)
{
    test_random random = {3};
    for (uint64_t value = 0; value < 100000; value++)
        value_is_in_its_bucket(value);
    for (unsigned bit = 0; bit < 64; bit++)
        for (int64_t near = -2; near <= 2; near++)
            value_is_in_its_bucket((UINT64_C(1) << bit) + (uint64_t)near); /* below 0: the largest values */
    for (int64_t i = test_rounds(1000000); i > 0; i--) {
        uint64_t value = (uint64_t)test_random_below(&random, UINT32_MAX) << 33 | test_random_below(&random, UINT32_MAX);
        value_is_in_its_bucket(value >> test_random_below(&random, 64));
    }
}

static void adds_up(void)
{
    static fp_histogram histogram;
    uint64_t sum = 0, count = 0, counted = 0;
    for (uint64_t ticks = 0; ticks < 5000; ticks += 7) {
        fp_histogram_add(&histogram, ticks, ticks % 3);
        sum += ticks * (ticks % 3);
        count += ticks % 3;
    }
    fp_histogram_add(&histogram, UINT64_MAX / 4, 1);
    fp_histogram_add(&histogram, 1, 1);
    for (unsigned bucket = 0; bucket < FP_HISTOGRAM_BUCKETS; bucket++)
        counted += fp_load(&histogram.buckets[bucket], fp_relaxed);
    CHECK_EQUAL(counted, count + 2);
    CHECK_EQUAL(fp_load(&histogram.sum, fp_relaxed), sum + UINT64_MAX / 4 + 1);
    CHECK_EQUAL(fp_load(&histogram.max, fp_relaxed), UINT64_MAX / 4);
    CHECK_EQUAL(fp_load(&histogram.buckets[FP_HISTOGRAM_BUCKETS - 1], fp_relaxed), 1);
}

int main(void)
{
    PROPERTY("histogram: buckets follow each other without a gap, each at most 1/16 wide", buckets_meet());
    PROPERTY("histogram: each value is within its bucket's bounds", values_are_in_their_buckets());
    PROPERTY("histogram: counts, sum and maximum add up", adds_up());
    return 0;
}
