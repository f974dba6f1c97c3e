/* SPDX-License-Identifier: Apache-2.0 */
/* Drivers of softmax, sample_from_logits, sample_from_probs, renorm_probs and
 * mask_logits.  Every output is exact.
 *
 * dist: what a row is like, see distributions; mixed: each row another one.
 * temperature, top_k, top_p, min_p: none, a number, rows (a tensor of fair
 * values) or bad (a tensor in which a third of the values is bad or extreme).
 * seeds, offsets: scalar, one (a tensor of one value) or rows. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

/* --- rows ----------------------------------------------------------------- */

static const char *const distributions[] = {
    "n1",     "n5",           "ties",     "flat",   "onehot", "denormal",
    "huge",   "unnormalised", "neginf",   "posinf", "nan",    "negative",
    "sorted", "descending",   "constant", "zero",   "peaks",  "bits"
};

enum { N_DISTRIBUTIONS = sizeof(distributions) / sizeof(distributions[0]) };

static double uniform(check *c)
{
    return (double)(check_random(c) >> 11) * 0x1p-53;
}

/* Element i of n; probabilities are the exponentials of these. */
static double draw_logit(check *c, const char *dist, int64_t i, int64_t n)
{
    const double normal = check_normal(c);

    if (!strcmp(dist, "n5") || !strcmp(dist, "huge"))
        return 5 * normal;
    if (!strcmp(dist, "ties"))
        return rint(2 * normal);
    if (!strcmp(dist, "flat"))
        return uniform(c) * 1e-3 - 12;
    if (!strcmp(dist, "onehot"))
        return i == n / 3 ? 5 : -60;
    if (!strcmp(dist, "sorted"))
        return 8 * (double)i / (double)n;
    if (!strcmp(dist, "descending"))
        return -8 * (double)i / (double)n;
    if (!strcmp(dist, "constant"))
        return 1.5;
    if (!strcmp(dist, "peaks"))
        return check_below(c, 600) ? normal : normal + 12;
    return normal;
}

/* Any bits that are a number, a probability when is_probs. */
static double draw_bits(check *c, int is_probs)
{
    uint32_t bits;
    float x;

    do
        bits = (uint32_t)check_random(c) & (is_probs ? 0x7fffffff : UINT32_MAX);
    while ((bits & 0x7f800000) == 0x7f800000);
    memcpy(&x, &bits, sizeof(x));
    return x;
}

/* What the whole row is multiplied by; n terms sum to sum. */
static double scale_of(const char *dist, int is_probs, double sum)
{
    if (!strcmp(dist, "denormal"))
        return is_probs ? 1e-40 / sum : 1e-41;
    if (!strcmp(dist, "huge"))
        return is_probs ? 1e37 / sum : 1e3;
    if (!strcmp(dist, "unnormalised"))
        return is_probs ? 3 : 1;
    return is_probs ? 1 / sum : 1;
}

static void set_some(check *c, fli_tensor *x, int64_t first, int64_t every,
                     double value)
{
    const int64_t n = x->shape[1];

    for (int64_t i = check_below(c, every); i < n;
         i += 1 + check_below(c, 2 * every))
        check_set(x, first + i, value);
}

static void set_special(check *c, fli_tensor *x, int64_t first,
                        const char *dist, int is_probs)
{
    const int64_t n = x->shape[1];

    if (!strcmp(dist, "neginf"))
        set_some(c, x, first, 3, is_probs ? 0 : -INFINITY);
    if (!strcmp(dist, "posinf"))
        set_some(c, x, first, n / 3 + 1, INFINITY);
    if (!strcmp(dist, "nan"))
        check_set(x, first + check_below(c, n), NAN);
    if (!strcmp(dist, "negative"))
        check_set(x, first + check_below(c, n), -1e-30);
    if (!strcmp(dist, "zero")) { /* of both signs */
        set_some(c, x, first, 1, is_probs ? 0 : -INFINITY);
        for (int64_t i = 0; i < n; i++)
            check_set(x, first + i,
                      !is_probs           ? -INFINITY
                      : check_below(c, 2) ? 0.0
                                          : -0.0);
    }
}

