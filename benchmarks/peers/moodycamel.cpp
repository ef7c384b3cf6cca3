// moodycamel.cpp - the least pool around moodycamel's queue: two threads that take jobs and run them. A token for each side, as
// its documentation advises.
#include <semaphore.h>

#include <cstddef>
#include <thread>

#include <concurrentqueue/blockingconcurrentqueue.h>

#include "work.h"

namespace {

struct task {
    work_job job;
    void *arg;
};

// Where the threads wait for each other at the end of a round.
struct gate {
    sem_t arrived, opened;
};

int pass(void *arg)
{
    gate *end = static_cast<gate *>(arg);
    sem_post(&end->arrived);
    while (sem_wait(&end->opened) != 0)
        ;
    return 0;
}

class pool {
public:
    explicit pool(std::size_t most) : producer(tasks)
    {
        sem_init(&end.arrived, 0, 0);
        sem_init(&end.opened, 0, 0);
        for (int i = 0; i < 2; i++)
            std::thread([this, most] { serve(most); }).detach();
    }

    void dispatch(work_job job, int64_t n)
    {
        for (int64_t i = 0; i < n; i++)
            tasks.enqueue(producer, task{job, reinterpret_cast<void *>(i)});
        wait();
    }

private:
    // Until both threads stand at the gate. The second task is queued when one thread is there, so only the other can take it.
    void wait()
    {
        for (int i = 0; i < 2; i++) {
            tasks.enqueue(producer, task{pass, &end});
            while (sem_wait(&end.arrived) != 0)
                ;
        }
        for (int i = 0; i < 2; i++)
            sem_post(&end.opened);
    }

    [[noreturn]] void serve(std::size_t most)
    {
        moodycamel::ConsumerToken consumer(tasks);
        task taken[64];
        for (;;) {
            std::size_t count = tasks.wait_dequeue_bulk(consumer, taken, most);
            for (std::size_t i = 0; i < count; i++)
                taken[i].job(taken[i].arg);
        }
    }

    moodycamel::BlockingConcurrentQueue<task> tasks;
    moodycamel::ProducerToken producer;
    gate end;
};

} // namespace

// The pools live as long as the process: their threads wait in them.
extern "C" {

void peer_dispatch(work_job job, int64_t n)
{
    static pool &one_at_a_time = *new pool(1);
    one_at_a_time.dispatch(job, n);
}

void peer_dispatch_bulk(work_job job, int64_t n)
{
    static pool &many_at_a_time = *new pool(64);
    many_at_a_time.dispatch(job, n);
}
}
