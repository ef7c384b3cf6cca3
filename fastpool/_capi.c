/* _capi.c - include/fastpool.h: the table of functions that other extension modules call, from nogil code too.
 *
 * Journey: [SUBMIT] -> ring -> worker -> kernel -> completion -> [WAITER]. The work is csrc/fp_group's; what is added here is what a
 * full queue means (on_full), Ctrl-C, forks, and bad arguments. Nothing here takes the GIL, but to discard a queued Python
 * job and to run signal handlers; and nothing blocks while it holds it.
 */
#include "_bridge.h"

#include "fastpool.h"
#include "fp_group.h"

_Static_assert(FASTPOOL_JOBS_A_PLACE == FP_BURST_JOBS, "the header says how many jobs share a place");

static fp_group *in(fastpool_group *group)
{
    return (fp_group *)group;
}

static py_pool *core_of(fp_group *group)
{
    return group->pool->host.arg;
}

static fastpool_result result_of(fp_submit_result result)
{
    switch (result) {
    case FP_SUBMIT_OK:
        return FASTPOOL_OK;
    case FP_SUBMIT_FULL:
        return FASTPOOL_FULL;
    case FP_SUBMIT_CLOSED:
        return FASTPOOL_CLOSED;
    case FP_SUBMIT_BROKEN:
        return FASTPOOL_BROKEN;
    case FP_SUBMIT_FORKED:
        return FASTPOOL_FORKED;
    case FP_SUBMIT_NO_THREAD:
        return FASTPOOL_NO_THREAD;
    default:
        return FASTPOOL_NO_MEMORY;
    }
}

/* Only the main thread runs Python's signal handlers. Not within a job that it runs while it waits: the exception would reach
 * callers of that job who know nothing of it. It is the outer wait that is interrupted, when the job has ended. */
static bool may_be_interrupted(void)
{
    return py_on_main_thread() && !py_runs_jobs();
}

/* -1 when a signal handler has raised. */
static int check_signals(void)
{
    if (!may_be_interrupted())
        return 0;
    py_tie tie = py_attach_now();
    int raised = PyErr_CheckSignals();
    py_detach_again(tie);
    return raised;
}

/* ---- submitting, and a full queue ---- */

/* What is being submitted: a job, a batch or a range. */
typedef struct submission {
    fp_group *group;
    fp_job_function job;     /* one, or a batch of `count` */
    fp_range_function range; /* or a range of `count` */
    void *arg;
    ptrdiff_t stride;
    int64_t count, grain;
    bool is_single;
} submission;

static fp_submit_result try_submit(submission *it, fp_group_place place)
{
    if (it->is_single)
        return fp_group_submit_new(it->group, it->job, it->arg, place);
    if (it->range != NULL)
        return fp_group_submit_range(it->group, it->range, it->count, it->arg, it->grain, place);
    return fp_group_submit_batch(it->group, it->job, it->arg, it->stride, it->count, place);
}

/* FASTPOOL_OK: try again. */
static fastpool_result wait_for_room(py_pool *core, int64_t deadline_ns)
{
    if (fp_os_now_ns() >= deadline_ns) {
        py_count_rejected(core);
        return FASTPOOL_TIMED_OUT;
    }
    void *token = fp_pool_let_go(core->pool);
    fp_pool_wait_for_room(core->pool, py_slice_until(deadline_ns));
    fp_pool_take_back(core->pool, token);
    return check_signals() < 0 ? FASTPOOL_INTERRUPTED : FASTPOOL_OK;
}

