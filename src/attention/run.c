/* SPDX-License-Identifier: Apache-2.0 */
/* attention: run.  Checks the tensors and the page table against the plan, fills
 * the launch and runs the parts. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "attention/attention.h"

static const char layout_text[] = "FLI_NHD (0) or FLI_HND (1)";

/* --- scalars -------------------------------------------------------------- */

static fli_status check_scalars(const char *where, const fli_attention *op,
                                const fli_attention_args *a)
{
    CHECK(a->mask == FLI_MASK_NONE || a->mask == FLI_MASK_CAUSAL,
          INVALID_ARGUMENT, "%s: mask is %d, expected a fli_mask", where,
          (int)a->mask);
    CHECK(op->desc.masks >> a->mask & 1, INVALID_ARGUMENT,
          "%s: mask is %s, expected one that desc.masks 0x%x prepared", where,
          fli__mask_name(a->mask), op->desc.masks);
    CHECK(a->window >= 0, INVALID_ARGUMENT,
          "%s: window is %d, expected at least 0", where, (int)a->window);
    CHECK(a->soft_cap >= 0 && a->soft_cap < INFINITY, INVALID_ARGUMENT,
          "%s: soft_cap is %g, expected a finite number >= 0", where,
          (double)a->soft_cap);
    CHECK(isfinite(a->sm_scale), INVALID_ARGUMENT,
          "%s: sm_scale is %g, expected a finite number", where,
          (double)a->sm_scale);
    CHECK(isfinite(a->k_scale), INVALID_ARGUMENT,
          "%s: k_scale is %g, expected a finite number", where,
          (double)a->k_scale);
    CHECK(isfinite(a->v_scale), INVALID_ARGUMENT,
          "%s: v_scale is %g, expected a finite number", where,
          (double)a->v_scale);
    return FLI_OK;
}

static void fill_scalars(const fli_attention *op, const fli_attention_args *a,
                         fli_attention_params *p)
{
    const float sm_scale =
        a->sm_scale != 0 ? a->sm_scale
                         : (float)(1 / sqrt((double)op->desc.head_dim_qk));

    p->causal = a->mask == FLI_MASK_CAUSAL;
    p->window = a->window;
    p->soft_cap = a->soft_cap;
    p->scale = sm_scale * (a->k_scale != 0 ? a->k_scale : 1);
    p->v_scale = a->v_scale != 0 ? a->v_scale : 1;
}

/* --- q, out, lse ---------------------------------------------------------- */

static fli_status fill_rows(const char *where, const fli_attention *op,
                            const fli_attention_args *a,
                            fli_attention_params *p)
{
    const fli_attention_desc *d = &op->desc;
    fli__spec spec = {
        .dtypes = FLI__DTYPE(d->dtype_q),
        .ndim = 3,
        .shape = { FLI__AT_LEAST(op->n_rows), d->n_qo_heads, d->head_dim_qk },
    };

    TRY(fli__check_tensor(op->ctx, where, "q", &a->q, &spec));
    spec.dtypes = FLI__DTYPE(d->dtype_out);
    spec.flags = FLI__OUTPUT;
    spec.shape[2] = d->head_dim_vo;
    TRY(fli__check_tensor(op->ctx, where, "out", &a->out, &spec));
    spec.dtypes = FLI__DTYPE(FLI_F32);
    spec.flags = FLI__OUTPUT | FLI__OPTIONAL;
    spec.ndim = 2;
    TRY(fli__check_tensor(op->ctx, where, "lse", &a->lse, &spec));
    p->n_rows = MIN(a->q.shape[0], a->out.shape[0]);
    if (a->lse.data)
        p->n_rows = MIN(p->n_rows, a->lse.shape[0]);
    p->q = a->q.data;
    p->out = a->out.data;
    p->lse = a->lse.data;
    memcpy(p->q_stride, a->q.stride, sizeof(p->q_stride));
    memcpy(p->out_stride, a->out.stride, sizeof(p->out_stride));
    memcpy(p->lse_stride, a->lse.stride, sizeof(p->lse_stride));
    return FLI_OK;
}

/* --- k and v -------------------------------------------------------------- */

/* [.., tokens, heads, dim], or with HND [.., heads, tokens, dim], for a paged
 * cache behind [n_pages]. */
static fli__spec kv_spec(const fli_attention *op, const fli_kv *kv, int32_t dim)
{
    const int32_t first = kv->k.ndim - 3;
    fli__spec spec = {
        .dtypes = FLI__DTYPE(op->desc.dtype_kv),
        .ndim = kv->k.ndim,
        .shape = { FLI__ANY },
    };

    spec.shape[first + (kv->layout == FLI_NHD)] = op->desc.n_kv_heads;
    spec.shape[first + (kv->layout == FLI_HND)] =
        first ? FLI__AT_LEAST(1) : FLI__ANY;
    spec.shape[first + 2] = dim;
    return spec;
}

