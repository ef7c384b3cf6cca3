/* test_cast.c - every cast, on edge values and any bits, against the plainest conversion; from any layout. */
#include "check.h"
#include "elements.h"

static bool same_float(double a, double b)
{
    return isnan(a) ? isnan(b) : a == b && !signbit(a) == !signbit(b);
}

/* The element at `got`, of type `to`, is the one at `source`, of type `from`. */
static bool is_cast_of(fp_type to, const char *got, fp_type from, const char *source)
{
    test_number is = test_read(to, got), should = test_read(from, source);
    char kind = test_types[to].kind;
    if (kind == 'b')
        return *got == (char)should.whole;
    if (kind == 'i' || kind == 'u')
        return is.whole == should.whole;
    return same_float(is.re, should.re) && same_float(is.im, should.im);
}

static void there_are_the_safe_casts_and_no_others(void)
{
    for (int from = 0; from < FP_TYPES; from++)
        for (int to = 0; to < FP_TYPES; to++)
            for (int swapped = 0; swapped <= 1; swapped++)
                CHECK((fp_cast_find(from, to, swapped) != NULL) == test_is_safe(from, to));
}

static void types_have_their_bytes(void)
{
    for (int type = 0; type < FP_TYPES; type++)
        CHECK_EQUAL(fp_type_bytes(type), test_types[type].part_bytes * test_types[type].parts);
}

/* --- edge values ---------------------------------------------------------------------------------------------------------- */

/* The bits of a part that are an edge of one type or another: the ends of integers; a float's zeros, subnormals, infinities
 * and NaNs. */
static const uint64_t edges[] = {
    0, 1, 2, 0x7f, 0x80, 0xff, 0x03ff, 0x0400, 0x3c00, 0x7bff, 0x7c00, 0x7c01, 0x7e00, 0x7fff, 0x8000, 0x8001, 0xfbff, 0xfc00,
    0xfe01, 0xffff, 0x007fffff, 0x00800000, 0x7f7fffff, 0x7f800000, 0x7f800001, 0x7fc00000, 0x7fffffff, 0x80000000, 0x80000001,
    0xff800000, 0xffffffff, 0x000fffffffffffff, 0x0010000000000000, 0x0020000000000001, 0x7fefffffffffffff, 0x7ff0000000000000,
    0x7ff0000000000001, 0x7ff8000000000000, 0x7fffffffffffffff, 0x8000000000000000, 0x8000000000000001, 0xfff0000000000000,
    0xfffffffffffffbff, 0xfffffffffffffc00, 0xffffffffffffffff,
};
enum { EDGES = sizeof edges / sizeof *edges };

/* An edge's low bytes, in native order. */
static void write_edge(size_t bytes, char *at, uint64_t edge)
{
    uint8_t u8 = (uint8_t)edge;
    uint16_t u16 = (uint16_t)edge;
    uint32_t u32 = (uint32_t)edge;
    memcpy(at, bytes == 1 ? (void *)&u8 : bytes == 2 ? (void *)&u16 : bytes == 4 ? (void *)&u32 : (void *)&edge, bytes);
}

static void edges_are_cast_by_every_pair(void)
{
    for (int from = 0; from < FP_TYPES; from++) {
        const struct test_type *type = &test_types[from];
        char source[EDGES * 16];
        _Alignas(16) char target[EDGES * 16];
        size_t bytes = fp_type_bytes(from);
        for (int i = 0; i < EDGES; i++)
            for (size_t part = 0; part < type->parts; part++)
                write_edge(type->part_bytes, source + (size_t)i * bytes + part * type->part_bytes, edges[(i + part) % EDGES]);
        for (int to = 0; to < FP_TYPES; to++) {
            if (!test_is_safe(from, to))
                continue;
            fp_cast_find(from, to, false)(target, source, (ptrdiff_t)bytes, EDGES);
            for (size_t i = 0; i < EDGES; i++)
                CHECK(is_cast_of(to, target + i * fp_type_bytes(to), from, source + i * bytes));
        }
    }
}

