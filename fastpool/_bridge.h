/* _bridge.h - what the C files of the Python side share: the future, the pool's Python half, the errors.
 *
 * Journey of one Python job, file by file:
 *   _submit.c  makes the future, which is the job's record on the Python side, and hands it to csrc/fp_pool.c
 *   _host.c    attaches a worker to the interpreter
 *   _job.c     runs the callable on the worker and completes the future
 *   _future.c  the future: its life, its states, its methods
 *   _wait.c    waiting for one
 *   _standard.c  what the standard library reaches for in it
 *   _task.c    what only few jobs have: a deadline, a context, somebody who asks them to stop
 *   _timer.c   the thread that ends jobs at their deadlines
 *   _map.c     the same journey for one record that stands for many calls
 *   _trace.c   what jobs are called, for who asks what ran when
 * _core.pyx puts them together into a module.
 */
#ifndef FASTPOOL_BRIDGE_H
#define FASTPOOL_BRIDGE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "fp_atomic.h"
#include "fp_loops.h"
#include "fp_pool.h"
#include "fp_running.h"
#include "fp_timer.h"
#include "fp_trace.h"
#include "fp_worker.h"

/* ---- references that go from thread to thread ---- */

/* Without the GIL an object counts its owner's references apart from those of other threads, and when another thread drops
 * one that the owner has taken, it has to queue the object for its owner to settle. So a reference that another thread
 * is going to drop is counted with the others from the start. */
static inline PyObject *py_new_ref_to_pass(PyObject *object)
{
#ifdef Py_GIL_DISABLED
    if (!_Py_IsImmortal(object))
        _Py_atomic_add_ssize(&object->ob_ref_shared, (Py_ssize_t)1 << _Py_REF_SHARED_SHIFT);
    return object;
#else
    return Py_NewRef(object);
#endif
}

/* The same of a reference that the calling thread has already. */
static inline PyObject *py_ref_to_pass(PyObject *object)
{
#ifdef Py_GIL_DISABLED
    py_new_ref_to_pass(object);
    Py_DECREF(object);
#endif
    return object;
}

/* Without the GIL several threads may be at one object. */
#ifndef Py_BEGIN_CRITICAL_SECTION
#define Py_BEGIN_CRITICAL_SECTION(object) {
#define Py_END_CRITICAL_SECTION() }
#endif

/* ---- the pool's Python half ---- */

typedef enum py_on_full {
    PY_ON_FULL_BLOCK,
    PY_ON_FULL_RAISE,
    PY_ON_FULL_CALLER_RUNS,
    PY_ON_FULL_DISCARD_OLDEST,
    PY_ON_FULL_REFUSE, /* nobody's choice: of one that will ask again (_submit_unless_full) */
} py_on_full;

/* How jobs are submitted: a pool's own way, or that of an options() view of it. */
typedef struct py_settings {
    py_on_full on_full;
    fp_lane lane;
    int64_t submit_timeout_ns; /* FP_FOREVER: none; as are the next two */
    int64_t timeout_ns;        /* a job's deadline, from its submit; */
    int64_t until_ns;          /* and when it is at the latest: a group's */
    PyObject *context;         /* NULL, True: a copy of the submitter's, or a Context. Borrowed, as is the next */
    PyObject *watcher;         /* NULL, or what is called with each future that fails */
    bool copies_context;       /* each job runs in a copy of the Context: there are many, and some may be at work together */
} py_settings;

struct py_future;

typedef struct py_pool {
    fp_pool *pool;
    PyObject *hooks;                         /* fastpool._hooks.Hooks; dropped by the last of its users */
    fp_atomic(int) hooks_users;              /* Core, and each worker's thread from before its start */
    py_settings settings;                    /* the pool's own; of jobs that come from C, too */
    fp_atomic(struct py_future *) reap;      /* native jobs that ended detached: references to drop when attached */
    fp_atomic(uint64_t) panics;              /* failures that no future carried or no handler expected */
    struct py_pool *previous, *next;         /* all pools of the process, for its exit (_host.c) */
} py_pool;

