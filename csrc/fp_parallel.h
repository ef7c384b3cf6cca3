/* fp_parallel - n jobs of one sort behind one place in the queue, cut into pieces as they are run.
 *
 * Journey: submit -> ring -> [WORKER -> KERNEL, piece after piece -> COMPLETION]. Workers that join the record (fp_queue.h) take
 * pieces from its cursor (fp_range.h), and so may the thread that waits for it.
 *
 * Ending      A1 who has run pieces subtracts their jobs, failed ones too, from `unfinished`   A2 who takes it to zero calls
 *             ended()   A3 the jobs are counted in the metrics: a pool is not idle before the range has ended. So the end is
 *             known when the last job is done, not when the queue has noticed: the record, by then an empty range, is
 *             let go of (released()) when a worker comes by.
 * Order pair  A1 -> A1 (FP_PARALLEL_END, acq_rel): what others have written, to the one who ends it.
 * Failing     Jobs go on when one fails. F1 the first to fail (in time) claims the place for its status   F2 writes it;
 *             published by A1.
 * Deadline    Who takes part looks at the clock before each piece, and discards what is left when it is time; the user's timer may
 *             do so as well, where nobody comes by. A piece that ends later has timed out, and one that fails after it has
 *             been asked to stop is cancelled: both by what is known when it returns.
 *
 * Grain       How many jobs a thread takes at a time, unless the caller says so: a piece is to take about PIECE_NS, so that
 *             taking it costs nothing beside it, but each worker is to get several, so that they end together. The first
 *             piece is one job, and each is measured and sizes the next; who joins later starts from where others are.
 * Measuring   Reading the clock costs as much as a small piece, so pieces are measured a few together where they are small
 *             by the caller's wish: as many as take about MEASURED_NS.
 * Alone       Waking a worker takes longer than a small range: who will wait for it anyway may begin by itself, and queue the
 *             rest when what is left looks worth a wake-up. Its jobs count as submitted piece by piece meanwhile. But until
 *             its first piece has ended nobody else can begin: who knows what is called, and knows from the last time what a
 *             job takes (job_ps), begins so only where that is short.
 */
#ifndef FP_PARALLEL_H
#define FP_PARALLEL_H

#include "fp_pool.h"
#include "fp_range.h"

#ifndef FP_PARALLEL_END
#define FP_PARALLEL_END fp_acq_rel
#endif

struct fp_parallel;

/* What did not go well in a piece; all zero: nothing. */
typedef struct fp_piece {
    int64_t failed;    /* so many jobs failed */
    int64_t failed_at; /* the first of them */
    int status;        /* what it returned */
    int64_t cancelled; /* so many had been cancelled one by one, and were left out; or failed, having been asked to stop */
    int64_t timed_out; /* so many ended when their time was over */
} fp_piece;

/* What the user of a fp_parallel supplies for each sort. Called detached (fp_pool.h, fp_host). */
typedef struct fp_parallel_class {
    /* Runs the jobs begin <= i < end. */
    void (*run)(struct fp_parallel *parallel, int64_t begin, int64_t end, fp_piece *piece);
    /* It has run, and this has come of it. NULL: nobody asks for pieces. */
    void (*piece_ended)(struct fp_parallel *parallel, int64_t begin, int64_t end, const fp_piece *piece);
    /* A worker has come to it. False: it was cancelled before. NULL: always true. */
    bool (*start)(struct fp_parallel *parallel);
    /* Jobs from discarded_from on never start. NULL: nobody asks which. */
    void (*discarded)(struct fp_parallel *parallel);
    /* All jobs have ended, `failed`, `discarded` and `cut` tell how. Once at most: not if start() refused. */
    void (*ended)(struct fp_parallel *parallel);
    /* The queue has let go of it. Once if it was queued, perhaps after ended(), and perhaps attached. */
    void (*released)(struct fp_parallel *parallel);
} fp_parallel_class;

typedef struct fp_parallel {
    fp_range range;
    fp_atomic(int64_t) unfinished; /* jobs */
    fp_atomic(int64_t) pace;       /* a piece's jobs, as last measured: where a thread that joins begins */
    fp_atomic(int) discarded;      /* 0, or 1 + fp_discard_reason: some jobs never started */
    int64_t discarded_from;        /* published by it */
    fp_atomic(int) cut;            /* the same of pieces that ran: too late, or failed when asked to stop. Published by A1 */
    int64_t deadline_ns;           /* FP_FOREVER: none */
    fp_atomic(bool) failed;        /* F1 */
    int status;                    /* F2: of the first job to fail */
    int64_t failed_at;             /* F2: which that was */
    int64_t grain;                 /* jobs to a piece; 0: by measurement */
    fp_atomic(uint32_t) *stop;     /* non-zero: what has not started is cancelled; NULL: nobody asks for that */
    fp_atomic(int64_t) *job_ps;    /* what a job takes, in picoseconds, as last measured; 0: not yet; NULL: nobody asks. It must
                                    * live until the last job has ended */
    fp_pool *pool;
    const fp_parallel_class *kind;
    const char *name; /* of its pieces in a trace, never freed; NULL: the class traces them itself */
    bool assisted; /* of the thread that waits for it: it counts as assisting */
} fp_parallel;

/* n: 0 .. FP_RANGE_MOST. */
void fp_parallel_init(fp_parallel *parallel, const fp_parallel_class *kind, fp_pool *pool, int64_t n, int64_t grain);

/* For fp_pool_submit, as a range of fp_range_left() jobs. */
extern const fp_job_class fp_parallel_job;

/* True where a thread may run jobs of the pool itself while it waits for them: on the pool's own workers; and elsewhere if the
 * pool is not paused and runs several jobs at once anyway, has a worker that is set up and one that sleeps, a CPU is to spare,
 * and nothing is queued that would have to come first. So no more run at once than there may be workers, but for a moment. */
bool fp_parallel_may_start_here(fp_pool *pool);
bool fp_parallel_may_assist(fp_pool *pool);

/* Whether to begin n > 0 jobs on the calling thread, before they are queued: where it may, and a second piece, which others could
 * run meanwhile, does not have to wait long for the first, by what is known of a job (0: nothing). */
bool fp_parallel_begins_here(fp_pool *pool, int64_t n, int64_t grain, int64_t job_ps);

/* Begins on the calling thread, before it is queued. True when all jobs have ended; else queue it. The thread counts as
 * assisting from then on. */
bool fp_parallel_start_here(fp_parallel *parallel);

/* Runs the rest on the calling thread, if it could not be queued. */
void fp_parallel_finish_here(fp_parallel *parallel);

/* Queued: takes part until no job is left to start; or as long as it may assist. No longer than `until_ns`, but between two
 * pieces; and fp_parallel_help runs one piece at least. */
void fp_parallel_help(fp_parallel *parallel, int64_t until_ns);
void fp_parallel_assist(fp_parallel *parallel, int64_t until_ns);

/* After start_here or assist, before the thread sleeps: it assists no more. */
void fp_parallel_stop_assisting(fp_parallel *parallel);

/* Lets no further job start, and counts those as cancelled; how many. */
int64_t fp_parallel_cancel(fp_parallel *parallel);

/* The same of a queued one whose deadline has come: they are counted as timed out. */
void fp_parallel_time_out(fp_parallel *parallel);

/* Jobs that have started; for progress. */
static inline int64_t fp_parallel_started(fp_parallel *parallel)
{
    return parallel->range.n - fp_range_left(&parallel->range);
}

#endif
