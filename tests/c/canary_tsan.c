/* canary_tsan.c - a planted race. ThreadSanitizer must report it, or "no race found" means nothing. */
#include "threads.h"

static int shared;

static void write_unordered(void *arg, unsigned number)
{
    (void)arg;
    shared = (int)number;
}

int main(void)
{
    threads writers;
    threads_start(&writers, 2, write_unordered, NULL);
    threads_join(&writers);
    return shared < 0; /* the race does no harm: only a report can make this program fail */
}
