/* fp_loops.c - one inner loop for each signature, casts round it, and the walk over dimensions round those. */
#include "fp_loops.h"

/* The inner loops: the compiler turns each into load, call, store; the strides cost nothing beside the call. */
#define IN(T, k) (*(const T *)(ptr[k] + i * stride[k]))
#define OUT(T, k) (*(T *)(ptr[k] + i * stride[k]))
#define LOOP(name, T, inputs, type_of_fn, call)                                                                     \
    static void name(fp_function fn, void *data, char *const *ptr, const ptrdiff_t *stride, int64_t n)              \
    {                                                                                                               \
        type_of_fn kernel = (type_of_fn)fn;                                                                         \
        (void)data;                                                                                                 \
        for (int64_t i = 0; i < n; i++)                                                                             \
            OUT(T, inputs) = call;                                                                                  \
    }

#define LOOPS_1_2(T, t)                                                                                             \
    typedef T (*fn_##t##1)(T);                                                                                      \
    typedef T (*fn_##t##2)(T, T);                                                                                   \
    typedef T (*fn_##t##1p)(T, void *);                                                                             \
    typedef T (*fn_##t##2p)(T, T, void *);                                                                          \
    LOOP(loop_##t##1, T, 1, fn_##t##1, kernel(IN(T, 0)))                                                            \
    LOOP(loop_##t##2, T, 2, fn_##t##2, kernel(IN(T, 0), IN(T, 1)))                                                  \
    LOOP(loop_##t##1p, T, 1, fn_##t##1p, kernel(IN(T, 0), data))                                                    \
    LOOP(loop_##t##2p, T, 2, fn_##t##2p, kernel(IN(T, 0), IN(T, 1), data))

#define LOOPS_3(T, t)                                                                                               \
    typedef T (*fn_##t##3)(T, T, T);                                                                                \
    typedef T (*fn_##t##3p)(T, T, T, void *);                                                                       \
    LOOP(loop_##t##3, T, 3, fn_##t##3, kernel(IN(T, 0), IN(T, 1), IN(T, 2)))                                        \
    LOOP(loop_##t##3p, T, 3, fn_##t##3p, kernel(IN(T, 0), IN(T, 1), IN(T, 2), data))

LOOPS_1_2(double, d)
LOOPS_3(double, d)
LOOPS_1_2(float, f)
LOOPS_3(float, f)
LOOPS_1_2(int64_t, q)

typedef int (*fn_status)(void *);
typedef void (*fn_inner)(char **, const intptr_t *, const intptr_t *, void *);

const fp_signature_info fp_signatures[FP_SIGNATURES] = {
    [FP_SIG_D_D] = {"double (double)", 1, 'd', 8, false, loop_d1},
    [FP_SIG_D_DD] = {"double (double, double)", 2, 'd', 8, false, loop_d2},
    [FP_SIG_D_DDD] = {"double (double, double, double)", 3, 'd', 8, false, loop_d3},
    [FP_SIG_F_F] = {"float (float)", 1, 'f', 4, false, loop_f1},
    [FP_SIG_F_FF] = {"float (float, float)", 2, 'f', 4, false, loop_f2},
    [FP_SIG_F_FFF] = {"float (float, float, float)", 3, 'f', 4, false, loop_f3},
    [FP_SIG_Q_Q] = {"int64_t (int64_t)", 1, 'q', 8, false, loop_q1},
    [FP_SIG_Q_QQ] = {"int64_t (int64_t, int64_t)", 2, 'q', 8, false, loop_q2},
    [FP_SIG_D_DP] = {"double (double, void *)", 1, 'd', 8, true, loop_d1p},
    [FP_SIG_D_DDP] = {"double (double, double, void *)", 2, 'd', 8, true, loop_d2p},
    [FP_SIG_D_DDDP] = {"double (double, double, double, void *)", 3, 'd', 8, true, loop_d3p},
    [FP_SIG_F_FP] = {"float (float, void *)", 1, 'f', 4, true, loop_f1p},
    [FP_SIG_F_FFP] = {"float (float, float, void *)", 2, 'f', 4, true, loop_f2p},
    [FP_SIG_F_FFFP] = {"float (float, float, float, void *)", 3, 'f', 4, true, loop_f3p},
    [FP_SIG_Q_QP] = {"int64_t (int64_t, void *)", 1, 'q', 8, true, loop_q1p},
    [FP_SIG_Q_QQP] = {"int64_t (int64_t, int64_t, void *)", 2, 'q', 8, true, loop_q2p},
    [FP_SIG_STATUS_P] = {"int (void *)", 0, 'i', 0, true, NULL},
    [FP_SIG_RANGE] = {"int (int64_t, int64_t, void *)", 0, 'i', 0, true, NULL},
    [FP_SIG_INNER] = {"void (char **, int64_t const *, int64_t const *, void *)", 0, 'v', 0, true, NULL},
};

fp_scalar fp_call_scalar(fp_signature signature, fp_function fn, const fp_scalar *args, void *data)
{
    static const ptrdiff_t strides[FP_MOST_SCALARS + 1];
    const fp_signature_info *info = &fp_signatures[signature];
    fp_scalar result = {.i64 = 0};
    if (signature == FP_SIG_STATUS_P) {
        result.i64 = ((fn_status)fn)(data);
        return result;
    }
    char *ptr[FP_MOST_SCALARS + 1];
    for (int k = 0; k < info->inputs; k++)
        ptr[k] = (char *)&args[k]; /* only read: the loop takes inputs through a const pointer */
    ptr[info->inputs] = (char *)&result;
    info->loop(fn, data, ptr, strides, 1);
    return result;
}

static bool merges(const fp_elementwise *work, int operands, int outer)
{
    for (int k = 0; k < operands; k++)
        if (work->stride[k][outer] != work->stride[k][outer + 1] * (ptrdiff_t)work->shape[outer + 1])
            return false;
    return true;
}

void fp_elementwise_coalesce(fp_elementwise *work)
{
    int operands = work->inputs + 1, kept = 0;
    for (int d = 0; d < work->dims; d++) {
        if (work->shape[d] == 1)
            continue;
        work->shape[kept] = work->shape[d];
        for (int k = 0; k < operands; k++)
            work->stride[k][kept] = work->stride[k][d];
        kept++;
        if (kept >= 2 && merges(work, operands, kept - 2)) {
            work->shape[kept - 2] *= work->shape[kept - 1];
            for (int k = 0; k < operands; k++)
                work->stride[k][kept - 2] = work->stride[k][kept - 1];
            kept--;
        }
    }
    if (kept == 0) { /* one element: a row of one */
        work->shape[0] = 1;
        for (int k = 0; k < operands; k++)
            work->stride[k][0] = 0;
        kept = 1;
    }
    work->dims = kept;
}

/* A place in the arrays: one index a dimension, and where that is in each. */
typedef struct place {
    int64_t index[FP_MOST_DIMS];
    char *ptr[FP_MOST_OPERANDS];
} place;

static void go_to(place *place, const fp_elementwise *work, int operands, int64_t element)
{
    for (int d = work->dims - 1; d > 0; d--) {
        place->index[d] = element % work->shape[d];
        element /= work->shape[d];
    }
    place->index[0] = element; /* no division for a single row */
    for (int k = 0; k < operands; k++) {
        place->ptr[k] = work->base[k];
        for (int d = 0; d < work->dims; d++)
            place->ptr[k] += work->stride[k][d] * (ptrdiff_t)place->index[d];
    }
}

/* From anywhere in a row to the start of the next one, with carry. */
static void next_row(place *place, const fp_elementwise *work, int operands)
{
    int d = work->dims - 1;
    for (int k = 0; k < operands; k++)
        place->ptr[k] -= work->stride[k][d] * (ptrdiff_t)place->index[d];
    place->index[d] = 0;
    while (--d >= 0) {
        for (int k = 0; k < operands; k++)
            place->ptr[k] += work->stride[k][d];
        if (++place->index[d] < work->shape[d])
            return;
        for (int k = 0; k < operands; k++)
            place->ptr[k] -= work->stride[k][d] * (ptrdiff_t)work->shape[d];
        place->index[d] = 0;
    }
}

/* Part of a row, of elements as the kernel sees them. */
static void call_kernel(const fp_elementwise *work, char *const *ptr, const ptrdiff_t *stride, int64_t n)
{
    if (work->signature != FP_SIG_INNER) {
        fp_signatures[work->signature].loop(work->fn, work->data, ptr, stride, n);
        return;
    }
    char *args[FP_MOST_OPERANDS]; /* its own: some loops count with them */
    intptr_t steps[FP_MOST_OPERANDS], count = (intptr_t)n;
    for (int k = 0; k <= work->inputs; k++) {
        args[k] = ptr[k];
        steps[k] = stride[k];
    }
    ((fn_inner)work->fn)(args, &count, steps, work->data);
}

/* Pieces are a multiple of this, so that each input's part of the buffer starts on a cache line. */
enum { PIECE_STEP = 64 };
_Static_assert(FP_CAST_BYTES / (FP_MOST_INPUTS * 2 * sizeof(double)) >= PIECE_STEP, "a piece of the widest inputs fits");

/* How many elements of each cast input are in the buffer at a time. 0: no input is cast. */
static int64_t piece_of(const fp_elementwise *work)
{
    size_t together = 0;
    for (int k = 0; k < work->inputs; k++)
        if (work->cast[k] != NULL)
            together += work->operand_bytes[k];
    if (together == 0)
        return 0;
    size_t most = FP_CAST_BYTES / together / PIECE_STEP * PIECE_STEP;
    return most < FP_PIECE ? (int64_t)most : FP_PIECE;
}

/* Part of a row, a piece at a time. The output may be one of the inputs: all of a piece is read before it is written. */
static void cast_and_call(const fp_elementwise *work, char *const *ptr, const ptrdiff_t *stride, int64_t n, int64_t piece)
{
    _Alignas(PIECE_STEP) char buffer[FP_CAST_BYTES];
    char *seen[FP_MOST_OPERANDS], *unused = buffer;
    ptrdiff_t step[FP_MOST_OPERANDS];
    for (int k = 0; k <= work->inputs; k++) {
        seen[k] = ptr[k];
        step[k] = stride[k];
        if (work->cast[k] == NULL)
            continue;
        seen[k] = unused;
        unused += (size_t)piece * work->operand_bytes[k];
        step[k] = stride[k] == 0 ? 0 : (ptrdiff_t)work->operand_bytes[k];
        if (stride[k] == 0) /* one element for all pieces */
            work->cast[k](seen[k], ptr[k], 0, 1);
    }
    for (int64_t done = 0; done < n; done += piece) {
        int64_t count = piece < n - done ? piece : n - done;
        for (int k = 0; k <= work->inputs; k++) {
            char *at = ptr[k] + stride[k] * (ptrdiff_t)done;
            if (work->cast[k] == NULL)
                seen[k] = at;
            else if (stride[k] != 0)
                work->cast[k](seen[k], at, stride[k], count);
        }
        call_kernel(work, seen, step, count);
    }
}

void fp_elementwise_run(const fp_elementwise *work, int64_t begin, int64_t end)
{
    int operands = work->inputs + 1, last = work->dims - 1;
    int64_t piece = piece_of(work);
    ptrdiff_t row_stride[FP_MOST_OPERANDS];
    place place;
    if (begin >= end)
        return;
    go_to(&place, work, operands, begin);
    for (int k = 0; k < operands; k++)
        row_stride[k] = work->stride[k][last];
    for (;;) {
        int64_t in_row = work->shape[last] - place.index[last];
        int64_t n = in_row < end - begin ? in_row : end - begin;
        if (piece == 0)
            call_kernel(work, place.ptr, row_stride, n);
        else
            cast_and_call(work, place.ptr, row_stride, n, piece);
        begin += n;
        if (begin == end)
            return;
        next_row(&place, work, operands);
    }
}
