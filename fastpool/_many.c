/* _many.c - submit_many of a kernel: one record of the queue, one kernel, and a future for each call.
 *
 * Journey: submit -> ring -> [WORKER -> KERNEL, block after block] -> [FUTURE]. Arguments and results lie in arrays, and a worker never
 * touches a future: it says of a block of calls that it has started, and that it is done, and a future finds out when it
 * is asked. Were each told, each would cost the worker a cache line from another CPU and the submitter's thread another.
 *
 * Blocks      A block's calls run one after the other on one worker. There are 2^MOST_SHIFT in it at most, and so few
 *             that each worker gets BLOCKS_A_WORKER blocks. Its word: a bit for each call, set when it is cancelled, and STARTED.
 *               B1 fetch_or STARTED: the calls whose bits are not set run      by the worker, once
 *               B2 CAS a call's bit, unless STARTED                            by who cancels
 * Ending      B3 done[block] = IN_TIME or TOO_LATE   B4 the block is awaited, or is watched: wake, announce
 * Waiting     L1 `want`: one more waiter, and the block that they wait for, or ANY_BLOCK where they differ   L2 done[block]
 *             L3 sleep on `epoch`   L4 `want`: one fewer; no block is wanted when that was the last one, and not before.
 *             B3, B4, L1 and L2 are seq_cst: either B4 sees L1 or L2 sees B3.
 * Watching    A future with `extras`, which others wait on in the standard library's ways, is put on its block's list of
 *             watchers first and asked afterwards, as in L1 and L2. The list goes when the block has ended, and lists hold
 *             no future that has: from a future through the capsule and a list to it is a cycle that no collector sees.
 * Cancelling  C1 B2, and the future's state   C2 `want` is read, by a read-modify-write: either it sees L1, and wakes, or L1
 *             comes after it and the waiter sees C1.
 * Discarding  D1 discarded_from   D2 discarded (fp_parallel.h)   then as B4. Calls from discarded_from on never start.
 * Ownership   The futures hold the capsule that holds all this; so does the carrier, a future that nobody sees, which the queue
 *             holds until it has let go of the record.
 */
#include "_bridge.h"

#include <limits.h>
#include <stdlib.h>

#include "fp_backoff.h"

enum { MOST_SHIFT = 5, BLOCKS_A_WORKER = 32 };
#define BLOCK_STARTED (UINT64_C(1) << 63)
enum { IN_TIME = 1, TOO_LATE = 2 };

/* `want`: the waiters, and above them the block. */
enum { WAITER_BITS = 20 };
#define WAITER UINT64_C(1)
#define WAITERS ((UINT64_C(1) << WAITER_BITS) - 1)
#define ANY_BLOCK (UINT64_MAX >> WAITER_BITS)

typedef struct py_many {
    fp_parallel parallel;
    PyObject *capsule;   /* of this; borrowed, as is the next */
    py_future *carrier;  /* NULL before it is queued */
    PyObject *kernel;    /* until freed */
    fp_function fn;      /* these of the kernel */
    void *data;
    fp_signature signature;
    int shift;           /* a block has 2^shift calls */
    char *arguments[FP_MOST_SCALARS]; /* one array an input, then the results; all in one allocation */
    char *results;
    fp_atomic(uint64_t) *words;       /* one a block */
    fp_atomic(uint8_t) *done;         /* one a block */
    fp_atomic(PyObject *) *watchers;  /* one a block: list of futures whose end must be announced, or NULL */
    fp_atomic(uint64_t) want;
    fp_atomic(uint32_t) epoch;        /* what waiters sleep on */
} py_many;

static py_many *many_of(fp_parallel *parallel)
{
    return (py_many *)parallel; /* its first member */
}

static int64_t blocks_of(py_many *many)
{
    return (many->parallel.range.n + (INT64_C(1) << many->shift) - 1) >> many->shift;
}

/* ---- on the worker ---- */