/* NULL with MemoryError or the like set. Steals nothing: takes its own reference to hooks. */
py_pool *py_pool_create(const fp_pool_options *options, PyObject *hooks, const py_settings *settings);

/* Closes the pool, lets go of it, and drops hooks. Workers that still drain keep what they need. */
void py_pool_destroy(py_pool *core);

/* What keeps `hooks` for a thread that is neither the owner's nor a worker. False: all of those have gone, and so there is no
 * job that had not ended. Dropped attached. The caller sees to it that `core` itself lives: it has a reference to the pool. */
bool py_hooks_hold(py_pool *core);
void py_hooks_drop(py_pool *core);

/* True once the pool's owner is the last user of its hooks, and will be: a closed pool starts no workers. */
bool py_hooks_are_the_owners(py_pool *core);

/* Once, at import. -1 with an exception. */
int py_host_init(void);

/* Every pool of the process, at its end: close, then wait until the workers have left. -1 with an exception when interrupted. */
int py_pools_drain_all(void);

/* ---- the future ---- */

/* The state word: a phase, and flags. */
enum {
    PY_PENDING = 0,
    PY_RUNNING = 1,
    PY_FINISHED = 2, /* value: the result */
    PY_FAILED = 3,   /* value: the exception */
    PY_CANCELLED = 4,
    PY_CANCELLED_AND_NOTIFIED = 5,
    PY_PHASE = 7,
    PY_ANNOUNCING = 8, /* ended, value readable, but waiters of the standard kind not yet told: `_state` still says RUNNING */
    PY_WAITING = 16,   /* a thread sleeps on the word */
    PY_EXTRAS = 32,    /* `extras` exists: who ends the future has to announce it */
    PY_TRACKED = 64,   /* known to the garbage collector */
    PY_STOPPING = 128, /* it runs, or has run, and was asked to stop: with PY_CANCELLED_AND_NOTIFIED, it ended so by itself */
    PY_UNSTARTED = 256, /* RUNNING, and then ended, by the timer only: it had not started */
};

/* What a future's job is made of. It stays for the future's life. */
enum {
    PY_CALLABLE, /* fn(*args, **kwargs) */
    PY_KERNEL,   /* one native job on scalars, which are `scalars`; `code` is the kernel's */
    PY_ELEMENT,  /* one of many native jobs: `many` and `index`; fn is the capsule of `many` */
    PY_CARRIER,  /* seen by nobody: what the queue holds for those; fn is the capsule */
    PY_ARRAY,    /* a native job for each element: fn is the capsule of a py_array_job, args what else must live, until it fails */
};

typedef struct py_future {
    PyObject_HEAD
#if PY_VERSION_HEX < 0x030C0000
    PyObject *weakrefs; /* where the standard Future has it */
#endif
    fp_atomic(uint32_t) state;
    union {
        uint8_t arg_count; /* 0: none; 1: `args` is the argument itself; 2: `args` is a tuple */
        uint8_t type;      /* PY_KERNEL: of the result, as in fp_signature_info */
    };
    uint8_t posted;     /* no one holds this future: failures go to the hooks */
    uint8_t kind;       /* PY_CALLABLE, PY_KERNEL, PY_ARRAY */
    uint8_t generation; /* fp_os_fork_generation when it was made */
    py_pool *core;      /* followed only while the job has not ended; NULL in a future that a user made */
    union {
        PyObject *fn;               /* see kind; until run */
        const struct py_code *code; /* PY_KERNEL: of the kernel, and a reference to that */
    };
    union {
        struct {
            PyObject *args; /* see arg_count; after a failure: the traceback to raise with */
            union {
                PyObject *kwargs;            /* PY_CALLABLE: dict or NULL */
                struct py_future *next_reap; /* the others, when the queue has done with them: see py_reap */
            };
            PyObject *value; /* result or exception; PY_ARRAY: the output array, from the start */
        };
        /* PY_KERNEL, unless it failed: the arguments; once it has run, the first is the result, and the second next_reap. */
        fp_scalar scalars[FP_MOST_SCALARS];
        /* PY_ELEMENT, unless it failed. */
        struct {
            int64_t index;
            struct py_many *many;
        };
    };
    fp_atomic(PyObject *) extras;           /* fastpool._extras.Extras: condition, waiters, callbacks; or NULL */
    fp_atomic(struct py_task *) task;       /* what only few jobs have: _task.c; or NULL. Once there, it stays */
} py_future;

