/* search.cpp - "Who looks" and "Places" (fp_pool.h): as many jobs run at a time as there are workers.
 *
 * The whole of fp_pool.c and fp_worker.c, from submit to the closing of the pool, on the real queue and eventcount; only
 * threads, mutexes, clocks and histograms are the model's. Two submitters, of which one may pause the pool and the other
 * shrink it and let it grow again; two or three workers, two to four jobs. A job that blocks waits until the workers beside it
 * have started the next ones, so a job that lies in the queue while a worker sleeps, or while the one that should wake it
 * is inside a job, is a livelock. The last of all jobs and submitters closes the pool.
 *
 * What varies: see struct plan. Relacy is stronger than C11 where read-modify-writes, and compare-and-swaps that miss, see
 * the newest value; for `searching` a miss may see an older one.
 */
#include "model.hpp"

/* --- the system --------------------------------------------------------------------------------------------------- */

#undef malloc /* Relacy's would not run constructors either, and fp_host has a member `free` */
#undef calloc
#undef free
#undef fp_aligned
#define fp_aligned

/* csrc names no labels for the orders of `searching`: they are those of the object at this address. Those of SET and of
 * MISS, where the compare-and-swap finds another value, may be relaxed: all hangs on CLEAR and LOOK. */
#define FP_SEARCHING_CLEAR rl::mo_seq_cst
#define FP_SEARCHING_LOOK rl::mo_seq_cst
#define FP_SEARCHING_SET rl::mo_seq_cst
#define FP_SEARCHING_MISS rl::mo_seq_cst
LABEL(FP_SEARCHING_CLEAR)
LABEL(FP_SEARCHING_LOOK)
LABEL(FP_SEARCHING_SET)
LABEL(FP_SEARCHING_MISS)
static void *the_searching;

/* Now and then a thread stands still for longer than the scheduler's dice would have it. */
static void dawdle()
{
    if (rl::rand(16) == 0)
        for (unsigned steps = 1 + rl::rand(32); steps > 0; steps--)
            rl::yield(1, $);
}

/* Zero from the start, as calloc leaves it. Copied only in code that no model runs (fp_pool_create). */
template <typename T> struct zeroed : rl::atomic<T> {
    zeroed(T value = T()) : rl::atomic<T>(value)
    {
    }
    zeroed(const zeroed &) : rl::atomic<T>(T())
    {
    }
    zeroed &operator=(const zeroed &)
    {
        return *this;
    }
    void store(T value, rl::memory_order order, rl::debug_info_param info)
    {
        if (this == the_searching)
            dawdle();
        rl::atomic<T>::store(value, this == the_searching ? order_FP_SEARCHING_CLEAR : order, info);
    }
    T load(rl::memory_order order, rl::debug_info_param info)
    {
        if (this == the_searching)
            dawdle();
        return rl::atomic<T>::load(this == the_searching ? order_FP_SEARCHING_LOOK : order, info);
    }
    bool compare_exchange_strong(T &expected, T desired, rl::memory_order success, rl::debug_info_param info,
                                 rl::memory_order failure, rl::debug_info_param)
    {
        if (this != the_searching)
            return rl::atomic<T>::compare_exchange_strong(expected, desired, success, info, failure, info);
        T seen = rl::atomic<T>::load(order_FP_SEARCHING_MISS, info); /* Relacy's own misses see the newest value always */
        return seen == expected && rl::atomic<T>::compare_exchange_strong(expected, desired, order_FP_SEARCHING_SET, info,
                                                                          rl::mo_relaxed, info);
    }
};
#undef fp_atomic
#define fp_atomic(T) zeroed<T>

#include "sleeping.hpp"

struct fp_mutex {
    rl::mutex mutex;
    fp_mutex() = default;
    fp_mutex(const fp_mutex &) : mutex()
    {
    }
    fp_mutex &operator=(const fp_mutex &)
    {
        return *this;
    }
};

static void fp_mutex_init(fp_mutex *)
{
}

static void fp_mutex_destroy(fp_mutex *)
{
}

static void fp_mutex_lock(fp_mutex *mutex)
{
    dawdle();
    mutex->mutex.lock($);
}

