/* canary_ubsan.c - a planted signed overflow. UndefinedBehaviorSanitizer must report it. */
#include <limits.h>

int main(void)
{
    volatile int most = INT_MAX;
    volatile int more = most + 1;
    (void)more;
    return 0; /* only a report can make this program fail */
}
