/* SPDX-License-Identifier: Apache-2.0 */
/* What both attention kernels stand on: which tokens each row of a work item
 * sees, where tokens are, what becomes of a row's state.
 *
 * A mask is two bounds: row r sees tokens [lo[r], hi[r]) and nothing else.  The
 * others are never multiplied with it, not even by zero. */
#ifndef FLI_CPU_ATTENTION_WORK_H
#define FLI_CPU_ATTENTION_WORK_H

#include "abi/attention.h"
#include "cpu/lib/vec.h"

enum {
    MAX_ROWS = 96,     /* packed rows of an item */
    MAX_HEAD_DIM = 576 /* as the public API has it */
};

typedef struct {
    const fli_attention_params *p;
    const fli_work_item *item;
    int32_t n_rows;
    int32_t begin, end; /* tokens that some row sees; begin == end: none */
    int32_t lo[MAX_ROWS], hi[MAX_ROWS];
} attention_work;

/* Sees what the row of a request at position sees of the item's tokens. */
INLINE void see(attention_work *w, int32_t r, int32_t kv_len, int64_t position)
{
    const fli_attention_params *p = w->p;
    const int64_t first = p->window > 0 ? position - p->window + 1 : 0;
    const int64_t last = p->causal ? position + 1 : kv_len;
    const int64_t lo = max64(w->item->kv_begin, first);
    const int64_t hi = max64(lo, min64(w->item->kv_end, last));

    w->lo[r] = (int32_t)min64(lo, w->item->kv_end);
    w->hi[r] = (int32_t)min64(hi, w->item->kv_end);
    if (w->lo[r] == w->hi[r])
        return;
    if (w->begin == w->end) {
        w->begin = w->lo[r];
        w->end = w->hi[r];
    }
    w->begin = w->lo[r] < w->begin ? w->lo[r] : w->begin;
    w->end = w->hi[r] > w->end ? w->hi[r] : w->end;
}

static void begin_work(attention_work *w, const fli_attention_params *p,
                       const fli_work_item *item)
{
    int32_t request = item->request;

    w->p = p;
    w->item = item;
    w->n_rows = item->row_end - item->row_begin;
    w->begin = w->end = item->kv_begin;
    for (int32_t r = 0; r < w->n_rows; r++) {
        const int32_t row = (item->row_begin + r) / p->shape.group;

        while (row >= p->q_indptr[request + 1])
            request++;
        const int32_t kv_len = p->kv_len[request];

        see(w, r, kv_len, (int64_t)kv_len - p->q_indptr[request + 1] + row);
    }
}

/* Byte offsets of tokens [begin, end) of the item's request and head 0. */
static void locate(const attention_work *w, int32_t begin, int32_t end,
                   int64_t *k_at, int64_t *v_at)
{
    const fli_attention_params *p = w->p;
    const int64_t bytes = (int64_t)v_dtype_bytes(p->shape.dtype_kv);
    const int32_t request = w->item->request;

    if (!p->page_indptr) {
        for (int32_t i = 0; i < end - begin; i++) {
            const int64_t token = (int64_t)p->kv_indptr[request] + begin + i;

            k_at[i] = token * p->k_token_stride * bytes;
            v_at[i] = token * p->v_token_stride * bytes;
        }
        return;
    }
    const int32_t *page =
        p->page_indices + p->page_indptr[request] + begin / p->page_size;
    int32_t slot = begin % p->page_size;

    for (int32_t i = 0; i < end - begin; i++) {
        k_at[i] = (*page * p->k_page_stride + slot * p->k_token_stride) * bytes;
        v_at[i] = (*page * p->v_page_stride + slot * p->v_token_stride) * bytes;
        if (++slot == p->page_size) {
            slot = 0;
            page++;
        }
    }
}

INLINE void widen(float *to, const void *from, int32_t dtype, int64_t at,
                  int32_t n)
{
    for (int32_t i = 0; i < n; i += VL)
        v_store(to, FLI_ABI_F32, i, v_load(from, dtype, at + i));
}

/* The query of row r and a head of the item, as f32. */
static void load_query(const attention_work *w, int32_t r, int32_t kv_head,
                       float *q)
{
    const fli_attention_params *p = w->p;
    const int32_t row = w->item->row_begin + r, group = p->shape.group;
    const int64_t at =
        row / group * p->q_stride[0]
        + ((int64_t)kv_head * group + row % group) * p->q_stride[1];

#define WIDEN(DTYPE) widen(q, p->q, DTYPE, at, p->shape.head_dim_qk)
    FOR_DTYPE(p->shape.dtype_q, WIDEN);
#undef WIDEN
}

/* --- logits --------------------------------------------------------------- */

/* From a dot product to a logit: x = scale * dot, or where there is a soft cap
 * x = scale * (cap_out * tanh(cap_in * dot)) with scale 1. */
typedef struct {
    float scale;
    float hidden; /* what scale makes -inf */
    float cap_in, cap_out;
} attention_logit;