static void fill_row(check *c, fli_tensor *x, int64_t row, int is_probs)
{
    const char *const key = check_word(c, "dist");
    const char *const dist =
        strcmp(key, "mixed") ? key : distributions[row % N_DISTRIBUTIONS];
    const int64_t n = x->shape[1], first = row * x->stride[0];
    double sum = 0;

    for (int64_t i = 0; i < n; i++) {
        double value = draw_logit(c, dist, i, n);

        if (!strcmp(dist, "bits"))
            value = draw_bits(c, is_probs);
        else if (is_probs)
            value = exp(value);
        check_set(x, first + i, value);
        sum += value;
    }
    if (strcmp(dist, "bits"))
        for (int64_t i = 0; i < n; i++)
            check_set(x, first + i,
                      check_get(x, first + i) * scale_of(dist, is_probs, sum));
    if (n > 0)
        set_special(c, x, first, dist, is_probs);
}

static int is_distribution(const char *word)
{
    for (int i = 0; i < N_DISTRIBUTIONS; i++)
        if (!strcmp(word, distributions[i]))
            return 1;
    return !strcmp(word, "mixed");
}

/* [rows, vocab]; stride=pad puts an odd number of elements behind each row. */
static fli_tensor make_rows(check *c, const char *name, check_role role,
                            int32_t dtype, int is_probs)
{
    const check_spec spec = {
        .name = name,
        .role = role,
        .fill = CHECK_NAN,
        .dtype = dtype,
        .ndim = 2,
        .shape = { check_int(c, "rows"), check_int(c, "vocab") },
        .pad = { check_is(c, "stride", "pad") ? 5 : 0 },
    };
    fli_tensor x = check_tensor(c, &spec);

    if (!is_distribution(check_word(c, "dist")))
        check_broken(c, "dist is not known");
    else if (role != CHECK_OUT_EXACT && x.data)
        for (int64_t row = 0; row < x.shape[0]; row++)
            fill_row(c, &x, row, is_probs);
    return x;
}

/* --- parameters ----------------------------------------------------------- */

enum { N_FAIR = 6, N_ODD = 6 };

typedef struct {
    const char *key, *tensor;
    double fair[N_FAIR], odd[N_ODD];
} parameter;

static const parameter temperatures = { "temperature",
                                        "temperatures",
                                        { 1, 0.7, 1.3, 0.3, 2, 0 },
                                        { -1, NAN, INFINITY, 1e-30, 1e30,
                                          0x1p-64 } };
static const parameter top_ks = { "top_k",
                                  "top_ks",
                                  { 50, 1, 3, 10, 200, 0 },
                                  { -1, INT32_MAX, INT32_MIN, 2, 1000, 100 } };
static const parameter top_ps = { "top_p",
                                  "top_ps",
                                  { 0.9, 0.5, 0.95, 0.1, 0.99, 1 },
                                  { 0, NAN, 1e-42, 1.5, -1, 0.999999 } };
static const parameter min_ps = { "min_p",
                                  "min_ps",
                                  { 0.05, 0.1, 0.01, 0.5, 0, 0.001 },
                                  { 1, NAN, 1e-42, 2, -1, 4.547474e-13 } };

/* True with a number in *scalar; else *tensor is made, or neither. */
static int make_parameter(check *c, const parameter *p, int64_t n,
                          fli_tensor *tensor, double *scalar)
{
    const int is_k = p == &top_ks;
    const int32_t dtype = is_k ? FLI_I32 : FLI_F32;
    const int is_bad = check_is(c, p->key, "bad");

    *scalar = 0;
    if (check_is(c, p->key, "none"))
        return 0;
    if (!is_bad && !check_is(c, p->key, "rows")) {
        *scalar = check_float(c, p->key);
        return 1;
    }
    *tensor = check_make(c, p->tensor, CHECK_IN, CHECK_NAN, dtype, 1, &n);
    for (int64_t i = 0; tensor->data && i < n; i++) {
        const int is_odd = is_bad && check_below(c, 3) == 0;
        const double value = is_odd ? p->odd[check_below(c, N_ODD)]
                                    : p->fair[check_below(c, N_FAIR)];

        check_set(tensor, i, value);
    }
    return 0;
}

/* seeds or offsets: a tensor, unless they are a scalar. */
static fli_tensor make_u64(check *c, const char *key, int64_t n)
{
    const int64_t one = check_is(c, key, "one") ? 1 : n;
    fli_tensor tensor = { 0 };

    if (check_is(c, key, "scalar"))
        return tensor;
    tensor = check_make(c, key, CHECK_IN, CHECK_NAN, FLI_I64, 1, &one);
    for (int64_t i = 0; tensor.data && i < one; i++)
        ((uint64_t *)tensor.data)[i] = check_random(c);
    return tensor;
}

