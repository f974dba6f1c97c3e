/* SPDX-License-Identifier: Apache-2.0 */
/* get_batch_indices_positions: validate, fill the launch, dispatch. */
#include <inttypes.h>

#include <flashinfer/page.h>

#include "abi/kernels.h"
#include "abi/positions.h"
#include "core/check.h"
#include "device/cuda.h"
#include "page/page.h"

static const fli__impl impls[] = FLI__IMPLS(
    positions, NULL, FLI__CUDA("portable", NULL, fli__positions_cuda, 0));
static const fli__impl_list list =
    FLI__IMPL_LIST(get_batch_indices_positions, impls);

static fli_status check_aliases(const char *where,
                                const fli_batch_indices_positions_args *a)
{
    const fli_tensor *outs[] = { &a->batch_indices, &a->positions };
    const char *const names[] = { "batch_indices", "positions" };

    for (int i = 0; i < 2; i++) {
        TRY(fli__check_apart(where, names[i], outs[i], "append_indptr",
                             &a->append_indptr));
        TRY(fli__check_apart(where, names[i], outs[i], "seq_lens",
                             &a->seq_lens));
    }
    return fli__check_apart(where, names[1], outs[1], names[0], outs[0]);
}

/* Each request must have the tokens that it appends. */
static fli_status check_lengths(const char *where,
                                const fli_batch_indices_positions_args *a)
{
    const int32_t *indptr = a->append_indptr.data;
    const int32_t *seq_lens = a->seq_lens.data;
    const int64_t n = a->seq_lens.shape[0];

    TRY(fli__check_indptr(where, "append_indptr", indptr, n,
                          a->batch_indices.shape[0]));
    for (int64_t i = 0; i < n; i++)
        CHECK(seq_lens[i] >= indptr[i + 1] - indptr[i], INVALID_ARGUMENT,
              "%s: seq_lens[%" PRId64
              "] is %d, expected at least the %d tokens appended",
              where, i, seq_lens[i], indptr[i + 1] - indptr[i]);
    return FLI_OK;
}

static fli_status positions_params(const fli_context *ctx, const char *where,
                                   const fli_batch_indices_positions_args *args,
                                   uint32_t flags, fli_positions_params *p)
{
    fli_batch_indices_positions_args a;

    TRY(fli__copy_struct(where, "args", &a, sizeof(a), args, sizeof(a)));
    fli__spec spec = {
        .dtypes = FLI__DTYPE(FLI_I32),
        .flags = flags,
        .ndim = 1,
        .shape = { FLI__AT_LEAST(1) },
    };

    TRY(fli__check_tensor(ctx, where, "append_indptr", &a.append_indptr,
                          &spec));
    spec.shape[0] = a.append_indptr.shape[0] - 1;
    TRY(fli__check_tensor(ctx, where, "seq_lens", &a.seq_lens, &spec));
    spec.shape[0] = FLI__ANY;
    spec.flags = flags | FLI__OUTPUT;
    TRY(fli__check_tensor(ctx, where, "batch_indices", &a.batch_indices,
                          &spec));
    spec.shape[0] = a.batch_indices.shape[0];
    TRY(fli__check_tensor(ctx, where, "positions", &a.positions, &spec));
    TRY(check_aliases(where, &a));
    if (!(flags & FLI__SHAPE_ONLY) && !ctx->cuda)
        TRY(check_lengths(where, &a));
    *p = (fli_positions_params){
        .append_indptr = a.append_indptr.data,
        .seq_lens = a.seq_lens.data,
        .batch_indices = a.batch_indices.data,
        .positions = a.positions.data,
        .n_requests = a.seq_lens.shape[0],
        .n_rows = a.batch_indices.shape[0],
        .sticky = ctx->cuda ? ctx->cuda->sticky : NULL,
    };
    return FLI_OK;
}

fli_status fli_get_batch_indices_positions(
    fli_context *ctx, const fli_batch_indices_positions_args *args,
    fli_stream stream)
{
    static const char where[] = "get_batch_indices_positions run";
    fli_positions_params p;

    TRY(fli__check_call(ctx, where, stream));
    TRY(positions_params(ctx, where, args, 0, &p));
    return fli__dispatch(&(fli__call){ ctx, where, stream, 0 }, &list, &p,
                         8 * p.n_rows);
}

fli_status fli_get_batch_indices_positions_prepare(
    fli_context *ctx, const fli_batch_indices_positions_args *args)
{
    static const char where[] = "get_batch_indices_positions prepare";
    fli_positions_params p;

    TRY(fli__check_call(ctx, where, NULL));
    TRY(positions_params(ctx, where, args, FLI__SHAPE_ONLY, &p));
    return fli__prepare(ctx, where, &list, &p);
}