static void run_calls(py_many *many, int64_t begin, int64_t end)
{
    const fp_signature_info *info = &fp_signatures[many->signature];
    char *ptr[FP_MOST_SCALARS + 1];
    ptrdiff_t stride[FP_MOST_SCALARS + 1], bytes = (ptrdiff_t)info->element_bytes;
    for (int k = 0; k < info->inputs; k++)
        ptr[k] = many->arguments[k] + begin * bytes;
    ptr[info->inputs] = many->results + begin * bytes;
    for (int k = 0; k <= info->inputs; k++)
        stride[k] = bytes;
    info->loop(many->fn, many->data, ptr, stride, end - begin);
}

/* Those of the block's calls that were not cancelled; how many were. */
static int64_t run_uncancelled(py_many *many, int64_t begin, int64_t end, uint64_t cancelled)
{
    int64_t count = 0;
    for (int64_t i = begin; i < end; i++)
        if (cancelled >> (i - begin) & 1)
            count++;
        else
            run_calls(many, i, i + 1);
    return count;
}

static void wake_waiters(py_many *many)
{
    fp_fetch_add(&many->epoch, UINT32_C(1), fp_seq_cst);
    fp_os_wake(&many->epoch, INT_MAX);
}

/* Asks the futures that are watched in a block whose calls have all ended, which announces their ends. */
static void ask_watchers(py_many *many, int64_t block)
{
    if (fp_load(&many->watchers[block], fp_seq_cst) == NULL)
        return;
    py_tie tie = py_attach_now();
    PyObject *list;
    Py_BEGIN_CRITICAL_SECTION(many->capsule); /* who adds to the list has it too */
    list = fp_exchange(&many->watchers[block], NULL, fp_seq_cst);
    Py_END_CRITICAL_SECTION();
    for (Py_ssize_t i = 0; list != NULL && i < PyList_GET_SIZE(list); i++)
        py_future_phase((py_future *)PyList_GET_ITEM(list, i));
    Py_XDECREF(list);
    py_detach_again(tie);
}

/* B4. */
static void tell(py_many *many, int64_t block)
{
    uint64_t want = fp_load(&many->want, fp_seq_cst);
    if ((want & WAITERS) != 0 && (want >> WAITER_BITS == (uint64_t)block || want >> WAITER_BITS == ANY_BLOCK))
        wake_waiters(many);
    ask_watchers(many, block);
}

static void run_block(fp_parallel *parallel, int64_t begin, int64_t end, fp_piece *piece)
{
    py_many *many = many_of(parallel);
    int64_t block = begin >> many->shift;
    uint64_t cancelled = fp_fetch_or(&many->words[block], BLOCK_STARTED, fp_acq_rel); /* B1 */
    uint64_t traced = fp_trace_start(parallel->pool);
    if (cancelled == 0)
        run_calls(many, begin, end);
    else
        piece->cancelled = run_uncancelled(many, begin, end, cancelled);
    fp_trace_ran(parallel->pool, py_kernel_name(many->kernel), traced, end - begin - piece->cancelled);
}

static void block_ended(fp_parallel *parallel, int64_t begin, int64_t end, const fp_piece *piece)
{
    py_many *many = many_of(parallel);
    int64_t block = begin >> many->shift;
    (void)end;
    fp_store(&many->done[block], piece->timed_out != 0 ? TOO_LATE : IN_TIME, fp_seq_cst); /* B3 */
    tell(many, block);
}

/* The pool has discarded what had not started: whole blocks. */
static void discarded(fp_parallel *parallel)
{
    py_many *many = many_of(parallel);
    wake_waiters(many);
    for (int64_t block = parallel->discarded_from >> many->shift; block < blocks_of(many); block++)
        ask_watchers(many, block);
}

static void ended(fp_parallel *parallel)
{
    (void)parallel; /* the futures find out by themselves */
}

static void released(fp_parallel *parallel)
{
    py_future *carrier = many_of(parallel)->carrier;
    py_timer_disarm(carrier);
    py_leave_to_reaper(carrier, carrier->core);
}

static const fp_parallel_class calls_class = {
    .run = run_block, .piece_ended = block_ended, .discarded = discarded, .ended = ended, .released = released};

/* ---- what a future asks ---- */

static py_many *many_in(py_future *future)
{
    return future->many;
}

static int64_t block_in(py_future *future)
{
    return future->index >> many_in(future)->shift;
}

