/* test_burst.c - bursts: one place in the queue into which jobs go while others are run; each once, and one end. */
#include "groups.h"

/* --- the burst alone, one thread ------------------------------------------------------------------------------------- */

static int never_called(void *arg)
{
    (void)arg;
    return test_fail("called", __FILE__, __LINE__), 0;
}

static fp_burst *new_burst(void *first)
{
    fp_burst *burst = NULL;
    CHECK(posix_memalign((void **)&burst, FP_CACHE_LINE, sizeof *burst) == 0);
    fp_burst_init(burst, never_called, first);
    return burst;
}

static void fill(fp_burst *burst, char *args, uint32_t jobs)
{
    for (uint32_t i = 1; i < jobs; i++)
        CHECK(fp_burst_append(burst, i, never_called, args + i));
}

static void takes_in_order(uint32_t jobs, uint32_t most)
{
    static char args[FP_BURST_JOBS];
    fp_burst *burst = new_burst(args);
    uint32_t begin, end, filled, next = 0;
    fill(burst, args, jobs);
    while (fp_burst_take(burst, most, &begin, &end, &filled)) {
        CHECK(begin == next && end > begin && end - begin <= most && end <= jobs && filled == jobs);
        for (; next < end; next++)
            CHECK(fp_get(&burst->jobs[next].arg) == args + next && fp_get(&burst->jobs[next].function) == never_called);
    }
    CHECK(next == jobs && filled == jobs);
    CHECK(fp_burst_seal(burst, jobs) && !fp_burst_seal(burst, jobs));
    CHECK(!fp_burst_take(burst, most, &begin, &end, &filled) && filled == (jobs | FP_BURST_SEALED));
    free(burst);
}

static void jobs_come_out_in_order(void)
{
    for (uint32_t jobs = 1; jobs <= FP_BURST_JOBS; jobs++)
        for (uint32_t most = 1; most <= FP_BURST_JOBS; most += 1 + most / 2)
            takes_in_order(jobs, most);
}

static void sealing(void)
{
    static char args[4];
    uint32_t begin, end, filled;
    fp_burst *burst = new_burst(args);
    fill(burst, args, 3);
    CHECK(!fp_burst_seal(burst, 1) && !fp_burst_seal(burst, 2)); /* by who has not seen the last ones */
    CHECK(fp_burst_take(burst, 1, &begin, &end, &filled) && begin == 0 && end == 1);
    CHECK(fp_burst_seal(burst, 3)); /* by the submitter: there are jobs to take still */
    CHECK(!fp_burst_append(burst, 3, never_called, args));
    CHECK(fp_burst_take(burst, 9, &begin, &end, &filled) && begin == 1 && end == 3 && filled == (3 | FP_BURST_SEALED));
    CHECK(!fp_burst_take(burst, 9, &begin, &end, &filled));
    free(burst);
}

/* `jobs` jobs that end in takes, and the sealing (V2) after `sealed_after` of them. Bit i of `cuts`: a take ends with job i. */
static void settle_in_this_way(uint32_t jobs, uint32_t cuts, uint32_t sealed_after)
{
    fp_burst *burst = new_burst(NULL);
    uint32_t taken = 0, takes = 0;
    bool sealed = false, ended = false;
    for (uint32_t i = 0; i < jobs; i++) {
        if (!sealed && takes == sealed_after) {
            CHECK(!fp_burst_settle(burst, (int32_t)jobs)); /* jobs are to end still */
            sealed = true;
        }
        taken++;
        if (!(cuts >> i & 1) && i + 1 < jobs)
            continue;
        CHECK(!ended);
        ended = fp_burst_settle(burst, -(int32_t)taken);
        CHECK(ended == (sealed && i + 1 == jobs));
        taken = 0;
        takes++;
    }
    CHECK(ended == sealed && (sealed || fp_burst_settle(burst, (int32_t)jobs)));
    free(burst);
}

static void ends_once(void)
{
    for (uint32_t jobs = 1; jobs <= 6; jobs++)
        for (uint32_t cuts = 0; cuts < 1u << jobs; cuts++)
            for (uint32_t sealed_after = 0; sealed_after <= jobs; sealed_after++)
                settle_in_this_way(jobs, cuts, sealed_after);
}

/* --- the burst alone, one thread that appends and others that take ------------------------------------------------------ */

enum { MOST_BURSTS = 1 << 16 };

