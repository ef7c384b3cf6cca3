/* test_trace.c - the ring that keeps the latest, read while it is written; sessions; and that what has run is found there. */
#include <string.h>

#include "fp_trace.h"
#include "groups.h"

enum { CAPACITY = 8 };

/* Every word of event i says i, so a mixture shows. */
static void put_number(fp_trace_ring *ring, uint64_t i)
{
    fp_trace_event event = {.name = (const char *)(uintptr_t)i, .start_ticks = i, .end_ticks = i, .jobs = (int64_t)i,
                            .depth = (uint32_t)i, .thread = (uint32_t)~i};
    fp_trace_put(ring, &event);
}

static bool get_number(fp_trace_ring *ring, uint64_t i)
{
    fp_trace_event event;
    if (!fp_trace_get(ring, i, &event))
        return false;
    CHECK_EQUAL((uintptr_t)event.name, i);
    CHECK(event.start_ticks == i && event.end_ticks == i && event.jobs == (int64_t)i);
    CHECK(event.depth == (uint32_t)i && event.thread == (uint32_t)~i);
    return true;
}

static void keeps_the_latest(void)
{
    fp_trace_slot slots[CAPACITY];
    fp_trace_ring ring = {.capacity = CAPACITY, .slots = slots};
    for (uint64_t count = 0; count < 5 * CAPACITY + 3; count++) {
        CHECK_EQUAL(fp_trace_end(&ring), count);
        for (uint64_t i = 0; i < count; i++)
            CHECK(get_number(&ring, i) == (i + CAPACITY >= count));
        put_number(&ring, count);
    }
}

typedef struct written {
    fp_trace_ring ring;
    uint64_t count;
} written;

static void write_numbers(void *arg, unsigned number)
{
    written *it = arg;
    (void)number;
    for (uint64_t i = 0; i < it->count; i++)
        put_number(&it->ring, i);
}

static void read_while_written(void)
{
    fp_trace_slot slots[CAPACITY];
    written it = {.ring = {.capacity = CAPACITY, .slots = slots}, .count = (uint64_t)test_rounds(3000000)};
    threads writer;
    uint64_t end, whole = 0;
    threads_start(&writer, 1, write_numbers, &it);
    do {
        end = fp_trace_end(&it.ring);
        for (uint64_t i = end > CAPACITY ? end - CAPACITY : 0; i < end; i++)
            whole += get_number(&it.ring, i);
        watchdog_pat();
    } while (end < it.count);
    threads_join(&writer);
    CHECK(whole >= CAPACITY); /* those of the last round at least */
}

/* ---- sessions ---- */

static int nothing(void *arg)
{
    (void)arg;
    return 0;
}

static int no_range(int64_t begin, int64_t end, void *arg)
{
    (void)begin, (void)end, (void)arg;
    return 0;
}

static void submit_singles(fp_pool *pool, int count)
{
    fp_group *group = new_group(pool);
    for (int i = 0; i < count; i++)
        CHECK_EQUAL(group_submit(group, nothing, NULL), FP_SUBMIT_OK);
    group_end(group);
}

static void submit_range_jobs(fp_pool *pool, int64_t n)
{
    fp_group *group = new_group(pool);
    CHECK_EQUAL(group_submit_range(group, no_range, n, NULL, 0), FP_SUBMIT_OK);
    group_end(group);
}

static fp_trace *opened(fp_pool *pool, uint32_t events)
{
    fp_trace *trace = fp_trace_create(events);
    CHECK(trace != NULL);
    CHECK(fp_trace_open(trace, pool));
    return trace;
}

typedef struct seen {
    int64_t jobs;
    uint64_t events, rows;
} seen;

static seen look(fp_trace *trace, fp_pool *pool)
{
    seen seen = {0};
    for (fp_trace_row *row = fp_trace_rows(trace, pool); row != NULL; row = row->next, seen.rows++) {
        uint64_t first, end;
        fp_trace_event event;
        fp_trace_range(trace, row, &first, &end);
        CHECK(end - first <= trace->events);
        for (uint64_t i = first; i < end; i++) {
            if (!fp_trace_get(&row->ring, i, &event))
                continue;
            CHECK(strcmp(event.name, "native") == 0);
            CHECK(event.end_ticks >= event.start_ticks && event.jobs > 0);
            seen.jobs += event.jobs;
            seen.events++;
        }
    }
    return seen;
}

static void all_jobs_are_there(void)
{
    fp_pool *pool = fixed_pool(2, 64);
    fp_trace *trace = opened(pool, 1 << 16);
    submit_singles(pool, 1000);
    submit_range_jobs(pool, 5000);
    fp_trace_close(trace, pool);
    CHECK_EQUAL(look(trace, NULL).jobs, 6000); /* waited for before the closing, so there */
    submit_singles(pool, 100);
    CHECK_EQUAL(look(trace, NULL).jobs, 6000);
    end_pool(pool);
    CHECK_EQUAL(look(trace, NULL).jobs, 6000); /* it outlives the pool */
    fp_trace_release(trace);
}