static uint64_t bit_of(py_future *future)
{
    return UINT64_C(1) << (future->index & ((INT64_C(1) << many_in(future)->shift) - 1));
}

/* 0, or 1 + fp_discard_reason of a call that the pool has discarded. */
static int discarded_as(py_future *future)
{
    fp_parallel *parallel = &many_in(future)->parallel;
    int reason = fp_load(&parallel->discarded, fp_seq_cst);
    return reason != 0 && future->index >= parallel->discarded_from ? reason : 0;
}

static bool block_has_ended(py_future *future)
{
    return fp_load(&many_in(future)->done[block_in(future)], fp_seq_cst) != 0 || discarded_as(future) != 0;
}

bool py_element_has_ended(py_future *future)
{
    return (fp_load(&future->state, fp_acquire) & PY_PHASE) >= PY_FINISHED || block_has_ended(future);
}

static int phase_now(py_future *future)
{
    int done = fp_load(&many_in(future)->done[block_in(future)], fp_seq_cst);
    if (done != 0 && (fp_load(&many_in(future)->words[block_in(future)], fp_relaxed) & bit_of(future)))
        return PY_CANCELLED_AND_NOTIFIED; /* who has set its bit may be about to say so */
    if (done != 0)
        return done == TOO_LATE ? PY_FAILED : PY_FINISHED;
    if (discarded_as(future) != 0)
        return discarded_as(future) == 1 + FP_DISCARD_CANCELLED ? PY_CANCELLED_AND_NOTIFIED : PY_FAILED;
    return fp_load(&many_in(future)->words[block_in(future)], fp_acquire) & BLOCK_STARTED ? PY_RUNNING : PY_PENDING;
}

int py_element_look(py_future *future)
{
    return phase_now(future);
}

/* Why a call has failed that was discarded, or took too long. */
static PyObject *error_of(py_future *future)
{
    if (fp_load(&many_in(future)->done[block_in(future)], fp_relaxed) == TOO_LATE)
        return py_job_timeout(true);
    if (discarded_as(future) == 1 + FP_DISCARD_TIMED_OUT)
        return py_job_timeout(false);
    PyErr_SetString(py_errors_broken, "a worker's initializer failed; the job was not run");
    return py_take_exception();
}

/* Ends the future as what it has found out, unless somebody else who has found out does it just now. */
static int settle(py_future *future, int phase)
{
    PyObject *error = NULL;
    unsigned round = 0;
    if (phase == PY_FAILED) /* made first, for that may run Python code, and nobody is to see the future in between */
        error = error_of(future);
    if (py_future_start(future)) {
        py_element_end(future, phase, error);
        return phase;
    }
    Py_XDECREF(error);
    while ((phase = (int)(fp_load(&future->state, fp_acquire) & PY_PHASE)) == PY_RUNNING)
        fp_backoff(&round);
    return phase;
}

/* The state word stays as it was made as long as nobody has to be told of its changes. */
int py_element_phase(py_future *future, uint32_t state)
{
    int phase = phase_now(future);
    return phase < PY_FINISHED || (phase == PY_FINISHED && !(state & PY_EXTRAS)) ? phase : settle(future, phase);
}

PyObject *py_element_value(py_future *future)
{
    const fp_signature_info *info = &fp_signatures[many_in(future)->signature];
    fp_scalar result;
    memcpy(&result, many_in(future)->results + future->index * (int64_t)info->element_bytes, info->element_bytes);
    return py_scalar_box(info->type, result);
}

bool py_element_cancel(py_future *future)
{
    fp_atomic(uint64_t) *word = &many_in(future)->words[block_in(future)];
    uint64_t bits = fp_load(word, fp_relaxed);
    do
        if ((bits & BLOCK_STARTED) || discarded_as(future) != 0)
            return false;
    while (!fp_cas(word, &bits, bits | bit_of(future), fp_acq_rel, fp_relaxed)); /* B2 */
    return true;
}

void py_element_cancelled(py_future *future)
{
    py_many *many = many_in(future);
    if ((fp_fetch_or(&many->want, UINT64_C(0), fp_seq_cst) & WAITERS) != 0) /* C2 */
        wake_waiters(many);
}

