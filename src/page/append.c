/* SPDX-License-Identifier: Apache-2.0 */
/* append: validate, fill the launch, dispatch. */
#include <inttypes.h>

#include <flashinfer/page.h>

#include "abi/append.h"
#include "abi/kernels.h"
#include "core/check.h"
#include "device/cuda.h"
#include "page/page.h"

static const fli__impl impls[] =
    FLI__IMPLS(append, NULL, FLI__CUDA("portable", NULL, fli__append_cuda, 0));
static const fli__impl_list list = FLI__IMPL_LIST(append, impls);

static fli_status check_input(const fli_context *ctx, const char *where,
                              const fli_append_args *a, uint32_t flags)
{
    fli__spec spec = {
        .dtypes = FLI__FLOATS,
        .flags = flags,
        .ndim = 3,
        .shape = { FLI__ANY, FLI__ANY, FLI__ANY },
    };

    TRY(fli__check_tensor(ctx, where, "k", &a->k, &spec));
    spec.dtypes = FLI__DTYPE(a->k.dtype);
    spec.shape[0] = a->k.shape[0];
    spec.shape[1] = a->k.shape[1];
    TRY(fli__check_tensor(ctx, where, "v", &a->v, &spec));
    spec.dtypes = FLI__DTYPE(FLI_I32);
    spec.ndim = 1;
    TRY(fli__check_tensor(ctx, where, "batch_indices", &a->batch_indices,
                          &spec));
    return fli__check_tensor(ctx, where, "positions", &a->positions, &spec);
}

/* Indices in shape and stride of a cache's tokens and heads. */
static int token_dim(const fli_kv *cache)
{
    return cache->layout == FLI_HND ? 2 : 1;
}

static int head_dim(const fli_kv *cache)
{
    return cache->layout == FLI_HND ? 1 : 2;
}

static fli_status check_cache(const fli_context *ctx, const char *where,
                              const fli_append_args *a, uint32_t flags)
{
    const fli_kv *cache = &a->cache;
    fli__spec spec = {
        .dtypes = FLI__FLOATS,
        .flags = flags | FLI__OUTPUT,
        .ndim = 4,
        .shape = { FLI__ANY },
    };

    CHECK(cache->layout == FLI_NHD || cache->layout == FLI_HND,
          INVALID_ARGUMENT,
          "%s: cache.layout is %d, expected 0 (FLI_NHD) or 1 (FLI_HND)", where,
          (int)cache->layout);
    for (int i = 0; i < 7; i++)
        CHECK(cache->reserved[i] == 0, INVALID_ARGUMENT,
              "%s: cache.reserved[%d] is %d, expected 0", where, i,
              (int)cache->reserved[i]);
    CHECK(!cache->kv_indptr.data, INVALID_ARGUMENT,
          "%s: cache.kv_indptr is given, expected a paged cache", where);
    spec.shape[token_dim(cache)] = FLI__AT_LEAST(1);
    spec.shape[head_dim(cache)] = a->k.shape[1];
    spec.shape[3] = a->k.shape[2];
    TRY(fli__check_tensor(ctx, where, "cache.k", &cache->k, &spec));
    spec.dtypes = FLI__DTYPE(cache->k.dtype);
    spec.shape[0] = cache->k.shape[0];
    spec.shape[token_dim(cache)] = cache->k.shape[token_dim(cache)];
    spec.shape[3] = a->v.shape[2];
    TRY(fli__check_tensor(ctx, where, "cache.v", &cache->v, &spec));
    spec = (fli__spec){
        .dtypes = FLI__DTYPE(FLI_I32),
        .flags = flags,
        .ndim = 1,
        .shape = { FLI__AT_LEAST(1) },
    };
    TRY(fli__check_tensor(ctx, where, "cache.page_indptr", &cache->page_indptr,
                          &spec));
    spec.shape[0] = FLI__ANY;
    return fli__check_tensor(ctx, where, "cache.page_indices",
                             &cache->page_indices, &spec);
}

static fli_status check_aliases(const char *where, const fli_append_args *a)
{
    const fli_tensor *outs[] = { &a->cache.k, &a->cache.v };
    const char *const out_names[] = { "cache.k", "cache.v" };
    const fli_tensor *ins[] = { &a->k,
                                &a->v,
                                &a->batch_indices,
                                &a->positions,
                                &a->cache.page_indptr,
                                &a->cache.page_indices };
    const char *const in_names[] = { "k",
                                     "v",
                                     "batch_indices",
                                     "positions",
                                     "cache.page_indptr",
                                     "cache.page_indices" };

    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 6; j++)
            TRY(fli__check_apart(where, out_names[i], outs[i], in_names[j],
                                 ins[j]));
    return FLI_OK;
}

