/* SPDX-License-Identifier: Apache-2.0 */
/* What the attention kernels share: which tokens a row sees, where tokens lie,
 * how a dot product becomes a logit, what becomes of a row's state.
 *
 * A worker is a block.  It walks its items; an item that shares its rows with
 * others leaves partial states, and the last of them to arrive merges.  An item
 * is of one request: segments that several requests share are not planned for
 * CUDA. */
#ifndef FLI_CUDA_ATTENTION_CUH
#define FLI_CUDA_ATTENTION_CUH

#include "abi/attention_launch.h"
#include "cuda/lib/base.cuh"

/* A maximum below every logit, but finite: x - LOWEST_F is no NaN for the -inf of
 * a hidden token. */
#define LOWEST_F -3.402823466e38f

/* --- rows ------------------------------------------------------------------ */

DEVICE int32_t query_row(const fli_attention_params *p, int32_t packed_row)
{
    return (int32_t)((uint32_t)packed_row / (uint32_t)p->shape.group);
}

/* Elements from p->q to a packed row; the same of out and lse. */
DEVICE int64_t row_offset(const fli_attention_params *p,
                          const int64_t stride[2], int32_t packed_row,
                          int32_t kv_head)
{
    const int32_t group = p->shape.group;
    const int32_t row = query_row(p, packed_row);

    return row * stride[0]
           + ((int64_t)kv_head * group + (packed_row - row * group))
                 * stride[1];
}

DEVICE int64_t q_offset(const fli_attention_params *p, int32_t packed_row,
                        int32_t kv_head)
{
    return row_offset(p, p->q_stride, packed_row, kv_head);
}

/* The token that the row itself is; below 0 or beyond kv_len where the request
 * has more rows than tokens, or the row is none of it. */
DEVICE int32_t row_position(const fli_attention_params *p, int32_t request,
                            int32_t packed_row)
{
    return p->kv_len[request] - p->q_indptr[request + 1]
           + query_row(p, packed_row);
}

DEVICE int32_t clamp_token(int64_t token, int32_t begin, int32_t end)
{
    return (int32_t)MAX((int64_t)begin, MIN((int64_t)end, token));
}

/* Tokens [begin, end) are those that some row sees, [full_begin, full_end) those
 * that every row sees; either may be empty. */
typedef struct {
    int32_t begin, end;
    int32_t full_begin, full_end;
} token_span;

/* What rows at positions first to last see of tokens [begin, end). */
DEVICE token_span span_of(const fli_attention_params *p, int32_t first,
                          int32_t last, int32_t begin, int32_t end)
{
    token_span s = { begin, end, begin, end };

    if (p->window > 0) {
        s.begin = clamp_token((int64_t)first - p->window + 1, begin, end);
        s.full_begin = clamp_token((int64_t)last - p->window + 1, begin, end);
    }
    if (p->causal) {
        s.end = clamp_token((int64_t)last + 1, s.begin, end);
        s.full_end = clamp_token((int64_t)first + 1, begin, end);
    }
    return s;
}

/* Does the row at position see a token of its request? */
DEVICE int32_t row_sees(const fli_attention_params *p, int32_t position,
                        int32_t token)
{
    return (!p->causal || token <= position)
           && (p->window == 0 || position - token < p->window);
}

/* --- tokens ---------------------------------------------------------------- */

/* Exact quotients of numbers below 2^31 by one that is only known at run time. */
typedef struct {
    uint32_t by, reciprocal;
} divisor;

DEVICE divisor divisor_of(uint32_t by)
{
    const divisor d = { by, 0xffffffffu / by };

    return d;
}

DEVICE uint32_t divide(uint32_t n, divisor d, int32_t *rest)
{
    uint32_t quotient = __umulhi(n, d.reciprocal); /* or one less */
    uint32_t left = n - quotient * d.by;

    if (left >= d.by) {
        quotient++;
        left -= d.by;
    }
    *rest = (int32_t)left;
    return quotient;
}

/* Ragged tokens are pages of one token, whose ids are their entries. */
DEVICE divisor page_divisor(const fli_attention_params *p)
{
    return divisor_of(p->page_indptr ? (uint32_t)p->page_size : 1);
}

/* K or V. */
typedef struct {
    const void *data;
    int64_t page_stride, token_stride, head_stride;
} kv_side;

