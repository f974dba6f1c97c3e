/* SPDX-License-Identifier: Apache-2.0 */
/* attention: any item of any class, for the tensors that the others refuse.
 *
 *   FLI_DTYPE_Q, FLI_DTYPE_KV  f32, f16 or bf16
 *   HEAD_DIM_QK, HEAD_DIM_VO   multiples of 4, at most 576
 *
 * A warp takes a packed row at a time, its tokens in steps of 32: a lane has the
 * logit of a token, then four elements of the output of each 128 and all tokens.
 * Everything is f32 and loaded element by element. */
#include "cuda/lib/attention.cuh"

#define WARPS      8
#define OUT_BLOCKS ((HEAD_DIM_VO + 127) / 128)

/* One m and d for all blocks: elements 128 i + 4 lane to + 3 in block i. */
typedef state4 row_state[OUT_BLOCKS];

/* A row and where its tokens are. */
typedef struct {
    const float *q; /* shared memory */
    int32_t kv_head;
    page_range pages;
    divisor page;
    kv_side k, v;
    logit_form form;
} row_work;

DEVICE void clear_state(row_state s)
{
#pragma unroll
    for (int32_t i = 0; i < OUT_BLOCKS; i++)
        s[i] = empty_state();
}

/* --- tokens of a row ------------------------------------------------------ */

DEVICE float dot_q(const row_work *w, int64_t k)
{
    float sum[4] = { 0, 0, 0, 0 };

#pragma unroll 4
    for (int32_t i = 0; i < HEAD_DIM_QK; i += 4)
#pragma unroll
        for (int32_t e = 0; e < 4; e++)
            sum[e] = fmaf(w->q[i + e],
                          load_f32(w->k.data, FLI_DTYPE_KV, k + i + e), sum[e]);
    return sum[0] + sum[1] + (sum[2] + sum[3]);
}

/* Adds weight times the values at v. */
DEVICE void add_values(const row_work *w, row_state s, float weight, int64_t v)
{
    const int32_t lane = threadIdx.x % 32;

#pragma unroll
    for (int32_t i = 0; i < OUT_BLOCKS; i++)
#pragma unroll
        for (int32_t e = 0; e < 4; e++) {
            const int32_t at = 128 * i + 4 * lane + e;

            if (128 * (i + 1) <= HEAD_DIM_VO || at < HEAD_DIM_VO)
                s[i].o[e] =
                    fmaf(weight, load_f32(w->v.data, FLI_DTYPE_KV, v + at),
                         s[i].o[e]);
        }
}

/* Up to 32 tokens: a lane has the logit x of one and the place v of its values. */
DEVICE void add_tokens(const row_work *w, row_state s, int32_t n, float x,
                       int64_t v)
{
    const float m = fmaxf(s[0].m, warp_max(x));
    const float base = m == -INFINITY_F ? 0 : m;
    const float alpha = exp2_approx(s[0].m - base);
    const float weight = exp2_approx(x - base);
    const float d = fmaf(s[0].d, alpha, warp_sum(weight));

#pragma unroll
    for (int32_t i = 0; i < OUT_BLOCKS; i++) {
        s[i].m = m;
        s[i].d = d;
#pragma unroll
        for (int32_t e = 0; e < 4; e++)
            s[i].o[e] *= alpha;
    }
#pragma unroll 4
    for (int32_t j = 0; j < n; j++)
        add_values(w, s, __shfl_sync(ALL_LANES, weight, j),
                   __shfl_sync(ALL_LANES, v, j));
}

/* The state after tokens [begin, end). */
DEVICE void attend(const fli_attention_params *p, const row_work *w,
                   int32_t begin, int32_t end, row_state s)
{
    clear_state(s);
#pragma unroll 1
    for (int32_t first = begin; first < end; first += 32) {
        const int32_t n = MIN(32, end - first);
        const int32_t token = first + threadIdx.x % 32;
        float x = -INFINITY_F;
        int64_t v = 0;

        if (token < end) {
            int32_t slot;
            const int32_t entry =
                page_entry(p, w->pages, w->page, token, &slot);
            const int32_t id = page_id(p, entry);
            const int64_t k =
                page_offset(p, &w->k, id, slot) + w->kv_head * w->k.head_stride;

            v = page_offset(p, &w->v, id, slot) + w->kv_head * w->v.head_stride;
            x = logit_of(&w->form, dot_q(w, k));
        }
        add_tokens(w, s, n, x, v);
    }
}

/* --- rows ----------------------------------------------------------------- */

/* Tokens [begin, end), with chunks each of them from an empty state and merged
 * from left to right. */
DEVICE void attend_chunks(const fli_attention_params *p, const row_work *w,
                          int32_t begin, int32_t end, row_state sum)
{
    if (p->chunk == 0) {
        attend(p, w, begin, end, sum);
        return;
    }
    clear_state(sum);
#pragma unroll 1
    for (int64_t first = begin; first < end;) {
        const int64_t next = (first / p->chunk + 1) * p->chunk;
        row_state chunk;

        attend(p, w, (int32_t)first, (int32_t)MIN(next, (int64_t)end), chunk);
#pragma unroll
        for (int32_t i = 0; i < OUT_BLOCKS; i++)
            merge_state(&sum[i], &chunk[i]);
        first = next;
    }
}

DEVICE void attend_row(const fli_attention_params *p, const fli_work_item *item,
                       row_work *w, float *q, int32_t r)
{
    const int32_t lane = threadIdx.x % 32, packed = item->row_begin + r;
    const int32_t position = row_position(p, item->request, packed);
    const int64_t from = q_offset(p, packed, item->kv_head);
    token_span sees =
        span_of(p, position, position, item->kv_begin, item->kv_end);
    row_state s;

    if (!has_pages(p, w->pages, sees.end - sees.begin))
        sees.end = sees.begin;
    __syncwarp();
    for (int32_t i = lane; i < HEAD_DIM_QK; i += 32)
        q[i] = load_f32(p->q, FLI_DTYPE_Q, from + i);
    __syncwarp();
    attend_chunks(p, w, sees.begin, sees.end, s);
#pragma unroll
    for (int32_t i = 0; i < OUT_BLOCKS; i++)
        if (128 * i + 4 * lane < HEAD_DIM_VO)
            finish_row(p, packed, item->kv_head,
                       item->partial < 0 ? -1 : (int64_t)item->partial + r,
                       HEAD_DIM_VO, 128 * i + 4 * lane, &s[i]);
}

KERNEL __launch_bounds__(32 * WARPS)
    fli_attention_generic(const __grid_constant__ fli_attention_launch launch)
{
    __shared__ float q[WARPS][HEAD_DIM_QK];
    const fli_attention_params *p = &launch.p;
    const int32_t worker = launch.first_worker + blockIdx.x;
    const int32_t warp = threadIdx.x / 32;
    row_work w = { q[warp] };

    w.page = page_divisor(p);
    w.k = k_side(p);
    w.v = v_side(p);
    w.form = logit_form_of(p);
    pdl_wait();
    pdl_launch();
    if (p->items[worker].tile_class < 0)
        return;
#pragma unroll 1
    for (int32_t i = worker; i >= 0; i = p->items[i].next) {
        const fli_work_item *item = &p->items[i];

        w.kv_head = item->kv_head;
        w.pages = request_pages(p, item->request);
#pragma unroll 1
        for (int32_t r = warp; r < item->row_end - item->row_begin; r += WARPS)
            attend_row(p, item, &w, q[warp], r);
        arrive(p, item, HEAD_DIM_VO);
    }
}
