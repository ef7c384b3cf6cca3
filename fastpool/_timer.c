/* _timer.c - the thread that ends jobs at their deadlines: one for the process, from the first deadline on.
 *
 * Journey: submit -> ring -> worker -> callable -> [COMPLETION -> FUTURE]. A future with a deadline is armed (csrc/fp_timer.h)
 * before it is queued, and disarmed by whoever takes its record off the queue and has done with it, before the queue's
 * reference to the future is dropped. So a future that the timer finds armed is alive, and it takes a reference of its own
 * under the timer's lock. Nobody waits for the interpreter under that lock. The future's task holds the pool.
 *
 * A future's callbacks run on this thread where the deadline ends it; one that takes long delays other deadlines, not the
 * jobs' seeing that they are over.
 */
#include "_bridge.h"

#include <stddef.h>

static struct {
    fp_timer timer;
    pthread_mutex_t lock; /* guards writing the next three */
    fp_atomic(bool) running;
    bool made;
    bool over;            /* the interpreter ends: the thread is not started again */
    fp_thread thread;
    fp_atomic(uint32_t) ended; /* the thread has let go of the interpreter for good */
} the = {.lock = PTHREAD_MUTEX_INITIALIZER};

static py_task *task_of(fp_timer_entry *entry)
{
    return (py_task *)((char *)entry - offsetof(py_task, timer));
}

/* Attached, under the timer's lock. */
static void claim(fp_timer_entry *entry)
{
    Py_INCREF(task_of(entry)->future);
}

/* Of a range: its jobs are counted as timed out at once, so it must have been counted as submitted. Who comes second, the timer or
 * the submitter after queueing it, has both. */
enum { IS_DUE = 1, IS_QUEUED = 2 };

static void expire_range(py_future *future)
{
    if (future->kind == PY_ARRAY)
        py_array_time_out(future);
    else
        py_many_time_out(future);
}

void py_timer_queued(py_future *future)
{
    py_task *task = py_future_task(future);
    if (py_has_deadline(task) && (fp_fetch_or(&task->marks, (uint32_t)IS_QUEUED, fp_acq_rel) & IS_DUE))
        expire_range(future);
}

/* Of the timer's thread: whose job it ends. */
static _Thread_local const fp_pool *ends_job_of;

bool py_timer_ends_job_of(const fp_pool *pool)
{
    return ends_job_of == pool;
}

static void expire_single(py_future *future, py_task *task)
{
    bool unstarted = py_future_start_to_end(future);
    if (!unstarted && (py_future_phase(future) != PY_RUNNING || !py_task_claim(task))) /* T1 */
        return;
    ends_job_of = task->pool;
    py_future_time_out(future, !unstarted);
    ends_job_of = NULL;
    if (py_task_is_over(task, PY_TASK_ENDED)) {
        fp_pool_note(task->pool, FP_TIMED_OUT, 1);
        fp_pool_told_idle(task->pool);
    }
}

static void expire(py_future *future)
{
    py_task *task = py_future_task(future);
    if (future->kind == PY_ARRAY || future->kind == PY_CARRIER) {
        if (fp_fetch_or(&task->marks, (uint32_t)IS_DUE, fp_acq_rel) & IS_QUEUED)
            expire_range(future);
    } else if (py_hooks_hold(future->core)) {
        expire_single(future, task);
        py_hooks_drop(future->core);
    }
}

static void expire_all(void)
{
    fp_timer_entry *entry = fp_timer_take_due(&the.timer, fp_os_now_ns(), claim);
    while (entry != NULL) {
        fp_timer_entry *next = entry->next;
        py_future *future = task_of(entry)->future;
        expire(future);
        Py_DECREF(future); /* and with it, perhaps, the entry */
        entry = next;
    }
}

static void *timer_main(void *unused)
{
    (void)unused;
    fp_thread_set_name("fastpool-timer");
    py_thread_begin();
    py_thread_detach();
    while (fp_timer_wait(&the.timer)) {
        py_thread_attach();
        expire_all();
        py_thread_detach();
    }
    py_thread_attach();
    py_thread_end();
    fp_store(&the.ended, 1, fp_release);
    fp_os_wake(&the.ended, 1);
    return NULL;
}

/* Under the lock, which is never held while waiting for the interpreter. 0, or the errno. */
static int start_thread(void)
{
    if (fp_load(&the.running, fp_relaxed) || the.over)
        return 0;
    if (!the.made)
        fp_timer_init(&the.timer);
    the.made = true;
    int error = fp_thread_start(&the.thread, timer_main, NULL);
    fp_store(&the.running, error == 0, fp_release);
    return error;
}

int py_timer_start(void)
{
    if (fp_load(&the.running, fp_acquire))
        return 0;
    pthread_mutex_lock(&the.lock);
    int error = start_thread();
    pthread_mutex_unlock(&the.lock);
    if (error == 0)
        return 0;
    PyErr_SetString(py_errors_pool, "can't start new thread, which is needed for deadlines");
    return -1;
}

void py_timer_arm(py_future *future)
{
    py_task *task = py_future_task(future);
    if (!py_has_deadline(task))
        return;
    task->future = future;
    fp_timer_arm(&the.timer, &task->timer, task->deadline_ns);
}

void py_timer_disarm(py_future *future)
{
    py_task *task = py_future_task(future);
    if (py_has_deadline(task) && future->generation == (uint8_t)fp_os_fork_generation) /* else it is in the parent's wheel */
        fp_timer_disarm(&the.timer, &task->timer);
}

/* The thread may be in somebody's callback, for as long as that takes. */
static int wait_ended(void)
{
    while (fp_load(&the.ended, fp_acquire) == 0) {
        Py_BEGIN_ALLOW_THREADS
        fp_os_wait(&the.ended, 0, py_slice_until(FP_FOREVER));
        Py_END_ALLOW_THREADS
        if (PyErr_CheckSignals() < 0)
            return -1;
    }
    return 0;
}

int py_timer_stop(void)
{
    pthread_mutex_lock(&the.lock);
    bool running = fp_exchange(&the.running, false, fp_acq_rel);
    the.over = true;
    pthread_mutex_unlock(&the.lock);
    if (!running)
        return 0;
    fp_timer_stop(&the.timer);
    if (wait_ended() < 0) {
        fp_thread_detach(the.thread);
        return -1;
    }
    fp_thread_join(the.thread);
    return 0;
}

/* Threads that are not here may have had the locks, and been about to change the wheel; and what is in it is the parent's. */
void py_timer_start_child(void)
{
    pthread_mutex_init(&the.lock, NULL);
    if (the.made)
        fp_timer_init(&the.timer);
    fp_store(&the.running, false, fp_relaxed);
    fp_store(&the.ended, 0, fp_relaxed);
}