DEVICE kv_side k_side(const fli_attention_params *p)
{
    const int64_t page = p->page_indptr ? p->k_page_stride : p->k_token_stride;
    const kv_side side = { p->k, page, p->k_token_stride, p->k_head_stride };

    return side;
}

DEVICE kv_side v_side(const fli_attention_params *p)
{
    const int64_t page = p->page_indptr ? p->v_page_stride : p->v_token_stride;
    const kv_side side = { p->v, page, p->v_token_stride, p->v_head_stride };

    return side;
}

/* The entries of a request in the page table, the last included; last < first
 * where it has none. */
typedef struct {
    int32_t first, last;
} page_range;

DEVICE page_range page_range_of(const fli_attention_params *p, int32_t begin,
                                int32_t end)
{
    const int64_t n = p->page_indptr ? p->n_indices : p->n_pages;
    const int64_t last = MIN((int64_t)MAX(end, 0), n) - 1;

    const page_range range = { MAX(begin, 0),
                               p->n_pages > 0 ? (int32_t)last : -1 };

    return range;
}

DEVICE page_range request_pages(const fli_attention_params *p, int32_t request)
{
    const int32_t *const indptr =
        p->page_indptr ? p->page_indptr : p->kv_indptr;

    return page_range_of(p, indptr[request], indptr[request + 1]);
}

/* Has the request a place for n tokens' first?  If not, none of them is seen. */
DEVICE int32_t has_pages(const fli_attention_params *p, page_range range,
                         int32_t n)
{
    if (n > 0 && range.last < range.first)
        raise_sticky(p->sticky, FLI_STICKY_TABLE);
    return n > 0 && range.first <= range.last;
}

/* The entry of a token of the request, and the token's slot in that page. */
DEVICE int32_t page_entry(const fli_attention_params *p, page_range range,
                          divisor page, int32_t token, int32_t *slot)
{
    const uint32_t n = (uint32_t)(range.last - range.first);
    uint32_t i = divide((uint32_t)token, page, slot);

    if (i > n) {
        raise_sticky(p->sticky, FLI_STICKY_TABLE);
        i = n;
    }
    return range.first + (int32_t)i;
}

/* The page id at an entry, unchecked: page_offset checks it, so that it may be
 * loaded long before. */
DEVICE int32_t page_id(const fli_attention_params *p, int32_t entry)
{
    return p->page_indptr ? p->page_indices[entry] : entry;
}

/* Elements from side->data to a slot of a page, for head 0. */
DEVICE int64_t page_offset(const fli_attention_params *p, const kv_side *side,
                           int32_t id, int32_t slot)
{
    if (id < 0 || id >= p->n_pages) {
        raise_sticky(p->sticky, FLI_STICKY_PAGE);
        id = id < 0 ? 0 : (int32_t)p->n_pages - 1;
    }
    return id * side->page_stride + slot * side->token_stride;
}

/* --- logits ---------------------------------------------------------------- */

/* From a dot product to log2 units: x = scale * dot, or where there is a soft cap
 * x = cap * tanh(scale * dot); cap 0 is none. */
typedef struct {
    float scale, cap;
} logit_form;

DEVICE logit_form logit_form_of(const fli_attention_params *p)
{
    const float log2e = 0x1.715476p+0f;

    const int32_t is_capped = p->soft_cap > 0;
    const logit_form form = {
        is_capped ? p->scale / p->soft_cap : p->scale * log2e,
        is_capped ? p->soft_cap * log2e : 0,
    };

    return form;
}

/* tanh within some ulp: below 0.625 an odd minimax polynomial of degree 11, above
 * it 1 - 2 / (e^2x + 1); NaN stays NaN. */
DEVICE float tanh_f32(float x)
{
    const float a = fabsf(x), z = a * a;
    const float e = exp2_approx(a * 0x1.715476p+1f);
    const float large = 1.0f - __fdividef(2.0f, 1.0f + fminf(e, 0x1p+40f));
    float p = -0x1.75e1c2p-8f;

    p = fmaf(p, z, 0x1.522698p-6f);
    p = fmaf(p, z, -0x1.b83c5ap-5f);
    p = fmaf(p, z, 0x1.110726p-3f);
    p = fmaf(p, z, -0x1.555532p-2f);
    p = fmaf(p * z, a, a);
    return copysignf(a > 0.625f ? large : p, x);
}

