/* SPDX-License-Identifier: Apache-2.0 */
/* packbits and segment_packbits: validate, fill the launch, dispatch. */
#include <inttypes.h>

#include <flashinfer/quant.h>

#include "abi/kernels.h"
#include "abi/packbits.h"
#include "core/check.h"
#include "device/cuda.h"
#include "quant/quant.h"

#define BYTES (FLI__DTYPE(FLI_BOOL) | FLI__DTYPE(FLI_U8))

static const fli__impl packbits_impls[] = FLI__IMPLS(
    packbits, NULL, FLI__CUDA("portable", NULL, fli__packbits_cuda, 0));
static const fli__impl segment_impls[] = FLI__IMPLS(
    packbits, NULL, FLI__CUDA("portable", NULL, fli__segment_packbits_cuda, 0));
static const fli__impl_list packbits_list =
    FLI__IMPL_LIST(packbits, packbits_impls);
static const fli__impl_list segment_list =
    FLI__IMPL_LIST(segment_packbits, segment_impls);

static fli_status check_order(const char *where, int32_t order)
{
    CHECK(order == FLI_BIT_ORDER_BIG || order == FLI_BIT_ORDER_LITTLE,
          INVALID_ARGUMENT,
          "%s: bit_order is %d, expected 0 (big) or 1 (little)", where,
          (int)order);
    return FLI_OK;
}

static fli_status packbits_params(const fli_context *ctx, const char *where,
                                  const fli_packbits_args *args, uint32_t flags,
                                  fli_packbits_params *p)
{
    fli_packbits_args a;

    TRY(fli__copy_struct(where, "args", &a, sizeof(a), args, sizeof(a)));
    fli__spec spec = {
        .dtypes = BYTES,
        .flags = flags,
        .ndim = 1,
        .shape = { FLI__ANY },
    };

    TRY(fli__check_tensor(ctx, where, "x", &a.x, &spec));
    spec.dtypes = FLI__DTYPE(FLI_U8);
    spec.shape[0] = a.x.shape[0] / 8 + (a.x.shape[0] % 8 > 0);
    spec.flags = flags | FLI__OUTPUT;
    TRY(fli__check_tensor(ctx, where, "out", &a.out, &spec));
    TRY(check_order(where, a.bit_order));
    TRY(fli__check_apart(where, "out", &a.out, "x", &a.x));
    *p = (fli_packbits_params){
        .x = a.x.data,
        .out = a.out.data,
        .n = a.x.shape[0],
        .n_segments = 1,
        .little = a.bit_order,
    };
    return FLI_OK;
}

fli_status fli_packbits(fli_context *ctx, const fli_packbits_args *args,
                        fli_stream stream)
{
    static const char where[] = "packbits run";
    fli_packbits_params p;

    TRY(fli__check_call(ctx, where, stream));
    TRY(packbits_params(ctx, where, args, 0, &p));
    return fli__dispatch(&(fli__call){ ctx, where, stream, 0 }, &packbits_list,
                         &p, p.n);
}

fli_status fli_packbits_prepare(fli_context *ctx, const fli_packbits_args *args)
{
    static const char where[] = "packbits prepare";
    fli_packbits_params p;

    TRY(fli__check_call(ctx, where, NULL));
    TRY(packbits_params(ctx, where, args, FLI__SHAPE_ONLY, &p));
    return fli__prepare(ctx, where, &packbits_list, &p);
}

static fli_status check_segments(const char *where,
                                 const fli_segment_packbits_args *a)
{
    const int32_t *indptr = a->indptr.data;
    const int64_t n = a->indptr.shape[0] - 1;
    int64_t bytes = 0;

    TRY(fli__check_indptr(where, "indptr", indptr, n, a->x.shape[0]));
    for (int64_t i = 0; i < n; i++)
        bytes += ((int64_t)indptr[i + 1] - indptr[i] + 7) / 8;
    CHECK(bytes <= a->out.shape[0], INVALID_ARGUMENT,
          "%s: out has %" PRId64 " bytes, expected at least the %" PRId64
          " of the %" PRId64 " segments",
          where, a->out.shape[0], bytes, n);
    return FLI_OK;
}

static fli_status check_aliases(const char *where,
                                const fli_segment_packbits_args *a)
{
    const fli_tensor *outs[] = { &a->out, &a->out_indptr };
    const char *const names[] = { "out", "out_indptr" };

    for (int i = 0; i < 2; i++) {
        TRY(fli__check_apart(where, names[i], outs[i], "x", &a->x));
        TRY(fli__check_apart(where, names[i], outs[i], "indptr", &a->indptr));
    }
    return fli__check_apart(where, "out_indptr", &a->out_indptr, "out",
                            &a->out);
}

static fli_status segment_params(const fli_context *ctx, const char *where,
                                 const fli_segment_packbits_args *args,
                                 uint32_t flags, fli_packbits_params *p)
{
    fli_segment_packbits_args a;

    TRY(fli__copy_struct(where, "args", &a, sizeof(a), args, sizeof(a)));
    fli__spec spec = {
        .dtypes = BYTES,
        .flags = flags,
        .ndim = 1,
        .shape = { FLI__ANY },
    };

    TRY(fli__check_tensor(ctx, where, "x", &a.x, &spec));
    spec.dtypes = FLI__DTYPE(FLI_U8);
    spec.flags = flags | FLI__OUTPUT;
    TRY(fli__check_tensor(ctx, where, "out", &a.out, &spec));
    spec.dtypes = FLI__DTYPE(FLI_I32);
    spec.shape[0] = FLI__AT_LEAST(1);
    spec.flags = flags;
    TRY(fli__check_tensor(ctx, where, "indptr", &a.indptr, &spec));
    spec.shape[0] = a.indptr.shape[0];
    spec.flags = flags | FLI__OUTPUT;
    TRY(fli__check_tensor(ctx, where, "out_indptr", &a.out_indptr, &spec));
    TRY(check_order(where, a.bit_order));
    TRY(check_aliases(where, &a));
    if (!(flags & FLI__SHAPE_ONLY) && !ctx->cuda)
        TRY(check_segments(where, &a));
    *p = (fli_packbits_params){
        .x = a.x.data,
        .indptr = a.indptr.data,
        .out = a.out.data,
        .out_indptr = a.out_indptr.data,
        .n = a.x.shape[0],
        .n_segments = a.indptr.shape[0] - 1,
        .little = a.bit_order,
        .n_out = a.out.shape[0],
        .sticky = ctx->cuda ? ctx->cuda->sticky : NULL,
    };
    return FLI_OK;
}

fli_status fli_segment_packbits(fli_context *ctx,
                                const fli_segment_packbits_args *args,
                                fli_stream stream)
{
    static const char where[] = "segment_packbits run";
    fli_packbits_params p;

    TRY(fli__check_call(ctx, where, stream));
    TRY(segment_params(ctx, where, args, 0, &p));
    return fli__dispatch(&(fli__call){ ctx, where, stream, 0 }, &segment_list,
                         &p, p.n + 4 * (p.n_segments + 1));
}

fli_status fli_segment_packbits_prepare(fli_context *ctx,
                                        const fli_segment_packbits_args *args)
{
    static const char where[] = "segment_packbits prepare";
    fli_packbits_params p;

    TRY(fli__check_call(ctx, where, NULL));
    TRY(segment_params(ctx, where, args, FLI__SHAPE_ONLY, &p));
    return fli__prepare(ctx, where, &segment_list, &p);
}
