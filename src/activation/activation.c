/* SPDX-License-Identifier: Apache-2.0 */
/* silu_and_mul, gelu_and_mul, gelu_tanh_and_mul: validate, fill the launch,
 * dispatch. */
#include <inttypes.h>

#include <flashinfer/activation.h>

#include "abi/activation.h"
#include "abi/kernels.h"
#include "activation/activation.h"
#include "core/check.h"

static const fli__impl impls[] = FLI__IMPLS(
    activation, NULL, FLI__CUDA("portable", NULL, fli__activation_cuda, 0));
static const fli__impl_list silu_list = FLI__IMPL_LIST(silu_and_mul, impls);
static const fli__impl_list gelu_list = FLI__IMPL_LIST(gelu_and_mul, impls);
static const fli__impl_list gelu_tanh_list =
    FLI__IMPL_LIST(gelu_tanh_and_mul, impls);

/* out may be x[:, :h]; [n_rows, 1] has no stride that counts. */
static int is_first_half(const fli_tensor *out, const fli_tensor *x)
{
    return out->data == x->data
           && (x->shape[0] <= 1 || out->stride[0] == x->stride[0]);
}

static fli_status activation_params(const fli_context *ctx, const char *where,
                                    const fli_act_and_mul_args *args,
                                    uint32_t flags, fli_activation_params *p)
{
    fli_act_and_mul_args a;

    TRY(fli__copy_struct(where, "args", &a, sizeof(a), args, sizeof(a)));
    fli__spec spec = {
        .dtypes = FLI__FLOATS,
        .flags = flags,
        .ndim = 2,
        .shape = { FLI__ANY, FLI__ANY },
    };

    TRY(fli__check_tensor(ctx, where, "x", &a.x, &spec));
    const int64_t n_rows = a.x.shape[0], h = a.x.shape[1] / 2;

    CHECK(a.x.shape[1] % 2 == 0, INVALID_ARGUMENT,
          "%s: x has %" PRId64 " columns, expected an even number (2 h)", where,
          a.x.shape[1]);
    spec.dtypes = FLI__DTYPE(a.x.dtype);
    spec.shape[0] = n_rows;
    spec.shape[1] = h;
    spec.flags = flags | FLI__OUTPUT;
    TRY(fli__check_tensor(ctx, where, "out", &a.out, &spec));
    CHECK(!fli__overlap(&a.out, &a.x) || is_first_half(&a.out, &a.x),
          INVALID_ARGUMENT,
          "%s: out overlaps x, expected x[:, :h] or memory of its own", where);
    *p = (fli_activation_params){
        .x = a.x.data,
        .out = a.out.data,
        .n_rows = n_rows,
        .h = h,
        .x_stride = a.x.stride[0],
        .out_stride = a.out.stride[0],
        .dtype = a.x.dtype,
    };
    return FLI_OK;
}

static fli_status run(fli_context *ctx, const char *where,
                      const fli__impl_list *list, int32_t act,
                      const fli_act_and_mul_args *args, fli_stream stream)
{
    fli_activation_params p;

    TRY(fli__check_call(ctx, where, stream));
    TRY(activation_params(ctx, where, args, 0, &p));
    p.act = act;
    return fli__dispatch(&(fli__call){ ctx, where, stream, 0 }, list, &p,
                         4 * p.n_rows * p.h);
}

static fli_status prepare(fli_context *ctx, const char *where,
                          const fli__impl_list *list, int32_t act,
                          const fli_act_and_mul_args *args)
{
    fli_activation_params p;

    TRY(fli__check_call(ctx, where, NULL));
    TRY(activation_params(ctx, where, args, FLI__SHAPE_ONLY, &p));
    p.act = act;
    return fli__prepare(ctx, where, list, &p);
}

fli_status fli_silu_and_mul(fli_context *ctx, const fli_act_and_mul_args *args,
                            fli_stream stream)
{
    return run(ctx, "silu_and_mul run", &silu_list, FLI_ACT_SILU, args, stream);
}

fli_status fli_silu_and_mul_prepare(fli_context *ctx,
                                    const fli_act_and_mul_args *args)
{
    return prepare(ctx, "silu_and_mul prepare", &silu_list, FLI_ACT_SILU, args);
}

fli_status fli_gelu_and_mul(fli_context *ctx, const fli_act_and_mul_args *args,
                            fli_stream stream)
{
    return run(ctx, "gelu_and_mul run", &gelu_list, FLI_ACT_GELU, args, stream);
}

fli_status fli_gelu_and_mul_prepare(fli_context *ctx,
                                    const fli_act_and_mul_args *args)
{
    return prepare(ctx, "gelu_and_mul prepare", &gelu_list, FLI_ACT_GELU, args);
}

fli_status fli_gelu_tanh_and_mul(fli_context *ctx,
                                 const fli_act_and_mul_args *args,
                                 fli_stream stream)
{
    return run(ctx, "gelu_tanh_and_mul run", &gelu_tanh_list, FLI_ACT_GELU_TANH,
               args, stream);
}

fli_status fli_gelu_tanh_and_mul_prepare(fli_context *ctx,
                                         const fli_act_and_mul_args *args)
{
    return prepare(ctx, "gelu_tanh_and_mul prepare", &gelu_tanh_list,
                   FLI_ACT_GELU_TANH, args);
}
