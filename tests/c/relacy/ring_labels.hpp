/* ring_labels.hpp - fp_ring.c with its orders as variables. */
#include "model.hpp"

#include "fp_ring.h"

LABEL(FP_RING_PUBLISH)
LABEL(FP_RING_ADVANCE)
LABEL(FP_RING_POSITION)
LABEL(FP_RING_TAKE)
LABEL(FP_RING_PEEK)
#undef FP_RING_PUBLISH
#undef FP_RING_ADVANCE
#undef FP_RING_POSITION
#undef FP_RING_TAKE
#undef FP_RING_PEEK
#define FP_RING_PUBLISH order_FP_RING_PUBLISH
#define FP_RING_ADVANCE order_FP_RING_ADVANCE
#define FP_RING_POSITION order_FP_RING_POSITION
#define FP_RING_TAKE order_FP_RING_TAKE
#define FP_RING_PEEK order_FP_RING_PEEK
#define init ring_init /* fp_eventcount.c and fp_queue.c share this file scope */
#include "fp_ring.c"
#undef init