/* Onto its block's list, which is made if need be. -1 with MemoryError. */
static int add_watcher(py_many *many, py_future *future)
{
    fp_atomic(PyObject *) *place = &many->watchers[block_in(future)];
    int bad;
    Py_BEGIN_CRITICAL_SECTION(many->capsule);
    PyObject *list = fp_load(place, fp_seq_cst), *made = list == NULL ? PyList_New(0) : NULL;
    bad = list == NULL && made == NULL ? -1 : PyList_Append(list == NULL ? made : list, (PyObject *)future);
    if (made != NULL)
        fp_store(place, made, fp_seq_cst); /* the worker only ever takes it, and it was not there to take */
    Py_END_CRITICAL_SECTION();
    return bad;
}

int py_element_watch(py_future *future)
{
    py_many *many = many_in(future);
    if (py_future_phase(future) >= PY_FINISHED)
        return 0;
    if (add_watcher(many, future) < 0)
        return -1;
    if (block_has_ended(future)) /* before the list was looked at, perhaps; not: this call, which may have been cancelled */
        ask_watchers(many, block_in(future));
    return 0;
}

/* L1, L4: one waiter more, or fewer, for the block. */
static void change_waiters(py_many *many, uint64_t block, bool more)
{
    uint64_t want = fp_load(&many->want, fp_relaxed), next;
    do {
        uint64_t waiters = want & WAITERS, wanted = want >> WAITER_BITS;
        if (more)
            next = (waiters == 0 || wanted == block ? block : ANY_BLOCK) << WAITER_BITS | (waiters + WAITER);
        else
            next = waiters == WAITER ? 0 : want - WAITER;
    } while (!fp_cas(&many->want, &want, next, fp_seq_cst, fp_relaxed));
}

void py_element_sleep(py_future *future, int64_t until_ns)
{
    py_many *many = many_in(future);
    change_waiters(many, (uint64_t)block_in(future), true); /* L1 */
    uint32_t epoch = fp_load(&many->epoch, fp_seq_cst);
    if (!py_element_has_ended(future)) /* L2 */
        fp_os_wait(&many->epoch, epoch, until_ns); /* L3 */
    change_waiters(many, (uint64_t)block_in(future), false); /* L4 */
}

void py_element_help(py_future *future)
{
    fp_parallel_help(&many_in(future)->parallel, FP_FOREVER);
}

/* ---- making them ---- */

static void free_many(PyObject *capsule)
{
    py_many *many = PyCapsule_GetPointer(capsule, NULL);
    if (many->parallel.pool != NULL)
        fp_pool_release(many->parallel.pool);
    Py_XDECREF(many->kernel);
    for (int64_t block = 0; many->watchers != NULL && block < blocks_of(many); block++)
        Py_XDECREF(fp_load(&many->watchers[block], fp_relaxed)); /* empty: what is on a list holds all this */
    free(many->words);
    free(many->done);
    free(many->watchers);
    free(many->arguments[0]);
    free(many);
}

static int shift_for(fp_pool *pool, int64_t calls)
{
    int shift = 0;
    while (shift < MOST_SHIFT && calls >> (shift + 1) >= (int64_t)fp_load(&pool->max_workers, fp_relaxed) * BLOCKS_A_WORKER)
        shift++;
    return shift;
}

/* Room for the calls' arguments and results. -1 with MemoryError. */
static int allocate(py_many *many, int64_t calls)
{
    const fp_signature_info *info = &fp_signatures[many->signature];
    size_t column = (size_t)calls * info->element_bytes, blocks = (size_t)blocks_of(many);
    many->arguments[0] = malloc((size_t)(info->inputs + 1) * column);
    many->words = calloc(blocks, sizeof *many->words);
    many->done = calloc(blocks, sizeof *many->done);
    many->watchers = calloc(blocks, sizeof *many->watchers);
    if (many->arguments[0] == NULL || many->words == NULL || many->done == NULL || many->watchers == NULL)
        return PyErr_NoMemory(), -1;
    for (int k = 1; k < info->inputs; k++)
        many->arguments[k] = many->arguments[0] + (size_t)k * column;
    many->results = many->arguments[0] + (size_t)info->inputs * column;
    return 0;
}

