/* fp_timer - deadlines: armed and disarmed by any thread, and handed to one that sleeps until the next of them.
 *
 * Beside the road: a job with a deadline is armed when it is submitted and disarmed when it ends; what becomes due in between
 * is the affair of the one thread that sits in fp_timer_wait(), which is the user's. The timer has no thread of its own.
 *
 * Method     The hierarchical timing wheel of Varghese and Lauck (SOSP 1987, scheme 7). Time is cut into ticks; a level has 64
 *            slots, a slot of level L stands for 64^L ticks, and there are levels enough for every int64_t of nanoseconds, so
 *            nothing has to go round twice. In three things it differs from theirs:
 *              - An entry lies on the level of the highest digit (base 64) in which its tick differs from the wheel's, `at`. So
 *                all slots in use lie ahead of `at` in its own turn of their level, all of a level come before all of the
 *                next, and the earliest is the lowest bit of the lowest bitmap that is not empty.
 *              - The wheel does not turn tick by tick but goes from one slot in use to the next.
 *              - Ticks only say which slot. Whether an entry is due is asked of its own deadline, to the nanosecond.
 * Precision  Never early. The sleeper is woken at the end of a tick, for all of the tick together: late by one tick at most
 *            (FP_TIMER_TICK_NS), and what its waking takes.
 * Costs      arm and disarm: O(1), one mutex. The next waking: FP_TIMER_LEVELS words. An entry is moved down a level when the
 *            wheel comes to its slot, FP_TIMER_LEVELS - 1 times at most (a second's deadline: twice), and all of a slot
 *            at once and under the mutex: some 10 ns each.
 *
 * Ownership  The record is the user's always; the wheel links through its entry from arm until disarm returns true or take_due
 *            has claimed it. Which of the two, is decided under the mutex, and claim() is called under it: so when
 *            disarm returns false the claim has been made. It follows that claim() calls nothing of the timer.
 * Invariants slot in use <=> its bit is set; entry->slot is 0 <=> it is in no list; `at` never goes back, and no slot in use is
 *            behind it. sleeps_until_ns is never later than the end of the first tick in use, while the sleeper sleeps.
 */
#ifndef FP_TIMER_H
#define FP_TIMER_H

#include "fp_os.h"

enum {
    FP_TIMER_TICK_LOG2 = 18, /* of nanoseconds: 0.26 ms */
    FP_TIMER_TICK_NS = 1 << FP_TIMER_TICK_LOG2,
    FP_TIMER_DIGIT = 6,      /* bits: 64 slots to a level, a bitmap is one word */
    FP_TIMER_SLOTS = 1 << FP_TIMER_DIGIT,
    FP_TIMER_LEVELS = 8,     /* 8 * 6 + 18 bits: more than an int64_t has */
};

/* Part of the user's record; zeroed it is not armed. */
typedef struct fp_timer_entry {
    struct fp_timer_entry *next;   /* of what take_due has returned: the caller's to follow; else the timer's */
    struct fp_timer_entry **place; /* what points to this entry */
    int64_t deadline_ns;
    uint32_t slot; /* 1 + level * FP_TIMER_SLOTS + slot; 0: not armed */
} fp_timer_entry;

typedef struct fp_timer {
    fp_mutex mutex; /* for all the rest but `wakings` */
    uint64_t at;    /* ticks: all that end before it have been taken */
    uint64_t armed;
    int64_t sleeps_until_ns; /* FP_TIMER_AWAKE: nobody has to be woken, for the waiting thread will look before it sleeps */
    bool stopped;
    fp_atomic(uint32_t) wakings;    /* what it sleeps on */
    uint64_t used[FP_TIMER_LEVELS]; /* a bit for each slot */
    fp_timer_entry *slots[FP_TIMER_LEVELS][FP_TIMER_SLOTS];
} fp_timer;

#define FP_TIMER_AWAKE INT64_MIN

void fp_timer_init(fp_timer *timer);

/* Nobody waits, nothing is armed any more that its user would ask for. */
void fp_timer_destroy(fp_timer *timer);

/* deadline_ns: of fp_os_now_ns(); one in the past is due at once, FP_FOREVER never. An armed entry is armed anew. Wakes the
 * waiting thread only when this deadline is earlier than what it sleeps for. */
void fp_timer_arm(fp_timer *timer, fp_timer_entry *entry, int64_t deadline_ns);

/* True: it was armed and never will be due. False: it was claimed, or never armed. After either the timer does not touch it. */
bool fp_timer_disarm(fp_timer *timer, fp_timer_entry *entry);

/* Sleeps until something may be due: take_due comes next. False: fp_timer_stop was called. By one thread at a time. */
bool fp_timer_wait(fp_timer *timer);

/* Unlinks all that are due (deadline_ns <= now_ns), calls claim() on each under the mutex, and returns them, linked by `next`,
 * tick after tick. They are the caller's. NULL: none. */
fp_timer_entry *fp_timer_take_due(fp_timer *timer, int64_t now_ns, void (*claim)(fp_timer_entry *entry));

/* The waiting thread returns, and so does each that waits later. */
void fp_timer_stop(fp_timer *timer);

/* How many are armed. */
uint64_t fp_timer_armed(fp_timer *timer);

#endif
