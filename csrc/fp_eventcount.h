/* fp_eventcount - sleeping until a condition on lock-free data may have become true.
 *
 * Journey: a worker with an empty queue, a submitter with a full one, and a caller of wait_idle() sleep here.
 *
 * Recipe of the waiter                               Recipe of the notifier
 *   key = fp_eventcount_prepare(ec)      W1, W2        change the data with a seq_cst store or RMW    N1
 *   look at the data with seq_cst loads  W3            fp_eventcount_notify_one/_all(ec)              N2, N3
 *   true:  done, nothing to undo
 *   false: fp_eventcount_wait(ec, key, deadline), then from the top, for a wake-up is only a hint
 *
 * Algorithm   After Vyukov's eventcount and folly's EventCount.h. Differences: epoch and waiters are two words, so that a
 *             notifier with nobody to wake only reads; the notifier takes a waiter's token away before it wakes it, so
 *             that a burst of notifications makes one system call and not one each until the sleeper has come round; and
 *             a waiter that leaves by itself leaves its token behind, for it cannot know whether a notifier has already
 *             taken it and the one it would take is another sleeper's.
 *
 * No lost wake-up, in six lines. W2, W3, N1 and N2 are seq_cst, so they have one order.
 *   If N2 is before W2, then N1 is before W3, and the waiter sees the data changed and does not sleep.
 *   If W2 is before N2, the notifier finds a token, unless other notifiers took them all; by the invariant each of those
 *   has a wake-up on its way, as has this one. A notifier raises the epoch before it wakes. The waiter read the epoch
 *   (W1) before its token was there to be taken, so it finds the epoch changed (the kernel compares) or is asleep and
 *   woken, or another sleeper is, and the waiter's own token, or one like it, is still there for the next.
 * Invariant   tokens + wake-ups on their way >= threads asleep. Only notifiers take tokens. Too many cost a needless system
 *             call each and are used up by it; too few cannot be. Saturation (FP_EC_MOST) keeps the count from wrapping.
 *
 * Order pairs
 *   FP_EC_REGISTER  W2 (RMW, seq_cst) and N2 (load, seq_cst)  the Dekker pair
 *   The data's own orders are the caller's: seq_cst in N1 and W3 (fp_ring.h FP_RING_PUBLISH, FP_RING_PEEK).
 */
#ifndef FP_EVENTCOUNT_H
#define FP_EVENTCOUNT_H

#include "fp_atomic.h"
#include "fp_os.h"

#ifndef FP_EC_REGISTER
#define FP_EC_REGISTER fp_seq_cst
#endif
#ifndef FP_EC_LOOK
#define FP_EC_LOOK fp_seq_cst
#endif

/* More threads than this never wait on one eventcount. */
enum { FP_EC_MOST = 1 << 20 };

typedef struct fp_eventcount {
    fp_atomic(uint32_t) epoch;  /* the word that threads sleep on; raised by each notification */
    fp_atomic(uint32_t) tokens; /* how many a notifier may have to wake */
} fp_eventcount;

void fp_eventcount_init(fp_eventcount *ec);

/* Announces a wait. Look at the condition after this, and wait only if it does not hold. */
uint32_t fp_eventcount_prepare(fp_eventcount *ec);

/* Sleeps until notified after prepare(), the deadline, or a signal. After anything but FP_WAIT_WOKEN the caller looks at
 * the condition once more before it gives up: a notification meant for it may just have come. */
fp_wait_result fp_eventcount_wait(fp_eventcount *ec, uint32_t key, int64_t deadline_ns);

/* Wakes one waiter. False when none was asleep (no system call is made when none had announced itself). */
bool fp_eventcount_notify_one(fp_eventcount *ec);

/* Wakes all who wait. */
void fp_eventcount_notify_all(fp_eventcount *ec);

#endif
