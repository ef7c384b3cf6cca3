/* What test_capi.py compiles: fastpool.h's functions under names that ctypes finds, and jobs. ctypes.CDLL lets go of the GIL for
 * a call, ctypes.PyDLL keeps it. */
#include <fastpool.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>


int capi_import(void) { return fastpool_import(); }
int capi_version(void) { return FASTPOOL_API_VERSION; }
fastpool_pool *capi_from_object(PyObject *pool) { return fastpool_from_object(pool); }
fastpool_group *capi_group_new(fastpool_pool *pool) { return fastpool_group_new(pool); }
void capi_group_free(fastpool_group *group) { fastpool_group_free(group); }
fastpool_result capi_wait(fastpool_group *group, int64_t timeout_ns) { return fastpool_wait(group, timeout_ns); }
void capi_cancel(fastpool_group *group) { fastpool_cancel(group); }
int capi_cancelled(fastpool_group *group) { return fastpool_cancelled(group); }
int capi_status(fastpool_group *group, int64_t *index) { return fastpool_status(group, index); }

fastpool_result capi_submit(fastpool_group *group, fastpool_job job, void *arg)
{
    return fastpool_submit(group, job, arg);
}

fastpool_result capi_submit_batch(fastpool_group *group, fastpool_job job, void *args, ptrdiff_t stride, int64_t count)
{
    return fastpool_submit_batch(group, job, args, stride, count);
}

fastpool_result capi_submit_range(fastpool_group *group, fastpool_range range, int64_t n, void *arg, int64_t grain)
{
    return fastpool_submit_range(group, range, n, arg, grain);
}

fastpool_result capi_parallel_for(fastpool_pool *pool, fastpool_range range, int64_t n, void *arg, int64_t grain)
{
    return fastpool_parallel_for(pool, range, n, arg, grain);
}

fastpool_result capi_read_metrics(fastpool_pool *pool, fastpool_metrics *metrics)
{
    return fastpool_read_metrics(pool, metrics);
}

/* ---- jobs ---- */

int count(void *arg)
{
    atomic_fetch_add((_Atomic int64_t *)arg, 1);
    return 0;
}

int status_at(void *arg)
{
    return (int)*(int64_t *)arg;
}

int count_each(int64_t begin, int64_t end, void *arg)
{
    for (int64_t i = begin; i < end; i++)
        atomic_fetch_add((_Atomic int64_t *)arg + i, 1);
    return 0;
}

/* The first that is not 0. */
int status_between(int64_t begin, int64_t end, void *arg)
{
    for (int64_t i = begin; i < end; i++)
        if (((int64_t *)arg)[i] != 0)
            return (int)((int64_t *)arg)[i];
    return 0;
}

/* Which of its numbers came when: numbers[0] counts, the rest is the order. */
typedef struct note {
    int64_t number;
    _Atomic int64_t *next;
    int64_t *order;
} note;

int note_order(void *arg)
{
    note *it = arg;
    it->order[atomic_fetch_add(it->next, 1)] = it->number;
    return 0;
}

/* Takes 20 ms; the first that runs presses Ctrl-C. words: jobs that have run, has been pressed. */
int slow_interrupting(void *arg)
{
    _Atomic int64_t *words = arg;
    struct timespec now, start;
    if (atomic_exchange(&words[1], 1) == 0)
        kill(getpid(), SIGINT);
    clock_gettime(CLOCK_MONOTONIC, &start);
    do
        clock_gettime(CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - start.tv_sec) * 1000000000 + now.tv_nsec - start.tv_nsec < 20000000);
    atomic_fetch_add(&words[0], 1);
    return 0;
}

int slow_interrupting_each(int64_t begin, int64_t end, void *arg)
{
    for (int64_t i = begin; i < end; i++)
        slow_interrupting(arg);
    return 0;
}

/* Runs until its group is cancelled; words: the group, has started. */
int until_cancelled(void *arg)
{
    _Atomic int64_t *words = arg;
    atomic_store(&words[1], 1);
    while (!fastpool_cancelled((fastpool_group *)(intptr_t)atomic_load(&words[0])))
        ;
    return 0;
}

/* ---- jobs that ask whether they should stop ---- */

int capi_should_stop(void) { return fastpool_should_stop(); }

/* int64[2]: how many have begun; how many were asked to stop. Each spins until it is; after some five seconds gives up. */
int until_stopped(void *arg)
{
    _Atomic int64_t *words = arg;
    time_t begin = time(NULL);
    atomic_fetch_add(&words[0], 1);
    while (!fastpool_should_stop())
        if (time(NULL) - begin > 5)
            return 1;
    atomic_fetch_add(&words[1], 1);
    return 7;
}

/* The same; 0 when it was asked. */
int until_stopped_well(void *arg)
{
    return until_stopped(arg) == 7 ? 0 : 1;
}

