/* SPDX-License-Identifier: Apache-2.0 */
/* Driver of attention: create, plan and run.  Pools and ragged tensors are poison
 * but for the tokens in use, pages are shuffled among spare ones, and table
 * entries that nobody uses hold no page at all. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

enum { MAX_REQUESTS = 64, SPARE_ROWS = 3, SPARE_PAGES = 3 };

/* heads: of q / of kv; d: of q, k / of v, out.  page 0: ragged.  stride: compact,
 * pad, or pair, K and V being views of one tensor.  flags: none, graph, invariant
 * or both.  plan: the mask that plan is told, any being right.  parts: 0 for run,
 * or so many calls of run_part from the last to the first.  slack: table entries of
 * each request beyond what it needs. */
static const char *const attention_keys[] = {
    "q_len=1",        "kv_len=17",   "heads=4/2",   "d=64/64",
    "page=16",        "layout=NHD",  "q=bf16",      "kv=bf16",
    "out=bf16",       "mask=causal", "window=0",    "cap=0",
    "sm_scale=0",     "k_scale=0",   "v_scale=0",   "lse=1",
    "stride=compact", "flags=none",  "plan=causal", "parts=0",
    "slack=0",        NULL
};

typedef struct {
    fli_attention_desc desc;
    fli_attention_batch batch, decoy;
    fli_attention_args args;
    int32_t q_indptr[MAX_REQUESTS + 1], kv_len[MAX_REQUESTS];
    int32_t q_len[MAX_REQUESTS], indptr[MAX_REQUESTS + 1];
    int32_t one_q_indptr[2];
    int32_t n, page, parts;
} state;

/* "32/8" */
static int pair(const check *c, const char *key, int32_t *a, int32_t *b)
{
    char *slash;

    *a = (int32_t)strtol(check_word(c, key), &slash, 10);
    *b = *slash == '/' ? (int32_t)strtol(slash + 1, NULL, 10) : 0;
    return *a > 0 && *b > 0;
}

static int32_t mask_of(const check *c, const char *key)
{
    return check_is(c, key, "causal") ? FLI_MASK_CAUSAL : FLI_MASK_NONE;
}

static void set_desc(const check *c, state *s)
{
    fli_attention_desc *d = &s->desc;
    const int both = check_is(c, "flags", "both");

    d->size = sizeof(*d);
    d->dtype_q = check_dtype(c, "q");
    d->dtype_kv = check_dtype(c, "kv");
    d->dtype_out = check_dtype(c, "out");
    d->masks = 1u << mask_of(c, "mask");
    if (both || check_is(c, "flags", "graph"))
        d->flags |= FLI_ATTENTION_GRAPH;
    if (both || check_is(c, "flags", "invariant"))
        d->flags |= FLI_ATTENTION_BATCH_INVARIANT;
    d->max_requests = s->n + 1;
    d->max_rows = s->q_indptr[s->n] + 1;
}

/* The decoy is planned first in graph mode: nothing of it may stay. */
static void set_batches(const check *c, state *s)
{
    s->batch.size = s->decoy.size = sizeof(s->batch);
    s->batch.n_requests = s->n;
    s->batch.q_indptr = s->q_indptr;
    s->batch.kv_len = s->kv_len;
    s->batch.mask = mask_of(c, "plan");
    s->batch.window = (int32_t)check_int(c, "window");
    s->one_q_indptr[1] = s->desc.max_rows;
    s->decoy.n_requests = 1;
    s->decoy.q_indptr = s->one_q_indptr;
    s->decoy.kv_len = &s->desc.max_rows; /* any length */
}

static fli_tensor make_rows(check *c, const char *name, check_role role,
                            const int64_t shape[3], int32_t dtype)
{
    const int is_padded = check_is(c, "stride", "pad");
    const int is_out = role == CHECK_OUT;
    const check_spec spec = {
        .name = name,
        .role = role,
        .fill = CHECK_NORMAL,
        .dtype = dtype,
        .ndim = shape[2] ? 3 : 2,
        .shape = { shape[0], shape[1], shape[2] },
        .pad = { is_padded ? 5 + is_out : 0,
                 is_padded && shape[2] ? 3 + is_out : 0 },
    };

    return check_tensor(c, &spec);
}

static void make_q_and_out(check *c, state *s)
{
    const fli_attention_desc *d = &s->desc;
    const int64_t rows = s->q_indptr[s->n];
    int64_t shape[3] = { rows + SPARE_ROWS, d->n_qo_heads, d->head_dim_qk };
    fli_tensor *q = &s->args.q;

    *q = make_rows(c, "q", CHECK_IN, shape, d->dtype_q);
    for (int64_t r = rows; q->data && r < shape[0]; r++)
        for (int64_t h = 0; h < shape[1]; h++)
            for (int64_t i = 0; i < shape[2]; i++)
                check_set(q, r * q->stride[0] + h * q->stride[1] + i, NAN);
    shape[2] = d->head_dim_vo;
    s->args.out = make_rows(c, "out", CHECK_OUT, shape, d->dtype_out);
    shape[2] = 0;
    if (check_int(c, "lse"))
        s->args.lse = make_rows(c, "lse", CHECK_OUT, shape, FLI_F32);
}

