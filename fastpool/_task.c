/* _task.c - what only few jobs have: a deadline, a context to run in, somebody who wants them to stop.
 *
 * Journey: [SUBMIT] -> ring -> worker -> [CALLABLE OR KERNEL -> COMPLETION] -> future. A future has a task from its submit on where
 * its settings ask for one, and gets one later when the job asks for itself (current_job) or somebody asks it to stop. It is a
 * record of its own, so that a Job object, which may lie in a frame of the job's own traceback, does not hold the future:
 * future -> exception -> traceback -> frame -> Job would be a cycle.
 *
 * Deadlines   Two may end a job that has one, the thread that runs it and the timer's. T1 who sets PY_TASK_CLAIMED ends the
 *             future; the other leaves it alone. One that has not started is the timer's by py_future_start, as it is
 *             anyone's. The runner looks at the clock before it starts the job and when it has ended, so a late timer makes no
 *             difference. What the job was called with stays the runner's until it returns: the timer does not touch it,
 *             but for a kernel's scalars, of which the task has a copy.
 * Counting    A timed out job is counted when its future has ended, and the queue has come to it or the job has returned: by who is
 *             second, the timer or the other (py_task_is_over). So once a pool is idle all its futures have ended.
 * Stopping    O1 PY_STOPPING, as long as it runs   O2 task->stop, if there is a task: a Job has that, and no future.
 *             N1 the task is made   N2 the state word is read, by a read-modify-write: either it sees O1, or O1 comes after
 *             it, and O2 sees N1. The same with a map's batch->stop.
 */
#include "_bridge.h"

#include <stdlib.h>

uint64_t py_task_ids(uint64_t count)
{
    static fp_atomic(uint64_t) next = 1;
    return fp_fetch_add(&next, count, fp_relaxed);
}

py_task *py_task_new(fp_pool *pool, int64_t deadline_ns)
{
    py_task *task = calloc(1, sizeof *task);
    if (task == NULL)
        return (py_task *)PyErr_NoMemory();
    fp_store(&task->references, 1, fp_relaxed);
    task->deadline_ns = deadline_ns;
    task->id = py_task_ids(1);
    task->pool = pool;
    fp_pool_retain(pool);
    return task;
}

void py_task_retain(py_task *task)
{
    fp_fetch_add(&task->references, 1, fp_relaxed);
}

static void drop_held(fp_atomic(PyObject *) *place)
{
    if (fp_load(place, fp_relaxed) != NULL)
        Py_XDECREF(fp_exchange(place, NULL, fp_acq_rel));
}

void py_task_drop(py_task *task)
{
    if (fp_fetch_sub(&task->references, 1, fp_acq_rel) != 1)
        return;
    drop_held(&task->context);
    drop_held(&task->watcher);
    if (!fp_pool_is_forked(task->pool))
        fp_pool_release(task->pool);
    free(task);
}

py_task *py_task_at(fp_atomic(py_task *) *place, fp_pool *pool)
{
    py_task *task = fp_load(place, fp_acquire);
    if (task != NULL)
        return task;
    py_task *made = py_task_new(pool, FP_FOREVER);
    if (made == NULL || fp_cas(place, &task, made, fp_acq_rel, fp_acquire))
        return made;
    py_task_drop(made); /* another thread was first */
    return task;
}

int64_t py_settings_deadline(const py_settings *settings)
{
    if (settings->timeout_ns == FP_FOREVER)
        return settings->until_ns;
    int64_t now_ns = fp_os_now_ns();
    int64_t deadline_ns = settings->timeout_ns < FP_FOREVER - now_ns ? now_ns + settings->timeout_ns : FP_FOREVER;
    return deadline_ns < settings->until_ns ? deadline_ns : settings->until_ns;
}

/* What a job runs in: a new reference, or NULL with MemoryError. */
static PyObject *context_for(const py_settings *settings)
{
    if (settings->context == Py_True)
        return PyContext_CopyCurrent();
    return settings->copies_context ? PyContext_Copy(settings->context) : Py_NewRef(settings->context);
}

int py_task_add(py_future *future, const py_settings *settings)
{
    int64_t deadline_ns = py_settings_deadline(settings);
    if (deadline_ns == FP_FOREVER && settings->context == NULL && settings->watcher == NULL)
        return 0;
    if (deadline_ns != FP_FOREVER && py_timer_start() < 0)
        return -1;
    py_task *task = py_task_new(future->core->pool, deadline_ns);
    if (task == NULL)
        return -1;
    fp_store(&future->task, task, fp_release); /* from here on the future drops it */
    fp_store(&task->watcher, Py_XNewRef(settings->watcher), fp_relaxed);
    if (future->kind == PY_KERNEL)
        memcpy(task->scalars, future->scalars, sizeof task->scalars);
    if (future->kind != PY_CALLABLE || settings->context == NULL)
        return 0;
    PyObject *context = context_for(settings);
    fp_store(&task->context, context, fp_relaxed);
    return context == NULL ? -1 : 0;
}

