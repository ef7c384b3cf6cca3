/* _host.c - how a worker meets the interpreter: one thread state for life, attach, detach, pulse; and the process's exit.
 *
 * A fresh thread state for each job costs 6.6 microseconds from 3.11 on, a kept one 40 ns, and only a kept one keeps
 * threading.local values; so a worker makes one when it starts and gives it up when it ends.
 *
 * A fight for the interpreter is dear: one who finds it taken sleeps, and is woken, by system calls. In a round trip
 * (submit, result) it is let go a moment after the job is queued, so a warm worker waits that moment out without asking.
 */
#include "_bridge.h"

#include <stdlib.h>

#include "fp_backoff.h"
#include "fp_clock.h"

fp_atomic(uint32_t) py_detached_waiters;
fp_atomic(uint32_t) py_attached_workers;
int64_t py_spin_ns;
uint32_t py_usable_cpus;

PyObject *py_errors_pool, *py_errors_overloaded, *py_errors_submit_timeout, *py_errors_shutdown, *py_errors_broken,
    *py_errors_native, *py_errors_cancelled, *py_errors_job_timeout;

int py_errors_init(PyObject *errors)
{
    static const struct {
        const char *name;
        PyObject **error;
    } all[] = {
        {"PoolError", &py_errors_pool}, {"PoolOverloaded", &py_errors_overloaded},
        {"SubmitTimeout", &py_errors_submit_timeout}, {"PoolShutdown", &py_errors_shutdown},
        {"BrokenThreadPool", &py_errors_broken}, {"NativeJobError", &py_errors_native},
        {"CancelledError", &py_errors_cancelled}, {"JobTimeout", &py_errors_job_timeout},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if ((*all[i].error = PyObject_GetAttrString(errors, all[i].name)) == NULL)
            return -1;
    return 0;
}

/* Guards the list of pools, and before 3.12 the making of thread states: it is held across a fork, so that the child finds
 * them whole. Never held while waiting for the interpreter. */
static pthread_mutex_t fork_lock = PTHREAD_MUTEX_INITIALIZER;

static void lock_forks(void)
{
    pthread_mutex_lock(&fork_lock);
}

static void unlock_forks(void)
{
    pthread_mutex_unlock(&fork_lock);
}

static void start_child(void)
{
    unlock_forks();
    py_this_is_the_main_thread();
    py_timer_start_child();
}

int py_host_init(void)
{
    if (pthread_atfork(lock_forks, unlock_forks, start_child) != 0)
        return PyErr_NoMemory(), -1;
    return py_find_main_thread();
}

/* A worker's tie to the interpreter. */
static _Thread_local struct {
    PyThreadState *state; /* NULL on threads that are no workers */
} mine;

/* A warm worker waits this long for someone to let go of the interpreter before it asks for it. */
enum { COURTESY_NS = 5000 };

static void await_interpreter(void)
{
#ifndef Py_GIL_DISABLED
    int64_t until_ns = fp_os_now_ns() + (py_spin_ns < COURTESY_NS ? py_spin_ns : COURTESY_NS);
    do
        for (int i = 0; i < 8; i++) {
            if (fp_load(&py_detached_waiters, fp_relaxed) != 0)
                return;
            fp_cpu_pause();
        }
    while (fp_os_now_ns() < until_ns);
#endif
}

static void attach(void *arg, fp_worker *worker, bool warm)
{
    (void)worker;
    if (warm)
        await_interpreter();
    fp_fetch_add(&py_attached_workers, 1, fp_relaxed);
    PyEval_RestoreThread(mine.state);
    py_flush_reaped(arg);
    py_reap(arg);
}

static void detach(void *arg, fp_worker *worker)
{
    (void)arg, (void)worker;
    PyEval_SaveThread();
    fp_fetch_sub(&py_attached_workers, 1, fp_relaxed);
}

/* The worker's own flag does not tell: it may be attached for a callback, or detached within a job. */
static bool is_attached(void)
{
    PyThreadState *own = mine.state != NULL ? mine.state : PyGILState_GetThisThreadState();
#if PY_VERSION_HEX >= 0x030D0000
    return own != NULL && PyThreadState_GetUnchecked() == own;
#else
    return own != NULL && _PyThreadState_UncheckedGet() == own;
#endif
}

py_tie py_attach_now(void)
{
    if (is_attached())
        return PY_WAS_ATTACHED;
    if (mine.state == NULL) { /* a thread of someone else's, perhaps one that Python has never seen */
        PyGILState_Ensure();
        return PY_TIED_BRIEFLY;
    }
    PyEval_RestoreThread(mine.state);
    return PY_TIED_WORKER;
}

void py_detach_again(py_tie tie)
{
    if (tie == PY_TIED_WORKER)
        PyEval_SaveThread();
    else if (tie == PY_TIED_BRIEFLY)
        PyGILState_Release(PyGILState_UNLOCKED);
}

static void *enter(void *arg)
{
    (void)arg;
    return (void *)(intptr_t)py_attach_now();
}

static void leave(void *arg, void *token)
{
    (void)arg;
    py_detach_again((py_tie)(intptr_t)token);
}

/* Native jobs that this thread runs while it waits for something, one inside the other. */
static _Thread_local unsigned jobs_inside;

bool py_runs_jobs(void)
{
    return jobs_inside != 0;
}

static void *let_go(void *arg)
{
    (void)arg;
    jobs_inside++;
    return is_attached() ? PyEval_SaveThread() : NULL;
}

static void take_back(void *arg, void *token)
{
    (void)arg;
    jobs_inside--;
    if (token != NULL)
        PyEval_RestoreThread(token);
}

/* Callables made in C never pass the interpreter's own check for threads that wait; one call of a Python function does. */
static void pulse(void *arg, fp_worker *worker)
{
    (void)worker;
    PyObject *none = PyObject_CallMethod(((py_pool *)arg)->hooks, "pulse", NULL);
    if (none == NULL)
        PyErr_WriteUnraisable(NULL);
    Py_XDECREF(none);
}

static void idle(void *arg, fp_worker *worker)
{
    py_pool *core = arg;
    (void)worker;
    py_flush_reaped(core);
    if (fp_load(&core->reap, fp_relaxed) == NULL)
        return;
    PyEval_RestoreThread(mine.state);
    py_reap(core);
    PyEval_SaveThread();
}

bool py_hooks_hold(py_pool *core)
{
    int users = fp_load(&core->hooks_users, fp_relaxed);
    do
        if (users == 0)
            return false;
    while (!fp_cas(&core->hooks_users, &users, users + 1, fp_acquire, fp_relaxed));
    return true;
}

void py_hooks_drop(py_pool *core)
{
    if (fp_fetch_sub(&core->hooks_users, 1, fp_acq_rel) == 1)
        Py_CLEAR(core->hooks);
}

/* Before a thread starts: the pool's owner may be gone before the thread has come as far as to take a reference. A thread
 * that could not be started is never the last user, for whoever wanted to start it is one too. */
static void worker_count(void *arg, int change)
{
    fp_fetch_add(&((py_pool *)arg)->hooks_users, change, fp_relaxed);
}

/* A thread state for the calling thread, which PyGILState_Ensure in a kernel's callback will find. That function itself ends
 * the process when there is no memory for one; this waits for some. */
#if PY_VERSION_HEX < 0x030C0000
extern void _PyThreadState_SetCurrent(PyThreadState *); /* exported, but declared in an internal header */
static PyThreadState *try_thread_state(void)
{
    lock_forks(); /* a child could find the interpreter's own lock taken here, for ever */
    PyThreadState *state = _PyThreadState_Prealloc(PyInterpreterState_Main()); /* PyThreadState_New crashes there */
    if (state != NULL)
        _PyThreadState_SetCurrent(state);
    unlock_forks();
    return state;
}
#else
/* Here the interpreter takes its lock before it forks. Ours must not be held: without the GIL this may stop the world, which
 * waits for attached threads, and one of those may be waiting for our lock. */
static PyThreadState *try_thread_state(void)
{
    return PyThreadState_New(PyInterpreterState_Main());
}
#endif

static PyThreadState *new_thread_state(void)
{
    enum { PAUSE_NS = 1000 * 1000 };
    fp_atomic(uint32_t) nobody_wakes = 0;
    PyThreadState *state;
    while ((state = try_thread_state()) == NULL)
        fp_os_wait(&nobody_wakes, 0, fp_os_now_ns() + PAUSE_NS);
    return state;
}

void py_thread_attach(void)
{
    PyEval_RestoreThread(mine.state);
}

void py_thread_detach(void)
{
    PyEval_SaveThread();
}

void py_thread_begin(void)
{
    mine.state = new_thread_state();
    py_thread_attach();
}

void py_thread_end(void)
{
    mine.state = NULL;
    PyThreadState_Clear(PyThreadState_Get());
    PyThreadState_DeleteCurrent();
}

static int worker_start(void *arg, fp_worker *worker)
{
    py_pool *core = arg;
    py_thread_begin();
    PyObject *ready = PyObject_CallMethod(core->hooks, "worker_started", "i", (int)worker->id);
    int failed = ready == NULL || ready == Py_False;
    if (ready == NULL)
        PyErr_WriteUnraisable(core->hooks);
    Py_XDECREF(ready);
    PyEval_SaveThread();
    return failed;
}

static void worker_stop(void *arg, fp_worker *worker)
{
    py_pool *core = arg;
    PyEval_RestoreThread(mine.state);
    py_flush_reaped(core);
    py_reap(core);
    int unneeded = worker->unneeded && fp_pool_is_open(worker->pool); /* at a shutdown all leave for that */
    PyObject *none = PyObject_CallMethod(core->hooks, "worker_stopped", "ii", (int)worker->id, unneeded);
    if (none == NULL)
        PyErr_WriteUnraisable(core->hooks);
    Py_XDECREF(none);
    py_hooks_drop(core);
    py_thread_end();
}

/* ---- all pools of the process ---- */

static py_pool *pools;
static bool exiting; /* the interpreter ends: no pool is opened any more */

static void enlist(py_pool *core)
{
    lock_forks();
    core->previous = NULL;
    core->next = pools;
    if (pools != NULL)
        pools->previous = core;
    pools = core;
    unlock_forks();
}

/* The pool's last reference has gone, be it the owner's or a worker's. */
static void free_core(void *arg)
{
    py_pool *core = arg;
    lock_forks();
    if (core->previous != NULL)
        core->previous->next = core->next;
    else if (pools == core)
        pools = core->next;
    if (core->next != NULL)
        core->next->previous = core->previous;
    unlock_forks();
    free(core);
}

/* A pool that is not known to be ended, with a reference to it; NULL when all are. */
static py_pool *retain_live_pool(void)
{
    py_pool *core;
    lock_forks();
    for (core = pools; core != NULL; core = core->next)
        if (!fp_pool_is_forked(core->pool) && !fp_pool_has_ended(core->pool)) {
            fp_pool_retain(core->pool);
            break;
        }
    unlock_forks();
    return core;
}

int py_pools_drain_all(void)
{
    py_pool *core;
    exiting = true;
    while ((core = retain_live_pool()) != NULL) {
        fp_wait_result why = FP_WAIT_WOKEN;
        bool ended = false;
        fp_pool_close(core->pool);
        while (!ended) {
            Py_BEGIN_ALLOW_THREADS
            ended = fp_pool_wait_ended(core->pool, py_slice_until(FP_FOREVER), &why);
            Py_END_ALLOW_THREADS
            if (!ended && PyErr_CheckSignals() < 0)
                break;
        }
        fp_pool_release(core->pool);
        if (!ended)
            return -1;
    }
    return py_timer_stop();
}

py_pool *py_pool_create(const fp_pool_options *options, PyObject *hooks, const py_settings *settings)
{
    fp_host host = {.worker_count = worker_count, .worker_start = worker_start, .worker_stop = worker_stop,
                    .attach = attach, .detach = detach, .pulse = pulse, .idle = idle,
                    .let_go = let_go, .take_back = take_back, .enter = enter, .leave = leave, .free = free_core};
    py_pool *core = calloc(1, sizeof *core);
    if (core == NULL)
        return (py_pool *)PyErr_NoMemory();
    host.arg = core;
    core->pool = fp_pool_create(options, &host);
    if (core->pool == NULL) {
        free(core);
        return (py_pool *)PyErr_NoMemory();
    }
    if (exiting)
        fp_pool_close(core->pool); /* as with the standard executors, it is submit that refuses */
    core->hooks = Py_NewRef(hooks);
    fp_store(&core->hooks_users, 1, fp_relaxed);
    core->settings = *settings;
    enlist(core);
    return core;
}

void py_pool_destroy(py_pool *core)
{
    if (fp_pool_is_forked(core->pool))
        return; /* its workers are in the parent; locks may be held by threads that are not here. The memory stays. */
    py_reap(core);
    fp_pool_close(core->pool);
    py_hooks_drop(core);
    fp_pool_release(core->pool);
}
