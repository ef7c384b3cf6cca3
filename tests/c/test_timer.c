/* test_timer.c - the timing wheel: never early, each once, and the one who sleeps is woken when it has to be, and only then.
 *
 * Where it can be, time is given and not waited for. Deadlines of the real clock are far (an hour) or past.
 */
#include "fp_timer.h"
#include "threads.h"

enum { MS = 1000000 };
#define SECOND INT64_C(1000000000)
#define HOUR (3600 * SECOND)

typedef struct record {
    fp_timer_entry entry; /* first: an entry is its record */
    int64_t deadline_ns;
    uint32_t number;
    _Atomic uint32_t claimed, disarmed;
} record;

static record *record_of(fp_timer_entry *entry)
{
    return (record *)entry;
}

static void claim(fp_timer_entry *entry)
{
    atomic_fetch_add(&record_of(entry)->claimed, 1);
}

static uint32_t claims_of(record *records, int count)
{
    uint32_t sum = 0;
    for (int i = 0; i < count; i++)
        sum += atomic_load(&records[i].claimed);
    return sum;
}

/* Takes what is due; how many. They are, are claimed once, and come tick after tick. */
static int take(fp_timer *timer, int64_t now_ns)
{
    int count = 0;
    int64_t before_ns = 0;
    for (fp_timer_entry *entry = fp_timer_take_due(timer, now_ns, claim); entry != NULL; entry = entry->next) {
        CHECK(record_of(entry)->deadline_ns <= now_ns);
        CHECK_EQUAL(atomic_load(&record_of(entry)->claimed), 1);
        CHECK(record_of(entry)->deadline_ns >> FP_TIMER_TICK_LOG2 >= before_ns >> FP_TIMER_TICK_LOG2);
        before_ns = record_of(entry)->deadline_ns;
        count++;
    }
    watchdog_pat();
    return count;
}

static void arm(fp_timer *timer, record *record, int64_t deadline_ns)
{
    record->deadline_ns = deadline_ns;
    fp_timer_arm(timer, &record->entry, deadline_ns);
}

static void due_to_the_nanosecond(void)
{
    static const int64_t deadlines[] = {0, 1, FP_TIMER_TICK_NS - 1, FP_TIMER_TICK_NS, FP_TIMER_TICK_NS + 1, 5 * MS, SECOND,
                                        HOUR, 1000 * HOUR, INT64_MAX - 1, FP_FOREVER};
    for (unsigned i = 0; i < sizeof deadlines / sizeof *deadlines; i++)
        for (int looks = 0; looks < 2; looks++) {
            fp_timer timer;
            record it = {0};
            fp_timer_init(&timer);
            arm(&timer, &it, deadlines[i]);
            CHECK_EQUAL(fp_timer_armed(&timer), 1);
            if (looks && deadlines[i] > 0) {
                CHECK_EQUAL(take(&timer, deadlines[i] / 2), 0);
                CHECK_EQUAL(take(&timer, deadlines[i] - 1), 0);
            }
            CHECK_EQUAL(take(&timer, deadlines[i]), 1);
            CHECK_EQUAL(take(&timer, FP_FOREVER), 0);
            CHECK_EQUAL(fp_timer_armed(&timer), 0);
            CHECK(!fp_timer_disarm(&timer, &it.entry));
            fp_timer_destroy(&timer);
        }
}

static void past_is_due_at_once(void)
{
    fp_timer timer;
    record old[3] = {{.number = 0}};
    fp_timer_init(&timer);
    CHECK_EQUAL(take(&timer, HOUR), 0);
    arm(&timer, &old[0], HOUR - 1);
    arm(&timer, &old[1], 0);
    arm(&timer, &old[2], -SECOND);
    CHECK_EQUAL(fp_timer_armed(&timer), 3);
    fp_timer_entry *due = fp_timer_take_due(&timer, HOUR, claim);
    CHECK(due != NULL && due->next != NULL && due->next->next != NULL && due->next->next->next == NULL);
    CHECK_EQUAL(claims_of(old, 3), 3);
    fp_timer_destroy(&timer);
}

