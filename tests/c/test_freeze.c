/* test_freeze.c - "lock-free", made executable: threads stop dead at any step, and the others go on.
 *
 * Built with FP_STEP_HOOK, so that each named step of the ring and the queue calls fp_step_hook() below. One or two victims
 * stop there in the middle of a push or a pop. Meanwhile others must get several laps of pushes and pops done, each in a
 * bounded number of steps; afterwards the victims thaw, and every value must have come out once. A control, Vyukov's ring,
 * has a step at which all others are stuck, and the same harness must say so.
 */
#include <string.h>

#include "fp_queue.h"
#include "rings.h"

/* --- stopping a thread -------------------------------------------------------------------------------------------------- */

typedef struct victim {
    unsigned stop_at; /* which step of its operation, from 1 */
    unsigned steps;
    const char *stopped_at; /* NULL: the operation had ended before */
    gate stopped, thaw;
} victim;

static _Thread_local victim *self; /* NULL: this thread is not to be stopped */
static _Thread_local unsigned steps_of_operation;

/* A thread that does not stop meets at most a few positions left behind, however many laps it runs. */
enum { MOST_STEPS_ALONE = 40 };
static bool alone; /* one thread runs and the rest are stopped, so that its steps have a bound */

static char stopped_anywhere[256]; /* the names of the steps, for the check that none was left out */

void fp_step_hook(const char *step)
{
    if (self == NULL) {
        if (alone)
            CHECK(++steps_of_operation <= MOST_STEPS_ALONE);
        return;
    }
    if (++self->steps != self->stop_at)
        return;
    self->stopped_at = step;
    gate_raise(&self->stopped, 1);
    gate_wait(&self->thaw, 1);
}

/* --- what is tested: things with a push and a pop that may refuse -------------------------------------------------------- */

typedef struct machine {
    const char *name;
    void (*init)(void);
    void (*destroy)(void);
    bool (*push)(uint32_t value);
    bool (*pop)(uint32_t *value);
    uint32_t laps_of; /* pushes that bring it round several times */
} machine;

/* The ring, twice, as the queue has it, with four places. */
enum { RING_ORDER = 2, RING_PLACES = 1 << RING_ORDER };
static fp_ring ready, unused;
static uint32_t places[RING_PLACES];

static void rings_init(void)
{
    ring_make_empty(&ready, RING_ORDER);
    ring_make_full(&unused, RING_ORDER, RING_PLACES);
}

static void rings_destroy(void)
{
    ring_free(&ready);
    ring_free(&unused);
}

static bool rings_push(uint32_t value)
{
    uint32_t place;
    if (!ring_dequeue(&unused, &place))
        return false;
    places[place] = value;
    fp_ring_enqueue(&ready, place);
    return true;
}

static bool rings_pop(uint32_t *value)
{
    uint32_t place;
    if (!ring_dequeue(&ready, &place))
        return false;
    *value = places[place];
    fp_ring_enqueue(&unused, place);
    return true;
}

static const machine rings = {"ring", rings_init, rings_destroy, rings_push, rings_pop, 100 * RING_PLACES};

/* The queue. Its values are single jobs and, every third, ranges of one job. */
enum { QUEUE_CAPACITY = 4, QUEUE_SPARES = 2, MOST_VALUES = 1 << 14 };
static fp_queue queue;
static fp_atomic(uint8_t) job_started[MOST_VALUES];
static const fp_job_class no_class;

static void queue_init(void)
{
    CHECK(fp_queue_init(&queue, QUEUE_CAPACITY, QUEUE_SPARES));
    for (uint32_t i = 0; i < MOST_VALUES; i++)
        fp_store(&job_started[i], 0, fp_relaxed);
}

static void queue_destroy(void)
{
    fp_queue_destroy(&queue);
}

static bool queue_push(uint32_t value)
{
    return fp_queue_try_push(&queue, &no_class, (void *)(uintptr_t)value, value % 3 == 0 ? FP_JOB_RANGE : 0, FP_LANE_NORMAL, 0);
}