DEVICE float logit_of(const logit_form *form, float dot)
{
    const float x = form->scale * dot;

    return form->cap > 0 ? form->cap * tanh_f32(x) : x;
}

/* --- states ---------------------------------------------------------------- */

/* A row's state, of its o four elements.  It is empty if d is 0; then m is -inf
 * and o is 0. */
typedef struct {
    float m, d, o[4];
} state4;

DEVICE state4 empty_state(void)
{
    const state4 s = { -INFINITY_F, 0, { 0, 0, 0, 0 } };

    return s;
}

/* Merges a later piece into s; an empty one changes no bit.  Rounded operations
 * by name: a merge has the same bits wherever it happens. */
DEVICE void merge_state(state4 *s, const state4 *piece)
{
    const float m = fmaxf(s->m, piece->m);
    const float base = m == -INFINITY_F ? 0 : m;
    const float a = exp2_approx(s->m - base), b = exp2_approx(piece->m - base);

    s->m = m;
    s->d = __fmaf_rn(piece->d, b, __fmul_rn(s->d, a));
#pragma unroll
    for (int32_t i = 0; i < 4; i++)
        s->o[i] = __fmaf_rn(piece->o[i], b, __fmul_rn(s->o[i], a));
}

/* Four elements of a row of out, at any alignment. */
DEVICE void store_out4(void *out, int32_t dtype, int64_t at, const float x[4])
{
    char *const to = (char *)out + at * dtype_bytes(dtype);

    if (dtype == FLI_ABI_F32 && (size_t)to % 16 == 0) {
        *(float4 *)to = make_float4(x[0], x[1], x[2], x[3]);
    } else if (dtype != FLI_ABI_F32 && (size_t)to % 8 == 0) {
        *(uint2 *)to = make_uint2(pack_f32(x[0], x[1], dtype),
                                  pack_f32(x[2], x[3], dtype));
    } else {
#pragma unroll
        for (int32_t i = 0; i < 4; i++)
            store_f32(out, dtype, at + i, x[i]);
    }
}

/* Elements at to at + 3 of a packed row's out, and its lse. */
DEVICE void write_row(const fli_attention_params *p, int32_t packed_row,
                      int32_t kv_head, int32_t at, const state4 *s)
{
    const float scale = s->d == 0 ? 0 : p->v_scale / s->d;
    float x[4];

#pragma unroll
    for (int32_t i = 0; i < 4; i++)
        x[i] = s->o[i] * scale;
    store_out4(p->out, p->shape.dtype_out,
               row_offset(p, p->out_stride, packed_row, kv_head) + at, x);
    if (p->lse && at == 0)
        p->lse[row_offset(p, p->lse_stride, packed_row, kv_head)] =
            s->d == 0 ? -INFINITY_F : s->m + log2_approx(s->d);
}

/* Elements at to at + 3 of a partial row; head_dim is head_dim_vo, better as a
 * constant. */
DEVICE void store_partial(const fli_attention_params *p, int64_t row,
                          int32_t head_dim, int32_t at, const state4 *s)
{
    *(float4 *)(p->partial_o + row * head_dim + at) =
        make_float4(s->o[0], s->o[1], s->o[2], s->o[3]);
    if (at == 0)
        *(float2 *)(p->partial_md + 2 * row) =
            make_float2(s->d == 0 ? -INFINITY_F : s->m, s->d);
}

/* Past the L1: others wrote it. */
DEVICE state4 load_partial(const fli_attention_params *p, int64_t row,
                           int32_t head_dim, int32_t at)
{
    const float4 o =
        __ldcg((const float4 *)(p->partial_o + row * head_dim + at));
    const float2 md = __ldcg((const float2 *)(p->partial_md + 2 * row));

    const state4 s = { md.x, md.y, { o.x, o.y, o.z, o.w } };

    return s;
}

/* Elements at to at + 3 of a row of an item are done: partial_row is -1 where the
 * item writes out itself. */