extern PyTypeObject *py_future_type;

/* Makes the type, a subclass of concurrent.futures.Future. -1 with an exception set. */
int py_future_init(PyObject *standard_future, PyObject *extras_module);

/* A pending future; untracked. */
py_future *py_future_new(void);

/* Of a PY_ELEMENT whose state word does not say that it has ended: asks. Ends it where somebody has to be told. Attached. */
int py_element_phase(py_future *future, uint32_t state);

/* Attached. */
static inline int py_future_phase(py_future *future)
{
    uint32_t state = fp_load(&future->state, fp_acquire);
    if (future->kind == PY_ELEMENT && (state & PY_PHASE) < PY_FINISHED)
        return py_element_phase(future, state);
    return (int)(state & PY_PHASE);
}

static inline bool py_is_final(uint32_t state)
{
    return (state & PY_PHASE) >= PY_FINISHED;
}

bool py_element_has_ended(py_future *future);

/* Also detached. */
static inline bool py_future_has_ended(py_future *future)
{
    return future->kind == PY_ELEMENT ? py_element_has_ended(future) : py_is_final(fp_load(&future->state, fp_acquire));
}

/* Tells the garbage collector of it. */
void py_future_track(py_future *future);

/* Wakes who sleeps on its state word. */
void py_future_wake(py_future *future);

/* The result of one that has finished: a new reference, or NULL with MemoryError. */
PyObject *py_future_value(py_future *future);

/* -1 with an exception where waiting would be for ever. */
int py_future_refuse_if_forked(py_future *future);

/* What the standard library reaches for (_standard.c). */
extern PyGetSetDef py_standard_getset[];
int py_standard_init(PyObject *extras_module);

/* PENDING -> RUNNING. False when it was cancelled, or a waiter has run it. The second: for the timer, which only ends it. */
bool py_future_start(py_future *future);
bool py_future_start_to_end(py_future *future);

/* The same of the timer, which will end it. In one step, for the queue may come to it just then, and has to know. */
bool py_future_expire(py_future *future);

/* Ends it: phase, value (stolen). Wakes and announces. Attached. */
void py_future_complete(py_future *future, int phase, PyObject *value);

/* The same for a native job, detached. True: the caller must attach and call py_future_announce. */
bool py_future_complete_native(py_future *future, int phase);
void py_future_announce(py_future *future);

/* PENDING -> CANCELLED_AND_NOTIFIED and announced; what it held is dropped. False when it has started. */
bool py_future_cancel(py_future *future);

/* On a worker of the same pool: runs what of the job nobody has begun. True when it has ended then. */
bool py_future_help(py_future *future);

/* Waits, having helped. 1: ended; 0: timed out; -1: interrupted, exception set. */
int py_future_wait(py_future *future, int64_t deadline_ns);

/* When to look up from a wait until `deadline_ns`: a signal that arrives just before the system call does not interrupt it, so
 * a thread that may have to run Python's signal handlers sleeps no longer than this at a time. */
static inline int64_t py_slice_until(int64_t deadline_ns)
{
    enum { SIGNAL_SLICE_NS = 50 * 1000 * 1000 };
    int64_t slice_ns = fp_os_now_ns() + SIGNAL_SLICE_NS;
    return slice_ns < deadline_ns ? slice_ns : deadline_ns;
}

/* True on the main thread, which alone runs Python's signal handlers. Needs no interpreter. */
bool py_on_main_thread(void);

