/* fp_cast - elements of an array as a kernel wants them: of its type, aligned, contiguous, in native byte order.
 *
 * Journey: submit -> ring -> worker -> [KERNEL] -> completion -> future. An input of another type is never converted as a
 * whole: the worker converts a piece, calls the kernel on it, and goes on (fp_loops.h). Nothing here allocates or knows of
 * Python.
 *
 * There is a cast where NumPy's "safe" casting has one: to a type that holds every value of the other, give or take the last
 * digits of a 64-bit integer. The results are NumPy's, to the bit.
 */
#ifndef FP_CAST_H
#define FP_CAST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Element types, in memory as NumPy has them. */
typedef enum fp_type {
    FP_BOOL, /* a byte; any but 0 is true */
    FP_I8,
    FP_U8,
    FP_I16,
    FP_U16,
    FP_I32,
    FP_U32,
    FP_I64,
    FP_U64,
    FP_F16, /* IEEE 754's half */
    FP_F32,
    FP_F64,
    FP_C64, /* two F32: real, imaginary */
    FP_C128,
    FP_TYPES,
} fp_type;

size_t fp_type_bytes(fp_type type);

/* n elements from `source`, `stride` bytes apart (any sign, 0 too), of any alignment, to the array `target`. They share no
 * memory. */
typedef void (*fp_cast)(void *target, const char *source, ptrdiff_t stride, int64_t n);

/* `swapped`: the source is in the other byte order. NULL where there is no safe cast. A type casts to itself too, for arrays
 * that are swapped or not aligned. */
fp_cast fp_cast_find(fp_type from, fp_type to, bool swapped);

#endif
