/* SPDX-License-Identifier: Apache-2.0 */
/* Reference of attention: a row and a head at a time over all of its keys, in two
 * passes, so kv is never cut and nothing is merged. */
#include "abi/attention.h"

#include "ref/real.h"

#define MAX_DIM 576

/* Offset of token j of a request in K or V. */
static int64_t locate(const fli_attention_params *p, int32_t request, int64_t j,
                      int64_t page_stride, int64_t token_stride)
{
    if (!p->page_indptr)
        return (p->kv_indptr[request] + j) * token_stride;
    const int32_t *pages = p->page_indices + p->page_indptr[request];

    return pages[j / p->page_size] * page_stride
           + j % p->page_size * token_stride;
}

/* In log2 units; k is an offset. */
static real logit(const fli_attention_params *p, const real *q, int64_t k)
{
    real x = 0;

    for (int32_t i = 0; i < p->shape.head_dim_qk; i++)
        x += q[i] * load(p->k, p->shape.dtype_kv, k + i);
    x *= p->scale;
    if (p->soft_cap > 0)
        x = p->soft_cap * tanh(x / p->soft_cap);
    return x * (real)1.4426950408889634; /* log2(e) */
}

static void attend(const fli_attention_params *p, int32_t request,
                   int32_t packed_row, int32_t kv_head)
{
    const fli_attention_shape *s = &p->shape;
    const int64_t row = packed_row / s->group, kv_len = p->kv_len[request];
    const int64_t head = (int64_t)kv_head * s->group + packed_row % s->group;
    const int64_t position = kv_len + row - p->q_indptr[request + 1];
    const int64_t end = p->causal ? position + 1 : kv_len;
    const int64_t begin = p->window ? position - p->window + 1 : 0;
    const int64_t q_at = row * p->q_stride[0] + head * p->q_stride[1];
    const int64_t out = row * p->out_stride[0] + head * p->out_stride[1];
    real m = -INFINITY, d = 0, q[MAX_DIM], o[MAX_DIM] = { 0 };

    for (int32_t i = 0; i < s->head_dim_qk; i++)
        q[i] = load(p->q, s->dtype_q, q_at + i);
    for (int pass = 0; pass < 2; pass++)
        for (int64_t j = begin > 0 ? begin : 0; j < end; j++) {
            const int64_t k =
                locate(p, request, j, p->k_page_stride, p->k_token_stride);
            const int64_t v =
                locate(p, request, j, p->v_page_stride, p->v_token_stride);
            const real x = logit(p, q, k + kv_head * p->k_head_stride);

            if (pass == 0) {
                m = fmax(m, x);
                continue;
            }
            real weight = exp2(x - m);

            d += weight;
#if defined(FLI_PLAIN) /* fast kernels round it before it meets V */
            float rounded = 0;

            store(&rounded, s->dtype_kv, 0, weight);
            weight = load(&rounded, s->dtype_kv, 0);
#endif
            for (int32_t i = 0; i < s->head_dim_vo; i++)
                o[i] += weight
                        * load(p->v, s->dtype_kv,
                               v + kv_head * p->v_head_stride + i);
        }
    for (int32_t i = 0; i < s->head_dim_vo; i++)
        store(p->out, s->dtype_out, out + i, d > 0 ? p->v_scale * o[i] / d : 0);
    if (p->lse) /* without keys -inf + -inf */
        p->lse[row * p->lse_stride[0] + head * p->lse_stride[1]] =
            (float)(m + log2(d));
}

void REF(attention_tiles)(const fli_attention_shape *shape,
                          fli_attention_tiles *tiles)
{
    *tiles = (fli_attention_tiles){
        .n_classes = 1,
        .tile_class[0] = { .rows = 16,
                           .kv_tile = 64,
                           .cut = INT32_MAX,
                           .heads = 1,
                           .cost_item = 1,
                           .cost_cell = 1 },
        .policy = { .flags = shape->flags, .chunk = INT32_MAX },
    };
}

void REF(attention)(void *params, int32_t ith, int32_t nth)
{
    const fli_attention_params *p = params;

    for (int32_t worker = ith; worker < p->n_workers; worker += nth)
        for (int32_t i = worker; i >= 0; i = p->items[i].next) {
            const fli_work_item *t = &p->items[i];

            for (int32_t r = t->row_begin; r < t->row_end; r++)
                attend(p, t->request, r, t->kv_head);
        }
}