/* True in a native job that a thread runs while it waits for something. */
bool py_runs_jobs(void);

/* When a thread that waits until then has to look up for signals, if it has to. */
static inline int64_t py_look_up_ns(int64_t deadline_ns)
{
    return py_on_main_thread() ? py_slice_until(deadline_ns) : deadline_ns;
}

/* Once, at import. -1 with an exception. */
int py_find_main_thread(void);

/* After a fork it is the thread that forked. */
void py_this_is_the_main_thread(void);

/* Drops fn, args and kwargs. Not of a PY_ARRAY that is queued. */
void py_future_drop_call(py_future *future);

/* The capsule of an array's job, as long as it is needed: a new reference. NULL, without an exception, when it is not. */
PyObject *py_future_capsule(py_future *future);

/* Drops what a native job has held until it ended: the kernel, and an array's inputs. Its result stays. */
void py_future_drop_owners(py_future *future);

/* Of an array's job that has ended: drops the kernel and the inputs, though the queue may not have let go of its record yet, for
 * who has waited for the end may want to resize or unmap them. */
void py_future_drop_inputs(py_future *future);

/* Times of the public interface. A deadline from an object: None or inf is FP_FOREVER. -1 with an exception that names
 * `name` for NaN, negatives and what is no number. */
/* For messages: as type(object).__name__. */
const char *py_type_name(PyObject *object);
int py_deadline_from(PyObject *timeout, const char *name, int64_t *deadline_ns);
int py_duration_from(PyObject *timeout, const char *name, int64_t *duration_ns);

/* ---- running (_job.c) ---- */

extern const fp_job_class py_python_job;
extern const fp_job_class py_native_job;

/* The exception now set, taken and normalised. */
PyObject *py_take_exception(void);

/* True for SystemExit and its like, and MemoryError, which nobody who wrote `except Exception` expects. */
bool py_is_panic(PyObject *exception);

/* A job fails: counted, and told to the hooks, where no future carries it or no handler expects it. Before its call is dropped. */
void py_note_failure(py_future *future, PyObject *exception);

/* The same where a future, or a map's reader, will have it: if no handler expects it. */
void py_note_panic(py_pool *core, PyObject *fn, PyObject *exception);

/* Runs a started future, no PY_ARRAY, on the calling thread, which is not its worker: counts it with the pool. Attached. */
void py_job_run_here(py_future *future);

/* True on a worker of this pool. */
bool py_on_own_worker(py_pool *core);

/* Hands the queue's reference to a native job to the next thread that is attached anyway; and drops those. */
void py_leave_to_reaper(py_future *future, py_pool *core);
void py_flush_reaped(py_pool *core);
void py_reap(py_pool *core);

/* ---- deadlines, contexts, requests to stop (_task.c) ---- */

typedef struct py_task {
    fp_atomic(uint32_t) references; /* the future's, and one for each Job object */
    fp_atomic(uint32_t) stop;       /* somebody wants the job to stop: PY_STOPPING, for Job objects */
    fp_atomic(uint32_t) marks;      /* jobs with a deadline: below; of ranges, see _timer.c */
    int64_t deadline_ns;            /* FP_FOREVER: none */
    uint64_t id;
    fp_timer_entry timer;
    py_future *future;              /* borrowed; followed only while `timer` is armed */
    fp_pool *pool;                  /* held */
    fp_atomic(PyObject *) context;  /* owned; what the call runs in, or NULL */
    fp_atomic(PyObject *) watcher;  /* owned; called with the future if it fails, or NULL */
    fp_scalar scalars[FP_MOST_SCALARS]; /* PY_KERNEL: the arguments, for the timer may overwrite those in the future */
} py_task;

/* Ids of jobs: unique in the process. The first of `count`. */
uint64_t py_task_ids(uint64_t count);

/* A task of no future yet, with one reference. NULL with MemoryError. */
py_task *py_task_new(fp_pool *pool, int64_t deadline_ns);
void py_task_retain(py_task *task);
void py_task_drop(py_task *task); /* attached */

