/* _timer.c - the thread that ends jobs at their deadlines: one for the process, from the first deadline on.
 *
 * Journey: submit -> ring -> worker -> callable -> [COMPLETION -> FUTURE]. A future with a deadline is armed (csrc/fp_timer.h)
 * before it is queued, and disarmed by whoever takes its record off the queue and has done with it, before the queue's
 * reference to the future is dropped. So a future that the timer finds armed is alive, and it takes a reference of its own
 * under the timer's lock. Nobody waits for the interpreter under that lock.
 *
 * A future's callbacks run on this thread where the deadline ends it; one that takes long delays other deadlines, not the
 * jobs' seeing that they are over.
 */
#include "_bridge.h"

#include <stddef.h>

static struct {
    fp_timer timer;
    pthread_mutex_t lock; /* guards writing the rest */
    fp_atomic(bool) running;
    bool made;
    fp_thread thread;
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
    if (py_has_deadline(task) && (fp_fetch_or(&task->claimed, IS_QUEUED, fp_acq_rel) & IS_DUE))
        expire_range(future);
}

static void expire(py_future *future)
{
    py_task *task = py_future_task(future);
    if (future->kind == PY_ARRAY || future->kind == PY_CARRIER) {
        if (fp_fetch_or(&task->claimed, IS_DUE, fp_acq_rel) & IS_QUEUED)
            expire_range(future);
    } else if (py_future_expire(future)) {
        py_future_time_out(future, false);
    } else if (py_future_phase(future) == PY_RUNNING && py_task_claim(task)) {
        py_future_time_out(future, true);
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
    return NULL;
}

/* Under the lock, which is never held while waiting for the interpreter. 0, or the errno. */
static int start_thread(void)
{
    if (fp_load(&the.running, fp_relaxed))
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
    if (py_has_deadline(task))
        fp_timer_disarm(&the.timer, &task->timer);
}

void py_timer_stop(void)
{
    if (!fp_exchange(&the.running, false, fp_acq_rel))
        return;
    fp_timer_stop(&the.timer);
    Py_BEGIN_ALLOW_THREADS
    fp_thread_join(the.thread);
    Py_END_ALLOW_THREADS
}

void py_timer_start_child(void)
{
    pthread_mutex_init(&the.lock, NULL); /* a thread that is not here may have had it */
    the.made = false;
    fp_store(&the.running, false, fp_relaxed);
}