static void disarmed_is_never_due(void)
{
    fp_timer timer;
    record records[4] = {{.number = 0}}, never = {0};
    fp_timer_init(&timer);
    CHECK(!fp_timer_disarm(&timer, &never.entry));
    for (int order = 0; order < 4; order++) { /* the first, the last and those between of one slot's list */
        for (int i = 0; i < 4; i++)
            arm(&timer, &records[i], SECOND);
        CHECK(fp_timer_disarm(&timer, &records[order].entry));
        CHECK(!fp_timer_disarm(&timer, &records[order].entry));
        for (int i = 0; i < 4; i++)
            CHECK(fp_timer_disarm(&timer, &records[i].entry) == (i != order));
        CHECK_EQUAL(fp_timer_armed(&timer), 0);
        CHECK(fp_timer_take_due(&timer, order * MS, claim) == NULL);
    }
    CHECK_EQUAL(take(&timer, FP_FOREVER), 0);
    CHECK_EQUAL(claims_of(records, 4), 0);
    fp_timer_destroy(&timer);
}

static void armed_anew_is_moved(void)
{
    fp_timer timer;
    record it = {0};
    fp_timer_init(&timer);
    arm(&timer, &it, SECOND);
    arm(&timer, &it, HOUR);
    CHECK_EQUAL(fp_timer_armed(&timer), 1);
    CHECK_EQUAL(take(&timer, 2 * SECOND), 0);
    arm(&timer, &it, 3 * SECOND);
    CHECK_EQUAL(take(&timer, 3 * SECOND), 1);
    fp_timer_destroy(&timer);
}

/* One entry for each level; the clock goes in steps of all sizes, so that slots are passed, met and left in every way. */
static void comes_down_all_levels(void)
{
    for (int64_t step = 1; step < INT64_C(1) << 40; step = step * 3 + 1) {
        fp_timer timer;
        record records[FP_TIMER_LEVELS - 1] = {{.number = 0}};
        int64_t start_ns = 977 * HOUR + 12345, now_ns = start_ns;
        fp_timer_init(&timer);
        CHECK_EQUAL(take(&timer, start_ns), 0);
        int taken = 0;
        for (int level = 0; level < FP_TIMER_LEVELS - 1; level++)
            arm(&timer, &records[level], start_ns + (INT64_C(5) << (FP_TIMER_TICK_LOG2 + level * FP_TIMER_DIGIT)) + 7);
        for (int level = 0; level < FP_TIMER_LEVELS - 1; level++) {
            for (int i = 0; i < 50 && now_ns + step < records[level].deadline_ns; i++) {
                now_ns += step;
                CHECK_EQUAL(take(&timer, now_ns), 0);
            }
            now_ns = records[level].deadline_ns;
            CHECK_EQUAL(take(&timer, now_ns - 1), 0);
            CHECK_EQUAL(take(&timer, now_ns), 1);
            taken++;
        }
        CHECK_EQUAL(claims_of(records, FP_TIMER_LEVELS - 1), taken);
        fp_timer_destroy(&timer);
    }
}

static int by_deadline(const void *a, const void *b)
{
    int64_t left = (*(record *const *)a)->deadline_ns, right = (*(record *const *)b)->deadline_ns;
    return left < right ? -1 : left > right;
}

static int64_t random_span(test_random *random)
{
    int64_t span = (int64_t)test_random_below(random, UINT32_MAX) << 31 | test_random_below(random, UINT32_MAX);
    return span >> test_random_below(random, 62); /* all sizes alike */
}

