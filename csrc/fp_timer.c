/* fp_timer.c - the wheel: linking, going from slot to slot, and the one who sleeps until the next. */
#include "fp_timer.h"

void fp_timer_init(fp_timer *timer)
{
    *timer = (fp_timer){.sleeps_until_ns = FP_TIMER_AWAKE};
    fp_mutex_init(&timer->mutex);
}

void fp_timer_destroy(fp_timer *timer)
{
    fp_mutex_destroy(&timer->mutex);
}

static uint64_t tick_of(int64_t ns)
{
    return ns <= 0 ? 0 : (uint64_t)ns >> FP_TIMER_TICK_LOG2;
}

/* When all of a tick is due. */
static int64_t end_of(uint64_t tick)
{
    return tick < (uint64_t)INT64_MAX >> FP_TIMER_TICK_LOG2 ? (int64_t)((tick + 1) << FP_TIMER_TICK_LOG2) : FP_FOREVER;
}

/* The highest digit in which two ticks differ. */
static unsigned level_between(uint64_t a, uint64_t b)
{
    return a == b ? 0 : (63u - (unsigned)__builtin_clzll(a ^ b)) / FP_TIMER_DIGIT;
}

/* ---- under the mutex ---- */

static void link_in(fp_timer *timer, fp_timer_entry *entry)
{
    uint64_t tick = tick_of(entry->deadline_ns);
    if (tick < timer->at)
        tick = timer->at; /* overdue: with those of the present tick, which are asked for their deadlines */
    unsigned level = level_between(tick, timer->at);
    unsigned slot = (unsigned)(tick >> level * FP_TIMER_DIGIT) & (FP_TIMER_SLOTS - 1);
    fp_timer_entry **first = &timer->slots[level][slot];
    entry->next = *first;
    entry->place = first;
    entry->slot = 1 + level * FP_TIMER_SLOTS + slot;
    if (*first != NULL)
        (*first)->place = &entry->next;
    *first = entry;
    timer->used[level] |= UINT64_C(1) << slot;
}

static void unlink_it(fp_timer *timer, fp_timer_entry *entry)
{
    unsigned level = (entry->slot - 1) / FP_TIMER_SLOTS, slot = (entry->slot - 1) % FP_TIMER_SLOTS;
    *entry->place = entry->next;
    if (entry->next != NULL)
        entry->next->place = entry->place;
    else if (timer->slots[level][slot] == NULL)
        timer->used[level] &= ~(UINT64_C(1) << slot);
    entry->slot = 0;
}

/* The earliest slot in use and its first tick. False when nothing is armed. */
static bool find_first(const fp_timer *timer, unsigned *level, unsigned *slot, uint64_t *tick)
{
    for (*level = 0; *level < FP_TIMER_LEVELS; ++*level)
        if (timer->used[*level] != 0) {
            unsigned shift = *level * FP_TIMER_DIGIT;
            uint64_t turn = timer->at >> (shift + FP_TIMER_DIGIT);
            *slot = (unsigned)__builtin_ctzll(timer->used[*level]);
            *tick = (turn << FP_TIMER_DIGIT | *slot) << shift;
            return true;
        }
    return false;
}

/* Of a higher level's slot this is the end of the first tick only: whatever lies in it is not due before. */
static int64_t next_waking_ns(const fp_timer *timer)
{
    unsigned level, slot;
    uint64_t tick;
    return find_first(timer, &level, &slot, &tick) ? end_of(tick) : FP_FOREVER;
}

/* The wheel has come to a slot of a higher level: its entries differ from `at` in lower digits only. */
static void move_down(fp_timer *timer, unsigned level, unsigned slot)
{
    fp_timer_entry *entry = timer->slots[level][slot], *next;
    timer->slots[level][slot] = NULL;
    timer->used[level] &= ~(UINT64_C(1) << slot);
    for (; entry != NULL; entry = next) {
        next = entry->next;
        link_in(timer, entry);
    }
}