static inline py_task *py_future_task(py_future *future)
{
    return fp_load(&future->task, fp_acquire);
}

static inline bool py_has_deadline(py_task *task)
{
    return task != NULL && task->deadline_ns != FP_FOREVER;
}

/* The place's task, made if there is none. NULL with MemoryError. */
py_task *py_task_at(fp_atomic(py_task *) *place, fp_pool *pool);

/* Gives a future that is not queued yet what the settings ask for. -1 with an exception. */
int py_task_add(py_future *future, const py_settings *settings);

/* When a job that is submitted now has to have ended. */
int64_t py_settings_deadline(const py_settings *settings);

/* Detached or not: asks, or has asked, the job to stop; its deadline is over; either, or the pool's stopping. */
static inline bool py_task_is_late(py_task *task)
{
    return py_has_deadline(task) && fp_os_now_ns() >= task->deadline_ns;
}
static inline bool py_task_was_stopped(py_task *task)
{
    return fp_load(&task->pool->stop, fp_relaxed) != 0 || fp_load(&task->stop, fp_relaxed) != 0;
}

enum {
    PY_TASK_CLAIMED = 1, /* who sets it ends the future: the runner or the timer */
    PY_TASK_ENDED = 2,   /* the timer has ended it */
    PY_TASK_LEFT = 4,    /* it has lost to the timer, and no longer runs, or is no longer queued */
};

/* True once: the caller ends the future. */
static inline bool py_task_claim(py_task *task)
{
    return (fp_fetch_or(&task->marks, (uint32_t)PY_TASK_CLAIMED, fp_acq_rel) & PY_TASK_CLAIMED) == 0;
}

/* PY_TASK_ENDED or _LEFT of a job that the timer ends. True: the other had come before, and the caller counts the job. */
static inline bool py_task_is_over(py_task *task, uint32_t mark)
{
    return (fp_fetch_or(&task->marks, mark, fp_acq_rel) & (PY_TASK_ENDED | PY_TASK_LEFT)) != 0;
}

/* Asks a running job to stop: current_job().cancelled. */
void py_future_ask_to_stop(py_future *future);

/* Of a job that runs on this thread. */
static inline bool py_future_was_stopped(py_future *future)
{
    return (fp_load(&future->state, fp_relaxed) & PY_STOPPING) || fp_load(&future->core->pool->stop, fp_relaxed) != 0;
}

/* The deadline has come. Attached; the caller has claimed the task. */
void py_future_time_out(py_future *future, bool had_started);

/* A new exception for it. NULL with what was raised instead. */
PyObject *py_job_timeout(bool had_started);

/* The future has ended: tells the watcher of a failure, and lets go of it. */
void py_task_ended(py_task *task, py_future *future, int phase);

/* Of NULL: nothing. */
void py_task_drop_context(py_task *task);
void py_task_drop_watcher(py_task *task);

/* What runs on a thread, for current_job(): one of these is fp_running_now where `should_stop` is that of the kind. */
typedef struct py_running {
    fp_running running;
    py_future *future;      /* or */
    struct py_batch *batch; /* and which call of it */
    int64_t index;
    bool keeps_future;      /* of a job with a deadline: the timer does not end it, see py_running_keep */
} py_running;

bool py_running_should_stop(fp_running *running);

/* The job that runs on this thread writes to what its future will give: so that is not to end while it runs, even where the
 * deadline passes. False: it has ended. -1, with an exception, outside of jobs. */
int py_running_keep(void);

/* The task of what runs on this thread, made if there is none, and what else a Job is told. NULL: nothing of Python's runs, or, with
 * an exception, there is no memory. */
py_task *py_running_task(int64_t *deadline_ns, uint64_t *id);

/* All running jobs of the pool. */
bool py_pool_was_stopped(fp_pool *pool);
void py_pool_ask_to_stop(fp_pool *pool);

/* ---- the timer (_timer.c) ---- */