static fli_tensor make_valid(check *c, int64_t n)
{
    if (!check_int(c, "valid"))
        return (fli_tensor){ 0 };
    return check_make(c, "valid", CHECK_OUT_EXACT, CHECK_NAN, FLI_BOOL, 1, &n);
}

static void tell_work(check *c, const fli_tensor *x, double passes)
{
    const double n = (double)x->shape[0] * (double)x->shape[1];

    check_work(c, passes * n * (double)fli_dtype_bytes(x->dtype), 20 * n,
               passes > 1 ? "copy" : "read");
}

/* --- softmax -------------------------------------------------------------- */

static const char *const softmax_keys[] = {
    "dtype=f32",      "rows=4",     "vocab=257", "dist=n1", "temperature=none",
    "stride=compact", "in_place=0", "valid=1",   NULL
};

static void *softmax_setup(check *c)
{
    fli_softmax_args *args = check_state(c, sizeof(*args));
    const int in_place = check_int(c, "in_place") != 0;
    double scalar;

    args->size = sizeof(*args);
    args->logits =
        make_rows(c, "logits", in_place ? CHECK_INOUT_EXACT : CHECK_IN,
                  check_dtype(c, "dtype"), 0);
    args->probs = in_place ? args->logits
                           : make_rows(c, "probs", CHECK_OUT_EXACT, FLI_F32, 1);
    args->valid = make_valid(c, args->logits.shape[0]);
    args->has_temperature = make_parameter(
        c, &temperatures, args->logits.shape[0], &args->temperatures, &scalar);
    args->temperature = (float)scalar;
    tell_work(c, &args->logits, 2);
    return args;
}

static fli_status softmax_call(check *c, void *state, fli_context *ctx)
{
    const fli_softmax_args *args = state;
    fli_status status;

    check_start(c);
    do
        status = fli_softmax(ctx, args, check_stream(c));
    while (!status && check_again(c));
    return status;
}

const check_driver check_softmax = {
    .op = "softmax",
    .keys = softmax_keys,
    .setup = softmax_setup,
    .call = softmax_call,
};

/* --- sample_from_logits, sample_from_probs -------------------------------- */

#define SAMPLE_KEYS                                                            \
    "rows=4", "vocab=257", "dist=n1", "top_k=none", "top_p=none",              \
        "min_p=none", "joint=0", "indices=0", "seeds=scalar",                  \
        "offsets=scalar", "rng_seed=1234", "rng_offset=0", "stride=compact",   \
        "valid=1"

static const char *const logits_keys[] = { "dtype=f32", "temperature=none",
                                           SAMPLE_KEYS, NULL };
static const char *const probs_keys[] = { SAMPLE_KEYS, NULL };

/* indices > 0: so many output rows, each of any row of x. */
static fli_tensor make_indices(check *c, int64_t n_rows)
{
    const int64_t n = check_int(c, "indices");
    int32_t *indices = check_state(c, (size_t)(n + 1) * sizeof(*indices));

    for (int64_t i = 0; i < n; i++)
        indices[i] = (int32_t)check_below(c, n_rows);
    return check_indices(c, "indices", indices, n);
}

static void *sample_setup(check *c, int is_probs)
{
    fli_sample_args *args = check_state(c, sizeof(*args));
    double scalar;

    args->size = sizeof(*args);
    args->x = make_rows(c, "x", CHECK_IN,
                        is_probs ? FLI_F32 : check_dtype(c, "dtype"), is_probs);
    int64_t n = args->x.shape[0];

    if (check_int(c, "indices") > 0) {
        args->indices = make_indices(c, n);
        n = args->indices.shape[0];
    }
    args->tokens =
        check_make(c, "tokens", CHECK_OUT_EXACT, CHECK_NAN, FLI_I32, 1, &n);
    args->valid = make_valid(c, n);
    if (!is_probs) {
        args->has_temperature =
            make_parameter(c, &temperatures, n, &args->temperatures, &scalar);
        args->temperature = (float)scalar;
    }
    make_parameter(c, &top_ks, n, &args->top_ks, &scalar);
    args->top_k = (int32_t)scalar;
    make_parameter(c, &top_ps, n, &args->top_ps, &scalar);
    args->top_p = (float)scalar;
    make_parameter(c, &min_ps, n, &args->min_ps, &scalar);
    args->min_p = (float)scalar;
    args->seeds = make_u64(c, "seeds", n);
    args->offsets = make_u64(c, "offsets", n);
    args->seed = (uint64_t)check_int(c, "rng_seed");
    args->offset = (uint64_t)check_int(c, "rng_offset");
    args->flags = check_int(c, "joint") ? FLI_SAMPLE_JOINT : 0;
    tell_work(c, &args->x, 1);
    return args;
}

