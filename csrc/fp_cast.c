/* fp_cast.c - load, swap, convert, store: one loop for each pair of types, made by macros. */
#include "fp_cast.h"

#include <string.h>

/* A value of each type. A half and a complex are structs, so that _Generic tells them from numbers. */
typedef uint8_t BOOL;
typedef int8_t I8;
typedef uint8_t U8;
typedef int16_t I16;
typedef uint16_t U16;
typedef int32_t I32;
typedef uint32_t U32;
typedef int64_t I64;
typedef uint64_t U64;
typedef struct { uint16_t bits; } F16;
typedef float F32;
typedef double F64;
typedef struct { float re, im; } C64;
typedef struct { double re, im; } C128;

/* --- loading: from anywhere, in either byte order ------------------------------------------------------------------------ */

#define SAME(bits) (bits)
#define LOAD(type, unsigned_type, swap)                                                                                \
    static inline type load_##type(const char *at, bool swapped)                                                       \
    {                                                                                                                  \
        unsigned_type bits;                                                                                            \
        type value;                                                                                                    \
        memcpy(&bits, at, sizeof bits);                                                                                \
        bits = swapped ? swap(bits) : bits;                                                                            \
        memcpy(&value, &bits, sizeof value);                                                                           \
        return value;                                                                                                  \
    }
LOAD(I8, uint8_t, SAME)
LOAD(U8, uint8_t, SAME)
LOAD(I16, uint16_t, __builtin_bswap16)
LOAD(U16, uint16_t, __builtin_bswap16)
LOAD(I32, uint32_t, __builtin_bswap32)
LOAD(U32, uint32_t, __builtin_bswap32)
LOAD(I64, uint64_t, __builtin_bswap64)
LOAD(U64, uint64_t, __builtin_bswap64)
LOAD(F16, uint16_t, __builtin_bswap16)
LOAD(F32, uint32_t, __builtin_bswap32)
LOAD(F64, uint64_t, __builtin_bswap64)

static inline BOOL load_BOOL(const char *at, bool swapped)
{
    return load_U8(at, swapped) != 0;
}

/* Each part is swapped by itself. */
static inline C64 load_C64(const char *at, bool swapped)
{
    return (C64){load_F32(at, swapped), load_F32(at + sizeof(float), swapped)};
}

static inline C128 load_C128(const char *at, bool swapped)
{
    return (C128){load_F64(at, swapped), load_F64(at + sizeof(double), swapped)};
}

/* --- converting a value --------------------------------------------------------------------------------------------------- */

/* All ones, or 0: selects without a branch, which would make no vectors. */
#define MASK(condition) (-(uint32_t)(condition))

/* The same digits, the exponent moved by the difference of the biases; twice for infinity and NaN, which keeps its payload.
 * Zeros and subnormals are whole multiples of 2**-24. */
