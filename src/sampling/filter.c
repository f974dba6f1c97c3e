/* SPDX-License-Identifier: Apache-2.0 */
/* renorm_probs and mask_logits: validate, fill the launch, dispatch; the
 * filters of all of sampling. */
#include "abi/kernels.h"
#include "sampling/sampling.h"

static const fli__impl impls[] =
    FLI__IMPLS(filter, NULL, FLI__CUDA("portable", NULL, fli__filter_cuda, 0));
static const fli__impl_list renorm_list = FLI__IMPL_LIST(renorm_probs, impls);
static const fli__impl_list mask_list = FLI__IMPL_LIST(mask_logits, impls);

static fli_status check_share(const char *where, const char *name,
                              const fli_tensor *tensor, float given)
{
    CHECK(tensor->data || given >= 0, INVALID_ARGUMENT,
          "%s: %s is %g, expected a number >= 0", where, name, (double)given);
    return FLI_OK;
}

fli_status fli__filters_of(const fli_context *ctx, const char *where,
                           const fli_filter_args *args, int64_t n,
                           uint32_t flags, fli_filters *out)
{
    const uint32_t known = FLI_SAMPLE_JOINT;

    TRY(fli__check_per_row(ctx, where, "top_ks", &args->top_ks, FLI_I32, n,
                           flags));
    TRY(fli__check_per_row(ctx, where, "top_ps", &args->top_ps, FLI_F32, n,
                           flags));
    TRY(fli__check_per_row(ctx, where, "min_ps", &args->min_ps, FLI_F32, n,
                           flags));
    TRY(check_share(where, "top_p", &args->top_ps, args->top_p));
    TRY(check_share(where, "min_p", &args->min_ps, args->min_p));
    CHECK(!(args->flags & ~known), INVALID_ARGUMENT,
          "%s: flags is 0x%x, expected 0 or FLI_SAMPLE_JOINT (0x%x)", where,
          args->flags, known);
    *out = (fli_filters){
        .top_ks = args->top_ks.data,
        .top_ps = args->top_ps.data,
        .min_ps = args->min_ps.data,
        .top_k = args->top_k,
        .top_p = args->top_p > 0 ? args->top_p : 1,
        .min_p = args->min_p,
        .joint = (args->flags & FLI_SAMPLE_JOINT) != 0,
    };
    return FLI_OK;
}

static fli_status filter_params(const fli_context *ctx, const char *where,
                                const fli_filter_args *args, int is_probs,
                                uint32_t flags, fli_filter_params *p)
{
    fli_filter_args a;

    TRY(fli__copy_struct(where, "args", &a, sizeof(a), args, sizeof(a)));
    fli__spec spec = {
        .dtypes = is_probs ? FLI__DTYPE(FLI_F32) : FLI__FLOATS,
        .flags = flags,
        .ndim = 2,
        .shape = { FLI__ANY, FLI__ANY },
    };
    fli_filters filters;

    TRY(fli__check_tensor(ctx, where, "x", &a.x, &spec));
    const int64_t n_rows = a.x.shape[0], vocab = a.x.shape[1];

    TRY(fli__check_vocab(where, vocab));
    spec.dtypes = FLI__DTYPE(a.x.dtype);
    spec.flags = flags | FLI__OUTPUT;
    spec.shape[0] = n_rows;
    spec.shape[1] = vocab;
    TRY(fli__check_tensor(ctx, where, "out", &a.out, &spec));
    TRY(fli__check_in_place(where, "out", &a.out, "x", &a.x));
    TRY(fli__check_per_row(ctx, where, "valid", &a.valid, FLI_BOOL, n_rows,
                           flags | FLI__OUTPUT));
    TRY(fli__filters_of(ctx, where, &a, n_rows, flags, &filters));
    *p = (fli_filter_params){
        .x = a.x.data,
        .out = a.out.data,
        .valid = a.valid.data,
        .filters = filters,
        .n_rows = n_rows,
        .vocab = vocab,
        .x_stride = a.x.stride[0],
        .out_stride = a.out.stride[0],
        .is_probs = is_probs,
        .dtype = a.x.dtype,
    };
    return FLI_OK;
}

static fli_status run(fli_context *ctx, const char *where,
                      const fli__impl_list *list, const fli_filter_args *args,
                      fli_stream stream)
{
    fli_filter_params p;

    TRY(fli__check_call(ctx, where, stream));
    TRY(filter_params(ctx, where, args, list == &renorm_list, 0, &p));
    return fli__dispatch(&(fli__call){ ctx, where, stream, 0 }, list, &p,
                         fli__rows_work(p.n_rows, p.vocab));
}

static fli_status prepare(fli_context *ctx, const char *where,
                          const fli__impl_list *list,
                          const fli_filter_args *args)
{
    fli_filter_params p;

    TRY(fli__check_call(ctx, where, NULL));
    TRY(filter_params(ctx, where, args, list == &renorm_list, FLI__SHAPE_ONLY,
                      &p));
    return fli__prepare(ctx, where, list, &p);
}

fli_status fli_renorm_probs(fli_context *ctx, const fli_filter_args *args,
                            fli_stream stream)
{
    return run(ctx, "renorm_probs run", &renorm_list, args, stream);
}

fli_status fli_mask_logits(fli_context *ctx, const fli_filter_args *args,
                           fli_stream stream)
{
    return run(ctx, "mask_logits run", &mask_list, args, stream);
}

fli_status fli_renorm_probs_prepare(fli_context *ctx,
                                    const fli_filter_args *args)
{
    return prepare(ctx, "renorm_probs prepare", &renorm_list, args);
}

fli_status fli_mask_logits_prepare(fli_context *ctx,
                                   const fli_filter_args *args)
{
    return prepare(ctx, "mask_logits prepare", &mask_list, args);
}
