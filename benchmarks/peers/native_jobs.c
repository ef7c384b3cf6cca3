/* native_jobs.c - the work by fastpool's C API: a module whose functions release the GIL and submit from C. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <fastpool.h>
#include <stdlib.h>

#include "work.h"

/* A job with a result: where it comes from and where it goes. */
typedef struct result_job {
    work_element function;
    double x;
    double *result;
} result_job;

static int compute(void *arg)
{
    result_job *job = arg;
    *job->result = job->function(job->x);
    return 0;
}

/* A call of a function for each element of an array. */
typedef struct array_work {
    work_element function;
    const double *x;
    double *out;
} array_work;

static int compute_range(int64_t begin, int64_t end, void *arg)
{
    const array_work *work = arg;
    for (int64_t i = begin; i < end; i++)
        work->out[i] = work->function(work->x[i]);
    return 0;
}

/* ---- without the GIL ---- */

static fastpool_result submit_numbers(fastpool_group *group, work_job job, int64_t n)
{
    fastpool_result result = FASTPOOL_OK;
    for (int64_t i = 0; i < n && result == FASTPOOL_OK; i++)
        result = fastpool_submit(group, job, (void *)(intptr_t)i);
    return result;
}

static fastpool_result submit_results(fastpool_group *group, work_element function, const double *x, double *out, result_job *jobs,
                                      int64_t n)
{
    fastpool_result result = FASTPOOL_OK;
    for (int64_t i = 0; i < n && result == FASTPOOL_OK; i++) {
        jobs[i] = (result_job){function, x[i], &out[i]};
        result = fastpool_submit(group, compute, &jobs[i]);
    }
    return result;
}

static fastpool_result map_often(fastpool_pool *pool, array_work *work, int64_t n, int64_t grain, int64_t calls)
{
    fastpool_result result = FASTPOOL_OK;
    for (int64_t call = 0; call < calls && result == FASTPOOL_OK; call++)
        result = fastpool_parallel_for(pool, compute_range, n, work, grain);
    return result;
}

static fastpool_result wait_after(fastpool_group *group, fastpool_result submitted)
{
    fastpool_result waited = fastpool_wait(group, FASTPOOL_FOREVER);
    return submitted != FASTPOOL_OK ? submitted : waited;
}

/* ---- with it ---- */

static PyObject *answer(fastpool_result result)
{
    if (result == FASTPOOL_OK)
        Py_RETURN_NONE;
    if (!PyErr_Occurred()) /* a signal handler's exception is set already */
        PyErr_Format(PyExc_RuntimeError, "a call of fastpool's C API returned %d", (int)result);
    return NULL;
}

static PyObject *finished(fastpool_group *group, fastpool_result result)
{
    fastpool_group_free(group);
    return answer(result);
}

/* The group for a call's jobs, on the pool that is its first argument. */
static fastpool_group *group_of(PyObject *object)
{
    fastpool_pool *pool = fastpool_from_object(object);
    fastpool_group *group = pool != NULL ? fastpool_group_new(pool) : NULL;
    if (group == NULL && !PyErr_Occurred())
        PyErr_NoMemory();
    return group;
}

static PyObject *dispatch(PyObject *module, PyObject *args)
{
    PyObject *pool;
    unsigned long long job;
    long long n;
    fastpool_result result;
    (void)module;
    if (!PyArg_ParseTuple(args, "OKL", &pool, &job, &n))
        return NULL;
    fastpool_group *group = group_of(pool);
    if (group == NULL)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    result = wait_after(group, submit_numbers(group, (work_job)(uintptr_t)job, n));
    Py_END_ALLOW_THREADS
    return finished(group, result);
}

static PyObject *results(PyObject *module, PyObject *args)
{
    PyObject *pool;
    unsigned long long function, x, out;
    long long n;
    fastpool_result result;
    (void)module;
    if (!PyArg_ParseTuple(args, "OKKKL", &pool, &function, &x, &out, &n))
        return NULL;
    fastpool_group *group = group_of(pool);
    if (group == NULL)
        return NULL;
    result_job *jobs = malloc((size_t)n * sizeof *jobs);
    if (jobs == NULL)
        return finished(group, FASTPOOL_NO_MEMORY);
    Py_BEGIN_ALLOW_THREADS
    result = wait_after(group, submit_results(group, (work_element)(uintptr_t)function, (const double *)(uintptr_t)x,
                                              (double *)(uintptr_t)out, jobs, n));
    Py_END_ALLOW_THREADS
    PyObject *found = finished(group, result);
    free(jobs);
    return found;
}

static PyObject *map(PyObject *module, PyObject *args)
{
    PyObject *object;
    unsigned long long function, x, out;
    long long n, grain, calls;
    fastpool_result result;
    (void)module;
    if (!PyArg_ParseTuple(args, "OKKKLLL", &object, &function, &x, &out, &n, &grain, &calls))
        return NULL;
    fastpool_pool *pool = fastpool_from_object(object);
    if (pool == NULL)
        return NULL;
    array_work work = {(work_element)(uintptr_t)function, (const double *)(uintptr_t)x, (double *)(uintptr_t)out};
    Py_BEGIN_ALLOW_THREADS
    result = map_often(pool, &work, n, grain, calls);
    Py_END_ALLOW_THREADS
    return answer(result);
}

static PyMethodDef methods[] = {
    {"dispatch", dispatch, METH_VARARGS, "dispatch(pool, job, n): job(0), job(1), ... job(n - 1), a submit each, and wait."},
    {"results", results, METH_VARARGS, "results(pool, function, x, out, n): out[i] = function(x[i]), a submit each, and wait."},
    {"map", map, METH_VARARGS, "map(pool, function, x, out, n, grain, calls): the same by fastpool_parallel_for, `calls` times."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "native_jobs", .m_size = -1, .m_methods = methods};

PyMODINIT_FUNC PyInit_native_jobs(void)
{
    if (fastpool_import() != 0)
        return NULL;
    PyObject *module = PyModule_Create(&definition);
#ifdef Py_GIL_DISABLED
    if (module != NULL)
        PyUnstable_Module_SetGIL(module, Py_MOD_GIL_NOT_USED);
#endif
    return module;
}