static void fp_mutex_unlock(fp_mutex *mutex)
{
    mutex->mutex.unlock($);
    dawdle();
}

/* Relacy's threads are there from the start: each waits until it is made one of the pool's, and again when that has ended.
 * What it is to run is plain data of the model's, touched between two steps and thus at once; the semaphore is the edge. */
typedef struct place *fp_thread;

struct place {
    rl::rl_sem_t start;
    void *(*main)(void *);
    void *arg;
};

struct places {
    enum { PLACES = 6 }; /* all workers may be started anew while their old threads are on their last lines */
    place all[PLACES];
    int busy, refusals;
    bool over; /* no thread will be started any more */

    void reset(int refusals)
    {
        this->refusals = refusals;
        for (place &p : all)
            p.start.init(false, 0, PLACES, $);
    }
    void destroy()
    {
        for (place &p : all)
            p.start.deinit($);
    }
    place *unused()
    {
        for (place &p : all)
            if (p.main == NULL)
                return &p;
        return NULL;
    }
    int start(place **thread, void *(*main)(void *), void *arg)
    {
        place *p;
        if (refusals > 0 && rl::rand(4) != 0 && refusals-- > 0)
            return EAGAIN;
        while ((p = unused()) == NULL)
            rl::yield(1, $);
        *p = place{p->start, main, arg};
        busy++;
        *thread = p;
        p->start.signal($);
        return 0;
    }
    void end_if_over()
    {
        if (over && busy == 0)
            for (place &p : all)
                p.start.signal($);
    }
    void run(place *p)
    {
        for (;;) {
            p->start.wait(false, false, $);
            if (p->main == NULL)
                return;
            p->main(p->arg);
            p->main = NULL;
            busy--;
            end_if_over();
        }
    }
};
static places *the_places;

int fp_thread_start(fp_thread *thread, void *(*main)(void *), void *arg)
{
    return the_places->start(thread, main, arg);
}

static void fp_thread_join(fp_thread) /* nobody frees anything after it */
{
}

static void fp_thread_detach(fp_thread)
{
}

static bool fp_thread_is_self(fp_thread)
{
    return false;
}

static uint32_t fp_os_fork_generation, the_cpus;

static int fp_os_usable_cpus(void)
{
    return (int)the_cpus;
}

/* A nanosecond passes, or it does not. */
static int64_t the_time;

int64_t fp_os_now_ns(void)
{
    return the_time += rl::rand(2);
}

#define FP_CLOCK_H
static uint64_t fp_clock_ticks(void)
{
    return 0;
}

#define FP_BACKOFF_H
static void fp_cpu_pause(void) {}
static void fp_backoff(unsigned *)
{
    rl::yield(1, $);
}

/* A hint to those who wait for results. */
#define FP_AWAKE_H
static void fp_awake_change(int)
{
}

/* Traces are not modelled here: who runs jobs records them, and these do not (trace.cpp has their ring). */
#define FP_TRACE_H
struct fp_trace;
struct fp_trace_row;
struct fp_pool;
static void fp_trace_forget_row(fp_trace_row *) {}
static void fp_trace_rest(struct fp_worker *) {}
static void fp_trace_close(fp_trace *, fp_pool *) {}

/* No edge of the pool's goes through these, and they have thousands of words. */
#define FP_HISTOGRAM_H
enum { FP_HISTOGRAM_BUCKETS = 1 };
typedef struct fp_histogram {
} fp_histogram;
static void fp_histogram_add(fp_histogram *, uint64_t, uint64_t)
{
}
static void fp_histogram_add_shared(fp_histogram *, uint64_t, uint64_t)
{
}

/* search.sed puts these into csrc. */
MUTANT(debt_forgotten)
MUTANT(more_unlooked)
MUTANT(failed_wake_returns)
MUTANT(cleared_after_look)
MUTANT(notified_forgets)
MUTANT(started_forgets)
MUTANT(set_up_unlooked)
MUTANT(set_up_forgets)
MUTANT(sized_by_positions)
MUTANT(left_unlooked)
MUTANT(place_given_late)
MUTANT(counted_before_started)
MUTANT(resumed_unwoken)
MUTANT(closed_unwoken)
MUTANT(pause_drains)
MUTANT(surplus_keeps_search)
MUTANT(surplus_uncounted)
MUTANT(resized_unwoken)
MUTANT(yield_closes)

