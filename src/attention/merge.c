/* SPDX-License-Identifier: Apache-2.0 */
/* merge_states: validate, fill the launch, dispatch. */
#include <string.h>

#include <flashinfer/attention.h>

#include "abi/kernels.h"
#include "abi/merge.h"
#include "attention/merge.h"
#include "core/check.h"

static const fli__impl impls[] =
    FLI__IMPLS(merge, NULL, FLI__CUDA("portable", NULL, fli__merge_cuda, 0));
static const fli__impl_list merge_list = FLI__IMPL_LIST(merge_states, impls);

/* tensor[:, 0] */
static fli_tensor first_state(const fli_tensor *tensor)
{
    fli_tensor first = *tensor;

    first.ndim--;
    for (int32_t i = 1; i < first.ndim; i++) {
        first.shape[i] = tensor->shape[i + 1];
        first.stride[i] = tensor->stride[i + 1];
    }
    return first;
}

/* An output may be the first state of its input or has memory of its own. */
static fli_status check_output(const char *where, const char *out_name,
                               const fli_tensor *out, const char *in_name,
                               const fli_tensor *in)
{
    const fli_tensor first = first_state(in);

    if (fli__same_view(out, &first))
        return FLI_OK;
    return fli__check_in_place(where, out_name, out, in_name, in);
}

static fli_status check_args(const fli_context *ctx, const char *where,
                             const fli_merge_states_args *a, uint32_t flags)
{
    fli__spec spec = {
        .dtypes = FLI__FLOATS,
        .flags = flags,
        .ndim = 4,
        .shape = { FLI__ANY, FLI__ANY, FLI__ANY, FLI__ANY },
    };

    TRY(fli__check_tensor(ctx, where, "v", &a->v, &spec));
    const int64_t *shape = a->v.shape;

    spec = (fli__spec){
        .dtypes = FLI__DTYPE(FLI_F32),
        .flags = flags,
        .ndim = 3,
        .shape = { shape[0], shape[1], shape[2] },
    };
    TRY(fli__check_tensor(ctx, where, "lse", &a->lse, &spec));
    spec = (fli__spec){
        .dtypes = FLI__DTYPE(a->v.dtype),
        .flags = flags | FLI__OUTPUT,
        .ndim = 3,
        .shape = { shape[0], shape[2], shape[3] },
    };
    TRY(fli__check_tensor(ctx, where, "v_out", &a->v_out, &spec));
    spec.dtypes = FLI__DTYPE(FLI_F32);
    spec.flags |= FLI__OPTIONAL;
    spec.ndim = 2;
    TRY(fli__check_tensor(ctx, where, "lse_out", &a->lse_out, &spec));
    TRY(check_output(where, "v_out", &a->v_out, "v", &a->v));
    TRY(fli__check_apart(where, "v_out", &a->v_out, "lse", &a->lse));
    if (!a->lse_out.data)
        return FLI_OK;
    TRY(check_output(where, "lse_out", &a->lse_out, "lse", &a->lse));
    CHECK(!fli__overlap(&a->lse_out, &a->v)
              && !fli__overlap(&a->lse_out, &a->v_out),
          INVALID_ARGUMENT,
          "%s: lse_out overlaps v or v_out, expected memory of its own", where);
    return FLI_OK;
}

static fli_status merge_params(const fli_context *ctx, const char *where,
                               const fli_merge_states_args *args,
                               uint32_t flags, fli_merge_params *p)
{
    fli_merge_states_args a;

    TRY(fli__copy_struct(where, "args", &a, sizeof(a), args, sizeof(a)));
    TRY(check_args(ctx, where, &a, flags));
    *p = (fli_merge_params){
        .v = a.v.data,
        .lse = a.lse.data,
        .v_out = a.v_out.data,
        .lse_out = a.lse_out.data,
        .n_rows = a.v.shape[0],
        .n_states = a.v.shape[1],
        .n_heads = a.v.shape[2],
        .head_dim = a.v.shape[3],
        .v_stride = { a.v.stride[0], a.v.stride[1], a.v.stride[2] },
        .v_out_stride = { a.v_out.stride[0], a.v_out.stride[1] },
        .lse_stride = { a.lse.stride[0], a.lse.stride[1] },
        .lse_out_stride = a.lse_out.stride[0],
        .dtype = a.v.dtype,
    };
    return FLI_OK;
}

fli_status fli_merge_states(fli_context *ctx, const fli_merge_states_args *args,
                            fli_stream stream)
{
    static const char where[] = "merge_states run";
    fli_merge_params p;

    TRY(fli__check_call(ctx, where, stream));
    TRY(merge_params(ctx, where, args, 0, &p));
    return fli__dispatch(&(fli__call){ ctx, where, stream, 0 }, &merge_list, &p,
                         p.n_rows * (p.n_states + 1) * p.n_heads * p.head_dim);
}

fli_status fli_merge_states_prepare(fli_context *ctx,
                                    const fli_merge_states_args *args)
{
    static const char where[] = "merge_states prepare";
    fli_merge_params p;

    TRY(fli__check_call(ctx, where, NULL));
    TRY(merge_params(ctx, where, args, FLI__SHAPE_ONLY, &p));
    return fli__prepare(ctx, where, &merge_list, &p);
}
