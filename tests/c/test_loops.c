/* test_loops.c - kernels over arrays: every signature, any strides and types, and the same numbers however it is cut up. */
#include "check.h"
#include "elements.h"
#include "fp_loops.h"

/* --- a kernel for each signature: distinct weights, so that swapped operands would show ----------------------------------- */

#define KERNELS_1_2(T, t)                                                                                              \
    static T t##1(T a) { return a + 1; }                                                                               \
    static T t##2(T a, T b) { return a + 10 * b; }                                                                     \
    static T t##1p(T a, void *data) { return a + *(T *)data; }                                                         \
    static T t##2p(T a, T b, void *data) { return a + 10 * b + *(T *)data; }
#define KERNELS_3(T, t)                                                                                                \
    static T t##3(T a, T b, T c) { return a + 10 * b + 100 * c; }                                                      \
    static T t##3p(T a, T b, T c, void *data) { return a + 10 * b + 100 * c + *(T *)data; }
KERNELS_1_2(double, d)
KERNELS_3(double, d)
KERNELS_1_2(float, f)
KERNELS_3(float, f)
KERNELS_1_2(int64_t, q)

static int status(void *data)
{
    return *(int *)data;
}

/* A NumPy inner loop, whose user data says what its operands are. */
struct inner_types {
    int inputs;
    fp_type type[FP_MOST_OPERANDS];
};

static const int64_t weights[FP_MOST_INPUTS] = {1, 10, 100, 2, 3, 5, 7};

static void inner(char **args, const intptr_t *dimensions, const intptr_t *steps, void *data)
{
    const struct inner_types *types = data;
    for (int k = 0; k <= types->inputs; k++) /* a loop may rely on it */
        CHECK((uintptr_t)args[k] % test_types[types->type[k]].part_bytes == 0);
    for (intptr_t i = 0; i < dimensions[0]; i++) {
        int64_t sum = 1000;
        for (int k = 0; k < types->inputs; k++) {
            sum += weights[k] * (int64_t)test_read(types->type[k], args[k]).re;
            args[k] += steps[k];
        }
        test_write(types->type[types->inputs], args[types->inputs], sum);
        args[types->inputs] += steps[types->inputs];
    }
}

static double d_data = 1000;
static float f_data = 1000;
static int64_t q_data = 1000;
static int status_data = -7;
static struct inner_types inner_data;

#define OF(function) (fp_function)(function)
static const struct kernel {
    fp_function fn;
    void *data;
} kernels[FP_SIGNATURES] = {
    [FP_SIG_D_D] = {OF(d1), NULL},
    [FP_SIG_D_DD] = {OF(d2), NULL},
    [FP_SIG_D_DDD] = {OF(d3), NULL},
    [FP_SIG_F_F] = {OF(f1), NULL},
    [FP_SIG_F_FF] = {OF(f2), NULL},
    [FP_SIG_F_FFF] = {OF(f3), NULL},
    [FP_SIG_Q_Q] = {OF(q1), NULL},
    [FP_SIG_Q_QQ] = {OF(q2), NULL},
    [FP_SIG_D_DP] = {OF(d1p), &d_data},
    [FP_SIG_D_DDP] = {OF(d2p), &d_data},
    [FP_SIG_D_DDDP] = {OF(d3p), &d_data},
    [FP_SIG_F_FP] = {OF(f1p), &f_data},
    [FP_SIG_F_FFP] = {OF(f2p), &f_data},
    [FP_SIG_F_FFFP] = {OF(f3p), &f_data},
    [FP_SIG_Q_QP] = {OF(q1p), &q_data},
    [FP_SIG_Q_QQP] = {OF(q2p), &q_data},
    [FP_SIG_STATUS_P] = {OF(status), &status_data},
    [FP_SIG_INNER] = {OF(inner), &inner_data},
};

/* What the kernel of a signature makes of small whole numbers, which every type holds exactly. */
static int64_t expected_of(fp_signature signature, int inputs, const int64_t *args)
{
    int64_t result = fp_signatures[signature].has_data ? 1000 : inputs == 1 ? 1 : 0;
    for (int k = 0; k < inputs; k++)
        result += weights[k] * args[k];
    return result;
}

static fp_type type_of(fp_signature signature)
{
    char type = fp_signatures[signature].type;
    return type == 'd' ? FP_F64 : type == 'f' ? FP_F32 : FP_I64;
}

