/* SPDX-License-Identifier: Apache-2.0 */
/* Reference of attention: a row and a head at a time over all of its keys, in two
 * passes, so kv is never cut and nothing is merged. */
#include "abi/attention.h"

#include "ref/real.h"

#define LOG2E   (real)1.4426950408889634
#define MAX_DIM 576

typedef struct {
    const fli_attention_params *p;
    int32_t request, kv_head;
    int64_t begin, end; /* the keys it sees */
    real q[MAX_DIM];
} row;

/* Element 0 of key or value j, of page, token and head strides. */
static int64_t locate(const row *r, int64_t j, int64_t page_stride,
                      int64_t token_stride, int64_t head_stride)
{
    const fli_attention_params *p = r->p;
    const int64_t head = r->kv_head * head_stride;

    if (!p->page_indptr)
        return (p->kv_indptr[r->request] + j) * token_stride + head;
    const int64_t page =
        p->page_indices[p->page_indptr[r->request] + j / p->page_size];

    return page * page_stride + j % p->page_size * token_stride + head;
}

/* The logit of key j in log2 units. */
static real logit(const row *r, int64_t j)
{
    const fli_attention_params *p = r->p;
    const int64_t k =
        locate(r, j, p->k_page_stride, p->k_token_stride, p->k_head_stride);
    real x = 0;

    for (int32_t i = 0; i < p->shape.head_dim_qk; i++)
        x += r->q[i] * load(p->k, p->shape.dtype_kv, k + i);
    x *= p->scale;
    if (p->soft_cap > 0)
        x = p->soft_cap * tanh(x / p->soft_cap);
    return x * LOG2E;
}

/* What the fast kernels may do to a weight before it meets V. */
static real round_weight(real weight, int32_t dtype)
{
#if defined(FLI_PLAIN)
    float rounded = 0;

    store(&rounded, dtype, 0, weight);
    return load(&rounded, dtype, 0);
#else
    (void)dtype;
    return weight;
#endif
}

/* out_row has head_dim_vo elements from `out` on. */
static void attend(const row *r, int64_t out, int64_t lse)
{
    const fli_attention_params *p = r->p;
    const int32_t dtype = p->shape.dtype_kv;
    real m = -INFINITY, d = 0, o[MAX_DIM] = { 0 };

    for (int64_t j = r->begin; j < r->end; j++)
        m = fmax(m, logit(r, j));
    for (int64_t j = r->begin; j < r->end; j++) {
        const real weight = exp2(logit(r, j) - m);
        const real rounded = round_weight(weight, dtype);
        const int64_t v =
            locate(r, j, p->v_page_stride, p->v_token_stride, p->v_head_stride);

        d += weight;
        for (int32_t i = 0; i < p->shape.head_dim_vo; i++)
            o[i] += rounded * load(p->v, dtype, v + i);
    }
    for (int32_t i = 0; i < p->shape.head_dim_vo; i++)
        store(p->out, p->shape.dtype_out, out + i,
              d > 0 ? p->v_scale * o[i] / d : 0);
    if (p->lse)
        p->lse[lse] = (float)(m + log2(d)); /* -inf + -inf for no keys */
}

static void packed_row(const fli_attention_params *p, const fli_work_item *item,
                       int32_t packed, int32_t kv_head)
{
    const int32_t group = p->shape.group, request = item->request;
    const int64_t index = packed / group;
    const int64_t head = (int64_t)kv_head * group + packed % group;
    const int64_t kv_len = p->kv_len[request];
    const int64_t position = kv_len + index - p->q_indptr[request + 1];
    row r = { .p = p, .request = request, .kv_head = kv_head, .end = kv_len };

    if (p->causal && position + 1 < kv_len)
        r.end = position + 1;
    if (p->window > 0 && position - p->window + 1 > 0)
        r.begin = position - p->window + 1;
    for (int32_t i = 0; i < p->shape.head_dim_qk; i++)
        r.q[i] = load(p->q, p->shape.dtype_q,
                      index * p->q_stride[0] + head * p->q_stride[1] + i);
    attend(&r, index * p->out_stride[0] + head * p->out_stride[1],
           index * p->lse_stride[0] + head * p->lse_stride[1]);
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
            const fli_work_item *item = &p->items[i];

            if (item->tile_class < 0)
                continue;
            for (int32_t k = item->row_begin; k < item->row_end; k++)
                packed_row(p, item, k, item->kv_head);
        }
}