/* 0 .. n - 1 in any order. */
static int32_t *shuffled(check *c, int64_t n)
{
    int32_t *ids = check_state(c, (size_t)(n + 1) * sizeof(*ids));

    for (int64_t i = 0; i < n; i++) {
        const int64_t j = check_below(c, i + 1);

        ids[i] = ids[j];
        ids[j] = (int32_t)i;
    }
    return ids;
}

/* Prefix sums of what each request needs, in pages or tokens, and slack. */
static int64_t make_indptr(const check *c, state *s)
{
    const int32_t unit = s->page ? s->page : 1;

    for (int i = 0; i < s->n; i++)
        s->indptr[i + 1] = s->indptr[i] + (s->kv_len[i] + unit - 1) / unit
                           + (int32_t)check_int(c, "slack");
    return s->indptr[s->n];
}

/* The page table; returns the number of pages in the pool. */
static int64_t make_table(check *c, state *s)
{
    const int64_t n = make_indptr(c, s), n_pages = n + SPARE_PAGES;
    int32_t *ids = shuffled(c, n_pages);
    const int64_t tail = 2;
    int32_t *table = check_state(c, (size_t)(n + tail) * sizeof(*table));

    for (int64_t k = 0; k < n + tail; k++)
        table[k] = k % 2 ? -7 : (int32_t)n_pages; /* never to be looked at */
    for (int i = 0; i < s->n; i++)
        for (int32_t j = 0; j * (int64_t)s->page < s->kv_len[i]; j++)
            table[s->indptr[i] + j] = ids[s->indptr[i] + j];
    s->args.kv.page_indptr =
        check_indices(c, "page_indptr", s->indptr, s->n + 1);
    s->args.kv.page_indices = check_indices(c, "page_indices", table, n + tail);
    return n_pages;
}

/* [pages,] tokens and heads by the layout, dim; poison.  which: 0 K, 1 V. */
static fli_tensor make_cache(check *c, const state *s, int which, int64_t n)
{
    const int is_padded = check_is(c, "stride", "pad");
    const int is_hnd = check_is(c, "layout", "HND"), paged = s->page > 0;
    const int64_t tokens = paged ? s->page : n, heads = s->desc.n_kv_heads;
    check_spec spec = {
        .name = which ? "v" : "k",
        .role = CHECK_IN,
        .fill = CHECK_NAN,
        .dtype = s->desc.dtype_kv,
        .ndim = 3 + paged,
        .shape = { n },
    };

    spec.shape[paged] = is_hnd ? heads : tokens;
    spec.shape[paged + 1] = is_hnd ? tokens : heads;
    spec.shape[paged + 2] = which ? s->desc.head_dim_vo : s->desc.head_dim_qk;
    for (int i = 0; is_padded && i < spec.ndim - 1; i++)
        spec.pad[i] = 1 + 3 * i + which;
    return check_tensor(c, &spec);
}

/* Both in one [pages, 2, ..] or [2, tokens, ..]. */
static void make_pair(check *c, state *s, int64_t n)
{
    const int is_hnd = check_is(c, "layout", "HND"), at = s->page > 0;
    const int64_t tokens = s->page ? s->page : n, heads = s->desc.n_kv_heads;
    check_spec spec = {
        .name = "kv",
        .role = CHECK_IN,
        .fill = CHECK_NAN,
        .dtype = s->desc.dtype_kv,
        .ndim = 4 + at,
        .shape = { n },
    };

    spec.shape[at] = 2;
    spec.shape[at + 1] = is_hnd ? heads : tokens;
    spec.shape[at + 2] = is_hnd ? tokens : heads;
    spec.shape[at + 3] = s->desc.head_dim_qk;
    const fli_tensor both = check_tensor(c, &spec);
    fli_tensor k = both;

    k.ndim--;
    for (int i = at; i < k.ndim; i++) {
        k.shape[i] = both.shape[i + 1];
        k.stride[i] = both.stride[i + 1];
    }
    s->args.kv.k = s->args.kv.v = k;
    if (both.data)
        s->args.kv.v.data =
            (char *)both.data
            + (size_t)both.stride[at] * fli_dtype_bytes(both.dtype);
}

static void fill_token(check *c, const state *s, fli_tensor *cache, int request,
                       int64_t j)
{
    const int hnd = s->args.kv.layout == FLI_HND, paged = s->page > 0;
    const int64_t dim = cache->shape[cache->ndim - 1];
    int64_t at = s->indptr[request] + j, first = 0;

    if (paged) {
        const int32_t *table = s->args.kv.page_indices.data;

        first = table[s->indptr[request] + j / s->page] * cache->stride[0];
        at = j % s->page;
    }
    first += at * cache->stride[paged + hnd];
    for (int64_t h = 0; h < s->desc.n_kv_heads; h++)
        for (int64_t i = 0; i < dim; i++)
            check_set(cache, first + h * cache->stride[paged + !hnd] + i,
                      check_normal(c));
}