/* --- csrc --------------------------------------------------------------------------------------------------------- */

#include "ring_labels.hpp"

#include "fp_eventcount.h"

LABEL(FP_EC_REGISTER)
LABEL(FP_EC_LOOK)
#undef FP_EC_REGISTER
#undef FP_EC_LOOK
#define FP_EC_REGISTER order_FP_EC_REGISTER
#define FP_EC_LOOK order_FP_EC_LOOK
#define _Thread_local /* one for all: it only decides between joining and detaching */
#include "fp_eventcount.c"
#include "fp_overflow.c"
#include "fp_queue.c"
#include "fp_pool.c"
#include "fp_worker.c"

void fp_histogram_merge(fp_histogram_sum *, fp_histogram *)
{
}

void fp_metrics_merge(fp_metrics *, fp_worker_metrics *)
{
}

/* --- the model ---------------------------------------------------------------------------------------------------- */

enum { SUBMITTERS = 2, MOST_WORKERS = 3, MOST_ITEMS = 4, RANGE_JOBS = 2 };

/* What varies from schedule to schedule. */
struct plan {
    enum kind { AT_ONCE, BLOCKS, RANGE } kinds[MOST_ITEMS]; /* a range's jobs block */
    unsigned submitters[MOST_ITEMS];
    fp_lane lanes[MOST_ITEMS];
    unsigned workers, items, jobs, blocking;
    bool attached, overflows, leaving, spins, idles;
    enum { NO_SET_UP, SET_UP, SET_UP_TOGETHER } set_up; /* worker_start; and it waits for those of the other workers */
    enum { NO_PAUSE, PAUSES, CLOSES_PAUSED } pause; /* round the first submitter's submits; if it closes, there are no others */
    bool resizes; /* the second submitter: down to one worker, and up again */
    int refusals; /* threads that cannot be started: then no job may wait for another */

    void draw()
    {
        refusals = rl::rand(4) == 0 ? 1 + rl::rand(4) : 0;
        workers = refusals == 0 && rl::rand(3) == 0 ? 3 : 2;
        items = refusals == 0 ? workers + rl::rand(MOST_ITEMS - workers + 1) : 2;
        jobs = blocking = 0;
        bool laned = rl::rand(4) == 0;
        pause = refusals != 0 || rl::rand(4) != 0 ? NO_PAUSE : rl::rand(2) ? PAUSES : CLOSES_PAUSED;
        resizes = rl::rand(4) == 0;
        for (unsigned i = 0; i < items; i++) {
            unsigned kind = rl::rand(8);
            kinds[i] = kind == 0 ? RANGE : kind < 3 ? AT_ONCE : BLOCKS;
            submitters[i] = refusals != 0 ? i : pause == CLOSES_PAUSED ? 0 : rl::rand(SUBMITTERS);
            lanes[i] = laned ? (fp_lane)rl::rand(FP_LANES) : FP_LANE_NORMAL;
            jobs += kinds[i] == RANGE ? RANGE_JOBS : 1;
            blocking += kinds[i] == RANGE ? RANGE_JOBS : kinds[i] == BLOCKS ? 1 : 0;
        }
        attached = rl::rand(8) == 0;
        overflows = rl::rand(8) == 0;
        leaving = rl::rand(2) == 0;
        spins = rl::rand(2) == 0;
        idles = rl::rand(8) == 0;
        bool has_set_up = rl::rand(4) < (workers == 3 ? 3 : 1);
        set_up = !has_set_up ? NO_SET_UP : rl::rand(2) || refusals != 0 ? SET_UP : SET_UP_TOGETHER;
    }
};

struct search_model;
static search_model *the_model;