/* All there are, to the bit: a NaN keeps its sign and its payload. */
static void every_half_is_exact(void)
{
    static uint16_t halves[65536];
    static float floats[65536];
    static double doubles[65536];
    for (uint32_t i = 0; i < 65536; i++)
        halves[i] = (uint16_t)i;
    fp_cast_find(FP_F16, FP_F32, false)(floats, (const char *)halves, 2, 65536);
    fp_cast_find(FP_F16, FP_F64, false)(doubles, (const char *)halves, 2, 65536);
    for (uint32_t i = 0; i < 65536; i++) {
        double value = test_half((uint16_t)i);
        uint32_t bits = test_read_unsigned(4, (char *)&floats[i]);
        uint64_t wide = test_read_unsigned(8, (char *)&doubles[i]);
        if (isnan(value)) {
            CHECK_EQUAL(bits, (i & 0x8000) << 16 | UINT32_C(0x7f800000) | (i & 0x3ff) << 13);
            CHECK_EQUAL(wide, (uint64_t)(i & 0x8000) << 48 | UINT64_C(0x7ff0000000000000) | (uint64_t)(i & 0x3ff) << 42);
        } else {
            CHECK(same_float(floats[i], value) && same_float(doubles[i], value));
        }
    }
}

/* --- layouts -------------------------------------------------------------------------------------------------------------- */

enum { MOST = 70, MOST_STRIDE = 40, GUARD = 16 };

static ptrdiff_t choose_stride(size_t bytes, test_random *random)
{
    switch (test_random_below(random, 4)) {
    case 0: return 0;
    case 1: return (ptrdiff_t)bytes;
    case 2: return -(ptrdiff_t)bytes;
    default: return (ptrdiff_t)test_random_below(random, 2 * MOST_STRIDE + 1) - MOST_STRIDE; /* odd too, and overlapping */
    }
}

/* Any bits, n of them from 0 up, at any address: each is cast, and nothing behind the last is written. */
static void cast_from_anywhere(fp_type from, fp_type to, test_random *random)
{
    static char source[2 * MOST * MOST_STRIDE + 32];
    _Alignas(16) char target[MOST * 16 + GUARD];
    for (size_t i = 0; i < sizeof source; i++)
        source[i] = (char)test_random_below(random, 256);
    bool swapped = test_random_below(random, 2) == 1;
    int64_t n = test_random_below(random, MOST + 1);
    ptrdiff_t stride = choose_stride(fp_type_bytes(from), random);
    const char *at = source + MOST * MOST_STRIDE + test_random_below(random, 16);
    memset(target, 0x5a, sizeof target);
    fp_cast_find(from, to, swapped)(target, at, stride, n);
    for (int64_t i = 0; i < n; i++) {
        char element[16];
        memcpy(element, at + i * stride, fp_type_bytes(from));
        if (swapped)
            test_swap(from, element);
        CHECK(is_cast_of(to, target + (size_t)i * fp_type_bytes(to), from, element));
    }
    for (size_t i = (size_t)n * fp_type_bytes(to); i < sizeof target; i++)
        CHECK(target[i] == 0x5a);
}

static void any_layout_is_read(void)
{
    test_random random = {5};
    for (int64_t round = test_rounds(100); round > 0; round--)
        for (int from = 0; from < FP_TYPES; from++)
            for (int to = 0; to < FP_TYPES; to++)
                if (test_is_safe(from, to))
                    cast_from_anywhere(from, to, &random);
}

int main(void)
{
    PROPERTY("cast: there are the safe casts and no others", there_are_the_safe_casts_and_no_others());
    PROPERTY("cast: types have their bytes", types_have_their_bytes());
    PROPERTY("cast: edge values, by every pair", edges_are_cast_by_every_pair());
    PROPERTY("cast: every half is exact", every_half_is_exact());
    PROPERTY("cast: any stride, alignment and byte order", any_layout_is_read());
    return 0;
}
