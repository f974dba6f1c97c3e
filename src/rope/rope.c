/* SPDX-License-Identifier: Apache-2.0 */
/* rope: validate, fill the launch, dispatch. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include <flashinfer/rope.h>

#include "abi/kernels.h"
#include "abi/rope.h"
#include "core/check.h"
#include "device/cuda.h"
#include "rope/rope.h"

static const fli__impl impls[] =
    FLI__IMPLS(rope, NULL, FLI__CUDA("portable", NULL, fli__rope_cuda, 0));
static const fli__impl_list list = FLI__IMPL_LIST(rope, impls);

static fli_status check_tensors(const fli_context *ctx, const char *where,
                                const fli_rope_args *a, uint32_t flags)
{
    fli__spec spec = {
        .dtypes = FLI__FLOATS,
        .flags = flags,
        .ndim = 3,
        .shape = { FLI__ANY, FLI__ANY, FLI__ANY },
    };

    TRY(fli__check_tensor(ctx, where, "q", &a->q, &spec));
    spec.dtypes = FLI__DTYPE(a->q.dtype);
    memcpy(spec.shape, a->q.shape, sizeof(spec.shape));
    spec.flags = flags | FLI__OUTPUT;
    TRY(fli__check_tensor(ctx, where, "q_out", &a->q_out, &spec));
    CHECK(!a->k.data == !a->k_out.data, INVALID_ARGUMENT,
          "%s: k_out is %s, expected it %s, as k is", where,
          a->k_out.data ? "given" : "absent", a->k.data ? "given" : "absent");
    spec.shape[1] = FLI__ANY;
    spec.flags = flags | FLI__OPTIONAL;
    TRY(fli__check_tensor(ctx, where, "k", &a->k, &spec));
    spec.shape[1] = a->k.shape[1];
    spec.flags = flags | FLI__OPTIONAL | FLI__OUTPUT;
    TRY(fli__check_tensor(ctx, where, "k_out", &a->k_out, &spec));
    spec = (fli__spec){
        .dtypes = FLI__DTYPE(FLI_I32) | FLI__DTYPE(FLI_I64),
        .flags = flags,
        .ndim = 1,
        .shape = { a->q.shape[0] },
    };
    return fli__check_tensor(ctx, where, "positions", &a->positions, &spec);
}

static fli_status check_aliases(const char *where, const fli_rope_args *a)
{
    TRY(fli__check_in_place(where, "q_out", &a->q_out, "q", &a->q));
    TRY(fli__check_in_place(where, "k_out", &a->k_out, "k", &a->k));
    TRY(fli__check_apart(where, "q_out", &a->q_out, "k", &a->k));
    TRY(fli__check_apart(where, "k_out", &a->k_out, "q", &a->q));
    TRY(fli__check_apart(where, "k_out", &a->k_out, "q_out", &a->q_out));
    TRY(fli__check_apart(where, "q_out", &a->q_out, "positions",
                         &a->positions));
    TRY(fli__check_apart(where, "k_out", &a->k_out, "positions",
                         &a->positions));
    TRY(fli__check_apart(where, "q_out", &a->q_out, "cos_sin_cache",
                         &a->cos_sin_cache));
    return fli__check_apart(where, "k_out", &a->k_out, "cos_sin_cache",
                            &a->cos_sin_cache);
}

static fli_status check_flag(const char *where, const char *name, int32_t flag)
{
    CHECK(flag == 0 || flag == 1, INVALID_ARGUMENT,
          "%s: %s is %d, expected 0 or 1", where, name, (int)flag);
    return FLI_OK;
}

/* allowed is false for what the other arguments leave no use for. */
static fli_status check_scalar(const char *where, const char *name, float value,
                               int allowed)
{
    CHECK(value >= 0 && value < INFINITY, INVALID_ARGUMENT,
          "%s: %s is %g, expected a finite number >= 0", where, name, value);
    CHECK(value == 0 || allowed, INVALID_ARGUMENT,
          "%s: %s is %g, expected 0 %s", where, name, value,
          !strcmp(name, "theta") || !strcmp(name, "scale")
              ? "where cos_sin_cache is given"
              : "without llama31");
    return FLI_OK;
}

static fli_status check_scalars(const char *where, const fli_rope_args *a)
{
    const int cached = a->cos_sin_cache.data != NULL;
    const float low = a->low_freq_factor > 0 ? a->low_freq_factor : 1;
    const float high = a->high_freq_factor > 0 ? a->high_freq_factor : 4;

    TRY(check_flag(where, "interleaved", a->interleaved));
    TRY(check_flag(where, "llama31", a->llama31));
    CHECK(!a->llama31 || !cached, INVALID_ARGUMENT,
          "%s: llama31 is 1, expected 0 where cos_sin_cache is given", where);
    TRY(check_scalar(where, "theta", a->theta, !cached));
    TRY(check_scalar(where, "scale", a->scale, !cached));
    TRY(check_scalar(where, "low_freq_factor", a->low_freq_factor, a->llama31));
    TRY(check_scalar(where, "high_freq_factor", a->high_freq_factor,
                     a->llama31));
    TRY(check_scalar(where, "old_context_len", a->old_context_len, a->llama31));
    CHECK(low < high, INVALID_ARGUMENT,
          "%s: low_freq_factor is %g, expected less than high_freq_factor %g",
          where, low, high);
    return FLI_OK;
}