static void make_kv(check *c, state *s)
{
    fli_kv *kv = &s->args.kv;

    kv->layout = check_is(c, "layout", "HND") ? FLI_HND : FLI_NHD;
    const int64_t n = s->page ? make_table(c, s) : make_indptr(c, s);

    if (!s->page)
        kv->kv_indptr = check_indices(c, "kv_indptr", s->indptr, s->n + 1);
    if (check_is(c, "stride", "pair")) {
        make_pair(c, s, n);
    } else {
        kv->k = make_cache(c, s, 0, n);
        kv->v = make_cache(c, s, 1, n);
    }
    for (int i = 0; kv->k.data && i < s->n; i++)
        for (int64_t j = 0; j < s->kv_len[i]; j++) {
            fill_token(c, s, &kv->k, i, j);
            fill_token(c, s, &kv->v, i, j);
        }
}

/* Decoding is bound by reading K and V, the rest by multiplying. */
static void set_work(check *c, const state *s)
{
    const double dims = s->desc.head_dim_qk + s->desc.head_dim_vo;
    double tokens = 0, cells = 0;

    for (int i = 0; i < s->n; i++) {
        const double q_len = s->q_len[i], kv_len = s->kv_len[i];

        tokens += kv_len;
        cells += q_len * kv_len;
        if (s->args.mask == FLI_MASK_CAUSAL)
            cells -= q_len * (q_len - 1) / 2;
    }
    check_work(c,
               tokens * s->desc.n_kv_heads * dims
                   * (double)fli_dtype_bytes(s->desc.dtype_kv),
               2 * cells * s->desc.n_qo_heads * dims,
               check_is(c, "bench", "decode") ? "read" : "fma");
}

static void *attention_setup(check *c)
{
    state *s = check_state(c, sizeof(*s));
    fli_attention_desc *d = &s->desc;

    s->n = check_ints(c, "q_len", s->q_len, MAX_REQUESTS);
    s->page = (int32_t)check_int(c, "page");
    s->parts = (int32_t)check_int(c, "parts");
    if (check_ints(c, "kv_len", s->kv_len, MAX_REQUESTS) != s->n)
        check_broken(c, "q_len and kv_len have different lengths");
    if (!pair(c, "heads", &d->n_qo_heads, &d->n_kv_heads)
        || !pair(c, "d", &d->head_dim_qk, &d->head_dim_vo))
        check_broken(c, "heads or d is not two numbers");
    if (check_is(c, "stride", "pair") && d->head_dim_qk != d->head_dim_vo)
        check_broken(c, "stride=pair needs equal dims");
    for (int i = 0; i < s->n; i++)
        s->q_indptr[i + 1] = s->q_indptr[i] + s->q_len[i];
    set_desc(c, s);
    set_batches(c, s);
    s->args.size = sizeof(s->args);
    s->args.mask = mask_of(c, "mask");
    s->args.window = (int32_t)check_int(c, "window");
    s->args.soft_cap = (float)check_float(c, "cap");
    s->args.sm_scale = (float)check_float(c, "sm_scale");
    s->args.k_scale = (float)check_float(c, "k_scale");
    s->args.v_scale = (float)check_float(c, "v_scale");
    make_q_and_out(c, s);
    make_kv(c, s);
    set_work(c, s);
    return s;
}

static fli_status run(const check *c, const state *s, const fli_attention *op)
{
    fli_status status = FLI_OK;

    if (s->parts == 0)
        return fli_attention_run(op, &s->args, check_stream(c));
    for (int32_t i = s->parts - 1; i >= 0 && !status; i--)
        status = fli_attention_run_part(op, &s->args, i, s->parts);
    return status;
}

static fli_status attention_call(check *c, void *memory, fli_context *ctx)
{
    const state *s = memory;
    fli_attention *op;
    fli_status status = fli_attention_create(&op, ctx, &s->desc);

    if (status)
        return status;
    const size_t bytes = fli_attention_workspace(op);
    void *workspace = check_memory(c, bytes);

    if (s->desc.flags & FLI_ATTENTION_GRAPH)
        status = fli_attention_plan(op, &s->decoy, workspace, bytes,
                                    check_stream(c));
    if (!status)
        status = fli_attention_plan(op, &s->batch, workspace, bytes,
                                    check_stream(c));
    if (!status) {
        check_start(c);
        do
            status = run(c, s, op);
        while (!status && check_again(c));
    }
    fli_attention_destroy(op);
    return status;
}

const check_driver check_attention = {
    .op = "attention",
    .keys = attention_keys,
    .setup = attention_setup,
    .call = attention_call,
};