static bool pop_range(fp_queue_head head, uint32_t *value)
{
    fp_started job;
    bool started = false;
    if (!fp_queue_join(&queue, head, &job))
        return false;
    *value = (uint32_t)(uintptr_t)job.ctx;
    if (fp_queue_is_head(&queue, head)) {
        started = fp_exchange(&job_started[*value], 1, fp_relaxed) == 0;
        fp_queue_close(&queue, head);
    }
    fp_queue_leave(&queue, head);
    return started;
}

static bool queue_pop(uint32_t *value)
{
    fp_queue_head head;
    fp_started job;
    if (!fp_queue_peek(&queue, FP_LANE_HIGH, &head))
        return false;
    if (head.kind & FP_JOB_RANGE)
        return pop_range(head, value);
    if (!fp_queue_take(&queue, head, &job))
        return false;
    *value = (uint32_t)(uintptr_t)job.ctx;
    return true;
}

static const machine queues = {"queue", queue_init, queue_destroy, queue_push, queue_pop, 3 * 1024};

/* The control: a ring in which a place is claimed first and filled afterwards (V1), and emptied likewise (V2). */
enum { CONTROL_PLACES = 4 };
static struct {
    fp_atomic(uint64_t) turn;
    uint32_t value;
} control[CONTROL_PLACES];
static fp_atomic(uint64_t) control_last, control_first;

static void control_init(void)
{
    for (uint64_t i = 0; i < CONTROL_PLACES; i++)
        fp_store(&control[i].turn, i, fp_relaxed);
    fp_store(&control_last, 0, fp_relaxed);
    fp_store(&control_first, 0, fp_relaxed);
}

static void control_destroy(void)
{
}

static bool control_push(uint32_t value)
{
    uint64_t at = fp_load(&control_last, fp_relaxed);
    if (fp_load(&control[at % CONTROL_PLACES].turn, fp_acquire) != at ||
        !fp_cas(&control_last, &at, at + 1, fp_relaxed, fp_relaxed))
        return false;
    fp_step("V1");
    control[at % CONTROL_PLACES].value = value;
    fp_store(&control[at % CONTROL_PLACES].turn, at + 1, fp_release);
    return true;
}

static bool control_pop(uint32_t *value)
{
    uint64_t at = fp_load(&control_first, fp_relaxed);
    if (fp_load(&control[at % CONTROL_PLACES].turn, fp_acquire) != at + 1 ||
        !fp_cas(&control_first, &at, at + 1, fp_relaxed, fp_relaxed))
        return false;
    fp_step("V2");
    *value = control[at % CONTROL_PLACES].value;
    fp_store(&control[at % CONTROL_PLACES].turn, at + CONTROL_PLACES, fp_release);
    return true;
}

static const machine controls = {"control", control_init, control_destroy, control_push, control_pop, 400};

/* --- the experiment ------------------------------------------------------------------------------------------------------ */

static const machine *tested;
static uint32_t next_value; /* the next that the free thread pushes */
static uint8_t came_out[MOST_VALUES];

enum { VICTIM_VALUES = MOST_VALUES - 16 }; /* victim i pushes VICTIM_VALUES + i */

static void note_value(uint32_t value)
{
    CHECK(value < MOST_VALUES && came_out[value] == 0); /* nothing twice */
    came_out[value] = 1;
}

static bool push_next(void)
{
    steps_of_operation = 0;
    if (!tested->push(next_value))
        return false;
    next_value++;
    return true;
}

static bool pop_next(void)
{
    uint32_t value;
    steps_of_operation = 0;
    if (!tested->pop(&value))
        return false;
    note_value(value);
    return true;
}

/* Pushes and pops in turn. False when neither has got anywhere for long: stuck. */
static bool runs_laps(void)
{
    enum { MOST_REFUSALS = 1000 };
    uint32_t end = next_value + tested->laps_of, refusals = 0;
    alone = true;
    while (next_value < end && refusals < MOST_REFUSALS) {
        bool pushed = push_next(), popped = pop_next();
        refusals = pushed && popped ? 0 : refusals + 1;
    }
    alone = false;
    watchdog_pat();
    return next_value == end;
}

/* What a victim does, once. */
typedef enum operation { PUSH, POP, OPERATIONS } operation;

