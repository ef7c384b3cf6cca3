/* _wait.c - waiting for a future: helping, spinning, sleeping, and looking up for signals.
 *
 * Journey: submit -> ring -> worker -> callable -> completion -> [FUTURE]. Who waits helps first, if it is a worker of the same
 * pool; then spins a little where a CPU is to spare; then sets PY_WAITING and sleeps on the state word (_future.c, "Waiting"). The
 * main thread looks up now and then, for Python runs signal handlers there.
 */
#include "_bridge.h"

#include "fp_awake.h"
#include "fp_backoff.h"

static fp_atomic(unsigned long) main_thread;

void py_this_is_the_main_thread(void)
{
    fp_store(&main_thread, PyThread_get_thread_ident(), fp_relaxed);
}

/* threading.main_thread().ident. At import and not when first needed: these calls run signal handlers, whose exceptions belong
 * to the caller, and a wait that is about to ask for them could not tell. */
int py_find_main_thread(void)
{
    if (fp_load(&main_thread, fp_relaxed) != 0)
        return 0; /* this is another interpreter of the process; signal handlers are the first one's */
    PyObject *threading = PyImport_ImportModule("threading"), *main = NULL, *ident = NULL;
    if (threading != NULL && (main = PyObject_CallMethod(threading, "main_thread", NULL)) != NULL &&
        (ident = PyObject_GetAttrString(main, "ident")) != NULL)
        fp_store(&main_thread, PyLong_AsUnsignedLong(ident), fp_relaxed);
    Py_XDECREF(ident);
    Py_XDECREF(main);
    Py_XDECREF(threading);
    return PyErr_Occurred() ? -1 : 0;
}

bool py_on_main_thread(void)
{
    return fp_load(&main_thread, fp_relaxed) == PyThread_get_thread_ident();
}

/* Where workers want all CPUs, spinning would take one from them, and so would waking up for each of many results that come
 * one after the other: after a nap there are several. Naps grow while one soon follows the other. */
static void nap(void)
{
    enum { GROWTH = 8 }; /* the longest, in first naps */
    static _Thread_local int64_t length_ns, ended_ns;
    fp_atomic(uint32_t) nobody_wakes = 0;
    int64_t now_ns = fp_os_now_ns();
    if (now_ns - ended_ns > GROWTH * py_spin_ns)
        length_ns = py_spin_ns;
    else if (length_ns < GROWTH * py_spin_ns)
        length_ns *= 2;
    fp_os_wait(&nobody_wakes, 0, now_ns + length_ns);
    ended_ns = fp_os_now_ns();
}

/* Detached: spins a little for a job that is about to end. True when it has. */
static bool spin_until_final(py_future *future)
{
    if (py_spin_ns == 0)
        return false;
    if (fp_awake_count() >= py_usable_cpus) {
        nap();
        return py_future_has_ended(future);
    }
    int64_t until_ns = fp_os_now_ns() + py_spin_ns;
    unsigned round = 0;
    do
        for (int i = 0; i < 8; i++) {
            if (py_future_has_ended(future))
                return true;
            fp_backoff(&round);
        }
    while (fp_os_now_ns() < until_ns);
    return false;
}

/* Detached: the worker that ended the job lets go of the interpreter a moment later; a lock that is still taken would cost
 * a system call on each side. */
static void await_detach(void)
{
    for (int i = 0; i < 64 && fp_load(&py_attached_workers, fp_relaxed) != 0; i++)
        fp_cpu_pause();
}

static void sleep_once(py_future *future, int64_t until_ns)
{
    if (future->kind == PY_ELEMENT) {
        py_element_sleep(future, until_ns);
        return;
    }
    uint32_t state = fp_fetch_or(&future->state, PY_WAITING, fp_acq_rel) | PY_WAITING;
    if (!py_is_final(state))
        fp_os_wait(&future->state, state, until_ns);
}

/* A worker that waits for a job of its own pool runs it, if no one has begun to: else all could wait for each other. */
bool py_future_help(py_future *future)
{
    if (future->core == NULL || py_future_has_ended(future) || !py_on_own_worker(future->core))
        return false;
    if (future->kind == PY_ARRAY) {
        PyObject *capsule = py_future_capsule(future);
        if (capsule != NULL)
            py_array_help(capsule);
        Py_XDECREF(capsule);
    } else if (future->kind == PY_ELEMENT) {
        py_element_help(future);
    } else if (py_future_start(future)) {
        py_job_run_here(future);
    }
    return py_future_has_ended(future);
}

int py_future_refuse_if_forked(py_future *future)
{
    if (future->core == NULL || future->generation == (uint8_t)fp_os_fork_generation ||
        py_future_has_ended(future))
        return 0;
    PyErr_SetString(py_errors_pool, "this job belongs to the parent process, whose workers are not in this one");
    return -1;
}

int py_future_wait(py_future *future, int64_t deadline_ns)
{
    if (py_future_has_ended(future))
        return 1;
    if ((deadline_ns == FP_FOREVER || fp_os_now_ns() < deadline_ns) && py_future_help(future))
        return 1;
    if (py_future_refuse_if_forked(future) < 0)
        return -1;
    bool sliced = py_on_main_thread(), spun = false;
    while (!py_future_has_ended(future)) {
        Py_BEGIN_ALLOW_THREADS
        if (!spun) {
            fp_fetch_add(&py_detached_waiters, 1, fp_relaxed);
            if (spin_until_final(future))
                await_detach();
            fp_fetch_sub(&py_detached_waiters, 1, fp_relaxed);
            spun = true;
        } else {
            sleep_once(future, sliced ? py_slice_until(deadline_ns) : deadline_ns);
        }
        Py_END_ALLOW_THREADS
        if (py_future_has_ended(future))
            return 1;
        if (sliced && PyErr_CheckSignals() < 0)
            return -1;
        if (deadline_ns != FP_FOREVER && fp_os_now_ns() >= deadline_ns)
            return 0;
    }
    return 1;
}
