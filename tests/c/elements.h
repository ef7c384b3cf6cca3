/* elements.h - elements of every fp_type, read and written the plain way: what fp_cast is held against. */
#ifndef FP_TEST_ELEMENTS_H
#define FP_TEST_ELEMENTS_H

#include <math.h>
#include <string.h>

#include "fp_cast.h"

/* A type by its parts: a complex has two. Kinds: bool, int, unsigned, float, complex. */
static const struct test_type {
    char kind;
    size_t part_bytes, parts;
} test_types[FP_TYPES] = {
    [FP_BOOL] = {'b', 1, 1}, [FP_I8] = {'i', 1, 1},  [FP_U8] = {'u', 1, 1},  [FP_I16] = {'i', 2, 1},  [FP_U16] = {'u', 2, 1},
    [FP_I32] = {'i', 4, 1},  [FP_U32] = {'u', 4, 1}, [FP_I64] = {'i', 8, 1}, [FP_U64] = {'u', 8, 1},  [FP_F16] = {'f', 2, 1},
    [FP_F32] = {'f', 4, 1},  [FP_F64] = {'f', 8, 1}, [FP_C64] = {'c', 4, 2}, [FP_C128] = {'c', 8, 2},
};

/* Which casts are safe, by rule: room for every value, except that a double does for 64-bit integers. */
__attribute__((unused)) static bool test_is_safe(fp_type from, fp_type to)
{
    const struct test_type *a = &test_types[from], *b = &test_types[to];
    bool to_float = b->kind == 'f' || b->kind == 'c';
    if (from == to || a->kind == 'b')
        return true;
    if (a->kind == 'c')
        return b->kind == 'c' && b->part_bytes >= a->part_bytes;
    if (a->kind == 'f')
        return to_float && b->part_bytes >= a->part_bytes;
    if (to_float)
        return b->part_bytes == 8 || b->part_bytes >= 2 * a->part_bytes;
    if (a->kind == b->kind)
        return b->part_bytes >= a->part_bytes;
    return a->kind == 'u' && b->kind == 'i' && b->part_bytes > a->part_bytes;
}

/* An integer in two's complement, and as a double; or a float's value. */
typedef struct test_number {
    uint64_t whole;
    double re, im;
} test_number;

static double test_half(uint16_t bits)
{
    int exponent = bits >> 10 & 31, digits = bits & 1023;
    double magnitude = exponent == 31  ? (digits ? NAN : INFINITY)
                       : exponent == 0 ? ldexp(digits, -24)
                                       : ldexp(1024 + digits, exponent - 25);
    return bits >> 15 ? -magnitude : magnitude;
}

static double test_read_float(size_t bytes, const char *at)
{
    uint16_t half;
    float f;
    double d;
    switch (bytes) {
    case 2: memcpy(&half, at, 2); return test_half(half);
    case 4: memcpy(&f, at, 4); return f;
    default: memcpy(&d, at, 8); return d;
    }
}

static uint64_t test_read_unsigned(size_t bytes, const char *at)
{
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;
    switch (bytes) {
    case 1: memcpy(&u8, at, 1); return u8;
    case 2: memcpy(&u16, at, 2); return u16;
    case 4: memcpy(&u32, at, 4); return u32;
    default: memcpy(&u64, at, 8); return u64;
    }
}

/* One element at any address, in native order. */
__attribute__((unused)) static test_number test_read(fp_type type, const char *at)
{
    const struct test_type *it = &test_types[type];
    test_number number = {0, 0, 0};
    if (it->kind == 'f' || it->kind == 'c') {
        number.re = test_read_float(it->part_bytes, at);
        number.im = it->kind == 'c' ? test_read_float(it->part_bytes, at + it->part_bytes) : 0;
        return number;
    }
    number.whole = test_read_unsigned(it->part_bytes, at);
    if (it->kind == 'b')
        number.whole = number.whole != 0;
    uint64_t sign = UINT64_C(1) << (8 * it->part_bytes - 1);
    if (it->kind == 'i')
        number.whole = (number.whole ^ sign) - sign;
    number.re = it->kind == 'i' ? (double)(int64_t)number.whole : (double)number.whole;
    return number;
}

static void test_write_float(size_t bytes, char *at, double value)
{
    int exponent;
    double digits = frexp(fabs(value), &exponent); /* in [0.5, 1) */
    int magnitude = value == 0 ? 0 : (exponent + 14) << 10 | ((int)(digits * 2048) & 1023);
    uint16_t half = (uint16_t)((value < 0 ? 0x8000 : 0) | magnitude);
    float f = (float)value;
    memcpy(at, bytes == 8 ? (void *)&value : bytes == 4 ? (void *)&f : (void *)&half, bytes);
}

/* A small number that the type holds exactly. */
__attribute__((unused)) static void test_write(fp_type type, char *at, int64_t value)
{
    const struct test_type *it = &test_types[type];
    if (it->kind == 'f' || it->kind == 'c') {
        test_write_float(it->part_bytes, at, (double)value);
        if (it->kind == 'c')
            test_write_float(it->part_bytes, at + it->part_bytes, 0);
        return;
    }
    for (size_t i = 0; i < it->part_bytes; i++) {
        const uint16_t one = 1;
        size_t shift = *(const char *)&one ? i : it->part_bytes - 1 - i;
        at[i] = (char)((uint64_t)value >> 8 * shift);
    }
}

/* To the other byte order and back. */
__attribute__((unused)) static void test_swap(fp_type type, char *at)
{
    size_t bytes = test_types[type].part_bytes;
    for (size_t part = 0; part < test_types[type].parts; part++, at += bytes)
        for (size_t i = 0; i < bytes / 2; i++) {
            char low = at[i];
            at[i] = at[bytes - 1 - i];
            at[bytes - 1 - i] = low;
        }
}

#endif