struct victim_thread {
    victim victim;
    operation operation;
    uint32_t value; /* to push, or what was popped */
    bool done;      /* it was not refused */
    threads thread;
};

static void operate(void *arg, unsigned number)
{
    struct victim_thread *it = arg;
    (void)number;
    self = &it->victim;
    it->done = it->operation == PUSH ? tested->push(it->value) : tested->pop(&it->value);
    gate_raise(&it->victim.stopped, 1); /* if it never came to that step */
}

/* Starts it, and returns when it has stopped or ended. */
static void freeze(struct victim_thread *it, unsigned number, operation operation, unsigned stop_at)
{
    *it = (struct victim_thread){.operation = operation, .value = VICTIM_VALUES + number};
    it->victim = (victim){.stop_at = stop_at, .stopped = GATE_INITIALIZER, .thaw = GATE_INITIALIZER};
    threads_start(&it->thread, 1, operate, it);
    gate_wait(&it->victim.stopped, 1);
    if (it->victim.stopped_at != NULL && strstr(stopped_anywhere, it->victim.stopped_at) == NULL) {
        strcat(stopped_anywhere, it->victim.stopped_at);
        strcat(stopped_anywhere, " ");
    }
}

static void thaw(struct victim_thread *it)
{
    gate_raise(&it->victim.thaw, 1);
    threads_join(&it->thread);
    if (it->operation == POP && it->done)
        note_value(it->value);
}

/* Half full, so that neither a push nor a pop is refused at first. */
static void begin_experiment(const machine *machine)
{
    tested = machine;
    next_value = 0;
    memset(came_out, 0, sizeof came_out);
    tested->init();
    CHECK(push_next() && push_next());
}

static void check_nothing_lost(const struct victim_thread *victims, unsigned count)
{
    for (int refusals = 0; refusals < 100; refusals++) /* a pop that only clears a range away is a refusal too */
        while (pop_next())
            refusals = 0;
    for (uint32_t value = 0; value < next_value; value++)
        CHECK(came_out[value]);
    for (unsigned i = 0; i < count; i++)
        if (victims[i].operation == PUSH)
            CHECK(came_out[victims[i].value] == victims[i].done);
    tested->destroy();
}

/* False when the operation has no such step. */
static bool freeze_one(const machine *machine, operation operation, unsigned stop_at)
{
    static struct victim_thread it;
    begin_experiment(machine);
    freeze(&it, 0, operation, stop_at);
    CHECK(runs_laps());
    thaw(&it);
    /* Neither full nor empty at any time, so it must not be taken for that, however many laps have passed meanwhile. */
    CHECK(it.done || machine != &rings);
    CHECK(runs_laps());
    check_nothing_lost(&it, 1);
    return it.victim.stopped_at != NULL;
}

static bool freeze_two(const machine *machine, operation first, unsigned first_stop, operation second, unsigned second_stop)
{
    static struct victim_thread it[2];
    begin_experiment(machine);
    freeze(&it[0], 0, first, first_stop);
    freeze(&it[1], 1, second, second_stop);
    CHECK(runs_laps());
    thaw(&it[(first_stop + second_stop) % 2]); /* now the one first, now the other */
    CHECK(runs_laps());
    thaw(&it[(first_stop + second_stop + 1) % 2]);
    CHECK(runs_laps());
    check_nothing_lost(it, 2);
    return it[1].victim.stopped_at != NULL;
}

/* The last step of an operation is found by asking for one more. */
static unsigned freeze_one_at_each_step(const machine *machine, operation operation)
{
    unsigned step = 1;
    while (freeze_one(machine, operation, step))
        step++;
    return step - 1;
}

static void freeze_each(const machine *machine)
{
    for (operation operation = 0; operation < OPERATIONS; operation++)
        CHECK(freeze_one_at_each_step(machine, operation) >= 6);
}

static void freeze_pairs(const machine *machine)
{
    for (operation first = 0; first < OPERATIONS; first++) {
        unsigned steps = freeze_one_at_each_step(machine, first);
        for (operation second = 0; second < OPERATIONS; second++)
            for (unsigned i = 1; i <= steps; i++)
                for (unsigned j = 1; freeze_two(machine, first, i, second, j); j++)
                    ;
    }
}

