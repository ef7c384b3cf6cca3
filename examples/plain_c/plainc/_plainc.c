/* _plainc.c - fastpool's C API in plain C: a range of jobs (primes), jobs that submit jobs and wait for them (queens), and
 * the pool's metrics. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <fastpool.h>
#include <stdatomic.h>
#include <stdlib.h>

/* ---- results become exceptions ---- */

static const char *const errors[] = { /* of the module fastpool; where there is none, PoolError */
    [FASTPOOL_CANCELLED] = "CancelledError",
    [FASTPOOL_TIMED_OUT] = "SubmitTimeout",
    [FASTPOOL_FULL] = "PoolOverloaded",
    [FASTPOOL_CLOSED] = "PoolShutdown",
    [FASTPOOL_BROKEN] = "BrokenThreadPool",
    [FASTPOOL_INVALID] = NULL,
};

/* Always NULL. */
static PyObject *raise_result(fastpool_result result)
{
    if (result == FASTPOOL_INTERRUPTED)
        return NULL; /* its exception is there already */
    if (result == FASTPOOL_NO_MEMORY)
        return PyErr_NoMemory();
    PyObject *module = PyImport_ImportModule("fastpool");
    if (module == NULL)
        return NULL;
    PyObject *error = PyObject_GetAttrString(module, errors[result] != NULL ? errors[result] : "PoolError");
    if (error != NULL)
        PyErr_Format(error, "the pool did not do it: fastpool_result %d", (int)result);
    Py_XDECREF(error);
    Py_DECREF(module);
    return NULL;
}

/* ---- a range: the primes below n ---- */

static int is_prime(int64_t n)
{
    if (n < 4)
        return n > 1;
    if (n % 2 == 0)
        return 0;
    for (int64_t d = 3; d <= n / d; d += 2)
        if (n % d == 0)
            return 0;
    return 1;
}

static int count_primes_between(int64_t begin, int64_t end, void *arg)
{
    int64_t found = 0;
    for (int64_t i = begin; i < end; i++)
        found += is_prime(i);
    atomic_fetch_add_explicit((_Atomic int64_t *)arg, found, memory_order_relaxed); /* once a piece, not for each prime */
    return 0;
}

static PyObject *count_primes(PyObject *module, PyObject *args)
{
    PyObject *object;
    long long n;
    (void)module;
    if (!PyArg_ParseTuple(args, "OL:count_primes", &object, &n))
        return NULL;
    fastpool_pool *pool = fastpool_from_object(object);
    if (pool == NULL)
        return NULL;
    _Atomic int64_t found = 0;
    /* The GIL may be held here: fastpool lets go of it while it waits, and while this thread takes part. */
    fastpool_result result = fastpool_parallel_for(pool, count_primes_between, n, &found, 0);
    return result == FASTPOOL_OK ? PyLong_FromLongLong(atomic_load(&found)) : raise_result(result);
}

/* ---- divide and conquer: the ways to place n queens that do not attack each other ---- */

enum { MOST_QUEENS = 20, ROWS_OF_JOBS = 3, FAILED = 1 };

/* Queens stand in the rows above `row`. Bit c of the masks: column c of this row is taken, or attacked along a diagonal. */
typedef struct board {
    fastpool_pool *pool;
    int n, row;
    uint32_t columns, left, right;
    int64_t ways;              /* the job's result */
    fastpool_result result;    /* what went wrong with it */
} board;

static uint32_t free_columns(const board *board)
{
    return ((UINT32_C(1) << board->n) - 1) & ~(board->columns | board->left | board->right);
}

static board with_queen(const board *above, uint32_t column)
{
    return (board){.pool = above->pool, .n = above->n, .row = above->row + 1, .columns = above->columns | column,
                   .left = (above->left | column) << 1, .right = (above->right | column) >> 1};
}

static int64_t count_ways(const board *above)
{
    int64_t ways = 0;
    if (above->row == above->n)
        return 1;
    for (uint32_t columns = free_columns(above); columns != 0; columns &= columns - 1) {
        board next = with_queen(above, columns & -columns);
        ways += count_ways(&next);
    }
    return ways;
}