/* What is due is what a sorted list says, whatever the steps of the clock; some are disarmed, some armed while it goes. */
static void agrees_with_a_sorted_list(int count)
{
    fp_timer timer;
    test_random random = {11};
    record *records = calloc((size_t)count, sizeof *records), **sorted = calloc((size_t)count, sizeof *sorted);
    CHECK(records != NULL && sorted != NULL);
    int64_t now_ns = 31 * HOUR;
    int listed = 0, taken = 0;
    fp_timer_init(&timer);
    for (int i = 0; i < count; i++)
        arm(&timer, &records[i], now_ns + random_span(&random) / 2);
    for (int i = 0; i < count; i += 7)
        CHECK(fp_timer_disarm(&timer, &records[i].entry));
    for (int i = 0; i < count; i++)
        if (i % 7 != 0)
            sorted[listed++] = &records[i];
    qsort(sorted, (size_t)listed, sizeof *sorted, by_deadline);
    while (taken < listed) {
        int64_t step = random_span(&random);
        int expected = 0;
        now_ns = step < INT64_MAX - now_ns ? now_ns + step / 4 : INT64_MAX;
        if (test_random_below(&random, 4) == 0) /* exactly the next */
            now_ns = sorted[taken]->deadline_ns > now_ns ? sorted[taken]->deadline_ns : now_ns;
        while (taken + expected < listed && sorted[taken + expected]->deadline_ns <= now_ns)
            expected++;
        CHECK_EQUAL(take(&timer, now_ns), expected);
        taken += expected;
        CHECK_EQUAL(fp_timer_armed(&timer), listed - taken);
    }
    for (int i = 0; i < count; i++)
        CHECK_EQUAL(atomic_load(&records[i].claimed), i % 7 != 0);
    fp_timer_destroy(&timer);
    free(records);
    free(sorted);
}

/* Small steps of the clock, and arming all the time: a model of a pool with a deadline for each job. */
static void agrees_while_it_goes(int rounds)
{
    enum { RECORDS = 512 };
    static record records[RECORDS];
    fp_timer timer;
    test_random random = {5};
    int64_t now_ns = HOUR;
    fp_timer_init(&timer);
    for (int round = 0; round < rounds; round++) {
        record *it = &records[test_random_below(&random, RECORDS)];
        bool was_armed = it->deadline_ns != 0 && atomic_load(&it->claimed) == 0;
        CHECK(fp_timer_disarm(&timer, &it->entry) == was_armed);
        atomic_store(&it->claimed, 0);
        arm(&timer, it, now_ns + 1 + test_random_below(&random, 200 * MS));
        now_ns += test_random_below(&random, 2 * MS);
        take(&timer, now_ns);
        for (int i = 0; i < RECORDS; i += 37) /* none is left that was due, none went that was not */
            CHECK(records[i].deadline_ns == 0 || (records[i].deadline_ns <= now_ns) == (atomic_load(&records[i].claimed) == 1));
    }
    fp_timer_destroy(&timer);
}

/* ---- threads ---- */

typedef struct contest {
    fp_timer timer;
    record *records;
    int count;
    _Atomic int armed;
    _Atomic bool over;
    _Atomic uint32_t due;
} contest;

static void arms_and_disarms(void *arg, unsigned number)
{
    contest *contest = arg;
    test_random random = {number + 1};
    for (int i = (int)number; i < contest->count; i += 2) {
        arm(&contest->timer, &contest->records[i], fp_os_now_ns() + test_random_below(&random, 1000));
        for (uint32_t pauses = test_random_below(&random, 400); pauses > 0; pauses--)
            atomic_load(&contest->over);
        if (fp_timer_disarm(&contest->timer, &contest->records[i].entry))
            atomic_fetch_add(&contest->records[i].disarmed, 1);
        else
            CHECK_EQUAL(atomic_load(&contest->records[i].claimed), 1); /* the claim came before */
        watchdog_pat();
    }
}

static void takes_what_is_due(void *arg, unsigned number)
{
    contest *contest = arg;
    (void)number;
    while (!atomic_load(&contest->over))
        for (fp_timer_entry *due = fp_timer_take_due(&contest->timer, fp_os_now_ns(), claim); due != NULL; due = due->next)
            atomic_fetch_add(&contest->due, 1);
}

