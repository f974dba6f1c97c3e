/* SPDX-License-Identifier: Apache-2.0 */
/* Drivers of gemm, with weights as they are or packed, and of gemm_pack. */
#include "check.h"

/* Memory for a blob in any order: panels are of 16 columns at most. */
static void *blob_memory(check *c, int32_t dtype, int64_t n, int64_t k)
{
    const int64_t elements = (n + 15) / 16 * 16 * k;

    return check_memory(c, 64 + (size_t)elements * fli_dtype_bytes(dtype));
}

/* Packs b for ctx into memory, of which args->packed has the bytes it takes. */
static fli_status pack_weights(const check *c, fli_context *ctx,
                               const fli_tensor *b, void *memory,
                               fli_gemm_pack_args *args)
{
    const size_t bytes =
        fli_gemm_packed_bytes(ctx, b->dtype, b->shape[0], b->shape[1]);

    *args = (fli_gemm_pack_args)FLI_GEMM_PACK_ARGS_INIT;
    args->b = *b;
    args->packed = fli_tensor_1d(memory, ctx, FLI_U8, (int64_t)bytes);
    return fli_gemm_pack(ctx, args, check_stream(c));
}

/* --- gemm ---------------------------------------------------------------- */

static const char *const gemm_keys[] = {
    "m=4",      "n=64",        "k=64",           "a=bf16",
    "b=bf16",   "bias=none",   "out=bf16",       "add=0",
    "packed=0", "invariant=0", "stride=compact", NULL
};

typedef struct {
    fli_gemm_args args;
    fli_tensor b;
    void *blob; /* NULL: b as it is */
} gemm_state;

static fli_tensor matrix(check *c, const char *name, check_role role,
                         int64_t rows, int64_t cols, int64_t pad)
{
    const check_spec spec = {
        .name = name,
        .role = role,
        .fill = CHECK_NORMAL,
        .dtype = check_dtype(c, name),
        .ndim = 2,
        .shape = { rows, cols },
        .pad = { check_is(c, "stride", "pad") ? pad : 0 },
    };

    return check_tensor(c, &spec);
}

static void *gemm_setup(check *c)
{
    gemm_state *s = check_state(c, sizeof(*s));
    fli_gemm_args *args = &s->args;
    const int64_t m = check_int(c, "m"), n = check_int(c, "n");
    const int64_t k = check_int(c, "k");
    const double mk = (double)m * (double)k, nk = (double)n * (double)k;

    args->size = sizeof(*args);
    args->add = check_int(c, "add") != 0;
    args->flags = check_int(c, "invariant") ? FLI_GEMM_BATCH_INVARIANT : 0;
    args->a = matrix(c, "a", CHECK_IN, m, k, 3);
    s->b = matrix(c, "b", CHECK_IN, n, k, 5);
    args->out = matrix(c, "out", args->add ? CHECK_INOUT : CHECK_OUT, m, n, 7);
    if (!check_is(c, "bias", "none"))
        args->bias = check_make(c, "bias", CHECK_IN, CHECK_NORMAL,
                                check_dtype(c, "bias"), 1, &n);
    if (check_int(c, "packed"))
        s->blob = blob_memory(c, s->b.dtype, n, k);
    else
        args->b = s->b;
    check_work(c, (double)fli_dtype_bytes(s->b.dtype) * nk, 2 * mk * (double)n,
               m <= 8 ? "read" : "fma");
    return s;
}

static fli_status gemm_call(check *c, void *state, fli_context *ctx)
{
    const gemm_state *s = state;
    fli_gemm_args args = s->args;
    fli_status status;

    if (s->blob) {
        fli_gemm_pack_args pack;

        status = pack_weights(c, ctx, &s->b, s->blob, &pack);
        if (status)
            return status;
        args.packed = pack.packed;
    }
    check_start(c);
    do
        status = fli_gemm(ctx, &args, check_stream(c));
    while (!status && check_again(c));
    return status;
}

const check_driver check_gemm = { "gemm", gemm_keys, gemm_setup, gemm_call };

/* --- gemm_pack ----------------------------------------------------------- */

/* A blob's order is its implementation's own affair: what is compared is the
 * unit matrix times the blob, exact whatever the order of the sums. */
static const char *const pack_keys[] = { "n=64", "k=64", "b=bf16",
                                         "stride=compact", NULL };

typedef struct {
    fli_tensor b, unit, out;
    void *blob;
} pack_state;

static void *pack_setup(check *c)
{
    pack_state *s = check_state(c, sizeof(*s));
    const int64_t n = check_int(c, "n"), k = check_int(c, "k");
    const int64_t unit[] = { k, k }, out[] = { k, n };

    s->b = matrix(c, "b", CHECK_IN, n, k, 5);
    s->unit = check_make(c, "unit", CHECK_IN, CHECK_ZERO, FLI_BF16, 2, unit);
    for (int64_t i = 0; i < k; i++)
        check_set(&s->unit, i * k + i, 1);
    s->out =
        check_make(c, "out", CHECK_OUT_EXACT, CHECK_NAN, s->b.dtype, 2, out);
    s->blob = blob_memory(c, s->b.dtype, n, k);
    check_work(c, 2 * (double)fli_dtype_bytes(s->b.dtype) * (double)(n * k), 0,
               "copy");
    return s;
}

static fli_status pack_call(check *c, void *state, fli_context *ctx)
{
    const pack_state *s = state;
    fli_gemm_args args = FLI_GEMM_ARGS_INIT;
    fli_gemm_pack_args pack;
    fli_status status;

    check_start(c);
    do
        status = pack_weights(c, ctx, &s->b, s->blob, &pack);
    while (!status && check_again(c));
    if (status)
        return status;
    args.a = s->unit;
    args.packed = pack.packed;
    args.out = s->out;
    return fli_gemm(ctx, &args, check_stream(c));
}

const check_driver check_gemm_pack = { "gemm_pack", pack_keys, pack_setup,
                                       pack_call };