static fli_status fill_kv(const char *where, const fli_attention *op,
                          const fli_kv *kv, fli_attention_params *p)
{
    const int32_t paged = kv->k.ndim == 4;

    CHECK(kv->layout == FLI_NHD || kv->layout == FLI_HND, INVALID_ARGUMENT,
          "%s: layout is %d, expected %s", where, (int)kv->layout, layout_text);
    for (int32_t i = 0; i < 7; i++)
        CHECK(kv->reserved[i] == 0, INVALID_ARGUMENT,
              "%s: kv.reserved[%d] is %d, expected 0", where, (int)i,
              (int)kv->reserved[i]);
    CHECK(paged || kv->k.ndim == 3, INVALID_ARGUMENT,
          "%s: k has %d dimensions, expected 4 (paged) or 3 (ragged)", where,
          (int)kv->k.ndim);
    fli__spec spec = kv_spec(op, kv, op->desc.head_dim_qk);

    TRY(fli__check_tensor(op->ctx, where, "k", &kv->k, &spec));
    memcpy(spec.shape, kv->k.shape, sizeof(spec.shape));
    spec.shape[spec.ndim - 1] = op->desc.head_dim_vo;
    TRY(fli__check_tensor(op->ctx, where, "v", &kv->v, &spec));
    const int32_t token = paged + (kv->layout == FLI_HND);
    const int32_t head = paged + (kv->layout == FLI_NHD);

    CHECK(kv->k.shape[token] <= INT32_MAX, INVALID_ARGUMENT,
          "%s: k has %" PRId64 " tokens in dimension %d, expected at most %d",
          where, kv->k.shape[token], (int)token, INT32_MAX);
    p->k = kv->k.data;
    p->v = kv->v.data;
    p->k_page_stride = paged ? kv->k.stride[0] : 0;
    p->v_page_stride = paged ? kv->v.stride[0] : 0;
    p->k_token_stride = kv->k.stride[token];
    p->v_token_stride = kv->v.stride[token];
    p->k_head_stride = kv->k.stride[head];
    p->v_head_stride = kv->v.stride[head];
    p->page_size = paged ? (int32_t)kv->k.shape[token] : 0;
    p->n_pages = paged ? kv->k.shape[0] : kv->k.shape[token];
    return FLI_OK;
}

/* --- page table ----------------------------------------------------------- */

static fli_status check_index(const char *where, const fli_attention *op,
                              const char *name, const fli_tensor *tensor,
                              int64_t n)
{
    const fli__spec spec = {
        .dtypes = FLI__DTYPE(FLI_I32),
        .ndim = 1,
        .shape = { n >= 0 ? FLI__AT_LEAST(n) : FLI__ANY },
    };

    return fli__check_tensor(op->ctx, where, name, tensor, &spec);
}

/* Every id is a page of the pool. */
static fli_status check_pages(const char *where, const int32_t *ids,
                              int64_t begin, int64_t end, int64_t n_pages)
{
    int outside = 0;

    for (int64_t i = begin; i < end; i++)
        outside |= (uint32_t)ids[i] >= (uint64_t)n_pages;
    for (int64_t i = begin; outside && i < end; i++)
        CHECK(ids[i] >= 0 && ids[i] < n_pages, INVALID_ARGUMENT,
              "%s: page_indices[%" PRId64 "] is %d, expected 0 to %" PRId64
              " (a page of k)",
              where, i, (int)ids[i], n_pages - 1);
    return FLI_OK;
}

/* Host memory: every request has pages for its tokens. */
static fli_status check_table(const char *where, const fli_kv *kv,
                              const fli_attention_params *p)
{
    const int32_t n = p->n_requests;
    const int32_t *indptr = kv->page_indptr.data;

    TRY(fli__check_indptr(where, "page_indptr", indptr, n,
                          kv->page_indices.shape[0]));
    for (int32_t i = 0; i < n; i++) {
        const int64_t need =
            ((int64_t)p->kv_len[i] + p->page_size - 1) / p->page_size;
        const int32_t have = indptr[i + 1] - indptr[i];

        CHECK(need <= have, INVALID_ARGUMENT,
              "%s: kv_len[%d] = %d needs %" PRId64 " pages of %d tokens, "
              "page_indptr[%d] - page_indptr[%d] is %d",
              where, (int)i, (int)p->kv_len[i], need, (int)p->page_size,
              (int)i + 1, (int)i, (int)have);
        TRY(check_pages(where, kv->page_indices.data, indptr[i],
                        indptr[i] + need, kv->k.shape[0]));
    }
    return FLI_OK;
}

/* On CUDA kernels check the table, of which they know the length. */
static int32_t covered_requests(const fli_tensor *indptr)
{
    return (int32_t)MIN(indptr->shape[0] - 1, (int64_t)INT32_MAX);
}

static fli_status fill_pages(const char *where, const fli_attention *op,
                             const fli_kv *kv, fli_attention_params *p)
{
    CHECK(!kv->kv_indptr.data, INVALID_ARGUMENT,
          "%s: kv_indptr is given with a paged k, expected it absent", where);
    TRY(check_index(where, op, "page_indptr", &kv->page_indptr,
                    p->n_requests + 1));
    TRY(check_index(where, op, "page_indices", &kv->page_indices, -1));
    if (op->device)
        p->n_requests = covered_requests(&kv->page_indptr);
    else
        TRY(check_table(where, kv, p));
    p->page_indptr = kv->page_indptr.data;
    p->page_indices = kv->page_indices.data;
    p->n_indices = kv->page_indices.shape[0];
    p->kv_indptr = NULL;
    return FLI_OK;
}