struct search_model : rl::test_suite<search_model, SUBMITTERS + places::PLACES> {
    enum { ORDER = 2, RECORDS = 1 << ORDER, SPARES = MOST_WORKERS };
    struct item {
        plan::kind kind;
        zeroed<uint32_t> claimed;
        int runs, ends;
    };
    plan drawn;
    sleeping os;
    places threads;
    zeroed<uint64_t> slots[3 + FP_LANES][2 * RECORDS];
    fp_job records[RECORDS + SPARES + 1];
    fp_worker_metrics metrics[MOST_WORKERS];
    fp_worker workers[MOST_WORKERS];
    fp_worker *worker_pointers[MOST_WORKERS];
    fp_pool pool;
    item items[MOST_ITEMS];
    zeroed<uint32_t> started; /* blocking jobs */
    zeroed<uint32_t> set_ups;
    zeroed<uint32_t> left; /* jobs and submitters that are not done */

    search_model() : drawn(), threads(), workers(), pool(), items()
    {
    }

    void before()
    {
        drawn.draw();
        the_model = this;
        the_os = &os;
        the_places = &threads;
        the_searching = &pool.searching;
        the_time = 0;
        the_cpus = 1 + rl::rand(3);
        os.reset();
        threads.reset(drawn.refusals);
        make_pool();
        for (unsigned i = 0; i < drawn.items; i++)
            items[i].kind = drawn.kinds[i];
        left.store(drawn.jobs + SUBMITTERS, rl::mo_relaxed, $);
    }

    void make_pool()
    {
        pool.options = fp_pool_options{drawn.workers, drawn.leaving ? 1 : drawn.workers, 0, 1, drawn.spins};
        pool.min_workers.store(pool.options.min_workers, rl::mo_relaxed, $);
        pool.max_workers.store(pool.options.max_workers, rl::mo_relaxed, $);
        if (drawn.set_up != plan::NO_SET_UP)
            pool.host.worker_start = set_up_worker;
        if (drawn.idles)
            pool.host.idle = idle_worker;
        pool.usable_cpus = the_cpus;
        pool.references.store(1, rl::mo_relaxed, $);
        pool.queue.records = records;
        pool.queue.capacity = drawn.overflows ? 1 : RECORDS;
        fp_ring_init_full(&pool.queue.free, slots[0], ORDER, pool.queue.capacity);
        fp_ring_init_empty(&pool.queue.spare, slots[1], ORDER);
        for (int lane = 0; lane < FP_LANES; lane++)
            fp_ring_init_empty(&pool.queue.ready[lane], slots[3 + lane], ORDER + 1);
        fp_ring_init_empty(&pool.queue.beyond, slots[2], ORDER);
        fp_ring_enqueue(&pool.queue.beyond, RECORDS + SPARES);
        for (unsigned i = 0; i < SPARES; i++)
            fp_ring_enqueue(&pool.queue.spare, RECORDS + i);
        pool.workers = worker_pointers;
        pool.places = drawn.workers;
        for (pool.made = 0; pool.made < drawn.workers; pool.made++) {
            worker_pointers[pool.made] = &workers[pool.made];
            workers[pool.made].pool = &pool;
            workers[pool.made].metrics = &metrics[pool.made];
        }
    }

    static int set_up_worker(void *, fp_worker *)
    {
        const plan &drawn = the_model->drawn;
        fp_fetch_add(&the_model->set_ups, 1, fp_relaxed);
        do
            rl::yield(1, $);
        while (drawn.set_up == plan::SET_UP_TOGETHER && fp_load(&the_model->set_ups, fp_relaxed) < drawn.workers);
        return 0;
    }

    static void idle_worker(void *, fp_worker *)
    {
        rl::yield(1, $);
    }

    /* The last one of all closes the pool; it may be a worker, inside its job. */
    void done()
    {
        if (fp_fetch_sub(&left, 1, fp_acq_rel) != 1)
            return;
        fp_pool_close(&pool);
        threads.over = true;
        threads.end_if_over();
    }

    void run_one(item *it)
    {
        it->runs++;
        if (it->kind != plan::AT_ONCE) {
            uint32_t beside = fp_fetch_add(&started, 1, fp_relaxed) + drawn.workers;
            uint32_t until = drawn.refusals != 0 ? 0 : beside < drawn.blocking ? beside : drawn.blocking;
            while (fp_load(&started, fp_relaxed) < until)
                rl::yield(1, $);
        }
        done();
    }

