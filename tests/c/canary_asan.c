/* canary_asan.c - a planted read past the end of a block. AddressSanitizer must report it. */
#include <stdlib.h>

int main(void)
{
    unsigned char *volatile block = calloc(1, 8); /* volatile: the compiler is not to see how long it is */
    volatile unsigned char past = block[8];
    (void)past;
    free(block);
    return 0; /* whatever was read: only a report can make this program fail */
}