static void *sample_from_logits_setup(check *c)
{
    return sample_setup(c, 0);
}

static void *sample_from_probs_setup(check *c)
{
    return sample_setup(c, 1);
}

static fli_status sample_from_logits_call(check *c, void *state,
                                          fli_context *ctx)
{
    const fli_sample_args *args = state;
    fli_status status;

    check_start(c);
    do
        status = fli_sample_from_logits(ctx, args, check_stream(c));
    while (!status && check_again(c));
    return status;
}

static fli_status sample_from_probs_call(check *c, void *state,
                                         fli_context *ctx)
{
    const fli_sample_args *args = state;
    fli_status status;

    check_start(c);
    do
        status = fli_sample_from_probs(ctx, args, check_stream(c));
    while (!status && check_again(c));
    return status;
}

const check_driver check_sample_from_logits = {
    .op = "sample_from_logits",
    .keys = logits_keys,
    .setup = sample_from_logits_setup,
    .call = sample_from_logits_call,
};
const check_driver check_sample_from_probs = {
    .op = "sample_from_probs",
    .keys = probs_keys,
    .setup = sample_from_probs_setup,
    .call = sample_from_probs_call,
};

/* --- renorm_probs, mask_logits -------------------------------------------- */

#define FILTER_KEYS                                                            \
    "rows=4", "vocab=257", "dist=n1", "top_k=none", "top_p=none",              \
        "min_p=none", "joint=0", "stride=compact", "in_place=0", "valid=1"

static const char *const renorm_keys[] = { FILTER_KEYS, NULL };
static const char *const mask_keys[] = { "dtype=f32", FILTER_KEYS, NULL };

static void *filter_setup(check *c, int is_probs)
{
    fli_filter_args *args = check_state(c, sizeof(*args));
    const int in_place = check_int(c, "in_place") != 0;
    const int32_t dtype = is_probs ? FLI_F32 : check_dtype(c, "dtype");
    double scalar;

    args->size = sizeof(*args);
    args->x = make_rows(c, "x", in_place ? CHECK_INOUT_EXACT : CHECK_IN, dtype,
                        is_probs);
    args->out =
        in_place ? args->x : make_rows(c, "out", CHECK_OUT_EXACT, dtype, 0);
    const int64_t n = args->x.shape[0];

    args->valid = make_valid(c, n);
    make_parameter(c, &top_ks, n, &args->top_ks, &scalar);
    args->top_k = (int32_t)scalar;
    make_parameter(c, &top_ps, n, &args->top_ps, &scalar);
    args->top_p = (float)scalar;
    make_parameter(c, &min_ps, n, &args->min_ps, &scalar);
    args->min_p = (float)scalar;
    args->flags = check_int(c, "joint") ? FLI_SAMPLE_JOINT : 0;
    tell_work(c, &args->x, 2);
    return args;
}

static void *renorm_setup(check *c)
{
    return filter_setup(c, 1);
}

static void *mask_setup(check *c)
{
    return filter_setup(c, 0);
}

static fli_status renorm_call(check *c, void *state, fli_context *ctx)
{
    const fli_filter_args *args = state;
    fli_status status;

    check_start(c);
    do
        status = fli_renorm_probs(ctx, args, check_stream(c));
    while (!status && check_again(c));
    return status;
}

static fli_status mask_call(check *c, void *state, fli_context *ctx)
{
    const fli_filter_args *args = state;
    fli_status status;

    check_start(c);
    do
        status = fli_mask_logits(ctx, args, check_stream(c));
    while (!status && check_again(c));
    return status;
}

const check_driver check_renorm_probs = {
    .op = "renorm_probs",
    .keys = renorm_keys,
    .setup = renorm_setup,
    .call = renorm_call,
};
const check_driver check_mask_logits = {
    .op = "mask_logits",
    .keys = mask_keys,
    .setup = mask_setup,
    .call = mask_call,
};