/* Row t's request, its place in the request's pages and the page there. */
static fli_status check_row(const char *where, const fli_append_args *a,
                            int64_t t)
{
    const int32_t *indptr = a->cache.page_indptr.data;
    const int32_t *indices = a->cache.page_indices.data;
    const int32_t request = ((const int32_t *)a->batch_indices.data)[t];
    const int32_t position = ((const int32_t *)a->positions.data)[t];
    const int64_t page_size = a->cache.k.shape[token_dim(&a->cache)];
    const int64_t n_requests = a->cache.page_indptr.shape[0] - 1;
    const int64_t n_pages = a->cache.k.shape[0];

    if (request < 0 || position < 0)
        return FLI_OK;
    CHECK(request < n_requests, INVALID_ARGUMENT,
          "%s: batch_indices[%" PRId64
          "] is %d, expected less than the %" PRId64
          " requests of cache.page_indptr",
          where, t, request, n_requests);
    const int64_t held = indptr[request + 1] - indptr[request];

    CHECK(position / page_size < held, INVALID_ARGUMENT,
          "%s: positions[%" PRId64 "] is %d, expected less than the %" PRId64
          " tokens of request %d's %" PRId64 " pages of %" PRId64,
          where, t, position, held * page_size, request, held, page_size);
    const int64_t place = indptr[request] + position / page_size;

    CHECK(indices[place] >= 0 && indices[place] < n_pages, INVALID_ARGUMENT,
          "%s: cache.page_indices[%" PRId64 "] is %d, expected 0 to %" PRId64,
          where, place, indices[place], n_pages - 1);
    return FLI_OK;
}

static fli_status check_rows(const char *where, const fli_append_args *a)
{
    TRY(fli__check_indptr(where, "cache.page_indptr", a->cache.page_indptr.data,
                          a->cache.page_indptr.shape[0] - 1,
                          a->cache.page_indices.shape[0]));
    for (int64_t t = 0; t < a->k.shape[0]; t++)
        TRY(check_row(where, a, t));
    return FLI_OK;
}

static fli_append_tensor append_tensor(const fli_tensor *in,
                                       const fli_tensor *pages,
                                       const fli_kv *cache)
{
    return (fli_append_tensor){
        .in = in->data,
        .cache = pages->data,
        .head_dim = in->shape[2],
        .in_stride = { in->stride[0], in->stride[1] },
        .page_stride = pages->stride[0],
        .token_stride = pages->stride[token_dim(cache)],
        .head_stride = pages->stride[head_dim(cache)],
    };
}

static fli_status append_params(const fli_context *ctx, const char *where,
                                const fli_append_args *args, uint32_t flags,
                                fli_append_params *p)
{
    fli_append_args a;

    TRY(fli__copy_struct(where, "args", &a, sizeof(a), args, sizeof(a)));
    TRY(check_input(ctx, where, &a, flags));
    TRY(check_cache(ctx, where, &a, flags));
    TRY(check_aliases(where, &a));
    if (!(flags & FLI__SHAPE_ONLY) && !ctx->cuda)
        TRY(check_rows(where, &a));
    *p = (fli_append_params){
        .tensor = { append_tensor(&a.k, &a.cache.k, &a.cache),
                    append_tensor(&a.v, &a.cache.v, &a.cache) },
        .batch_indices = a.batch_indices.data,
        .positions = a.positions.data,
        .page_indptr = a.cache.page_indptr.data,
        .page_indices = a.cache.page_indices.data,
        .n_rows = a.k.shape[0],
        .n_kv_heads = a.k.shape[1],
        .page_size = a.cache.k.shape[token_dim(&a.cache)],
        .dtype = a.k.dtype,
        .dtype_cache = a.cache.k.dtype,
        .n_requests = a.cache.page_indptr.shape[0] - 1,
        .n_indices = a.cache.page_indices.shape[0],
        .n_pages = a.cache.k.shape[0],
        .sticky = ctx->cuda ? ctx->cuda->sticky : NULL,
    };
    return FLI_OK;
}

fli_status fli_append(fli_context *ctx, const fli_append_args *args,
                      fli_stream stream)
{
    static const char where[] = "append run";
    fli_append_params p;

    TRY(fli__check_call(ctx, where, stream));
    TRY(append_params(ctx, where, args, 0, &p));
    const int64_t dims = p.tensor[0].head_dim + p.tensor[1].head_dim;

    return fli__dispatch(&(fli__call){ ctx, where, stream, 0 }, &list, &p,
                         2 * p.n_rows * p.n_kv_heads * dims);
}

fli_status fli_append_prepare(fli_context *ctx, const fli_append_args *args)
{
    static const char where[] = "append prepare";
    fli_append_params p;

    TRY(fli__check_call(ctx, where, NULL));
    TRY(append_params(ctx, where, args, FLI__SHAPE_ONLY, &p));
    return fli__prepare(ctx, where, &list, &p);
}
