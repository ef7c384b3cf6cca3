/* fp_eventcount.c - the steps W1-W3 and N1-N3 of fp_eventcount.h. */
#include "fp_eventcount.h"

#include <limits.h>

void fp_eventcount_init(fp_eventcount *ec)
{
    fp_store(&ec->epoch, UINT32_C(0), fp_relaxed);
    fp_store(&ec->tokens, UINT32_C(0), fp_relaxed);
}

uint32_t fp_eventcount_prepare(fp_eventcount *ec)
{
    uint32_t key = fp_load(&ec->epoch, fp_acquire); /* W1: before the token, see the proof */
    uint32_t tokens = fp_load(&ec->tokens, fp_relaxed);
    uint32_t more;
    do
        more = tokens < FP_EC_MOST ? tokens + 1 : tokens;
    while (!fp_cas(&ec->tokens, &tokens, more, FP_EC_REGISTER, fp_relaxed)); /* W2 */
    return key;
}

fp_wait_result fp_eventcount_wait(fp_eventcount *ec, uint32_t key, int64_t deadline_ns)
{
    return fp_os_wait(&ec->epoch, key, deadline_ns);
}

static bool take_token(fp_eventcount *ec)
{
    uint32_t tokens = fp_load(&ec->tokens, FP_EC_LOOK); /* N2 */
    while (tokens != 0)
        if (fp_cas(&ec->tokens, &tokens, tokens - 1, fp_seq_cst, FP_EC_LOOK))
            return true;
    return false;
}

bool fp_eventcount_notify_one(fp_eventcount *ec)
{
    if (!take_token(ec))
        return false;
    fp_fetch_add(&ec->epoch, UINT32_C(1), fp_acq_rel); /* N3 */
    return fp_os_wake(&ec->epoch, 1) > 0;
}

void fp_eventcount_notify_all(fp_eventcount *ec)
{
    if (fp_load(&ec->tokens, FP_EC_LOOK) == 0 || fp_exchange(&ec->tokens, UINT32_C(0), fp_seq_cst) == 0)
        return;
    fp_fetch_add(&ec->epoch, UINT32_C(1), fp_acq_rel);
    fp_os_wake(&ec->epoch, INT_MAX);
}