/* The queue was full: does what on_full says, until the queue takes it or it is refused. */
static fastpool_result submit_when_full(submission *it)
{
    py_pool *core = core_of(it->group);
    int64_t deadline_ns = core->settings.submit_timeout_ns == FP_FOREVER ? FP_FOREVER : fp_os_now_ns() + core->settings.submit_timeout_ns;
    fp_submit_result result = FP_SUBMIT_FULL;
    while (result == FP_SUBMIT_FULL) {
        if (core->settings.on_full == PY_ON_FULL_RAISE) {
            py_count_rejected(core);
            return FASTPOOL_FULL;
        }
        if (core->settings.on_full == PY_ON_FULL_CALLER_RUNS)
            return result_of(try_submit(it, FP_HERE));
        if (core->settings.on_full != PY_ON_FULL_DISCARD_OLDEST || !fp_pool_discard_oldest(core->pool)) {
            if (py_on_own_worker(core)) /* as in _submit.c: a job never waits for room in its own queue */
                return result_of(try_submit(it, FP_BEYOND));
            fastpool_result room = wait_for_room(core, deadline_ns);
            if (room != FASTPOOL_OK)
                return room;
        }
        result = try_submit(it, FP_QUEUED);
    }
    return result_of(result);
}

static fastpool_result submit(submission *it)
{
    fp_submit_result result = try_submit(it, FP_QUEUED);
    return result == FP_SUBMIT_FULL ? submit_when_full(it) : result_of(result);
}

static fastpool_result api_submit(fastpool_group *group, fastpool_job job, void *arg)
{
    if (group == NULL || job == NULL)
        return FASTPOOL_INVALID;
    fp_submit_result result = fp_group_submit(in(group), job, arg);
    if (result == FP_SUBMIT_FULL)
        return submit_when_full(&(submission){.group = in(group), .job = job, .arg = arg, .count = 1, .is_single = true});
    return result_of(result);
}

static fastpool_result api_submit_batch(fastpool_group *group, fastpool_job job, void *args, ptrdiff_t stride, int64_t count)
{
    if (group == NULL || job == NULL || count < 0 || count > FP_RANGE_MOST)
        return FASTPOOL_INVALID;
    return submit(&(submission){.group = in(group), .job = job, .arg = args, .stride = stride, .count = count});
}

static fastpool_result api_submit_range(fastpool_group *group, fastpool_range range, int64_t n, void *arg, int64_t grain)
{
    if (group == NULL || range == NULL || n < 0 || n > FP_RANGE_MOST || grain < 0)
        return FASTPOOL_INVALID;
    return submit(&(submission){.group = in(group), .range = range, .arg = arg, .count = n, .grain = grain});
}

/* ---- groups ---- */

static fastpool_pool *api_from_object(PyObject *object)
{
    py_pool *core = py_core_from(object);
    return (fastpool_pool *)core;
}

static fastpool_group *api_group_new(fastpool_pool *pool)
{
    return pool == NULL ? NULL : (fastpool_group *)fp_group_create(((py_pool *)pool)->pool);
}

/* True when all jobs have ended by the deadline. Never attached while it waits. */
static bool wait_detached(fp_group *group, int64_t deadline_ns)
{
    void *token = fp_pool_let_go(group->pool);
    bool ended = fp_group_wait(group, deadline_ns);
    fp_pool_take_back(group->pool, token);
    return ended;
}

static fastpool_result outcome_of(fp_group *group)
{
    if (fp_load(&group->failed, fp_relaxed))
        return FASTPOOL_FAILED;
    return fp_load(&group->cancelled, fp_relaxed) ? FASTPOOL_CANCELLED : FASTPOOL_OK;
}

static fastpool_result api_wait(fastpool_group *handle, int64_t timeout_ns)
{
    fp_group *group = in(handle);
    if (group == NULL || timeout_ns < 0)
        return FASTPOOL_INVALID;
    if (fp_pool_is_forked(group->pool))
        return FASTPOOL_FORKED;
    int64_t now_ns = fp_os_now_ns();
    int64_t deadline_ns = timeout_ns < FP_FOREVER - now_ns ? now_ns + timeout_ns : FP_FOREVER;
    while (!wait_detached(group, may_be_interrupted() ? py_slice_until(deadline_ns) : deadline_ns)) {
        if (check_signals() < 0)
            return FASTPOOL_INTERRUPTED;
        if (fp_os_now_ns() >= deadline_ns)
            return FASTPOOL_TIMED_OUT;
    }
    return outcome_of(group);
}