static void one_at_a_time(void)
{
    fp_pool *pool = fixed_pool(1, 64);
    submit_singles(pool, 10);
    fp_trace *first = opened(pool, 16), *second = fp_trace_create(16);
    CHECK(!fp_trace_open(second, pool));
    CHECK(!fp_trace_open(first, pool));
    fp_trace_close(second, pool); /* that one is not open */
    submit_singles(pool, 10);
    fp_trace_close(first, pool);
    fp_trace_close(first, pool);
    CHECK(fp_trace_open(second, pool));
    submit_singles(pool, 7);
    fp_trace_close(second, pool);
    CHECK_EQUAL(look(first, NULL).jobs, 10);
    CHECK_EQUAL(look(second, NULL).jobs, 7);
    fp_trace_release(first);
    fp_trace_release(second);
    end_pool(pool);
}

static void nothing_is_made_while_off(void)
{
    fp_pool *pool = fixed_pool(1, 64);
    submit_singles(pool, 100);
    fp_trace *trace = opened(pool, 16);
    fp_trace_close(trace, pool);
    submit_singles(pool, 100);
    CHECK_EQUAL(look(trace, NULL).rows, 0);
    fp_pool_close(pool);
    wait_until_ended(pool);
    for (uint32_t i = 0; i < pool->made; i++)
        CHECK(pool->workers[i]->row == NULL);
    release_pool(pool);
    fp_trace_release(trace);
}

static void rings_are_given_back(void)
{
    fp_pool *pool = fixed_pool(2, 64);
    fp_trace *trace = opened(pool, 16);
    submit_singles(pool, 100);
    fp_trace_close(trace, pool);
    CHECK(look(trace, NULL).rows > 0);
    fp_pool_close(pool);
    wait_until_ended(pool); /* before that each worker has found nothing to do */
    for (uint32_t i = 0; i < pool->made; i++)
        CHECK(pool->workers[i]->row == NULL);
    CHECK(look(trace, NULL).jobs > 0); /* the trace has them still */
    release_pool(pool);
    fp_trace_release(trace);
}

static void pool_goes_with_an_open_trace(void)
{
    fp_pool *pool = fixed_pool(1, 64);
    fp_trace *trace = opened(pool, 16);
    submit_singles(pool, 5);
    end_pool(pool);
    CHECK_EQUAL(look(trace, NULL).jobs, 5);
    fp_trace_release(trace);
}

/* ---- opened, read and closed while jobs run ---- */

typedef struct traffic {
    fp_pool *pool;
    _Atomic bool over;
} traffic;

static void keep_busy(void *arg, unsigned number)
{
    traffic *traffic = arg;
    while (!atomic_load(&traffic->over)) {
        if (number == 0)
            submit_singles(traffic->pool, 50);
        else
            submit_range_jobs(traffic->pool, 500);
        watchdog_pat();
    }
}

static void sessions_beside_jobs(void)
{
    traffic traffic = {.pool = fixed_pool(2, 16)};
    threads group;
    threads_start(&group, 2, keep_busy, &traffic);
    for (int64_t round = test_rounds(300); round > 0; round--) {
        fp_trace *trace = opened(traffic.pool, 32);
        uint64_t events = 0;
        while (events < 40)
            events += look(trace, traffic.pool).events + (fp_trace_rows(trace, traffic.pool) == NULL ? 0 : 1);
        fp_trace_close(trace, traffic.pool);
        seen once = look(trace, NULL);
        CHECK(once.rows <= 3 && look(trace, NULL).events <= once.events); /* late writers only take away */
        fp_trace_release(trace);
        watchdog_pat();
    }
    atomic_store(&traffic.over, true);
    threads_join(&group);
    end_pool(traffic.pool);
}

int main(void)
{
    watchdog_start(dump_pool);
    PROPERTY("trace: the ring keeps the latest events, and knows which those are", keeps_the_latest());
    PROPERTY("trace: an event that is read while it is overwritten is left out, never mixed", read_while_written());
    PROPERTY("trace: jobs that were waited for are all there, and stay", all_jobs_are_there());
    PROPERTY("trace: one at a time, and each sees its own", one_at_a_time());
    PROPERTY("trace: no ring is made while nobody traces", nothing_is_made_while_off());
    PROPERTY("trace: workers let go of a closed trace's rings when they come to rest", rings_are_given_back());
    PROPERTY("trace: a pool may go with an open trace", pool_goes_with_an_open_trace());
    PROPERTY("trace: opened, read and closed beside running jobs", sessions_beside_jobs());
    return 0;
}
