// tbb.cpp - the work by oneTBB, on two threads: the calling one and another.
#include <tbb/blocked_range.h>
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/partitioner.h>
#include <tbb/task_group.h>
#include <tbb/version.h>

#include "work.h"

static tbb::global_control limit(tbb::global_control::max_allowed_parallelism, 2);

template <typename Partitioner>
static void map(work_element function, const double *x, double *out, int64_t n, int64_t calls)
{
    for (int64_t call = 0; call < calls; call++)
        tbb::parallel_for(
            tbb::blocked_range<int64_t>(0, n, 1),
            [=](const tbb::blocked_range<int64_t> &part) {
                for (int64_t i = part.begin(); i != part.end(); i++)
                    out[i] = function(x[i]);
            },
            Partitioner());
}

extern "C" {

const char *peer_version()
{
    return TBB_runtime_version();
}

void peer_dispatch(work_job job, int64_t n)
{
    tbb::task_group group;
    for (int64_t i = 0; i < n; i++)
        group.run([=] { job(reinterpret_cast<void *>(i)); });
    group.wait();
}

void peer_map_auto(work_element function, const double *x, double *out, int64_t n, int64_t calls)
{
    map<tbb::auto_partitioner>(function, x, out, n, calls);
}

// Splits down to single elements, and does not look at the load.
void peer_map_single(work_element function, const double *x, double *out, int64_t n, int64_t calls)
{
    map<tbb::simple_partitioner>(function, x, out, n, calls);
}

void peer_map_static(work_element function, const double *x, double *out, int64_t n, int64_t calls)
{
    map<tbb::static_partitioner>(function, x, out, n, calls);
}
}
