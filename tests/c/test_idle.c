/* test_idle.c - a pool without work costs nothing: its workers use no CPU at all and are never even scheduled.
 *
 * Two clocks that only a running thread moves are read: the CPU time of each worker, and its count of context switches.
 * The windows are waited for on a clock, since time passing is what is measured; a slow machine makes nothing fail, for it
 * cannot make a sleeping thread run.
 */
#define _GNU_SOURCE
#include <string.h>
#include <time.h>

#include "pools.h"

enum { WORKERS = 3, MS = 1000 * 1000 };

static pid_t thread_ids[WORKERS];

static int note_thread(void *arg, fp_worker *worker)
{
    (void)arg;
    thread_ids[worker->id] = gettid();
    return 0;
}

static void let_time_pass(int64_t ns)
{
    fp_atomic(uint32_t) word = 0;
    int64_t deadline_ns = fp_os_now_ns() + ns;
    while (fp_os_wait(&word, 0, deadline_ns) != FP_WAIT_TIMED_OUT)
        ;
}

static int64_t cpu_ns(fp_worker *worker)
{
    clockid_t clock;
    struct timespec used;
    CHECK(pthread_getcpuclockid(worker->thread, &clock) == 0 && clock_gettime(clock, &used) == 0);
    return (int64_t)used.tv_sec * 1000000000 + used.tv_nsec;
}

/* A field of the kernel's own account of the thread. */
static void read_status(fp_worker *worker, const char *field, char *value, size_t size)
{
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/self/task/%d/status", (int)thread_ids[worker->id]);
    FILE *file = fopen(path, "re");
    CHECK(file != NULL);
    value[0] = 0;
    while (fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, field, strlen(field)) == 0)
            snprintf(value, size, "%s", line + strlen(field) + strspn(line + strlen(field), ": \t"));
    fclose(file);
    CHECK(value[0] != 0);
}

static uint64_t switches(fp_worker *worker)
{
    char own[32], forced[32];
    read_status(worker, "voluntary_ctxt_switches", own, sizeof own);
    read_status(worker, "nonvoluntary_ctxt_switches", forced, sizeof forced);
    return strtoull(own, NULL, 10) + strtoull(forced, NULL, 10);
}

/* Asleep in the kernel, and with nothing to do between here and there. */
static bool all_are_parked(fp_pool *pool)
{
    char state[32];
    if (fp_load(&pool->awake, fp_seq_cst) != 0)
        return false;
    for (int i = 0; i < WORKERS; i++) {
        read_status(pool->workers[i], "State", state, sizeof state);
        if (state[0] != 'S')
            return false;
    }
    return true;
}

/* All workers have started and run jobs. */
static fp_pool *busy_pool(int64_t spin_ns)
{
    fp_host host = {.worker_start = note_thread};
    fp_pool_options options = {
        .max_workers = WORKERS, .min_workers = WORKERS, .queue_capacity = 64, .spin_ns = spin_ns};
    fp_pool *pool = fp_pool_create(&options, &host);
    static blocker blockers[WORKERS];
    CHECK(pool != NULL);
    atomic_store(&watched_pool, pool);
    pool->usable_cpus = 2 * WORKERS; /* as on a machine that has CPUs to spare, or nobody would spin here */
    for (int i = 0; i < WORKERS; i++) {
        blockers[i] = (blocker)BLOCKER_INITIALIZER;
        submit_one(pool, &blocker_class, &blockers[i]);
    }
    for (int i = 0; i < WORKERS; i++)
        gate_wait(&blockers[i].started, 1);
    for (int i = 0; i < WORKERS; i++)
        gate_raise(&blockers[i].go, 1);
    wait_until_idle(pool);
    return pool;
}

static void run_a_job(fp_pool *pool)
{
    counted_job job = {0};
    submit_one(pool, &counted_class, &job);
    wait_until_idle(pool);
    CHECK_EQUAL(fp_load(&job.ran, fp_relaxed), 1);
}

static void workers_use_no_cpu(int64_t spin_ns, bool paused)
{
    int64_t at_idle[WORKERS], at_rest[WORKERS];
    uint64_t switches_at_rest[WORKERS];
    fp_pool *pool = busy_pool(spin_ns);
    counted_job queued[WORKERS] = {0};
    if (paused)
        fp_pool_pause(pool);
    for (int i = 0; i < WORKERS && paused; i++)
        submit_one(pool, &counted_class, &queued[i]);
    for (int i = 0; i < WORKERS; i++)
        at_idle[i] = cpu_ns(pool->workers[i]);
    do /* once, unless the machine is so busy that they have not come to it */
        let_time_pass(10 * MS);
    while (!all_are_parked(pool));
    for (int i = 0; i < WORKERS; i++) {
        at_rest[i] = cpu_ns(pool->workers[i]);
        switches_at_rest[i] = switches(pool->workers[i]);
        CHECK(at_rest[i] - at_idle[i] < 10 * MS); /* CPU time: however long it took them on a busy machine */
    }
    let_time_pass(150 * MS);
    for (int i = 0; i < WORKERS; i++) {
        CHECK_EQUAL(cpu_ns(pool->workers[i]), at_rest[i]);
        CHECK_EQUAL(switches(pool->workers[i]), switches_at_rest[i]);
    }
    for (int i = 0; i < WORKERS; i++)
        CHECK_EQUAL(fp_load(&queued[i].ran, fp_relaxed), 0);
    fp_pool_resume(pool);
    run_a_job(pool); /* and it is not dead either */
    for (int i = 0; i < WORKERS; i++)
        CHECK_EQUAL(fp_load(&queued[i].ran, fp_relaxed), paused);
    end_pool(pool);
}

/* The measurement is not blind: a worker that spins is seen to. */
static void spinning_shows(void)
{
    fp_pool *pool = busy_pool(INT64_C(3600) * 1000 * MS);
    int64_t before = 0, after = 0;
    for (int i = 0; i < WORKERS; i++)
        before += cpu_ns(pool->workers[i]);
    do {
        let_time_pass(10 * MS);
        CHECK(!all_are_parked(pool));
        after = 0;
        for (int i = 0; i < WORKERS; i++)
            after += cpu_ns(pool->workers[i]);
    } while (after - before < 10 * MS); /* the watchdog ends it if there is nothing to be seen */
    end_pool(pool);
}

int main(void)
{
    watchdog_start(dump_pool);
    PROPERTY("idle: after 10 ms without work no worker uses CPU or is scheduled", workers_use_no_cpu(0, false));
    PROPERTY("idle: the same where idle workers spin first", workers_use_no_cpu(50000, false));
    PROPERTY("idle: a paused pool is as quiet, whatever is queued", workers_use_no_cpu(0, true);
             workers_use_no_cpu(50000, true));
    PROPERTY("idle: control: a worker that goes on spinning shows", spinning_shows());
    return 0;
}