/* The timer thread runs afterwards. -1 with PoolError when it cannot be started. */
int py_timer_start(void);

/* A future that is about to be queued, and whose task has a deadline. */
void py_timer_arm(py_future *future);

/* True on the timer's thread, in what is called because a job of the pool has timed out. It is not idle before that returns. */
bool py_timer_ends_job_of(const fp_pool *pool);

/* It has been queued, and is a range's: the caller has a reference. */
void py_timer_queued(py_future *future);

/* The queue has done with the future's record, and is about to drop its reference. Attached or not. */
void py_timer_disarm(py_future *future);

/* The interpreter ends: no pool has a job any more, nor will. -1 with an exception when interrupted. */
int py_timer_stop(void);

/* In the child of a fork, whose timer thread has stayed behind. */
void py_timer_start_child(void);

/* ---- kernels on scalars (_native.c) ---- */

/* How a Kernel begins (checked at import), so that C can get at it. */
typedef struct py_kernel_object {
    PyObject_HEAD
    fp_function fn;
    int signature;
    void *data;
    struct py_code *code; /* the same for workers */
} py_kernel_object;

/* What a worker reads of a kernel lies in a cache line of its own: the object's has the reference count, which each submit
 * changes. */
typedef struct py_code {
    fp_aligned fp_function fn;
    int signature;
    void *data;
    PyObject *kernel; /* borrowed: it owns this */
    const char *name; /* in a trace; interned */
} py_code;

/* What the future holds by fn or code, borrowed; NULL when it has let go of it. */
static inline PyObject *py_future_fn(py_future *future)
{
    return future->kind == PY_KERNEL && future->code != NULL ? future->code->kernel : future->fn;
}

/* -1 with MemoryError. */
int py_kernel_publish(PyObject *kernel);

/* The kernel half in _kernel.pxi: the type, and what sets the exception for a wrong number of arguments, or converts one. */
extern PyTypeObject *py_kernel_type;
extern int (*py_kernel_refuse)(PyObject *kernel, Py_ssize_t count);
extern int (*py_kernel_convert)(PyObject *kernel, Py_ssize_t i, PyObject *value, fp_scalar *scalar);

/* -1 with an exception that names the argument. May run Python code. */
int py_scalar_from(PyObject *kernel, Py_ssize_t i, PyObject *value, fp_scalar *scalar);
int py_scalars_from(PyObject *kernel, PyObject *const *args, Py_ssize_t count, fp_scalar *scalars);

PyObject *py_scalar_box(char type, fp_scalar scalar);

/* Makes a new future one of the kernel on these scalars. */
void py_native_fill(py_future *future, PyObject *kernel, const fp_scalar *scalars);

/* Calls the kernel of a started future: its result; and its status, for NativeJobError if that is not zero. */
fp_scalar py_native_run(py_future *future, int *status);

/* ---- submitting (_submit.c) ---- */

/* A pool and a way to submit to it. */
typedef struct py_view {
    py_pool *core;
    py_settings settings;
} py_view;

/* Adds submit and post to Core, with the fast calling convention, and the hooks to what the garbage collector sees of it. -1 with an
 * exception. */
int py_core_add_methods(PyObject *core_type);

/* Queues a range of `jobs`, ctx being a reference that the queue takes over when it succeeds. -1 with an exception. */
int py_submit_range(const py_view *view, const fp_job_class *job_class, void *ctx, int64_t jobs);

/* A full queue has refused a job. */
static inline void py_count_rejected(py_pool *core)
{
    fp_fetch_add(&core->pool->rejected, UINT64_C(1), fp_relaxed);
}

/* 0, or -1 with the exception that a submit's result stands for; FULL is none. */
int py_settle(fp_submit_result result);

/* Core's C-visible fields come first (checked at import), so that C can get at them. */
typedef struct py_core_object {
    PyObject_HEAD
    py_view view;
    int owns; /* the pool: it is no view */
} py_core_object;