DEVICE void finish_row(const fli_attention_params *p, int32_t packed_row,
                       int32_t kv_head, int64_t partial_row, int32_t head_dim,
                       int32_t at, const state4 *s)
{
    if (partial_row < 0)
        write_row(p, packed_row, kv_head, at, s);
    else
        store_partial(p, partial_row, head_dim, at, s);
}

/* --- merges ---------------------------------------------------------------- */

/* Partial rows that a thread loads at once. */
#ifndef MERGE_BATCH
#define MERGE_BATCH 8
#endif

/* Adds 1 to a counter, returns what it was: what all threads wrote before the
 * barrier before is seen behind the barrier after by the last that arrives. */
DEVICE int32_t count_arrival(int32_t *counter)
{
    int32_t before;

    asm volatile("atom.add.acq_rel.gpu.global.s32 %0, [%1], 1;"
                 : "=r"(before)
                 : "l"(counter)
                 : "memory");
    return before;
}

/* The lane's source of those from `first` on. */
DEVICE int32_t lane_source(const fli_attention_params *p,
                           const fli_merge_item *merge, int32_t first)
{
    const int32_t i = first + (int32_t)(threadIdx.x % 32);

    return i < merge->n_sources ? p->sources[merge->source + i] : 0;
}

/* Folds four elements of row i of a merge's sources, in list order.  source is
 * lane_source of 0; the whole warp comes here together. */
DEVICE state4 fold_sources(const fli_attention_params *p,
                           const fli_merge_item *merge, int32_t source,
                           int32_t i, int32_t head_dim, int32_t at)
{
    state4 s = empty_state();

#pragma unroll 1
    for (int32_t k = 0; k < merge->n_sources; k += MERGE_BATCH) {
        state4 piece[MERGE_BATCH];

        if (k > 0 && k % 32 == 0)
            source = lane_source(p, merge, k);
#pragma unroll
        for (int32_t b = 0; b < MERGE_BATCH; b++) {
            const int32_t row = __shfl_sync(ALL_LANES, source, (k + b) % 32);

            piece[b] = k + b < merge->n_sources
                           ? load_partial(p, (int64_t)row + i, head_dim, at)
                           : empty_state();
        }
#pragma unroll
        for (int32_t b = 0; b < MERGE_BATCH; b++)
            merge_state(&s, &piece[b]);
    }
    return s;
}

/* Four elements a thread; warps in step, for fold_sources. */
DEVICE void merge_pieces(const fli_attention_params *p,
                         const fli_merge_item *merge, int32_t source,
                         int32_t head_dim)
{
    const int32_t n_rows = merge->row_end - merge->row_begin;
    const int32_t n = merge->n_kv_heads * n_rows * (head_dim / 4);

#pragma unroll 1
    for (int32_t first = threadIdx.x / 32 * 32; first < n;
         first += blockDim.x) {
        const int32_t x = MIN(first + (int32_t)(threadIdx.x % 32), n - 1);
        const int32_t i = x / (head_dim / 4), at = x % (head_dim / 4) * 4;
        const int32_t head = i / n_rows;
        const state4 s = fold_sources(p, merge, source, i, head_dim, at);

        if (first + (int32_t)(threadIdx.x % 32) < n)
            write_row(p, merge->row_begin + i - head * n_rows,
                      merge->kv_head + head, at, &s);
    }
}

/* All threads of the block, behind a barrier: their partial rows of the merge are
 * written.  The block that comes last merges.  source is lane_source of 0, which
 * may be loaded before. */
DEVICE void arrive_at(const fli_attention_params *p,
                      const fli_merge_item *merge, int32_t source,
                      int32_t head_dim)
{
    __shared__ int32_t is_last;

    if (threadIdx.x == 0) {
        int32_t *const counter = &p->counters[merge->counter];

        is_last = count_arrival(counter) == merge->n_sources - 1;
        if (is_last)
            *counter = 0;
    }
    __syncthreads();
    if (is_last)
        merge_pieces(p, merge, source, head_dim);
}

/* The same for each merge of an item, with the barriers. */
DEVICE void arrive(const fli_attention_params *p, const fli_work_item *item,
                   int32_t head_dim)
{
    for (int32_t i = 0; i < item->n_merges; i++) {
        const fli_merge_item merge = p->merges[item->merge + i];

        __syncthreads();
        arrive_at(p, &merge, lane_source(p, &merge, 0), head_dim);
    }
}

#endif
