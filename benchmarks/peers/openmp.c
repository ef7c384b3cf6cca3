/* openmp.c - the work by OpenMP, on two threads: the calling one and another. */
#include "work.h"

/* One thread makes the tasks and the other runs them; the first takes part when it has made all, or when so many are waiting
 * that the runtime has it run them at once. */
void peer_dispatch(work_job job, int64_t n)
{
#pragma omp parallel num_threads(2)
#pragma omp single
    for (int64_t i = 0; i < n; i++) {
#pragma omp task firstprivate(i)
        job((void *)(intptr_t)i);
    }
}

#define PRAGMA(...) _Pragma(#__VA_ARGS__)

/* One function for each schedule: schedule(runtime) would ask which it is at every chunk. */
#define MAP(name, ...)                                                                                                      \
    void name(work_element function, const double *x, double *out, int64_t n, int64_t calls)                                \
    {                                                                                                                       \
        for (int64_t call = 0; call < calls; call++) {                                                                      \
            PRAGMA(omp parallel for num_threads(2) schedule(__VA_ARGS__))                                                   \
            for (int64_t i = 0; i < n; i++)                                                                                 \
                out[i] = function(x[i]);                                                                                    \
        }                                                                                                                   \
    }

MAP(peer_map_static, static)
MAP(peer_map_dynamic, dynamic) /* the same as dynamic, 1 */
MAP(peer_map_chunks, dynamic, 1024)
MAP(peer_map_guided, guided)

/* With the function in the loop, which a compiler turns into vector instructions. */
#define MAP_INLINED(name, element)                                                                                          \
    void name(work_element unused, const double *x, double *out, int64_t n, int64_t calls)                                  \
    {                                                                                                                       \
        (void)unused;                                                                                                       \
        for (int64_t call = 0; call < calls; call++) {                                                                      \
            PRAGMA(omp parallel for simd num_threads(2) schedule(static))                                                   \
            for (int64_t i = 0; i < n; i++)                                                                                 \
                out[i] = element(x[i]);                                                                                     \
        }                                                                                                                   \
    }

MAP_INLINED(peer_map_polynomial, inlined_polynomial)
MAP_INLINED(peer_map_affine, inlined_affine)