/* The pool of an initialised Core; NULL with TypeError or PoolError for anything else. */
py_pool *py_core_from(PyObject *object);

/* The table of include/fastpool.h, in a capsule. */
PyObject *py_capi_capsule(void);

/* ---- the host (_host.c) ---- */

/* Threads that have just let go of the interpreter to wait for a job: a worker may attach without a fight. */
extern fp_atomic(uint32_t) py_detached_waiters;
/* Workers attached or about to be. */
extern fp_atomic(uint32_t) py_attached_workers;

/* How long one who waits may spin, in nanoseconds; FASTPOOL_SPIN_US, default 20 microseconds; 0 on one CPU. */
extern int64_t py_spin_ns;
extern uint32_t py_usable_cpus;

/* A thread of the pool's own starts, attached, with a thread state for life; and ends, attached. */
void py_thread_begin(void);
void py_thread_end(void);
void py_thread_attach(void);
void py_thread_detach(void);

/* Attaches the calling thread if it is not, for the few things that need it; and undoes that. */
typedef enum py_tie { PY_WAS_ATTACHED, PY_TIED_WORKER, PY_TIED_BRIEFLY } py_tie;
py_tie py_attach_now(void);
void py_detach_again(py_tie tie);

/* ---- names in a trace (_trace.c) ---- */

/* A string that lives for ever; "(other)" where there are too many. Needs no interpreter. */
const char *py_intern_name(const char *text);

/* What a callable is called: its __qualname__; a partial without one: as its function; else as its type. Attached; no exception is
 * left, and no code of the user's runs. */
const char *py_name_of(PyObject *fn);
const char *py_kernel_name(PyObject *kernel);

/* Round a call of fn, attached: see fp_trace_start. `name` is read only when it is not 0. */
static inline uint64_t py_trace_call(fp_pool *pool, PyObject *fn, const char **name)
{
    if (!fp_unlikely(fp_load(&pool->tracing, fp_relaxed) != 0))
        return 0;
    *name = py_name_of(fn);
    return fp_trace_start(pool);
}

/* ---- errors, from the module fastpool.errors ---- */

int py_errors_init(PyObject *errors);

extern PyObject *py_errors_pool, *py_errors_overloaded, *py_errors_submit_timeout, *py_errors_shutdown,
    *py_errors_broken, *py_errors_native, *py_errors_cancelled, *py_errors_job_timeout;

/* ---- map (_map.c) ---- */

#include "fp_range.h"

typedef struct py_batch {
    fp_range range;
    int64_t grain;
    PyObject *fn;                      /* these four borrowed from the owner */
    PyObject *items;                   /* list of arguments, or of tuples if `star` */
    PyObject *results;                 /* list of results or exceptions */
    PyObject *owner;                   /* the Batch object; the queue holds a reference to it */
    int star;
    fp_atomic(int) reason;             /* fp_discard_reason of the cancelled calls */
    fp_atomic(int64_t) cancelled_from; /* calls from here on never start; INT64_MAX: none */
    fp_atomic(int64_t) want;           /* the call that a reader sleeps for, or PY_WANT_ */
    fp_atomic(uint32_t) epoch;         /* what it sleeps on */
    fp_atomic(uint8_t) *done;          /* one a call: PY_BATCH_ */
    py_view view;
    int64_t deadline_ns;               /* of each call; FP_FOREVER: none */
    PyObject *context;                 /* borrowed: each call runs in a copy of it; NULL: none */
    fp_atomic(py_task *) task;         /* made by current_job(), for all calls together */
    fp_atomic(uint32_t) stop;          /* calls that run are asked to stop */
    uint64_t first_id;                 /* of the calls */
} py_batch;

enum { PY_BATCH_PENDING, PY_BATCH_RESULT, PY_BATCH_EXCEPTION };
enum { PY_WANT_NONE = -1, PY_WANT_ANY = -2 };