double until_stopped_element(double x, void *arg)
{
    return until_stopped(arg) == 7 ? x : -1;
}

int until_stopped_range(int64_t begin, int64_t end, void *arg)
{
    (void)begin, (void)end;
    return until_stopped(arg);
}

int until_stopped_well_range(int64_t begin, int64_t end, void *arg)
{
    (void)begin, (void)end;
    return until_stopped_well(arg);
}

/* ---- jobs that submit jobs, and wait ---- */

typedef enum way { SINGLY, AS_BATCH, AS_RANGE, PARALLEL_FOR } way;

typedef struct nested {
    fastpool_pool *pool;
    int64_t n, way, value;
    int64_t result; /* fastpool_result */
} nested;

int fibonacci(void *arg);

static int fibonacci_each(int64_t begin, int64_t end, void *arg)
{
    int failed = 0;
    for (int64_t i = begin; i < end; i++)
        failed |= fibonacci((nested *)arg + i);
    return failed;
}

static fastpool_result submit_both(fastpool_group *group, nested *both, int64_t way)
{
    if (way == AS_BATCH)
        return fastpool_submit_batch(group, fibonacci, both, sizeof *both, 2);
    if (way == AS_RANGE)
        return fastpool_submit_range(group, fibonacci_each, 2, both, 1);
    fastpool_result result = fastpool_submit(group, fibonacci, &both[0]);
    return result == FASTPOOL_OK ? fastpool_submit(group, fibonacci, &both[1]) : result;
}

static fastpool_result run_both(nested *it, nested *both)
{
    if (it->way == PARALLEL_FOR)
        return fastpool_parallel_for(it->pool, fibonacci_each, 2, both, 1);
    fastpool_group *group = fastpool_group_new(it->pool);
    if (group == NULL)
        return FASTPOOL_NO_MEMORY;
    fastpool_result result = submit_both(group, both, it->way);
    if (result == FASTPOOL_OK)
        result = fastpool_wait(group, FASTPOOL_FOREVER);
    fastpool_group_free(group);
    return result;
}

int fibonacci(void *arg)
{
    nested *it = arg;
    nested both[2] = {{it->pool, it->n - 1, it->way, 0, 0}, {it->pool, it->n - 2, it->way, 0, 0}};
    it->value = it->n;
    if (it->n < 2)
        return 0;
    it->result = run_both(it, both);
    it->value = both[0].value + both[1].value;
    return it->result == FASTPOOL_OK ? 0 : 1;
}

/* Presses Ctrl-C and waits for slow jobs; words[2]: what came of that. */
int interrupting_and_waiting(void *arg)
{
    int64_t *words = arg;
    fastpool_group *group = fastpool_group_new((fastpool_pool *)(intptr_t)words[3]);
    words[2] = fastpool_submit_batch(group, slow_interrupting, arg, 0, 10);
    if (words[2] == FASTPOOL_OK)
        words[2] = fastpool_wait(group, FASTPOOL_FOREVER);
    fastpool_group_free(group);
    return words[2] == FASTPOOL_OK ? 0 : 1;
}

/* ---- threads that Python has never seen ---- */

typedef struct visitor {
    fastpool_pool *pool;
    int64_t *counts; /* 100 of them, each to become 4 */
    int64_t result;
} visitor;

static fastpool_result visit(visitor *it)
{
    fastpool_group *group = fastpool_group_new(it->pool);
    fastpool_result result = group == NULL ? FASTPOOL_NO_MEMORY : FASTPOOL_OK;
    for (int i = 0; i < 100 && result == FASTPOOL_OK; i++)
        result = fastpool_submit(group, count, &it->counts[i]);
    if (result == FASTPOOL_OK)
        result = fastpool_submit_batch(group, count, it->counts, sizeof(int64_t), 100);
    if (result == FASTPOOL_OK)
        result = fastpool_submit_range(group, count_each, 100, it->counts, 7);
    if (result == FASTPOOL_OK)
        result = fastpool_wait(group, FASTPOOL_FOREVER);
    if (group != NULL)
        fastpool_group_free(group);
    return result == FASTPOOL_OK ? fastpool_parallel_for(it->pool, count_each, 100, it->counts, 0) : result;
}

static void *visitor_main(void *arg)
{
    visitor *it = arg;
    it->result = visit(it);
    return NULL;
}

int in_foreign_threads(visitor *visitors, int64_t threads)
{
    pthread_t made[16];
    int64_t started = 0;
    while (started < threads && pthread_create(&made[started], NULL, visitor_main, &visitors[started]) == 0)
        started++;
    for (int64_t i = 0; i < started; i++)
        pthread_join(made[i], NULL);
    return started == threads ? 0 : -1;
}
