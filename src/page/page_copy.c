/* SPDX-License-Identifier: Apache-2.0 */
/* page_copy: validate, fill the launch, dispatch. */
#include <inttypes.h>
#include <string.h>

#include <flashinfer/page.h>

#include "abi/kernels.h"
#include "abi/page_copy.h"
#include "core/check.h"
#include "device/cuda.h"
#include "page/page.h"

static const fli__impl impls[] = FLI__IMPLS(
    page_copy, NULL, FLI__CUDA("portable", NULL, fli__page_copy_cuda, 0));
static const fli__impl_list list = FLI__IMPL_LIST(page_copy, impls);

#define BITMAP_BYTES 16384
#define BITMAP_PAGES (8 * BITMAP_BYTES)

static fli_status check_ids(const char *where, const char *name,
                            const int32_t *ids, int64_t n, int64_t n_pages)
{
    for (int64_t i = 0; i < n; i++)
        CHECK(ids[i] >= 0 && ids[i] < n_pages, INVALID_ARGUMENT,
              "%s: %s[%" PRId64 "] is %d, expected 0 to %" PRId64, where, name,
              i, ids[i], n_pages - 1);
    return FLI_OK;
}

/* Refuses a page of [first, first + BITMAP_PAGES) that is in to twice, or in
 * both lists: a bitmap, as there is no memory for more. */
static fli_status check_window(const char *where, const int32_t *from,
                               const int32_t *to, int64_t n, int64_t first)
{
    uint8_t written[BITMAP_BYTES] = { 0 };

    for (int64_t i = 0; i < n; i++) {
        const int64_t page = to[i] - first;

        if (page < 0 || page >= BITMAP_PAGES)
            continue;
        CHECK(!(written[page / 8] >> page % 8 & 1), INVALID_ARGUMENT,
              "%s: to[%" PRId64 "] is %d as an earlier one is, expected each "
              "page once",
              where, i, to[i]);
        written[page / 8] |= (uint8_t)(1 << page % 8);
    }
    for (int64_t i = 0; i < n; i++) {
        const int64_t page = from[i] - first;

        if (page < 0 || page >= BITMAP_PAGES)
            continue;
        CHECK(!(written[page / 8] >> page % 8 & 1), INVALID_ARGUMENT,
              "%s: from[%" PRId64 "] is %d, which is in to as well, expected "
              "each page in one list",
              where, i, from[i]);
    }
    return FLI_OK;
}

static fli_status check_lists(const char *where, const fli_page_copy_args *a)
{
    const int32_t *from = a->from.data, *to = a->to.data;
    const int64_t n = a->from.shape[0], n_pages = a->k.shape[0];
    int64_t first = INT32_MAX, last = -1;

    TRY(check_ids(where, "from", from, n, n_pages));
    TRY(check_ids(where, "to", to, n, n_pages));
    for (int64_t i = 0; i < n; i++) {
        first = MIN(first, to[i]);
        last = MAX(last, to[i]);
    }
    for (; first <= last; first += BITMAP_PAGES)
        TRY(check_window(where, from, to, n, first));
    return FLI_OK;
}

static fli_page_copy_tensor page_copy_tensor(const fli_tensor *tensor)
{
    return (fli_page_copy_tensor){
        .data = tensor->data,
        .shape = { tensor->shape[1], tensor->shape[2] },
        .head_dim = tensor->shape[3],
        .stride = { tensor->stride[0], tensor->stride[1], tensor->stride[2] },
    };
}

static fli_status page_copy_params(const fli_context *ctx, const char *where,
                                   const fli_page_copy_args *args,
                                   uint32_t flags, fli_page_copy_params *p)
{
    fli_page_copy_args a;

    TRY(fli__copy_struct(where, "args", &a, sizeof(a), args, sizeof(a)));
    fli__spec spec = {
        .dtypes = FLI__FLOATS,
        .flags = flags | FLI__OUTPUT,
        .ndim = 4,
        .shape = { FLI__ANY, FLI__ANY, FLI__ANY, FLI__ANY },
    };

    TRY(fli__check_tensor(ctx, where, "k", &a.k, &spec));
    spec.dtypes = FLI__DTYPE(a.k.dtype);
    memcpy(spec.shape, a.k.shape, sizeof(spec.shape));
    spec.shape[3] = FLI__ANY;
    TRY(fli__check_tensor(ctx, where, "v", &a.v, &spec));
    spec = (fli__spec){
        .dtypes = FLI__DTYPE(FLI_I32),
        .flags = flags,
        .ndim = 1,
        .shape = { FLI__ANY },
    };
    TRY(fli__check_tensor(ctx, where, "from", &a.from, &spec));
    spec.shape[0] = a.from.shape[0];
    TRY(fli__check_tensor(ctx, where, "to", &a.to, &spec));
    if (!(flags & FLI__SHAPE_ONLY) && !ctx->cuda)
        TRY(check_lists(where, &a));
    *p = (fli_page_copy_params){
        .tensor = { page_copy_tensor(&a.k), page_copy_tensor(&a.v) },
        .from = a.from.data,
        .to = a.to.data,
        .n = a.from.shape[0],
        .element_bytes = (int64_t)fli_dtype_bytes(a.k.dtype),
        .n_pages = a.k.shape[0],
        .sticky = ctx->cuda ? ctx->cuda->sticky : NULL,
    };
    return FLI_OK;
}

fli_status fli_page_copy(fli_context *ctx, const fli_page_copy_args *args,
                         fli_stream stream)
{
    static const char where[] = "page_copy run";
    fli_page_copy_params p;

    TRY(fli__check_call(ctx, where, stream));
    TRY(page_copy_params(ctx, where, args, 0, &p));
    const int64_t dims = p.tensor[0].head_dim + p.tensor[1].head_dim;

    return fli__dispatch(&(fli__call){ ctx, where, stream, 0 }, &list, &p,
                         p.n * p.tensor[0].shape[0] * p.tensor[0].shape[1]
                             * dims * p.element_bytes);
}

fli_status fli_page_copy_prepare(fli_context *ctx,
                                 const fli_page_copy_args *args)
{
    static const char where[] = "page_copy prepare";
    fli_page_copy_params p;

    TRY(fli__check_call(ctx, where, NULL));
    TRY(page_copy_params(ctx, where, args, FLI__SHAPE_ONLY, &p));
    return fli__prepare(ctx, where, &list, &p);
}