static int64_t read_whole(fp_type type, const char *at)
{
    return (int64_t)test_read(type, at).re;
}

/* --- scalars --------------------------------------------------------------------------------------------------------------- */

static void every_signature_on_scalars(void)
{
    for (fp_signature signature = 0; signature <= FP_SIG_STATUS_P; signature++) {
        const fp_signature_info *info = &fp_signatures[signature];
        const struct kernel *kernel = &kernels[signature];
        int64_t values[FP_MOST_SCALARS] = {3, -5, 7};
        fp_scalar args[FP_MOST_SCALARS];
        CHECK(info->inputs <= FP_MOST_SCALARS);
        for (int k = 0; k < info->inputs; k++)
            test_write(type_of(signature), (char *)&args[k], values[k]);
        fp_scalar result = fp_call_scalar(signature, kernel->fn, args, kernel->data);
        if (signature == FP_SIG_STATUS_P)
            CHECK(result.i64 == -7 && info->loop == NULL);
        else
            CHECK(read_whole(type_of(signature), (char *)&result) == expected_of(signature, info->inputs, values));
    }
}

/* --- arrays: random shapes and strides, against the plainest walk there is ------------------------------------------------- */

/* A long row is several pieces. */
enum { MOST_ELEMENTS = 600, LONG_ROW = 3 * FP_PIECE, CASE_DIMS = 5, MOST_REACH = 4096, MOST_STRIDE = 17 };

/* Each operand lies in a block of its own, `base` in its middle, for strides may be negative. `type` is what the kernel
 * sees, `from` what is in memory. */
struct array_case {
    fp_elementwise work;
    int64_t elements;
    fp_type type[FP_MOST_OPERANDS], from[FP_MOST_OPERANDS];
    bool swapped[FP_MOST_OPERANDS];
    _Alignas(16) char blocks[FP_MOST_OPERANDS][2 * MOST_REACH * MOST_STRIDE];
};

static void choose_shape(struct array_case *it, test_random *random)
{
    if (test_random_below(random, 8) == 0) {
        it->work.dims = 1;
        it->elements = it->work.shape[0] = 1 + test_random_below(random, LONG_ROW);
        return;
    }
    it->work.dims = 1 + (int)test_random_below(random, CASE_DIMS);
    it->elements = 1;
    for (int d = 0; d < it->work.dims; d++) {
        int64_t most = MOST_ELEMENTS / it->elements;
        it->work.shape[d] = 1 + test_random_below(random, most < 7 ? (uint32_t)most : 7);
        it->elements *= it->work.shape[d];
    }
}

/* A kernel; an inner loop of any types, though its output must hold the sums. */
static void choose_kernel(struct array_case *it, test_random *random)
{
    static const fp_type wide[] = {FP_I16, FP_I32, FP_U32, FP_I64, FP_F32, FP_F64, FP_C64, FP_C128};
    fp_signature signature = (fp_signature)test_random_below(random, FP_SIG_STATUS_P);
    signature = test_random_below(random, 2) == 0 ? FP_SIG_INNER : signature;
    it->work.signature = signature;
    it->work.fn = kernels[signature].fn;
    it->work.data = kernels[signature].data;
    it->work.inputs = fp_signatures[signature].inputs;
    if (signature == FP_SIG_INNER)
        it->work.inputs = (int)test_random_below(random, FP_MOST_INPUTS + 1);
    for (int k = 0; k <= it->work.inputs; k++) {
        fp_type any = k < it->work.inputs ? (fp_type)test_random_below(random, FP_TYPES) : wide[test_random_below(random, 8)];
        it->type[k] = it->from[k] = signature == FP_SIG_INNER ? any : type_of(signature);
        it->swapped[k] = false;
        it->work.cast[k] = NULL;
        it->work.operand_bytes[k] = fp_type_bytes(it->type[k]);
    }
    inner_data.inputs = it->work.inputs;
    memcpy(inner_data.type, it->type, sizeof inner_data.type);
}

/* An input that the kernel does not see as it is: of any type that casts to its own, perhaps the same. */
static void choose_cast(struct array_case *it, int operand, test_random *random)
{
    do
        it->from[operand] = (fp_type)test_random_below(random, FP_TYPES);
    while (!test_is_safe(it->from[operand], it->type[operand]));
    it->swapped[operand] = test_random_below(random, 2) == 0;
    it->work.cast[operand] = fp_cast_find(it->from[operand], it->type[operand], it->swapped[operand]);
}