static void claimed_or_disarmed(void)
{
    contest contest = {.count = (int)test_rounds(200000)};
    threads arming, taking;
    contest.records = calloc((size_t)contest.count, sizeof *contest.records);
    CHECK(contest.records != NULL);
    fp_timer_init(&contest.timer);
    threads_start(&taking, 1, takes_what_is_due, &contest);
    threads_start(&arming, 2, arms_and_disarms, &contest);
    threads_join(&arming);
    atomic_store(&contest.over, true);
    threads_join(&taking);
    uint32_t claimed = claims_of(contest.records, contest.count);
    for (int i = 0; i < contest.count; i++)
        CHECK_EQUAL(atomic_load(&contest.records[i].claimed) + atomic_load(&contest.records[i].disarmed), 1);
    CHECK_EQUAL(atomic_load(&contest.due), claimed);
    CHECK_EQUAL(fp_timer_armed(&contest.timer), 0);
    fp_timer_destroy(&contest.timer);
    free(contest.records);
}

/* A thread in the timer's service, as its user has one. */
typedef struct servant {
    fp_timer timer;
    gate woken, taken, left;
} servant;

static void serve_timer(void *arg, unsigned number)
{
    servant *servant = arg;
    (void)number;
    while (fp_timer_wait(&servant->timer)) {
        gate_raise(&servant->woken, 1);
        int64_t now_ns = fp_os_now_ns();
        for (fp_timer_entry *due = fp_timer_take_due(&servant->timer, now_ns, claim); due != NULL; due = due->next) {
            CHECK(due->deadline_ns <= now_ns); /* never early */
            gate_raise(&servant->taken, 1);
        }
        watchdog_pat();
    }
    gate_raise(&servant->left, 1);
}

static void start_servant(servant *servant, threads *group)
{
    *servant = (struct servant){.woken = GATE_INITIALIZER, .taken = GATE_INITIALIZER, .left = GATE_INITIALIZER};
    fp_timer_init(&servant->timer);
    threads_start(group, 1, serve_timer, servant);
}

static void end_servant(servant *servant, threads *group)
{
    fp_timer_stop(&servant->timer);
    gate_wait(&servant->left, 1);
    threads_join(group);
    CHECK(!fp_timer_wait(&servant->timer)); /* nor later */
    fp_timer_destroy(&servant->timer);
}

static int64_t sleeps_until(fp_timer *timer)
{
    fp_mutex_lock(&timer->mutex);
    int64_t until_ns = timer->sleeps_until_ns;
    fp_mutex_unlock(&timer->mutex);
    return until_ns;
}

static void wait_until_asleep(fp_timer *timer)
{
    while (sleeps_until(timer) == FP_TIMER_AWAKE)
        sched_yield();
}

static uint32_t wakings_of(fp_timer *timer)
{
    return fp_load(&timer->wakings, fp_relaxed);
}

static void stop_ends_the_wait(void)
{
    for (int with_deadline = 0; with_deadline < 2; with_deadline++) {
        servant servant;
        threads group;
        record it = {0};
        start_servant(&servant, &group);
        if (with_deadline)
            arm(&servant.timer, &it, fp_os_now_ns() + HOUR);
        wait_until_asleep(&servant.timer);
        end_servant(&servant, &group);
        CHECK_EQUAL(atomic_load(&it.claimed), 0);
    }
}

static void only_an_earlier_deadline_wakes(void)
{
    servant servant;
    threads group;
    record records[5] = {{.number = 0}};
    int64_t now_ns = fp_os_now_ns();
    start_servant(&servant, &group);
    wait_until_asleep(&servant.timer);
    uint32_t wakings = wakings_of(&servant.timer);
    arm(&servant.timer, &records[0], FP_FOREVER); /* no deadline is no reason */
    CHECK_EQUAL(wakings_of(&servant.timer), wakings);
    arm(&servant.timer, &records[1], now_ns + HOUR);
    CHECK_EQUAL(wakings_of(&servant.timer), wakings + 1);
    arm(&servant.timer, &records[2], now_ns + 2 * HOUR);
    arm(&servant.timer, &records[3], now_ns + HOUR);
    CHECK_EQUAL(wakings_of(&servant.timer), wakings + 1);
    arm(&servant.timer, &records[4], now_ns); /* due: the sleeper comes and takes it */
    gate_wait(&servant.taken, 1);
    CHECK_EQUAL(atomic_load(&records[4].claimed), 1);
    for (int i = 0; i < 4; i++)
        CHECK(fp_timer_disarm(&servant.timer, &records[i].entry));
    end_servant(&servant, &group);
}