static void api_cancel(fastpool_group *group)
{
    if (group != NULL)
        fp_store(&in(group)->stop, 1, fp_relaxed);
}

static int api_cancelled(fastpool_group *group)
{
    return group != NULL && fp_load(&in(group)->stop, fp_relaxed) != 0;
}

static void api_group_free(fastpool_group *handle)
{
    fp_group *group = in(handle);
    if (group == NULL || fp_pool_is_forked(group->pool))
        return;
    api_cancel(handle);
    while (!wait_detached(group, FP_FOREVER))
        ;
    fp_group_release(group);
}

static int api_status(fastpool_group *group, int64_t *index)
{
    bool failed = group != NULL && fp_load(&in(group)->failed, fp_relaxed);
    if (index != NULL)
        *index = failed ? in(group)->failed_at : -1;
    return failed ? in(group)->status : 0;
}

static fastpool_result api_parallel_for(fastpool_pool *pool, fastpool_range range, int64_t n, void *arg, int64_t grain)
{
    if (pool == NULL || range == NULL || n < 0 || n > FP_RANGE_MOST || grain < 0)
        return FASTPOOL_INVALID;
    fp_group *group = fp_group_create(((py_pool *)pool)->pool);
    if (group == NULL)
        return FASTPOOL_NO_MEMORY;
    submission it = {.group = group, .range = range, .arg = arg, .count = n, .grain = grain};
    fp_submit_result begun = fp_group_begin_range(group, range, n, arg, grain, py_look_up_ns(FP_FOREVER));
    fastpool_result result = begun == FP_SUBMIT_FULL ? submit_when_full(&it) : result_of(begun);
    if (result == FASTPOOL_OK)
        result = api_wait((fastpool_group *)group, FASTPOOL_FOREVER);
    api_group_free((fastpool_group *)group);
    return result;
}

static fastpool_result api_read_metrics(fastpool_pool *pool, fastpool_metrics *metrics, size_t bytes)
{
    if (pool == NULL || metrics == NULL)
        return FASTPOOL_INVALID;
    fp_pool *it = ((py_pool *)pool)->pool;
    if (fp_pool_is_forked(it))
        return FASTPOOL_FORKED;
    fp_metrics *read = malloc(sizeof *read);
    if (read == NULL)
        return FASTPOOL_NO_MEMORY;
    fp_pool_read_metrics(it, read);
    fastpool_metrics found = {
        .workers = read->workers, .active_workers = read->active_workers, .queue_depth = read->queue_depth,
        .queue_capacity = read->queue_capacity, .jobs_submitted = read->submitted, .jobs_processed = read->ended[FP_DONE],
        .jobs_failed = read->ended[FP_FAILED], .jobs_cancelled = read->ended[FP_CANCELLED],
        .jobs_timed_out = read->ended[FP_TIMED_OUT], .jobs_rejected = read->rejected};
    free(read);
    memcpy(metrics, &found, bytes < sizeof found ? bytes : sizeof found); /* of a caller with an older header: what it knows */
    return FASTPOOL_OK;
}

static int api_should_stop(void)
{
    return fp_running_should_stop();
}

static const fastpool_api api = {
    .version = FASTPOOL_API_VERSION,
    .bytes = sizeof api,
    .from_object = api_from_object,
    .group_new = api_group_new,
    .group_free = api_group_free,
    .submit = api_submit,
    .submit_batch = api_submit_batch,
    .submit_range = api_submit_range,
    .parallel_for = api_parallel_for,
    .wait = api_wait,
    .cancel = api_cancel,
    .cancelled = api_cancelled,
    .status = api_status,
    .read_metrics = api_read_metrics,
    .should_stop = api_should_stop,
};

PyObject *py_capi_capsule(void)
{
    return PyCapsule_New((void *)&api, "fastpool._core._c_api", NULL);
}