    static fp_outcome run_single(void *ctx, fp_worker *worker)
    {
        RL_ASSERT(worker != NULL); /* the pool closes with nobody submitting, so workers empty the queue */
        the_model->run_one((item *)ctx);
        return FP_DONE;
    }

    static fp_outcome run_range(void *ctx, fp_worker *worker)
    {
        item *it = (item *)ctx;
        uint32_t number;
        RL_ASSERT(worker != NULL);
        do {
            if ((number = fp_fetch_add(&it->claimed, 1, fp_relaxed)) >= RANGE_JOBS)
                break;
            if (number == RANGE_JOBS - 1)
                fp_worker_range_started(worker);
            fp_worker_note(worker, FP_DONE, 1, 0);
            the_model->run_one(it);
        } while (!fp_worker_should_yield(worker));
        return FP_DONE;
    }

    static bool range_all_started(void *ctx)
    {
        return fp_load(&((item *)ctx)->claimed, fp_relaxed) >= RANGE_JOBS;
    }

    static void end_range(void *ctx, fp_worker *)
    {
        ((item *)ctx)->ends++;
    }

    void submit(item *it, fp_lane lane)
    {
        static const fp_job_class classes[2][2] = {
            {{0, run_single}, {0, run_range, NULL, end_range, range_all_started}},
            {{FP_JOB_ATTACHED, run_single}, {FP_JOB_ATTACHED, run_range, NULL, end_range, range_all_started}}};
        bool is_range = it->kind == plan::RANGE;
        fp_submit_result result;
        do
            result = fp_pool_submit(&pool, &classes[drawn.attached][is_range], it, is_range, is_range ? RANGE_JOBS : 1,
                                    lane);
        while (result == FP_SUBMIT_NO_THREAD);
        RL_ASSERT(result == FP_SUBMIT_OK);
    }

    void before_submits(unsigned index)
    {
        if (index == 0 && drawn.pause != plan::NO_PAUSE)
            fp_pool_pause(&pool);
        if (index == 1 && drawn.resizes && rl::rand(2))
            shrink();
    }

    void after_submits(unsigned index)
    {
        if (index == 0 && drawn.pause == plan::PAUSES)
            fp_pool_resume(&pool);
        if (index == 0 && drawn.pause == plan::CLOSES_PAUSED)
            fp_pool_close(&pool);
        if (index == 1 && drawn.resizes) {
            shrink();
            RL_ASSERT(fp_pool_resize(&pool, pool.options.min_workers, pool.options.max_workers));
        }
    }

    void shrink()
    {
        RL_ASSERT(fp_pool_resize(&pool, 1, 1));
    }

    void thread(unsigned index)
    {
        if (index >= SUBMITTERS) {
            threads.run(&threads.all[index - SUBMITTERS]);
            return;
        }
        before_submits(index);
        for (unsigned i = 0; i < drawn.items; i++)
            if (drawn.submitters[i] == index)
                submit(&items[i], drawn.lanes[i]);
        after_submits(index);
        done();
    }

    void after()
    {
        for (unsigned i = 0; i < drawn.items; i++) {
            RL_ASSERT(items[i].runs == (items[i].kind == plan::RANGE ? RANGE_JOBS : 1));
            RL_ASSERT(items[i].ends == (items[i].kind == plan::RANGE));
        }
        RL_ASSERT(fp_pool_is_empty(&pool) && fp_pool_is_idle(&pool) && fp_pool_has_ended(&pool));
        RL_ASSERT(fp_load(&pool.live, fp_relaxed) == 0 && fp_load(&pool.awake, fp_relaxed) == 0);
        RL_ASSERT(fp_load(&pool.serving, fp_relaxed) == 0 && fp_load(&pool.setting_up, fp_relaxed) == 0);
        RL_ASSERT(fp_load(&pool.references, fp_relaxed) == 1);
        threads.destroy();
    }
};

int main(int argc, char **argv)
{
    return run_model<search_model>(argc, argv);
}