/* Nothing here follows `core`, which may go as soon as the job has ended. */
void py_future_ask_to_stop(py_future *future)
{
    uint32_t state = fp_load(&future->state, fp_relaxed);
    do
        if ((state & PY_PHASE) != PY_RUNNING)
            return;
    while (!fp_cas(&future->state, &state, state | PY_STOPPING, fp_acq_rel, fp_relaxed)); /* O1 */
    py_task *task = py_future_task(future);
    if (task != NULL)
        fp_store(&task->stop, 1, fp_release); /* O2 */
}

PyObject *py_job_timeout(bool had_started)
{
    const char *text = had_started ? "the job's deadline passed while it ran" : "the job's deadline passed before it could start";
    PyErr_SetString(py_errors_job_timeout, text);
    return py_take_exception();
}

void py_future_time_out(py_future *future, bool had_started)
{
    PyObject *exception = py_job_timeout(had_started);
    py_note_failure(future, exception);
    if (!had_started)
        py_future_drop_call(future);
    if (!had_started || future->kind == PY_KERNEL)
        future->args = NULL; /* no traceback; a kernel's scalars were there */
    py_future_complete(future, PY_FAILED, exception);
}

void py_task_drop_context(py_task *task)
{
    if (task != NULL)
        drop_held(&task->context);
}

void py_task_drop_watcher(py_task *task)
{
    if (task != NULL)
        drop_held(&task->watcher);
}

void py_task_ended(py_task *task, py_future *future, int phase)
{
    if (phase != PY_FAILED) {
        drop_held(&task->watcher);
        return;
    }
    PyObject *watcher = fp_exchange(&task->watcher, NULL, fp_acq_rel);
    if (watcher == NULL)
        return;
    PyObject *none = PyObject_CallOneArg(watcher, (PyObject *)future);
    if (none == NULL)
        PyErr_WriteUnraisable(watcher);
    Py_XDECREF(none);
    Py_DECREF(watcher);
}

bool py_running_should_stop(fp_running *running)
{
    py_running *it = (py_running *)running;
    if (it->batch != NULL)
        return py_batch_should_stop(it->batch);
    py_task *task = py_future_task(it->future);
    return py_future_was_stopped(it->future) || (task != NULL && py_task_is_late(task));
}

int py_running_keep(void)
{
    fp_running *running = fp_running_now;
    if (running == NULL || running->should_stop != py_running_should_stop || ((py_running *)running)->future == NULL) {
        PyErr_SetString(py_errors_pool, "no job runs on this thread");
        return -1;
    }
    py_running *it = (py_running *)running;
    py_task *task = py_future_task(it->future);
    if (!py_has_deadline(task) || it->keeps_future)
        return 1;
    return it->keeps_future = py_task_claim(task);
}

static py_task *task_of_call(py_running *it, int64_t *deadline_ns, uint64_t *id)
{
    py_batch *batch = it->batch;
    py_task *task = py_task_at(&batch->task, batch->view.core->pool); /* N1 */
    if (task != NULL && fp_fetch_or(&batch->stop, UINT32_C(0), fp_acq_rel) != 0) /* N2 */
        fp_store(&task->stop, 1, fp_relaxed);
    *deadline_ns = batch->deadline_ns;
    *id = batch->first_id + (uint64_t)it->index;
    return task;
}

py_task *py_running_task(int64_t *deadline_ns, uint64_t *id)
{
    fp_running *running = fp_running_now;
    if (running == NULL || running->should_stop != py_running_should_stop)
        return NULL;
    py_running *it = (py_running *)running;
    if (it->batch != NULL)
        return task_of_call(it, deadline_ns, id);
    py_task *task = py_task_at(&it->future->task, it->future->core->pool); /* N1 */
    if (task != NULL) {
        if (fp_fetch_or(&it->future->state, UINT32_C(0), fp_acq_rel) & PY_STOPPING) /* N2 */
            fp_store(&task->stop, 1, fp_relaxed);
        *deadline_ns = task->deadline_ns;
        *id = task->id;
    }
    return task;
}

bool py_pool_was_stopped(fp_pool *pool)
{
    return fp_load(&pool->stop, fp_relaxed) != 0;
}

void py_pool_ask_to_stop(fp_pool *pool)
{
    fp_store(&pool->stop, 1, fp_release);
}