/* In elements, from the last dimension outwards: packed or with gaps, some reversed; one that is cast at odd addresses too.
 * No two elements share a place. */
static void choose_strides(struct array_case *it, int operand, bool packed, test_random *random)
{
    bool odd = it->work.cast[operand] != NULL && test_random_below(random, 2) == 0;
    ptrdiff_t step = 1, bytes = (ptrdiff_t)fp_type_bytes(it->from[operand]) + odd;
    for (int d = it->work.dims - 1; d >= 0; d--) {
        bool reversed = !packed && test_random_below(random, 4) == 0;
        if (!packed && it->work.dims < 4)
            step += test_random_below(random, 2);
        it->work.stride[operand][d] = (reversed ? -step : step) * bytes;
        step *= it->work.shape[d];
    }
    CHECK(step < MOST_REACH);
    it->work.base[operand] = it->blocks[operand] + MOST_REACH * MOST_STRIDE + odd;
}

/* An input may be broadcast along a dimension, or along all. */
static void broadcast(struct array_case *it, int operand, test_random *random)
{
    for (int d = 0; d < it->work.dims; d++)
        if (test_random_below(random, 3) == 0)
            it->work.stride[operand][d] = 0;
}

static char *element(const fp_elementwise *work, int operand, int64_t number)
{
    char *at = work->base[operand];
    for (int d = work->dims - 1; d >= 0; d--) {
        at += work->stride[operand][d] * (ptrdiff_t)(number % work->shape[d]);
        number /= work->shape[d];
    }
    return at;
}

/* An element as numbers are written: in native order. */
static int64_t read_input(const struct array_case *it, const fp_elementwise *work, int operand, int64_t number)
{
    char bytes[16];
    memcpy(bytes, element(work, operand, number), fp_type_bytes(it->from[operand]));
    if (it->swapped[operand])
        test_swap(it->from[operand], bytes);
    return read_whole(it->from[operand], bytes);
}

static void fill_input(struct array_case *it, int operand, test_random *random)
{
    char kind = test_types[it->from[operand]].kind;
    for (int64_t i = 0; i < it->elements; i++) {
        int64_t value = (int64_t)test_random_below(random, kind == 'b' ? 2 : 100);
        bool negative = kind != 'b' && kind != 'u' && test_random_below(random, 2) == 0;
        char *at = element(&it->work, operand, i);
        test_write(it->from[operand], at, negative ? -value : value);
        if (it->swapped[operand])
            test_swap(it->from[operand], at);
    }
}

static void choose_case(struct array_case *it, test_random *random)
{
    choose_kernel(it, random);
    choose_shape(it, random);
    bool packed = test_random_below(random, 3) == 0, casts = test_random_below(random, 2) == 0;
    for (int k = 0; k < it->work.inputs; k++)
        if (casts && test_random_below(random, 3) > 0)
            choose_cast(it, k, random);
    for (int k = 0; k <= it->work.inputs; k++)
        choose_strides(it, k, packed, random);
    for (int k = 0; k < it->work.inputs; k++) {
        if (test_random_below(random, 3) == 0)
            broadcast(it, k, random);
        fill_input(it, k, random);
    }
}

static void clear_output(struct array_case *it, int operand)
{
    memset(it->blocks[operand], 0x5a, sizeof it->blocks[operand]);
}

/* Each element of the output is right, and nothing but the output's elements was written. */
static void check_output(const fp_elementwise *as_chosen, struct array_case *it)
{
    int output = as_chosen->inputs;
    fp_type type = it->type[output];
    for (int64_t i = 0; i < it->elements; i++) {
        int64_t args[FP_MOST_INPUTS];
        for (int k = 0; k < as_chosen->inputs; k++)
            args[k] = read_input(it, as_chosen, k, i);
        char *at = element(as_chosen, output, i);
        int64_t expected = expected_of(as_chosen->signature, as_chosen->inputs, args);
        CHECK(read_whole(type, at) == (type == FP_U32 ? (int64_t)(uint32_t)expected : expected));
        memset(at, 0x5a, fp_type_bytes(type));
    }
    for (size_t i = 0; i < sizeof it->blocks[output]; i++)
        CHECK(it->blocks[output][i] == 0x5a);
}