static void each_deadline_wakes_the_sleeper(void)
{
    enum { RECORDS = 200 };
    static record records[RECORDS];
    servant servant;
    threads group;
    start_servant(&servant, &group);
    for (int i = 0; i < RECORDS; i++)
        arm(&servant.timer, &records[i], fp_os_now_ns() + i % 10 * MS / 3);
    gate_wait(&servant.taken, RECORDS);
    CHECK_EQUAL(claims_of(records, RECORDS), RECORDS);
    end_servant(&servant, &group);
}

/* ---- costs: printed, not judged, for a test does not know the machine ---- */

static void arms_and_disarms_far(void *arg, unsigned number)
{
    contest *contest = arg;
    test_random random = {number + 1};
    record mine[64] = {{.number = 0}};
    int64_t from_ns = fp_os_now_ns();
    for (int i = 0; i < contest->count; i++) {
        fp_timer_entry *entry = &mine[i % 64].entry;
        fp_timer_disarm(&contest->timer, entry);
        fp_timer_arm(&contest->timer, entry, from_ns + SECOND + test_random_below(&random, SECOND));
    }
    for (int i = 0; i < 64; i++)
        fp_timer_disarm(&contest->timer, &mine[i].entry);
    watchdog_pat();
}

static double ns_each(unsigned count_threads, int armed_too)
{
    contest contest = {.count = (int)test_rounds(2000000) / 20 * (int)(count_threads == 1 ? 2 : 1)};
    threads group;
    test_random random = {9};
    record *others = calloc((size_t)armed_too + 1, sizeof *others);
    CHECK(others != NULL);
    fp_timer_init(&contest.timer);
    take(&contest.timer, fp_os_now_ns());
    for (int i = 0; i < armed_too; i++)
        arm(&contest.timer, &others[i], fp_os_now_ns() + SECOND + random_span(&random) / 4);
    int64_t from_ns = fp_os_now_ns();
    threads_start(&group, count_threads, arms_and_disarms_far, &contest);
    threads_join(&group);
    double took_ns = (double)(fp_os_now_ns() - from_ns) / ((double)contest.count * count_threads);
    fp_timer_destroy(&contest.timer);
    free(others);
    return took_ns;
}

static void print_costs(void)
{
    printf("      arm and disarm: %.0f ns; beside 50,000 others %.0f ns; two threads %.0f ns for each pair\n", ns_each(1, 0),
           ns_each(1, 50000), ns_each(2, 50000));
}

int main(void)
{
    watchdog_start(NULL);
    PROPERTY("timer: due to the nanosecond, from now to the end of time", due_to_the_nanosecond());
    PROPERTY("timer: what is past is due at once", past_is_due_at_once());
    PROPERTY("timer: what is disarmed is never due, and the others are", disarmed_is_never_due());
    PROPERTY("timer: armed anew it is due at its last deadline", armed_anew_is_moved());
    PROPERTY("timer: entries come down all levels, whatever the clock's steps", comes_down_all_levels());
    PROPERTY("timer: 100,000 deadlines are due as a sorted list says", agrees_with_a_sorted_list((int)test_rounds(100000)));
    PROPERTY("timer: the same where they are armed and disarmed meanwhile", agrees_while_it_goes((int)test_rounds(100000)));
    PROPERTY("timer: each is claimed or disarmed, never both, and the claim comes first", claimed_or_disarmed());
    PROPERTY("timer: stop ends the wait", stop_ends_the_wait());
    PROPERTY("timer: only an earlier deadline wakes the sleeper", only_an_earlier_deadline_wakes());
    PROPERTY("timer: each deadline wakes the sleeper, and never early", each_deadline_wakes_the_sleeper());
    PROPERTY("timer: costs", print_costs());
    return 0;
}