static int place_queen(void *arg);

/* A job for each column of this row. It waits in a worker for jobs of the same pool: the worker runs them meanwhile, so one
 * worker is enough, and a full queue is no obstacle. */
static fastpool_result place_next(board *above, board *next, int *count)
{
    fastpool_group *group = fastpool_group_new(above->pool);
    fastpool_result result = group == NULL ? FASTPOOL_NO_MEMORY : FASTPOOL_OK;
    *count = 0;
    for (uint32_t columns = free_columns(above); columns != 0 && result == FASTPOOL_OK; columns &= columns - 1) {
        next[*count] = with_queen(above, columns & -columns);
        result = fastpool_submit(group, place_queen, &next[(*count)++]);
    }
    if (result == FASTPOOL_OK)
        result = fastpool_wait(group, FASTPOOL_FOREVER);
    if (group != NULL)
        fastpool_group_free(group); /* after an error: cancels and waits, for `next` is the caller's */
    return result;
}

static int place_queen(void *arg)
{
    board *here = arg, next[MOST_QUEENS];
    int count;
    if (here->row >= ROWS_OF_JOBS || here->row == here->n) {
        here->ways = count_ways(here);
        return 0;
    }
    here->result = place_next(here, next, &count);
    for (int i = 0; i < count; i++) {
        here->ways += next[i].ways;
        if (here->result == FASTPOOL_FAILED && next[i].result != FASTPOOL_OK)
            here->result = next[i].result; /* the reason from further down */
    }
    return here->result == FASTPOOL_OK ? 0 : FAILED;
}

static PyObject *queens(PyObject *module, PyObject *args)
{
    PyObject *object;
    board start = {0};
    (void)module;
    if (!PyArg_ParseTuple(args, "Oi:queens", &object, &start.n))
        return NULL;
    if (start.n < 1 || start.n > MOST_QUEENS)
        return PyErr_Format(PyExc_ValueError, "n must be between 1 and %d, got %d", MOST_QUEENS, start.n);
    if ((start.pool = fastpool_from_object(object)) == NULL)
        return NULL;
    return place_queen(&start) == 0 ? PyLong_FromLongLong(start.ways) : raise_result(start.result);
}

/* ---- metrics ---- */

static PyObject *metrics(PyObject *module, PyObject *object)
{
    fastpool_metrics found;
    (void)module;
    fastpool_pool *pool = fastpool_from_object(object);
    if (pool == NULL)
        return NULL;
    fastpool_result result = fastpool_read_metrics(pool, &found);
    if (result != FASTPOOL_OK)
        return raise_result(result);
    return Py_BuildValue("{s:K,s:K,s:K,s:K,s:K}", "workers", (unsigned long long)found.workers,
                         "jobs_submitted", (unsigned long long)found.jobs_submitted,
                         "jobs_processed", (unsigned long long)found.jobs_processed,
                         "jobs_failed", (unsigned long long)found.jobs_failed,
                         "jobs_cancelled", (unsigned long long)found.jobs_cancelled);
}

/* ---- the module ---- */

static PyMethodDef methods[] = {
    {"count_primes", count_primes, METH_VARARGS, "count_primes(pool, n)\n--\n\nHow many primes are below n."},
    {"queens", queens, METH_VARARGS, "queens(pool, n)\n--\n\nIn how many ways n queens can stand on a board of n by n."},
    {"metrics", metrics, METH_O, "metrics(pool)\n--\n\nSome of the pool's counters, as a dict."},
    {NULL, NULL, 0, NULL},
};

static int prepare(PyObject *module)
{
    (void)module;
    return fastpool_import(); /* once for each C file that calls fastpool */
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, prepare},
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT, .m_name = "plainc._plainc", .m_methods = methods, .m_slots = slots};

PyMODINIT_FUNC PyInit__plainc(void)
{
    return PyModuleDef_Init(&definition);
}