/* Takes what is due of a slot of level 0 and links it in at `last`; the new last place. */
static fp_timer_entry **take_slot(fp_timer *timer, unsigned slot, int64_t now_ns, void (*claim)(fp_timer_entry *),
                                  fp_timer_entry **last)
{
    fp_timer_entry *entry = timer->slots[0][slot], *next;
    for (; entry != NULL; entry = next) {
        next = entry->next;
        if (entry->deadline_ns > now_ns)
            continue;
        unlink_it(timer, entry);
        timer->armed--;
        *last = entry;
        last = &entry->next;
        if (claim != NULL)
            claim(entry);
    }
    return last;
}

/* ---- the interface ---- */

void fp_timer_arm(fp_timer *timer, fp_timer_entry *entry, int64_t deadline_ns)
{
    int64_t waking_ns = end_of(tick_of(deadline_ns));
    fp_mutex_lock(&timer->mutex);
    if (entry->slot != 0)
        unlink_it(timer, entry);
    else
        timer->armed++;
    entry->deadline_ns = deadline_ns;
    link_in(timer, entry);
    bool wakes = waking_ns < timer->sleeps_until_ns;
    if (wakes) {
        timer->sleeps_until_ns = waking_ns; /* the next one need not wake it again for the same */
        fp_fetch_add(&timer->wakings, UINT32_C(1), fp_relaxed);
    }
    fp_mutex_unlock(&timer->mutex);
    if (wakes)
        fp_os_wake(&timer->wakings, 1);
}

bool fp_timer_disarm(fp_timer *timer, fp_timer_entry *entry)
{
    fp_mutex_lock(&timer->mutex);
    bool armed = entry->slot != 0;
    if (armed) {
        unlink_it(timer, entry);
        timer->armed--;
    }
    fp_mutex_unlock(&timer->mutex);
    return armed;
}

fp_timer_entry *fp_timer_take_due(fp_timer *timer, int64_t now_ns, void (*claim)(fp_timer_entry *entry))
{
    fp_timer_entry *due = NULL, **last = &due;
    uint64_t now, tick;
    unsigned level, slot;
    fp_mutex_lock(&timer->mutex);
    now = tick_of(now_ns) > timer->at ? tick_of(now_ns) : timer->at;
    while (find_first(timer, &level, &slot, &tick) && tick <= now) {
        timer->at = tick;
        if (level > 0) {
            move_down(timer, level, slot);
            continue;
        }
        last = take_slot(timer, slot, now_ns, claim, last);
        if (timer->slots[0][slot] != NULL) /* the present tick, which is not over */
            break;
    }
    timer->at = now;
    *last = NULL;
    fp_mutex_unlock(&timer->mutex);
    return due;
}

/* Under the mutex, which it gives up meanwhile: a raise of `wakings` between the two ends the wait before it begins. */
static void sleep_until(fp_timer *timer, int64_t waking_ns)
{
    uint32_t wakings = fp_load(&timer->wakings, fp_relaxed);
    timer->sleeps_until_ns = waking_ns;
    fp_mutex_unlock(&timer->mutex);
    fp_os_wait(&timer->wakings, wakings, waking_ns);
    fp_mutex_lock(&timer->mutex);
    timer->sleeps_until_ns = FP_TIMER_AWAKE;
}

bool fp_timer_wait(fp_timer *timer)
{
    int64_t waking_ns;
    fp_mutex_lock(&timer->mutex);
    while (!timer->stopped && (waking_ns = next_waking_ns(timer)) > fp_os_now_ns())
        sleep_until(timer, waking_ns);
    bool goes_on = !timer->stopped;
    fp_mutex_unlock(&timer->mutex);
    return goes_on;
}

void fp_timer_stop(fp_timer *timer)
{
    fp_mutex_lock(&timer->mutex);
    timer->stopped = true;
    fp_fetch_add(&timer->wakings, UINT32_C(1), fp_relaxed);
    fp_mutex_unlock(&timer->mutex);
    fp_os_wake(&timer->wakings, 1);
}

uint64_t fp_timer_armed(fp_timer *timer)
{
    fp_mutex_lock(&timer->mutex);
    uint64_t armed = timer->armed;
    fp_mutex_unlock(&timer->mutex);
    return armed;
}
