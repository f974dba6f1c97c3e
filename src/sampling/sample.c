/* SPDX-License-Identifier: Apache-2.0 */
/* sample_from_logits and sample_from_probs: validate, fill the launch,
 * dispatch. */
#include <inttypes.h>

#include "abi/kernels.h"
#include "device/cuda.h"
#include "sampling/sampling.h"

static const fli__impl impls[] =
    FLI__IMPLS(sample, NULL, FLI__CUDA("portable", NULL, fli__sample_cuda, 0));
static const fli__impl_list logits_list =
    FLI__IMPL_LIST(sample_from_logits, impls);
static const fli__impl_list probs_list =
    FLI__IMPL_LIST(sample_from_probs, impls);

/* Output rows: one for each index, else for each row of x. */
static fli_status check_indices(const fli_context *ctx, const char *where,
                                const fli_sample_args *a, uint32_t flags,
                                int64_t *n_out)
{
    const int64_t n_rows = a->x.shape[0];
    const int32_t *indices = a->indices.data;
    const fli__spec spec = {
        .dtypes = FLI__DTYPE(FLI_I32),
        .flags = flags,
        .ndim = 1,
        .shape = { FLI__ANY },
    };

    *n_out = n_rows;
    if (!indices && !a->indices.dtype)
        return FLI_OK;
    TRY(fli__check_tensor(ctx, where, "indices", &a->indices, &spec));
    *n_out = a->indices.shape[0];
    if ((flags & FLI__SHAPE_ONLY) || ctx->cuda)
        return FLI_OK;
    for (int64_t i = 0; i < *n_out; i++)
        CHECK(indices[i] >= 0 && indices[i] < n_rows, INVALID_ARGUMENT,
              "%s: indices[%" PRId64 "] is %d, expected a row of x, 0 to "
              "%" PRId64,
              where, i, indices[i], n_rows - 1);
    return FLI_OK;
}

/* One value, or one for each output row: *per_row. */
static fli_status check_u64(const fli_context *ctx, const char *where,
                            const char *name, const fli_tensor *tensor,
                            int64_t n_out, uint32_t flags, int32_t *per_row)
{
    *per_row = tensor->data && tensor->shape[0] != 1;
    return fli__check_per_row(ctx, where, name, tensor, FLI_I64,
                              tensor->shape[0] == 1 ? 1 : n_out, flags);
}

static fli_status sample_params(const fli_context *ctx, const char *where,
                                const fli_sample_args *args, int is_probs,
                                uint32_t flags, fli_sample_params *p)
{
    fli_sample_args a;

    TRY(fli__copy_struct(where, "args", &a, sizeof(a), args, sizeof(a)));
    fli__spec spec = {
        .dtypes = is_probs ? FLI__DTYPE(FLI_F32) : FLI__FLOATS,
        .flags = flags,
        .ndim = 2,
        .shape = { FLI__ANY, FLI__ANY },
    };
    *p = (fli_sample_params){ .is_probs = is_probs };

    TRY(fli__check_tensor(ctx, where, "x", &a.x, &spec));
    TRY(fli__check_vocab(where, a.x.shape[1]));
    TRY(check_indices(ctx, where, &a, flags, &p->n_out));
    spec.dtypes = FLI__DTYPE(FLI_I32);
    spec.flags = flags | FLI__OUTPUT;
    spec.ndim = 1;
    spec.shape[0] = p->n_out;
    TRY(fli__check_tensor(ctx, where, "tokens", &a.tokens, &spec));
    TRY(fli__check_per_row(ctx, where, "valid", &a.valid, FLI_BOOL, p->n_out,
                           flags | FLI__OUTPUT));
    CHECK(!is_probs || (!a.has_temperature && !a.temperatures.data),
          INVALID_ARGUMENT,
          "%s: temperature is given, expected none for probabilities", where);
    TRY(fli__check_per_row(ctx, where, "temperatures", &a.temperatures, FLI_F32,
                           p->n_out, flags));
    TRY(fli__check_temperature(where, &a.temperatures, a.temperature,
                               a.has_temperature, &p->temperature));
    TRY(check_u64(ctx, where, "seeds", &a.seeds, p->n_out, flags,
                  &p->row_seeds));
    TRY(check_u64(ctx, where, "offsets", &a.offsets, p->n_out, flags,
                  &p->row_offsets));
    const fli_filter_args filters = {
        .top_ks = a.top_ks,
        .top_ps = a.top_ps,
        .min_ps = a.min_ps,
        .top_k = a.top_k,
        .top_p = a.top_p,
        .min_p = a.min_p,
        .flags = a.flags,
    };

    TRY(fli__filters_of(ctx, where, &filters, p->n_out, flags, &p->filters));
    p->x = a.x.data;
    p->indices = a.indices.data;
    p->tokens = a.tokens.data;
    p->valid = a.valid.data;
    p->temperatures = a.temperatures.data;
    p->seeds = a.seeds.data;
    p->offsets = a.offsets.data;
    p->seed = a.seed;
    p->offset = a.offset;
    p->vocab = a.x.shape[1];
    p->x_stride = a.x.stride[0];
    p->dtype = a.x.dtype;
    p->n_rows = a.x.shape[0];
    p->sticky = ctx->cuda ? ctx->cuda->sticky : NULL;
    return FLI_OK;
}

static fli_status run(fli_context *ctx, const char *where,
                      const fli__impl_list *list, const fli_sample_args *args,
                      fli_stream stream)
{
    fli_sample_params p;

    TRY(fli__check_call(ctx, where, stream));
    TRY(sample_params(ctx, where, args, list == &probs_list, 0, &p));
    return fli__dispatch(&(fli__call){ ctx, where, stream, 0 }, list, &p,
                         fli__rows_work(p.n_out, p.vocab));
}

static fli_status prepare(fli_context *ctx, const char *where,
                          const fli__impl_list *list,
                          const fli_sample_args *args)
{
    fli_sample_params p;

    TRY(fli__check_call(ctx, where, NULL));
    TRY(sample_params(ctx, where, args, list == &probs_list, FLI__SHAPE_ONLY,
                      &p));
    return fli__prepare(ctx, where, list, &p);
}

fli_status fli_sample_from_logits(fli_context *ctx, const fli_sample_args *args,
                                  fli_stream stream)
{
    return run(ctx, "sample_from_logits run", &logits_list, args, stream);
}

fli_status fli_sample_from_probs(fli_context *ctx, const fli_sample_args *args,
                                 fli_stream stream)
{
    return run(ctx, "sample_from_probs run", &probs_list, args, stream);
}

fli_status fli_sample_from_logits_prepare(fli_context *ctx,
                                          const fli_sample_args *args)
{
    return prepare(ctx, "sample_from_logits prepare", &logits_list, args);
}

fli_status fli_sample_from_probs_prepare(fli_context *ctx,
                                         const fli_sample_args *args)
{
    return prepare(ctx, "sample_from_probs prepare", &probs_list, args);
}
