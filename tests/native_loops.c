/* native_loops.c - NumPy inner loops for the tests: void (char **, const intptr_t *, const intptr_t *, void *). */
#include <complex.h>
#include <stdint.h>

#define LOOP(name) void name(char **args, const intptr_t *dimensions, const intptr_t *steps, void *data)
#define EACH(i) for (intptr_t i = 0, n = (unused(data), dimensions[0]); i < n; i++)
#define AT(type, k) (*(type *)(args[k] + i * steps[k]))

static inline void unused(void *data)
{
    (void)data;
}

LOOP(add) { EACH(i) AT(double, 2) = AT(double, 0) + AT(double, 1); }
LOOP(multiply) { EACH(i) AT(double complex, 2) = AT(double complex, 0) * AT(double complex, 1); }
LOOP(widen) { EACH(i) AT(double, 1) = AT(int32_t, 0) + 0.5; }
LOOP(less) { EACH(i) AT(uint8_t, 2) = AT(double, 0) < AT(double, 1); }
LOOP(later) { EACH(i) AT(int64_t, 2) = AT(int64_t, 0) + AT(int64_t, 1); }
LOOP(scale) { EACH(i) AT(double, 1) = AT(double, 0) * *(double *)data; }
LOOP(seven)
{
    EACH(i) AT(double, 7) = AT(double, 0) + 2 * AT(double, 1) + 3 * AT(double, 2) + 4 * AT(double, 3) + 5 * AT(double, 4) +
                            6 * AT(double, 5) + 7 * AT(double, 6);
}
/* A character's worth of each type together: float, int16 and bool in, double out. */
LOOP(mixed) { EACH(i) AT(double, 3) = AT(uint8_t, 2) ? AT(float, 0) : AT(int16_t, 1); }

/* Moves the pointers and counts down, as some of NumPy's own do: they are the loop's to spoil. */
LOOP(spoil)
{
    unused(data);
    for (intptr_t left = dimensions[0]; left > 0; left--) {
        *(double *)args[1] = *(double *)args[0] + 1;
        args[0] += steps[0];
        args[1] += steps[1];
    }
}

/* int64[2]: elements and calls. Looks at none but the ends of a piece, which it marks. */
LOOP(mark_ends)
{
    intptr_t last = dimensions[0] - 1;
    __atomic_fetch_add((int64_t *)data, dimensions[0], __ATOMIC_RELAXED);
    __atomic_fetch_add((int64_t *)data + 1, 1, __ATOMIC_RELAXED);
    *(uint8_t *)args[1] |= 1;
    *(uint8_t *)(args[1] + last * steps[1]) |= 2;
}