static void no_step_was_left_out(void)
{
    static const char *const steps[] = {"E1", "E2", "E3", "E4", "D1", "D2", "D3", "Q2", "Q5", "Q6"};
    for (int i = 0; i < 10; i++)
        CHECK(strstr(stopped_anywhere, steps[i]) != NULL);
}

/* --- several others at a time ------------------------------------------------------------------------------------------- */

enum { CROWD_VALUES = 800, CROWD_PRODUCERS = 2, CROWD_CONSUMERS = 2 };
static fp_atomic(uint32_t) crowd_left;
static fp_atomic(uint8_t) crowd_came_out[MOST_VALUES];

static void push_or_pop(void *arg, unsigned number)
{
    uint32_t value;
    (void)arg;
    for (uint32_t i = 0; number < CROWD_PRODUCERS && i < CROWD_VALUES; i++)
        while (!tested->push(100 + number * CROWD_VALUES + i))
            sched_yield();
    while (number >= CROWD_PRODUCERS && fp_load(&crowd_left, fp_relaxed) > 0)
        if (tested->pop(&value)) {
            CHECK(fp_exchange(&crowd_came_out[value], 1, fp_relaxed) == 0);
            if (value >= 100 && value < 100 + CROWD_PRODUCERS * CROWD_VALUES)
                fp_fetch_sub(&crowd_left, 1, fp_relaxed);
            watchdog_pat();
        } else {
            sched_yield();
        }
}

/* The watchdog says whether they get through while the victim is stopped. */
static bool freeze_beside_crowd(const machine *machine, operation operation, unsigned stop_at)
{
    static struct victim_thread it;
    threads crowd;
    begin_experiment(machine);
    for (uint32_t i = 0; i < MOST_VALUES; i++)
        fp_store(&crowd_came_out[i], 0, fp_relaxed);
    fp_store(&crowd_left, CROWD_PRODUCERS * CROWD_VALUES, fp_relaxed);
    freeze(&it, 0, operation, stop_at);
    threads_start(&crowd, CROWD_PRODUCERS + CROWD_CONSUMERS, push_or_pop, NULL);
    threads_join(&crowd);
    bool stopped = it.victim.stopped_at != NULL;
    thaw(&it);
    while (tested->pop(&it.value)) /* what the victim pushed, if the crowd has not had it */
        CHECK(fp_exchange(&crowd_came_out[it.value], 1, fp_relaxed) == 0);
    tested->destroy();
    return stopped;
}

static void freeze_each_beside_crowd(const machine *machine)
{
    for (operation operation = 0; operation < OPERATIONS; operation++)
        for (unsigned step = 1; freeze_beside_crowd(machine, operation, step); step++)
            ;
}

/* --- the control ---------------------------------------------------------------------------------------------------------- */

static void control_gets_stuck(operation operation)
{
    static struct victim_thread it;
    begin_experiment(&controls);
    freeze(&it, 0, operation, 1);
    CHECK(it.victim.stopped_at != NULL);
    CHECK(!runs_laps());
    thaw(&it);
    CHECK(runs_laps());
    check_nothing_lost(&it, 1);
}

int main(void)
{
    watchdog_start(NULL);
    PROPERTY("freeze: ring: others go on past a thread stopped at any step", freeze_each(&rings));
    PROPERTY("freeze: ring: others go on past any two stopped threads", freeze_pairs(&rings));
    PROPERTY("freeze: ring: four others go on past a thread stopped at any step", freeze_each_beside_crowd(&rings));
    PROPERTY("freeze: queue: others go on past a thread stopped at any step", freeze_each(&queues));
    PROPERTY("freeze: queue: others go on past any two stopped threads", freeze_pairs(&queues));
    PROPERTY("freeze: queue: four others go on past a thread stopped at any step", freeze_each_beside_crowd(&queues));
    PROPERTY("freeze: no named step was left out", no_step_was_left_out());
    PROPERTY("freeze: control: a stopped producer of Vyukov's ring stops all", control_gets_stuck(PUSH));
    PROPERTY("freeze: control: a stopped consumer of Vyukov's ring stops all", control_gets_stuck(POP));
    return 0;
}