/* Pieces of random length, some empty, some all that is left. */
static void run_in_pieces(const fp_elementwise *work, int64_t begin, int64_t end, test_random *random)
{
    while (begin < end) {
        int64_t piece = test_random_below(random, 8) == 0 ? end - begin : (int64_t)test_random_below(random, 40);
        piece = piece < end - begin ? piece : end - begin;
        fp_elementwise_run(work, begin, begin + piece);
        begin += piece;
    }
}

static void any_pieces_make_the_whole(void)
{
    static struct array_case it;
    test_random random = {11};
    for (int64_t i = test_rounds(5000); i > 0; i--) {
        choose_case(&it, &random);
        fp_elementwise as_chosen = it.work;
        int output = it.work.inputs;
        for (int coalesced = 0; coalesced <= 1; coalesced++) {
            clear_output(&it, output);
            int64_t middle = test_random_below(&random, (uint32_t)it.elements + 1);
            run_in_pieces(&it.work, middle, it.elements, &random);
            run_in_pieces(&it.work, 0, middle, &random);
            check_output(&as_chosen, &it);
            fp_elementwise_coalesce(&it.work);
            CHECK(it.work.dims >= 1 && it.work.dims <= as_chosen.dims);
        }
    }
}

/* --- coalescing ------------------------------------------------------------------------------------------------------------ */

static void set_dims(fp_elementwise *work, int dims, const int64_t *shape)
{
    *work = (fp_elementwise){.signature = FP_SIG_D_D, .inputs = 1, .dims = dims};
    for (int k = 0; k < 2; k++) {
        ptrdiff_t stride = 8;
        for (int d = dims - 1; d >= 0; d--) {
            work->shape[d] = shape[d];
            work->stride[k][d] = stride;
            stride *= (ptrdiff_t)shape[d];
        }
    }
}

static void packed_arrays_become_one_row(void)
{
    fp_elementwise work;
    set_dims(&work, 4, (const int64_t[]){3, 1, 4, 5});
    fp_elementwise_coalesce(&work);
    CHECK(work.dims == 1 && work.shape[0] == 60 && work.stride[0][0] == 8 && work.stride[1][0] == 8);
    set_dims(&work, 3, (const int64_t[]){1, 1, 1});
    fp_elementwise_coalesce(&work);
    CHECK(work.dims == 1 && work.shape[0] == 1);
}

static void what_does_not_touch_is_not_merged(void)
{
    fp_elementwise work;
    set_dims(&work, 3, (const int64_t[]){3, 4, 5});
    work.stride[0][1] += 8; /* a gap after each row of one operand */
    work.stride[0][0] += 4 * 8;
    fp_elementwise_coalesce(&work);
    CHECK(work.dims == 2 && work.shape[0] == 12 && work.shape[1] == 5);
    CHECK(work.stride[0][0] == 48 && work.stride[1][0] == 40 && work.stride[0][1] == 8);
}

/* All the dimensions there may be. */
static void as_many_dimensions_as_allowed(void)
{
    fp_elementwise work = {.signature = FP_SIG_D_D, .fn = OF(d1), .inputs = 1, .dims = FP_MOST_DIMS};
    double in[4] = {1, 2, 3, 4}, out[4] = {0};
    for (int d = 0; d < FP_MOST_DIMS; d++) {
        work.shape[d] = d == 10 || d == 50 ? 2 : 1;
        work.stride[0][d] = work.stride[1][d] = d == 10 ? 16 : 8;
    }
    work.base[0] = (char *)in;
    work.base[1] = (char *)out;
    fp_elementwise_run(&work, 0, 4);
    for (int i = 0; i < 4; i++)
        CHECK(out[i] == in[i] + 1);
    fp_elementwise_coalesce(&work);
    CHECK(work.dims == 1 && work.shape[0] == 4);
}

int main(void)
{
    PROPERTY("loops: every signature on scalars", every_signature_on_scalars());
    PROPERTY("loops: any pieces make the whole, coalesced or not, whatever the strides and types", any_pieces_make_the_whole());
    PROPERTY("loops: packed arrays become one row", packed_arrays_become_one_row());
    PROPERTY("loops: dimensions that do not touch are not merged", what_does_not_touch_is_not_merged());
    PROPERTY("loops: as many dimensions as allowed", as_many_dimensions_as_allowed());
    return 0;
}
