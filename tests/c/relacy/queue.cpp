/* queue.cpp - the queue's records: filled and emptied by turns, and ranges that workers join, close and leave.
 *
 * One place and one spare, or none, so that a range uses again the record of one before it, and a worker that peeked early
 * joins late.
 */
#include "ring_labels.hpp"

#include "fp_queue.h"

LABEL(FP_QUEUE_OPEN)
LABEL(FP_QUEUE_JOIN)
LABEL(FP_QUEUE_LEAVE)
#undef FP_QUEUE_OPEN
#undef FP_QUEUE_JOIN
#undef FP_QUEUE_LEAVE
#define FP_QUEUE_OPEN order_FP_QUEUE_OPEN
#define FP_QUEUE_JOIN order_FP_QUEUE_JOIN
#define FP_QUEUE_LEAVE order_FP_QUEUE_LEAVE
#include "fp_queue.c"

/* What a job's ctx points to: a range of two jobs, claimed one by one, or a single job. */
struct item {
    enum { JOBS = 2 };
    fp_atomic(int) claimed;
    fp_plain(int) jobs; /* written by the producer: what the record's edge publishes */
    fp_plain(int) results[JOBS]; /* written inside: what leaving publishes to the last one out */
    fp_plain(int) ends;
};

struct queue_model : rl::test_suite<queue_model, 3> {
    enum { ORDER = 0, CAPACITY = 1, ITEMS = 3, RECORDS = 2 };
    fp_atomic(uint64_t) slots[3 + FP_LANES][CAPACITY];
    fp_job records[RECORDS];
    uint32_t spares;
    fp_lane lanes[ITEMS];
    fp_queue queue;
    item items[ITEMS];
    fp_atomic(int) ended;

    void before()
    {
        for (int i = 0; i < 3 + FP_LANES; i++)
            slots[i][0].store(0, rl::mo_relaxed, $);
        for (int i = 0; i < RECORDS; i++)
            records[i].join.store(0, rl::mo_relaxed, $);
        spares = rl::rand(2);
        bool laned = rl::rand(2);
        for (int i = 0; i < ITEMS; i++)
            lanes[i] = laned ? (fp_lane)rl::rand(FP_LANES) : FP_LANE_NORMAL;
        queue.records = records;
        queue.capacity = CAPACITY;
        queue.laned.store(false, rl::mo_relaxed, $);
        fp_ring_init_full(&queue.free, slots[0], ORDER, CAPACITY);
        fp_ring_init_empty(&queue.spare, slots[1], ORDER);
        for (int lane = 0; lane < FP_LANES; lane++)
            fp_ring_init_empty(&queue.ready[lane], slots[3 + lane], ORDER);
        fp_ring_init_empty(&queue.beyond, slots[2], ORDER);
        if (spares)
            fp_ring_enqueue(&queue.spare, CAPACITY);
        for (int i = 0; i < ITEMS; i++) {
            items[i].claimed.store(0, rl::mo_relaxed, $);
            items[i].ends($) = 0;
        }
        ended.store(0, rl::mo_relaxed, $);
    }

    /* Ranges, and at last a single job. */
    void produce()
    {
        for (int i = 0; i < ITEMS; i++) {
            bool is_range = i != ITEMS - 1;
            items[i].jobs($) = is_range ? item::JOBS : 1;
            while (!fp_queue_try_push(&queue, NULL, &items[i], is_range ? FP_JOB_RANGE : 0, lanes[i], 0))
                rl::yield(1, $);
        }
    }

    void run(item *it)
    {
        int jobs = it->jobs($);
        for (;;) {
            int job = fp_fetch_add(&it->claimed, 1, fp_relaxed);
            if (job >= jobs)
                return;
            it->results[job]($) = job + 1;
        }
    }

    void end(item *it)
    {
        for (int job = 0; job < it->jobs($); job++)
            RL_ASSERT(it->results[job]($) == job + 1);
        it->ends($) = it->ends($) + 1;
        fp_fetch_add(&ended, 1, fp_relaxed);
    }

    void serve_range(fp_queue_head head)
    {
        fp_started job;
        if (!fp_queue_join(&queue, head, &job))
            return;
        if (fp_queue_is_head(&queue, head)) {
            run((item *)job.ctx);
            fp_queue_close(&queue, head);
        }
        if (fp_queue_leave(&queue, head) != FP_LEFT)
            end((item *)job.ctx);
    }

    void serve_single(fp_queue_head head)
    {
        fp_started job;
        if (!fp_queue_take(&queue, head, &job))
            return;
        run((item *)job.ctx);
        end((item *)job.ctx);
    }

    /* Between peek and join: long enough for others to have ended the item. */
    void dawdle()
    {
        while (fp_load(&ended, fp_relaxed) == 0)
            rl::yield(1, $);
    }

    void serve(bool dawdles)
    {
        fp_queue_head head;
        while (fp_load(&ended, fp_relaxed) < ITEMS) {
            if (!fp_queue_peek(&queue, FP_LANE_HIGH, &head)) {
                rl::yield(1, $);
                continue;
            }
            if (dawdles)
                dawdle();
            if (head.kind & FP_JOB_RANGE)
                serve_range(head);
            else
                serve_single(head);
        }
    }

    void thread(unsigned index)
    {
        if (index == 0)
            produce();
        else
            serve(index == 2 && rl::rand(2));
    }

    void after()
    {
        for (int i = 0; i < ITEMS; i++)
            RL_ASSERT(items[i].ends($) == 1);
        RL_ASSERT(fp_ring_size(&queue.free) == CAPACITY && fp_queue_size(&queue) == 0);
        RL_ASSERT(fp_ring_size(&queue.spare) == spares);
    }
};

int main(int argc, char **argv)
{
    return run_model<queue_model>(argc, argv);
}