/* A batch for fn(item) or fn(*item), results to go to a list of as many Nones. NULL with MemoryError. */
py_batch *py_batch_new(const py_view *view, PyObject *owner, PyObject *fn, PyObject *items, int star, PyObject *results,
                       int64_t grain, PyObject *context);
void py_batch_free(py_batch *batch);

/* Queues it. -1 with an exception: it was not queued. */
int py_batch_submit(py_batch *batch);

/* Waits until call `index` has ended or never will. 1, 0 when the time is over, -1 when interrupted. A call whose deadline has
 * passed is over for the reader even while it runs, so he waits no longer than that. */
int py_batch_wait(py_batch *batch, int64_t index, int64_t deadline_ns);
int py_batch_done(py_batch *batch, int64_t index);
int py_batch_reason(py_batch *batch);

/* Lets no further call start, and counts those as cancelled; asks those that run to stop. */
void py_batch_cancel_counted(py_batch *batch);

/* Of a call that runs. */
bool py_batch_should_stop(py_batch *batch);

/* ---- arrays (_array.c) ---- */

#include "fp_parallel.h"

typedef struct py_array_job {
    fp_parallel parallel;
    py_future *future; /* borrowed; the queue holds it as long as it holds the job. NULL before it is queued */
    fp_elementwise work;  /* filled in by the kernel's half of _core.pyx; or, of parallel_for: */
    int (*range)(int64_t begin, int64_t end, void *data);
    void *data;
    const char *name;     /* the kernel's, interned */
    int64_t *job_ps;      /* the kernel's, which `owners` hold; atomic: see fp_parallel */
} py_array_job;

/* A job to fill in, and the capsule that owns it. */
PyObject *py_array_job_new(py_array_job **job);

/* Lets no further element start, and counts those as cancelled. True when some never will, now or from an earlier call. */
bool py_array_cancel(PyObject *capsule);

/* Runs what nobody has begun, on a worker of the same pool. Attached; the caller holds the capsule. */
void py_array_help(PyObject *capsule);

/* Elements of a future's array that have started, and all of them. False when it has ended and the queue has let go of it. */
bool py_array_progress(py_future *future, int64_t *started, int64_t *total);

/* The deadline of a future's array has come: no further element starts. Attached. */
void py_array_time_out(py_future *future);

/* Queues n elements of the capsule's job. `owners` live until it has ended. The future of `out`, or NULL with an exception. */
PyObject *py_array_submit(const py_view *view, PyObject *capsule, PyObject *owners, PyObject *out, int64_t n, int64_t grain);

/* The same, waiting; the calling thread may take part. `out`, or NULL with an exception. */
PyObject *py_array_run(const py_view *view, PyObject *capsule, PyObject *owners, PyObject *out, int64_t n, int64_t grain);

/* ---- many calls of a kernel, a future for each (_many.c) ---- */

/* Room for `calls` calls, in a capsule; columns[k] is where their arguments k go. NULL with an exception. */
PyObject *py_many_new(py_pool *core, PyObject *kernel, int64_t calls, char **columns);

/* Queues them: a list of their futures, or NULL with an exception. */
PyObject *py_many_submit(const py_view *view, PyObject *capsule);

/* The deadline of a carrier's calls has come: no further one starts. Attached. */
void py_many_time_out(py_future *carrier);

/* The phase that it is in, as far as one sees without ending it. */
int py_element_look(py_future *future);

/* Sleeps until it may have ended; detached. Runs what nobody has begun; attached. */
void py_element_sleep(py_future *future, int64_t until_ns);
void py_element_help(py_future *future);

/* True: the call will not start, and the caller ends the future. */
bool py_element_cancel(py_future *future);

/* It has: wakes who waits for it. */
void py_element_cancelled(py_future *future);

/* It has extras: sees to it that its end is announced. -1 with an exception. */
int py_element_watch(py_future *future);

/* Ends one that has been started (py_future_start) with its phase, and the exception of a failed one, stolen. */
void py_element_end(py_future *future, int phase, PyObject *error);

PyObject *py_element_value(py_future *future);

#endif
