/* fp_atomic.h - the seam to the atomics: C11's, or a model checker's.
 *
 * Every atomic operation of csrc goes through these names, so that the very same source files run natively, under
 * ThreadSanitizer, and under Relacy (compiled as C++ with FP_RELACY; tests/c/relacy). Plain data that an edge publishes
 * is declared with fp_plain(T) and touched with fp_get/fp_set, so that the checker sees a missing edge as a data race.
 */
#ifndef FP_ATOMIC_H
#define FP_ATOMIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef FP_RELACY

#include <relacy/relacy.hpp>
#define fp_atomic(T) rl::atomic<T>
#define fp_plain(T) rl::var<T>
#define fp_relaxed rl::mo_relaxed
#define fp_acquire rl::mo_acquire
#define fp_release rl::mo_release
#define fp_acq_rel rl::mo_acq_rel
#define fp_seq_cst rl::mo_seq_cst
#define fp_load(p, order) (p)->load(order, $)
#define fp_store(p, v, order) (p)->store(v, order, $)
#define fp_exchange(p, v, order) (p)->exchange(v, order, $)
#define fp_fetch_add(p, v, order) (p)->fetch_add(v, order, $)
#define fp_fetch_sub(p, v, order) (p)->fetch_sub(v, order, $)
#define fp_fetch_or(p, v, order) (p)->fetch_or(v, order, $)
#define fp_fetch_and(p, v, order) (p)->fetch_and(v, order, $)
#define fp_cas(p, expected, desired, success, failure) \
    (p)->compare_exchange_strong(*(expected), desired, success, $, failure, $)
#define fp_get(p) (*(p))($)
#define fp_set(p, v) ((*(p))($) = (v))

#else

#include <stdatomic.h>
#define fp_atomic(T) _Atomic(T)
#define fp_plain(T) T
#define fp_relaxed memory_order_relaxed
#define fp_acquire memory_order_acquire
#define fp_release memory_order_release
#define fp_acq_rel memory_order_acq_rel
#define fp_seq_cst memory_order_seq_cst
#define fp_load(p, order) atomic_load_explicit(p, order)
#define fp_store(p, v, order) atomic_store_explicit(p, v, order)
#define fp_exchange(p, v, order) atomic_exchange_explicit(p, v, order)
#define fp_fetch_add(p, v, order) atomic_fetch_add_explicit(p, v, order)
#define fp_fetch_sub(p, v, order) atomic_fetch_sub_explicit(p, v, order)
#define fp_fetch_or(p, v, order) atomic_fetch_or_explicit(p, v, order)
#define fp_fetch_and(p, v, order) atomic_fetch_and_explicit(p, v, order)
#define fp_cas(p, expected, desired, success, failure) \
    atomic_compare_exchange_strong_explicit(p, expected, desired, success, failure)
#define fp_get(p) (*(p))
#define fp_set(p, v) (*(p) = (v))

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "fastpool needs a lock-free 64-bit compare-and-swap");

#endif

/* 128: the adjacent-line prefetcher of x86 pulls lines in pairs, and some AArch64 cores have lines of 128 bytes. */
#define FP_CACHE_LINE 128
#define fp_aligned __attribute__((aligned(FP_CACHE_LINE)))

/* A frozen-thread test stops a thread at a named step; elsewhere the hook is nothing. See tests/c/test_freeze.c. */
#ifdef FP_STEP_HOOK
void fp_step_hook(const char *step);
#define fp_step(name) fp_step_hook(name)
#else
#define fp_step(name) ((void)0)
#endif

#endif
