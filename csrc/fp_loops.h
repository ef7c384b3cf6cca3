/* fp_loops - calling a kernel: once on scalars, or for each element of arrays.
 *
 * Journey: submit -> ring -> worker -> [KERNEL] -> completion -> future. A kernel is a C function of one of the signatures below;
 * a fp_elementwise is a kernel with its arrays, and workers run pieces [begin, end) of it. Nothing here allocates, locks or
 * knows of Python, and pieces do not share anything that is written.
 *
 * Elements are numbered in C order over the common shape. Each array has a byte stride for each dimension, 0 where it is
 * broadcast, so that strided, reversed and broadcast arrays are all the same loop. An input that is not as the kernel wants it
 * has a cast (fp_cast.h): it goes through a small buffer on the worker's stack, and no copy of the whole is made.
 */
#ifndef FP_LOOPS_H
#define FP_LOOPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fp_cast.h"

/* Any kernel; cast back to its signature before it is called. */
typedef void (*fp_function)(void);

typedef enum fp_signature {
    FP_SIG_D_D,
    FP_SIG_D_DD,
    FP_SIG_D_DDD,
    FP_SIG_F_F,
    FP_SIG_F_FF,
    FP_SIG_F_FFF,
    FP_SIG_Q_Q,
    FP_SIG_Q_QQ,
    FP_SIG_D_DP, /* the same, each with a last void * for user data */
    FP_SIG_D_DDP,
    FP_SIG_D_DDDP,
    FP_SIG_F_FP,
    FP_SIG_F_FFP,
    FP_SIG_F_FFFP,
    FP_SIG_Q_QP,
    FP_SIG_Q_QQP,
    FP_SIG_STATUS_P, /* int (void *): a job on a buffer, 0 is success; not for arrays */
    FP_SIG_RANGE,    /* int (int64_t begin, int64_t end, void *): 0 is success; for parallel_for */
    FP_SIG_INNER,    /* void (char **, const intptr_t *, const intptr_t *, void *): a NumPy inner loop, of any types */
    FP_SIGNATURES,
} fp_signature;

/* The scalar signatures have up to FP_MOST_SCALARS inputs, an inner loop FP_MOST_INPUTS. */
enum { FP_MOST_SCALARS = 3, FP_MOST_INPUTS = 7, FP_MOST_OPERANDS = FP_MOST_INPUTS + 1, FP_MOST_DIMS = 64 };

/* Inputs are cast in pieces of at most FP_PIECE elements, through FP_CAST_BYTES of stack. */
enum { FP_PIECE = 512, FP_CAST_BYTES = 16 * 1024 };

/* n elements at `ptr`, `stride` bytes apart: the inputs, then the output. */
typedef void (*fp_loop)(fp_function fn, void *data, char *const *ptr, const ptrdiff_t *stride, int64_t n);

typedef struct fp_signature_info {
    const char *text;    /* in canonical spelling */
    int inputs;          /* array arguments; an inner loop does not say */
    char type;           /* 'd' double, 'f' float, 'q' int64_t, 'i' int status */
    size_t element_bytes;
    bool has_data;
    fp_loop loop;        /* NULL: not for arrays, or an inner loop, which is one itself */
} fp_signature_info;

extern const fp_signature_info fp_signatures[FP_SIGNATURES];

typedef union fp_scalar {
    double f64;
    float f32;
    int64_t i64;
} fp_scalar;

/* One job on scalars. The result's member is that of the signature's type; a status is in i64. */
fp_scalar fp_call_scalar(fp_signature signature, fp_function fn, const fp_scalar *args, void *data);

/* A kernel and its arrays: the inputs, then the output. */
typedef struct fp_elementwise {
    fp_signature signature;
    fp_function fn;
    void *data;
    int inputs; /* those of the signature, or of the inner loop */
    int dims;
    int64_t shape[FP_MOST_DIMS];
    char *base[FP_MOST_OPERANDS];
    ptrdiff_t stride[FP_MOST_OPERANDS][FP_MOST_DIMS]; /* bytes */
    size_t operand_bytes[FP_MOST_OPERANDS];           /* of an element as the kernel sees it */
    fp_cast cast[FP_MOST_OPERANDS];                   /* to what the kernel sees; NULL: used in place, as outputs are */
} fp_elementwise;

/* Merges dimensions that follow each other without a gap in every operand: a contiguous array becomes one row. */
void fp_elementwise_coalesce(fp_elementwise *work);

/* Computes elements [begin, end), 0 <= begin <= end <= product of shape. */
void fp_elementwise_run(const fp_elementwise *work, int64_t begin, int64_t end);

#endif
