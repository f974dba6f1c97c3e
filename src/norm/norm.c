/* SPDX-License-Identifier: Apache-2.0 */
/* rmsnorm and fused_add_rmsnorm: validate, fill the launch, dispatch. */
#include <math.h>
#include <string.h>

#include <flashinfer/norm.h>

#include "abi/kernels.h"
#include "abi/norm.h"
#include "core/check.h"
#include "norm/norm.h"

static const fli__impl rmsnorm_impls[] =
    FLI__IMPLS(norm, NULL, FLI__CUDA("portable", NULL, fli__norm_cuda, 0));
static const fli__impl fused_impls[] = FLI__IMPLS(
    norm, NULL, FLI__CUDA("portable", NULL, fli__norm_residual_cuda, 0));
static const fli__impl_list rmsnorm_list =
    FLI__IMPL_LIST(rmsnorm, rmsnorm_impls);
static const fli__impl_list fused_list =
    FLI__IMPL_LIST(fused_add_rmsnorm, fused_impls);

/* [n_rows, hidden] is [n_rows, 1, hidden]. */
static void strides_of(const fli_tensor *tensor, int64_t stride[2])
{
    stride[0] = tensor->stride[0];
    stride[1] = tensor->ndim == 3 ? tensor->stride[1] : 0;
}

static fli_status check_eps(const char *where, float eps)
{
    CHECK(eps >= 0 && eps < INFINITY, INVALID_ARGUMENT,
          "%s: eps is %g, expected a finite number >= 0", where, eps);
    return FLI_OK;
}

static fli_status rmsnorm_params(const fli_context *ctx, const char *where,
                                 const fli_rmsnorm_args *args, uint32_t flags,
                                 fli_norm_params *p)
{
    fli_rmsnorm_args a;

    TRY(fli__copy_struct(where, "args", &a, sizeof(a), args, sizeof(a)));
    const int32_t ndim = a.x.ndim == 3 ? 3 : 2;
    fli__spec spec = {
        .dtypes = FLI__FLOATS,
        .flags = flags,
        .ndim = ndim,
        .shape = { FLI__ANY, FLI__ANY, FLI__ANY },
    };

    TRY(fli__check_tensor(ctx, where, "x", &a.x, &spec));
    const int64_t hidden = a.x.shape[ndim - 1];

    spec.dtypes = FLI__DTYPE(a.x.dtype);
    memcpy(spec.shape, a.x.shape, sizeof(spec.shape));
    spec.flags = flags | FLI__OUTPUT;
    TRY(fli__check_tensor(ctx, where, "out", &a.out, &spec));
    spec.flags = flags;
    spec.ndim = 1;
    spec.shape[0] = hidden;
    TRY(fli__check_tensor(ctx, where, "weight", &a.weight, &spec));
    TRY(fli__check_in_place(where, "out", &a.out, "x", &a.x));
    TRY(check_eps(where, a.eps));
    *p = (fli_norm_params){
        .x = a.x.data,
        .weight = a.weight.data,
        .out = a.out.data,
        .n_outer = a.x.shape[0],
        .n_inner = ndim == 3 ? a.x.shape[1] : 1,
        .hidden = hidden,
        .eps = a.eps > 0 ? a.eps : 1e-6f,
        .dtype = a.x.dtype,
    };
    strides_of(&a.x, p->x_stride);
    strides_of(&a.out, p->out_stride);
    return FLI_OK;
}

fli_status fli_rmsnorm(fli_context *ctx, const fli_rmsnorm_args *args,
                       fli_stream stream)
{
    static const char where[] = "rmsnorm run";
    fli_norm_params p;

    TRY(fli__check_call(ctx, where, stream));
    TRY(rmsnorm_params(ctx, where, args, 0, &p));
    return fli__dispatch(&(fli__call){ ctx, where, stream, 0 }, &rmsnorm_list,
                         &p, p.n_outer * p.n_inner * p.hidden);
}

fli_status fli_rmsnorm_prepare(fli_context *ctx, const fli_rmsnorm_args *args)
{
    static const char where[] = "rmsnorm prepare";
    fli_norm_params p;

    TRY(fli__check_call(ctx, where, NULL));
    TRY(rmsnorm_params(ctx, where, args, FLI__SHAPE_ONLY, &p));
    return fli__prepare(ctx, where, &rmsnorm_list, &p);
}

static fli_status fused_params(const fli_context *ctx, const char *where,
                               const fli_fused_add_rmsnorm_args *args,
                               uint32_t flags, fli_norm_params *p)
{
    fli_fused_add_rmsnorm_args a;

    TRY(fli__copy_struct(where, "args", &a, sizeof(a), args, sizeof(a)));
    fli__spec spec = {
        .dtypes = FLI__FLOATS,
        .flags = flags | FLI__OUTPUT,
        .ndim = 2,
        .shape = { FLI__ANY, FLI__ANY },
    };

    TRY(fli__check_tensor(ctx, where, "x", &a.x, &spec));
    const int64_t n_rows = a.x.shape[0], hidden = a.x.shape[1];

    spec.dtypes = FLI__DTYPE(a.x.dtype);
    spec.shape[0] = n_rows;
    spec.shape[1] = hidden;
    TRY(fli__check_tensor(ctx, where, "residual", &a.residual, &spec));
    spec.flags = flags;
    spec.ndim = 1;
    spec.shape[0] = hidden;
    TRY(fli__check_tensor(ctx, where, "weight", &a.weight, &spec));
    TRY(fli__check_apart(where, "residual", &a.residual, "x", &a.x));
    TRY(check_eps(where, a.eps));
    *p = (fli_norm_params){
        .x = a.x.data,
        .weight = a.weight.data,
        .out = a.x.data,
        .residual = a.residual.data,
        .n_outer = n_rows,
        .n_inner = 1,
        .hidden = hidden,
        .x_stride = { a.x.stride[0] },
        .out_stride = { a.x.stride[0] },
        .residual_stride = { a.residual.stride[0] },
        .eps = a.eps > 0 ? a.eps : 1e-6f,
        .dtype = a.x.dtype,
    };
    return FLI_OK;
}

fli_status fli_fused_add_rmsnorm(fli_context *ctx,
                                 const fli_fused_add_rmsnorm_args *args,
                                 fli_stream stream)
{
    static const char where[] = "fused_add_rmsnorm run";
    fli_norm_params p;

    TRY(fli__check_call(ctx, where, stream));
    TRY(fused_params(ctx, where, args, 0, &p));
    return fli__dispatch(&(fli__call){ ctx, where, stream, 0 }, &fused_list, &p,
                         2 * p.n_outer * p.hidden);
}

fli_status fli_fused_add_rmsnorm_prepare(fli_context *ctx,
                                         const fli_fused_add_rmsnorm_args *args)
{
    static const char where[] = "fused_add_rmsnorm prepare";
    fli_norm_params p;

    TRY(fli__check_call(ctx, where, NULL));
    TRY(fused_params(ctx, where, args, FLI__SHAPE_ONLY, &p));
    return fli__prepare(ctx, where, &fused_list, &p);
}