PyObject *py_many_new(py_pool *core, PyObject *kernel, int64_t calls, char **columns)
{
    py_kernel_object *it = (py_kernel_object *)kernel;
    py_many *many = NULL;
    if (posix_memalign((void **)&many, FP_CACHE_LINE, sizeof *many) != 0)
        return PyErr_NoMemory();
    memset(many, 0, sizeof *many);
    many->fn = it->fn;
    many->data = it->data;
    many->signature = (fp_signature)it->signature;
    many->shift = shift_for(core->pool, calls);
    PyObject *capsule = PyCapsule_New(many, NULL, free_many);
    if (capsule == NULL) {
        free(many);
        return NULL;
    }
    many->capsule = capsule;
    fp_parallel_init(&many->parallel, &calls_class, core->pool, calls, INT64_C(1) << many->shift);
    fp_pool_retain(core->pool);
    many->kernel = Py_NewRef(kernel);
    if (allocate(many, calls) < 0)
        Py_CLEAR(capsule);
    else
        memcpy(columns, many->arguments, sizeof many->arguments);
    return capsule;
}

static py_future *make_future(py_pool *core, PyObject *capsule, int kind)
{
    py_future *future = py_future_new();
    if (future == NULL)
        return NULL;
    future->kind = (uint8_t)kind;
    future->core = core;
    future->fn = Py_NewRef(capsule);
    return future;
}

/* One for each call, in a list. */
static PyObject *make_futures(py_pool *core, PyObject *capsule, py_many *many)
{
    PyObject *futures = PyList_New((Py_ssize_t)many->parallel.range.n);
    if (futures != NULL) /* or the collector, which counts the futures, would walk through the list again and again */
        PyObject_GC_UnTrack(futures);
    for (int64_t i = 0; futures != NULL && i < many->parallel.range.n; i++) {
        py_future *future = make_future(core, capsule, PY_ELEMENT);
        if (future == NULL) {
            Py_CLEAR(futures);
            break;
        }
        future->many = many;
        future->index = i;
        PyList_SET_ITEM(futures, (Py_ssize_t)i, (PyObject *)future);
    }
    if (futures != NULL)
        PyObject_GC_Track(futures);
    return futures;
}

void py_many_time_out(py_future *carrier)
{
    PyObject *capsule = Py_NewRef(carrier->fn); /* the queue has it, for it has the carrier */
    fp_parallel_time_out(&((py_many *)PyCapsule_GetPointer(capsule, NULL))->parallel);
    Py_DECREF(capsule);
}

/* The future that the queue holds, and the timer. */
static int make_carrier(const py_view *view, PyObject *capsule, py_many *many)
{
    const py_settings settings = {.timeout_ns = view->settings.timeout_ns, .until_ns = view->settings.until_ns};
    many->carrier = make_future(view->core, capsule, PY_CARRIER);
    if (many->carrier == NULL)
        return -1;
    if (py_task_add(many->carrier, &settings) < 0) {
        Py_CLEAR(many->carrier);
        return -1;
    }
    if (py_future_task(many->carrier) != NULL)
        many->parallel.deadline_ns = py_future_task(many->carrier)->deadline_ns;
    py_timer_arm(many->carrier);
    Py_INCREF(many->carrier); /* for the submitter: the queue may be done with it at once */
    return 0;
}

PyObject *py_many_submit(const py_view *view, PyObject *capsule)
{
    py_many *many = PyCapsule_GetPointer(capsule, NULL);
    py_reap(view->core);
    PyObject *futures = make_futures(view->core, capsule, many);
    if (futures == NULL || PyList_GET_SIZE(futures) == 0)
        return futures;
    if (make_carrier(view, capsule, many) < 0) {
        Py_CLEAR(futures);
    } else if (py_submit_range(view, &fp_parallel_job, many, many->parallel.range.n) < 0) {
        py_timer_disarm(many->carrier);
        Py_DECREF(many->carrier);
        Py_CLEAR(futures);
    } else {
        py_timer_queued(many->carrier);
    }
    Py_XDECREF(many->carrier);
    return futures;
}