/* Host memory: every request has its tokens. */
static fli_status check_tokens(const char *where, const fli_kv *kv,
                               const fli_attention_params *p)
{
    const int32_t n = p->n_requests;
    const int32_t *indptr = kv->kv_indptr.data;

    TRY(fli__check_indptr(where, "kv_indptr", indptr, n,
                          kv->k.shape[kv->layout == FLI_HND]));
    for (int32_t i = 0; i < n; i++)
        CHECK(p->kv_len[i] <= indptr[i + 1] - indptr[i], INVALID_ARGUMENT,
              "%s: kv_len[%d] = %d, kv_indptr[%d] - kv_indptr[%d] is %d", where,
              (int)i, (int)p->kv_len[i], (int)i + 1, (int)i,
              (int)(indptr[i + 1] - indptr[i]));
    return FLI_OK;
}

static fli_status fill_ragged(const char *where, const fli_attention *op,
                              const fli_kv *kv, fli_attention_params *p)
{
    CHECK(!kv->page_indptr.data && !kv->page_indices.data, INVALID_ARGUMENT,
          "%s: page_indptr is given with a ragged k, expected it absent",
          where);
    TRY(check_index(where, op, "kv_indptr", &kv->kv_indptr, p->n_requests + 1));
    if (op->device)
        p->n_requests = covered_requests(&kv->kv_indptr);
    else
        TRY(check_tokens(where, kv, p));
    p->page_indptr = NULL;
    p->page_indices = NULL;
    p->kv_indptr = kv->kv_indptr.data;
    return FLI_OK;
}

/* --- run ------------------------------------------------------------------ */

static fli_status check_overlap(const char *where, const char *name,
                                const fli_tensor *output,
                                const fli_attention_args *a)
{
    const struct {
        const char *name;
        const fli_tensor *tensor;
    } inputs[] = {
        { "q", &a->q },
        { "k", &a->kv.k },
        { "v", &a->kv.v },
        { "page_indptr", &a->kv.page_indptr },
        { "page_indices", &a->kv.page_indices },
        { "kv_indptr", &a->kv.kv_indptr },
    };

    for (size_t i = 0; i < sizeof(inputs) / sizeof(inputs[0]); i++)
        TRY(fli__check_apart(where, name, output, inputs[i].name,
                             inputs[i].tensor));
    return FLI_OK;
}

/* Checks everything and fills *p; nothing is written yet. */
static fli_status fill(const char *where, const fli_attention *op,
                       const fli_attention_args *args, fli_attention_params *p)
{
    fli_attention_args a;

    CHECK(op, INVALID_ARGUMENT, "%s: op is NULL, expected an op", where);
    TRY(fli__copy_struct(where, "args", &a, sizeof(a), args, sizeof(a)));
    CHECK(op->workspace, INVALID_STATE,
          "%s: op has no plan, expected fli_attention_plan before", where);
    TRY(check_scalars(where, op, &a));
    *p = op->params;
    if (op->work == 0)
        return FLI_OK;
    fill_scalars(op, &a, p);
    TRY(fill_rows(where, op, &a, p));
    TRY(fill_kv(where, op, &a.kv, p));
    TRY(a.kv.k.ndim == 4 ? fill_pages(where, op, &a.kv, p)
                         : fill_ragged(where, op, &a.kv, p));
    TRY(check_overlap(where, "out", &a.out, &a));
    TRY(check_overlap(where, "lse", &a.lse, &a));
    return fli__check_apart(where, "lse", &a.lse, "out", &a.out);
}

fli_status fli_attention_run(const fli_attention *op,
                             const fli_attention_args *args, fli_stream stream)
{
    static const char where[] = "attention run";
    fli__attention_run run = { .op = op };

    TRY(fill(where, op, args, &run.params));
    const fli__call call = { .ctx = op->ctx, .where = where, .stream = stream };

    TRY(fli__check_call(op->ctx, where, stream));
    return fli__run_impl(&call, op->impl, &run, op->work);
}

fli_status fli_attention_run_part(const fli_attention *op,
                                  const fli_attention_args *args, int32_t ith,
                                  int32_t nth)
{
    static const char where[] = "attention run_part";
    fli_attention_params p;

    CHECK(nth >= 1, INVALID_ARGUMENT, "%s: nth is %d, expected at least 1",
          where, (int)nth);
    CHECK(ith >= 0 && ith < nth, INVALID_ARGUMENT,
          "%s: ith is %d, expected 0 to %d", where, (int)ith, (int)nth - 1);
    CHECK(!op || !op->device, UNSUPPORTED,
          "%s: the op runs on cuda, whose parts are blocks; expected "
          "fli_attention_run",
          where);
    TRY(fill(where, op, args, &p));
    if (op->work > 0)
        op->impl->task(&p, ith, nth);
    return FLI_OK;
}