INLINE attention_logit logit_of(const fli_attention_params *p)
{
    const float log2e = 0x1.715476p+0f;
    attention_logit l = { 0 };

    if (p->soft_cap > 0) {
        l.scale = 1;
        l.cap_in = p->scale / p->soft_cap;
        l.cap_out = p->soft_cap * log2e;
    } else {
        l.scale = p->scale * log2e;
        if (l.scale == 0) /* or hidden tokens would be 0 * inf */
            l.scale = 0x1p-126f;
    }
    l.hidden = l.scale < 0 ? INFINITY : -INFINITY;
    return l;
}

INLINE vf soft_cap(const attention_logit *l, vf dot)
{
    return l->cap_out * v_tanh(l->cap_in * dot);
}

/* --- states --------------------------------------------------------------- */

/* A row's state is md = {m, d} and o[n]; it is empty if d is 0 (NaN logits
 * leave m -inf too).  Merges a later piece into it; an empty one changes
 * nothing. */
INLINE void merge_state(float *md, float *o, const float *piece_md,
                        const float *piece_o, int32_t n)
{
    if (piece_md[1] == 0)
        return;
    if (md[1] == 0) {
        memcpy(md, piece_md, 2 * sizeof(float));
        memcpy(o, piece_o, (size_t)n * sizeof(float));
        return;
    }
    const float m = md[0] > piece_md[0] ? md[0] : piece_md[0];
    const float a = s_exp2(md[0] - m), b = s_exp2(piece_md[0] - m);

    md[0] = m;
    md[1] = md[1] * a + piece_md[1] * b;
    for (int32_t i = 0; i < n; i += VL)
        v_store(o, FLI_ABI_F32, i,
                v_fma(v_load(piece_o, FLI_ABI_F32, i), v_set(b),
                      v_load(o, FLI_ABI_F32, i) * a));
}

INLINE void store_out(void *out, int32_t dtype, const float *o, float d,
                      float v_scale, int32_t n)
{
    for (int32_t i = 0; i < n; i += VL) {
        const vf x = v_load(o, FLI_ABI_F32, i) / d * v_scale;

        v_store(out, dtype, i, d == 0 ? v_set(0) : x);
    }
}

/* Writes out and lse of a packed row. */
static void write_row(const fli_attention_params *p, int32_t packed_row,
                      int32_t kv_head, const float *md, const float *o)
{
    const int64_t row = packed_row / p->shape.group;
    const int64_t head =
        (int64_t)kv_head * p->shape.group + packed_row % p->shape.group;
    void *out = (char *)p->out
                + (row * p->out_stride[0] + head * p->out_stride[1])
                      * (int64_t)v_dtype_bytes(p->shape.dtype_out);

    if (p->lse)
        p->lse[row * p->lse_stride[0] + head * p->lse_stride[1]] =
            md[1] == 0 ? -INFINITY : md[0] + log2f(md[1]);
#define STORE_OUT(DTYPE)                                                       \
    store_out(out, DTYPE, o, md[1], p->v_scale, p->shape.head_dim_vo)
    FOR_DTYPE(p->shape.dtype_out, STORE_OUT);
#undef STORE_OUT
}

/* Row r of a head of the item is done: to its partial row, or out. */
static void finish_row(const attention_work *w, int32_t r, int32_t kv_head,
                       const float *md, const float *o)
{
    const fli_attention_params *p = w->p;
    const fli_work_item *item = w->item;
    const int32_t n = p->shape.head_dim_vo;

    if (item->partial < 0) {
        write_row(p, item->row_begin + r, kv_head, md, o);
        return;
    }
    const int64_t at =
        item->partial + (int64_t)(kv_head - item->kv_head) * w->n_rows + r;

    memcpy(p->partial_md + 2 * at, md, 2 * sizeof(float));
    memcpy(p->partial_o + at * n, o, (size_t)n * sizeof(float));
}

static void merge_pieces(const fli_attention_params *p,
                         const fli_merge_item *merge)
{
    const int32_t n = p->shape.head_dim_vo;
    const int32_t n_rows = merge->row_end - merge->row_begin;

    for (int32_t i = 0; i < merge->n_kv_heads * n_rows; i++) {
        float md[2] = { -INFINITY, 0 }, o[MAX_HEAD_DIM];

        for (int32_t s = 0; s < merge->n_sources; s++) {
            const int64_t at = (int64_t)p->sources[merge->source + s] + i;

            merge_state(md, o, p->partial_md + 2 * at, p->partial_o + at * n,
                        n);
        }
        if (md[1] == 0)
            memset(o, 0, (size_t)n * sizeof(float));
        write_row(p, merge->row_begin + i % n_rows, merge->kv_head + i / n_rows,
                  md, o);
    }
}

/* The item's partial rows are written: whoever comes last merges. */
static void arrive(const fli_attention_params *p, const fli_work_item *item)
{
    for (int32_t i = 0; i < item->n_merges; i++) {
        const fli_merge_item *merge = &p->merges[item->merge + i];
        int32_t *counter = &p->counters[merge->counter];

        if (__atomic_add_fetch(counter, 1, __ATOMIC_ACQ_REL) < merge->n_sources)
            continue;
        merge_pieces(p, merge);
        __atomic_store_n(counter, 0, __ATOMIC_RELAXED);
    }
}

#endif
