/* ring.cpp - the ring among its own: what its orders publish, and "empty" only when it is.
 *
 * Run with acquire and release where csrc has seq_cst: the ring by itself needs no more, and with the stronger orders the
 * checker would not see what the weaker labels are for. What seq_cst is for is in park.cpp.
 */
#include "ring_labels.hpp"

/* Two threads, two places, two rings: in each round a thread gets an index, writes its item, sends it, and receives one. */
struct ring_model : rl::test_suite<ring_model, 2> {
    enum { ORDER = 1, PLACES = 1 << ORDER, ROUNDS = 3 };
    fp_atomic(uint64_t) slots[2][PLACES];
    fp_ring ready, unused;
    fp_plain(int) items[PLACES];
    int received;

    void before()
    {
        for (int i = 0; i < PLACES; i++) {
            slots[0][i].store(0, rl::mo_relaxed, $);
            slots[1][i].store(0, rl::mo_relaxed, $);
        }
        fp_ring_init_empty(&ready, slots[0], ORDER);
        fp_ring_init_full(&unused, slots[1], ORDER, PLACES);
        received = 0;
    }

    /* There is always something: as many places as threads, and each gives back before it takes again. */
    uint32_t dequeue(fp_ring *ring)
    {
        fp_ring_head head;
        do {
            bool empty = !fp_ring_peek(ring, &head);
            RL_ASSERT(!empty);
        } while (!fp_ring_take(ring, head));
        RL_ASSERT(head.value < PLACES);
        return head.value;
    }

    void thread(unsigned)
    {
        for (int i = 0; i < ROUNDS; i++) {
            uint32_t index = dequeue(&unused);
            items[index]($) = 1;
            fp_ring_enqueue(&ready, index);
            index = dequeue(&ready);
            RL_ASSERT(items[index]($) == 1); /* sent once, received once */
            items[index]($) = 0;
            received++;
            fp_ring_enqueue(&unused, index);
        }
    }

    void after()
    {
        RL_ASSERT(received == 2 * ROUNDS);
        RL_ASSERT(fp_ring_size(&ready) == 0 && fp_ring_size(&unused) == PLACES);
    }
};

int main(int argc, char **argv)
{
    return run_model<ring_model>(argc, argv);
}