struct relay {
    unsigned takers;
    int64_t jobs;
    int *results; /* plain: the burst's edges have to order them */
    fp_burst *bursts[MOST_BURSTS];
    uint32_t first_job[MOST_BURSTS], ends[MOST_BURSTS];
    fp_atomic(uint32_t) pushed; /* stands for the queue */
    fp_atomic(bool) all_pushed;
    fp_atomic(int64_t) ended; /* jobs of ended bursts */
};

/* The ender sees what the jobs have written. */
static void end_relay(struct relay *relay, uint32_t b)
{
    uint32_t n = fp_load(&relay->bursts[b]->filled, fp_relaxed) & ~FP_BURST_SEALED;
    for (uint32_t i = 0; i < n; i++)
        CHECK_EQUAL(relay->results[relay->first_job[b] + i], 1);
    relay->ends[b]++;
    fp_fetch_add(&relay->ended, (int64_t)n, fp_release);
    watchdog_pat();
}

static void seal_relay(struct relay *relay, uint32_t b, uint32_t n)
{
    if (fp_burst_seal(relay->bursts[b], n) && fp_burst_settle(relay->bursts[b], (int32_t)n))
        end_relay(relay, b);
}

static void run_relay(struct relay *relay, uint32_t b, uint32_t most)
{
    fp_burst *burst = relay->bursts[b];
    uint32_t begin, end, filled;
    for (;;) {
        if (fp_burst_take(burst, most, &begin, &end, &filled)) {
            for (uint32_t i = begin; i < end; i++)
                ++*(int *)fp_get(&burst->jobs[i].arg);
            if (fp_burst_settle(burst, -(int32_t)(end - begin)))
                end_relay(relay, b);
        } else if (filled & FP_BURST_SEALED) {
            return;
        } else {
            if (most == 2) /* now and then an append comes in between */
                sched_yield();
            seal_relay(relay, b, filled);
        }
    }
}

static void take_relay(void *arg, unsigned number)
{
    struct relay *relay = arg;
    uint32_t b = 0;
    while (!fp_load(&relay->all_pushed, fp_acquire) || b < fp_load(&relay->pushed, fp_acquire)) {
        if (b == fp_load(&relay->pushed, fp_acquire)) {
            sched_yield();
            continue;
        }
        run_relay(relay, b, 1 + (number + b) % 3);
        b++;
    }
}

static uint32_t push_relay(struct relay *relay, uint32_t b, int64_t job)
{
    CHECK(b < MOST_BURSTS);
    relay->bursts[b] = new_burst(&relay->results[job]);
    relay->first_job[b] = (uint32_t)job;
    fp_store(&relay->pushed, b + 1, fp_release);
    return b;
}

static void append_relay(struct relay *relay)
{
    uint32_t b = push_relay(relay, 0, 0), n = 1;
    for (int64_t job = 1; job < relay->jobs; job++) {
        if (n < FP_BURST_JOBS && fp_burst_append(relay->bursts[b], n, never_called, &relay->results[job])) {
            n++;
            continue;
        }
        seal_relay(relay, b, n);
        b = push_relay(relay, b + 1, job);
        n = 1;
    }
    seal_relay(relay, b, n);
    fp_store(&relay->all_pushed, true, fp_release);
}

static void each_taken_once(unsigned takers)
{
    struct relay *relay = calloc(1, sizeof *relay);
    threads threads;
    CHECK(relay != NULL);
    relay->takers = takers;
    relay->jobs = MOST_BURSTS < test_rounds(60000) ? MOST_BURSTS : test_rounds(60000);
    relay->results = calloc((size_t)relay->jobs, sizeof *relay->results);
    CHECK(relay->results != NULL);
    threads_start(&threads, takers, take_relay, relay);
    append_relay(relay);
    threads_join(&threads);
    CHECK_EQUAL(fp_load(&relay->ended, fp_acquire), relay->jobs);
    for (uint32_t b = 0; b < fp_load(&relay->pushed, fp_relaxed); b++) {
        CHECK_EQUAL(relay->ends[b], 1);
        free(relay->bursts[b]);
    }
    free(relay->results);
    free(relay);
}

/* --- bursts in a pool ----------------------------------------------------------------------------------------------------- */