/* Refuses a position that the cache does not hold. */
static fli_status check_positions(const char *where, const fli_rope_args *a)
{
    const int64_t n = a->cos_sin_cache.shape[0];

    for (int64_t i = 0; i < a->positions.shape[0]; i++) {
        const int64_t position = a->positions.dtype == FLI_I64
                                     ? ((const int64_t *)a->positions.data)[i]
                                     : ((const int32_t *)a->positions.data)[i];

        CHECK(position >= 0 && position < n, INVALID_ARGUMENT,
              "%s: positions[%" PRId64 "] is %" PRId64
              ", expected 0 to %" PRId64 " (cos_sin_cache's last row)",
              where, i, position, n - 1);
    }
    return FLI_OK;
}

static fli_status check_cache(const fli_context *ctx, const char *where,
                              const fli_rope_args *a, uint32_t flags)
{
    const fli__spec spec = {
        .dtypes = FLI__DTYPE(FLI_F32),
        .flags = flags | FLI__OPTIONAL,
        .ndim = 2,
        .shape = { FLI__ANY, a->rotary_dim },
    };

    TRY(fli__check_tensor(ctx, where, "cos_sin_cache", &a->cos_sin_cache,
                          &spec));
    if (a->cos_sin_cache.data && !(flags & FLI__SHAPE_ONLY) && !ctx->cuda)
        return check_positions(where, a);
    return FLI_OK;
}

static fli_rope_tensor rope_tensor(const fli_tensor *in, const fli_tensor *out)
{
    return (fli_rope_tensor){
        .in = in->data,
        .out = out->data,
        .n_heads = in->data ? in->shape[1] : 0,
        .in_stride = { in->stride[0], in->stride[1] },
        .out_stride = { out->stride[0], out->stride[1] },
    };
}

static fli_status rope_params(const fli_context *ctx, const char *where,
                              const fli_rope_args *args, uint32_t flags,
                              fli_rope_params *p)
{
    fli_rope_args a;

    TRY(fli__copy_struct(where, "args", &a, sizeof(a), args, sizeof(a)));
    TRY(check_tensors(ctx, where, &a, flags));
    const int64_t head_dim = a.q.shape[2];
    const int64_t rotary_dim = a.rotary_dim ? a.rotary_dim : head_dim;

    CHECK(rotary_dim >= 0 && rotary_dim <= MIN(head_dim, INT32_MAX)
              && rotary_dim % 2 == 0,
          INVALID_ARGUMENT,
          "%s: rotary_dim is %" PRId64
          ", expected an even number of at most head_dim %" PRId64,
          where, rotary_dim, head_dim);
    a.rotary_dim = (int32_t)rotary_dim;
    TRY(check_scalars(where, &a));
    TRY(check_aliases(where, &a));
    TRY(check_cache(ctx, where, &a, flags));
    *p = (fli_rope_params){
        .tensor = { rope_tensor(&a.q, &a.q_out), rope_tensor(&a.k, &a.k_out) },
        .positions = a.positions.data,
        .cos_sin_cache = a.cos_sin_cache.data,
        .n_rows = a.q.shape[0],
        .head_dim = head_dim,
        .cache_stride = a.cos_sin_cache.stride[0],
        .rotary_dim = a.rotary_dim,
        .interleaved = a.interleaved,
        .llama31 = a.llama31,
        .theta = a.theta > 0 ? a.theta : 1e4f,
        .scale = a.scale > 0 ? a.scale : 1,
        .low_freq_factor = a.low_freq_factor > 0 ? a.low_freq_factor : 1,
        .high_freq_factor = a.high_freq_factor > 0 ? a.high_freq_factor : 4,
        .old_context_len = a.old_context_len > 0 ? a.old_context_len : 8192,
        .dtype = a.q.dtype,
        .dtype_positions = a.positions.dtype,
        .n_positions = a.cos_sin_cache.shape[0],
        .sticky = ctx->cuda ? ctx->cuda->sticky : NULL,
    };
    return FLI_OK;
}

fli_status fli_rope(fli_context *ctx, const fli_rope_args *args,
                    fli_stream stream)
{
    static const char where[] = "rope run";
    fli_rope_params p;

    TRY(fli__check_call(ctx, where, stream));
    TRY(rope_params(ctx, where, args, 0, &p));
    const int64_t n_heads = p.tensor[0].n_heads + p.tensor[1].n_heads;

    return fli__dispatch(&(fli__call){ ctx, where, stream, 0 }, &list, &p,
                         2 * p.n_rows * n_heads * p.head_dim);
}

fli_status fli_rope_prepare(fli_context *ctx, const fli_rope_args *args)
{
    static const char where[] = "rope prepare";
    fli_rope_params p;

    TRY(fli__check_call(ctx, where, NULL));
    TRY(rope_params(ctx, where, args, FLI__SHAPE_ONLY, &p));
    return fli__prepare(ctx, where, &list, &p);
}