static inline F32 F32_of_half(F16 half)
{
    uint32_t magnitude = half.bits & 0x7fff, move = (127 - 15) << 23, bits;
    float value = (float)(int32_t)magnitude * 0x1p-24f;
    memcpy(&bits, &value, sizeof bits);
    uint32_t is_tiny = MASK(magnitude < 0x0400), normal = (magnitude << 13) + move + (move & MASK(magnitude >= 0x7c00));
    bits = (bits & is_tiny) | (normal & ~is_tiny) | (uint32_t)(half.bits & 0x8000) << 16;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Again by its bits, for arithmetic would change a NaN. A half's digits are all in the upper word. */
static inline F64 F64_of_half(F16 half)
{
    float narrow = F32_of_half(half);
    double value;
    uint32_t bits, move = (1023 - 127) << 20;
    memcpy(&bits, &narrow, sizeof bits);
    uint32_t magnitude = bits & 0x7fffffff;
    uint32_t upper = (magnitude >> 3) + (move & MASK(magnitude != 0)) + (move & MASK(magnitude >= 0x7f800000));
    uint64_t wide = (uint64_t)(upper | (bits & 0x80000000)) << 32;
    memcpy(&value, &wide, sizeof value);
    return value;
}

/* Of up to 11 digits, and so exact. */
static inline F16 F16_of_integer(int32_t value)
{
    float wide = (float)value;
    uint32_t bits;
    memcpy(&bits, &wide, sizeof bits);
    uint32_t magnitude = ((bits & 0x7fffffff) >> 13) - ((127 - 15) << 10);
    return (F16){(uint16_t)((bits >> 16 & 0x8000) | (magnitude & MASK(value != 0)))};
}

static inline F16 F16_of_half(F16 value) { return value; }
static inline F32 F32_of_real(float value) { return value; }
static inline F64 F64_of_real(double value) { return value; }
static inline C64 C64_of_real(float value) { return (C64){value, 0}; }
static inline C64 C64_of_half(F16 value) { return C64_of_real(F32_of_half(value)); }
static inline C64 C64_of_C64(C64 value) { return value; }
static inline C128 C128_of_real(double value) { return (C128){value, 0}; }
static inline C128 C128_of_half(F16 value) { return C128_of_real(F64_of_half(value)); }
static inline C128 C128_of_C64(C64 value) { return (C128){value.re, value.im}; }
static inline C128 C128_of_C128(C128 value) { return value; }

/* To an integer only from narrower ones. The real functions take what C converts to their parameter. */
#define TO_BOOL(value) (value)
#define TO_I8(value) (value)
#define TO_U8(value) (value)
#define TO_I16(value) (value)
#define TO_U16(value) (value)
#define TO_I32(value) (value)
#define TO_U32(value) (value)
#define TO_I64(value) (value)
#define TO_U64(value) (value)
#define TO_F16(value) _Generic((value), F16: F16_of_half, default: F16_of_integer)(value)
#define TO_F32(value) _Generic((value), F16: F32_of_half, default: F32_of_real)(value)
#define TO_F64(value) _Generic((value), F16: F64_of_half, default: F64_of_real)(value)
#define TO_C64(value) _Generic((value), C64: C64_of_C64, F16: C64_of_half, default: C64_of_real)(value)
#define TO_C128(value)                                                                                                 \
    _Generic((value), C128: C128_of_C128, C64: C128_of_C64, F16: C128_of_half, default: C128_of_real)(value)

/* --- the loops ------------------------------------------------------------------------------------------------------------ */

/* NumPy's table of safe casts: those of single bytes, which have no byte order, and the others. */
#define CASTS_OF_BYTES(X)                                                                                              \
    X(BOOL, BOOL) X(BOOL, I8) X(BOOL, U8) X(BOOL, I16) X(BOOL, U16) X(BOOL, I32) X(BOOL, U32) X(BOOL, I64)             \
    X(BOOL, U64) X(BOOL, F16) X(BOOL, F32) X(BOOL, F64) X(BOOL, C64) X(BOOL, C128)                                     \
    X(I8, I8) X(I8, I16) X(I8, I32) X(I8, I64) X(I8, F16) X(I8, F32) X(I8, F64) X(I8, C64) X(I8, C128)                 \
    X(U8, U8) X(U8, I16) X(U8, U16) X(U8, I32) X(U8, U32) X(U8, I64) X(U8, U64) X(U8, F16) X(U8, F32) X(U8, F64)       \
    X(U8, C64) X(U8, C128)
#define CASTS_OF_WORDS(X)                                                                                              \
    X(I16, I16) X(I16, I32) X(I16, I64) X(I16, F32) X(I16, F64) X(I16, C64) X(I16, C128)                               \
    X(U16, U16) X(U16, I32) X(U16, U32) X(U16, I64) X(U16, U64) X(U16, F32) X(U16, F64) X(U16, C64) X(U16, C128)       \
    X(I32, I32) X(I32, I64) X(I32, F64) X(I32, C128)                                                                   \
    X(U32, U32) X(U32, I64) X(U32, U64) X(U32, F64) X(U32, C128)                                                       \
    X(I64, I64) X(I64, F64) X(I64, C128)                                                                               \
    X(U64, U64) X(U64, F64) X(U64, C128)                                                                               \
    X(F16, F16) X(F16, F32) X(F16, F64) X(F16, C64) X(F16, C128)                                                       \
    X(F32, F32) X(F32, F64) X(F32, C64) X(F32, C128)                                                                   \
    X(F64, F64) X(F64, C128) X(C64, C64) X(C64, C128) X(C128, C128)

/* A stride that the compiler knows makes vectors. */
#define PLAIN(from, to)                                                                                                \
    static void from##_##to(void *restrict target, const char *restrict source, ptrdiff_t stride, int64_t n)           \
    {                                                                                                                  \
        to *restrict out = target;                                                                                     \
        if (stride == sizeof(from))                                                                                    \
            for (int64_t i = 0; i < n; i++)                                                                            \
                out[i] = TO_##to(load_##from(source + i * (ptrdiff_t)sizeof(from), false));                            \
        else                                                                                                           \
            for (int64_t i = 0; i < n; i++)                                                                            \
                out[i] = TO_##to(load_##from(source + i * stride, false));                                             \
    }
#define SWAPPED(from, to)                                                                                              \
    static void from##_##to##_swapped(void *restrict target, const char *restrict source, ptrdiff_t stride, int64_t n) \
    {                                                                                                                  \
        to *restrict out = target;                                                                                     \
        for (int64_t i = 0; i < n; i++)                                                                                \
            out[i] = TO_##to(load_##from(source + i * stride, true));                                                  \
    }
CASTS_OF_BYTES(PLAIN)
CASTS_OF_WORDS(PLAIN)
CASTS_OF_WORDS(SWAPPED)

#define BYTE_ENTRY(from, to) [FP_##from][FP_##to] = {from##_##to, from##_##to},
#define WORD_ENTRY(from, to) [FP_##from][FP_##to] = {from##_##to, from##_##to##_swapped},
static const fp_cast casts[FP_TYPES][FP_TYPES][2] = {CASTS_OF_BYTES(BYTE_ENTRY) CASTS_OF_WORDS(WORD_ENTRY)};

fp_cast fp_cast_find(fp_type from, fp_type to, bool swapped)
{
    return casts[from][to][swapped];
}

size_t fp_type_bytes(fp_type type)
{
    static const size_t bytes[FP_TYPES] = {
        sizeof(BOOL), sizeof(I8),  sizeof(U8),  sizeof(I16), sizeof(U16), sizeof(I32), sizeof(U32),
        sizeof(I64),  sizeof(U64), sizeof(F16), sizeof(F32), sizeof(F64), sizeof(C64), sizeof(C128),
    };
    return bytes[type];
}