/* The one worker is held, so nobody seals: the places are what the jobs need at the least. */
static void jobs_share_a_place(void)
{
    enum { JOBS = 2 * FP_BURST_JOBS + 44 };
    fp_pool *pool = fixed_pool(1, 8);
    fp_group *group = new_group(pool), *held = new_group(pool);
    tally tally = tally_of(JOBS);
    blocker blocker = BLOCKER_INITIALIZER;
    CHECK(fp_group_submit(held, block, &blocker) == FP_SUBMIT_OK);
    gate_wait(&blocker.started, 1);
    uint64_t before = fp_queue_size(&pool->queue);
    for (int i = 0; i < JOBS; i++)
        CHECK(fp_group_submit(group, tally_job, (void *)&tally.ran[i]) == FP_SUBMIT_OK);
    CHECK_EQUAL(fp_queue_size(&pool->queue) - before, 3);
    gate_raise(&blocker.go, 1);
    group_end(held);
    group_end(group);
    tally_check(&tally, 1);
    end_pool_with_books(pool);
    tally_free(&tally);
}

/* As fast as they go, so bursts are full; or each awaited, so that workers seal them. */
static void each_runs_once(uint32_t workers, uint32_t capacity)
{
    fp_pool *pool = fixed_pool(workers, capacity);
    fp_group *group = new_group(pool);
    tally all = tally_of(test_rounds(40000)), few = tally_of(3);
    for (int64_t i = 0; i < all.n; i++)
        CHECK(group_submit(group, tally_job, (void *)&all.ran[i]) == FP_SUBMIT_OK);
    group_wait(group);
    tally_check(&all, 1);
    for (int64_t round = test_rounds(1500); round > 0; round--) {
        for (int64_t i = 0; i < few.n; i++)
            CHECK(group_submit(group, tally_job, (void *)&few.ran[i]) == FP_SUBMIT_OK);
        group_wait(group);
        tally_check(&few, 1);
    }
    group_end(group);
    check_ended(pool, (uint64_t)(all.n + 3 * test_rounds(1500)), 0, 0);
    end_pool(pool);
    tally_free(&all);
    tally_free(&few);
}

static void every_job_runs_once(void)
{
    static const uint32_t workers[] = {1, 2, 16}, capacities[] = {1, 2, 8192};
    for (int w = 0; w < 3; w++)
        for (int c = 0; c < 3; c++)
            each_runs_once(workers[w], capacities[c]);
}

/* A job is inside for as long as we like, and the other worker is free: what is submitted next must not wait for it. In odd
 * rounds before the other worker can have come to seal, in even ones likely after it. */
static int raise_gate(void *arg)
{
    gate_raise(arg, 1);
    return 0;
}

static void next_job_runs_elsewhere(int64_t round, fp_group *group)
{
    blocker slow = BLOCKER_INITIALIZER;
    gate next = GATE_INITIALIZER;
    CHECK(group_submit(group, block, &slow) == FP_SUBMIT_OK);
    if (round % 2 == 0)
        gate_wait(&slow.started, 1);
    CHECK(group_submit(group, raise_gate, &next) == FP_SUBMIT_OK);
    gate_wait(&next, 1);
    CHECK(group_submit(group, raise_gate, &next) == FP_SUBMIT_OK); /* and so must the one after it */
    gate_wait(&next, 2);
    gate_raise(&slow.go, 1);
    group_wait(group);
}

static void no_job_waits_behind_a_slow_one(void)
{
    for (uint32_t capacity = 1; capacity <= 64; capacity *= 8) {
        fp_pool *pool = fixed_pool(2, capacity);
        fp_group *group = new_group(pool);
        for (int64_t round = test_rounds(4000); round > 0; round--)
            next_job_runs_elsewhere(round, group);
        group_end(group);
        end_pool_with_books(pool);
    }
}

int main(void)
{
    watchdog_start(dump_pool);
    PROPERTY("burst: jobs come out in the order they went in", jobs_come_out_in_order());
    PROPERTY("burst: who has not seen the last job cannot seal, and what is sealed takes no more", sealing());
    PROPERTY("burst: it ends once, after its last job and its sealing, in whatever order", ends_once());
    PROPERTY("burst: each job is taken once beside appends and seals (1, 2, 4 takers)", each_taken_once(1);
             each_taken_once(2); each_taken_once(4));
    PROPERTY("burst: jobs share a place in the queue", jobs_share_a_place());
    PROPERTY("burst: every job runs exactly once (workers 1-16, capacity 1-8192; full, and sealed by workers)",
             every_job_runs_once());
    PROPERTY("burst: no job waits behind a slow one while a worker is free", no_job_waits_behind_a_slow_one());
    return 0;
}
