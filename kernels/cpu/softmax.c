/* SPDX-License-Identifier: Apache-2.0 */
/* softmax: the greatest value, then q of every element into the output and the
 * sum of the weights, then the output is scaled; the row stays in the cache. */
#include "abi/kernels.h"
#include "abi/sample.h"
#include "cpu/lib/vec.h"
#include "cpu/lib/weight.h"

static void zero_row(float *out, int64_t vocab)
{
    for (int64_t i = 0; i < vocab; i++)
        out[i] = 0;
}

/* The elements of key top share the mass, or the first of them has it. */
INLINE void top_row(const row *r, int32_t kind, int all, float *out)
{
    const int64_t first = find_top(r, kind, 0);
    const float n = all ? (float)count_top(r, kind) : 1;
    const float share = 0x1p41f / (n * 0x1p41f);

    if (!all) {
        zero_row(out, r->vocab);
        out[first] = share;
        return;
    }
    for (int64_t i = 0; i < r->vocab; i += VL) {
        const int64_t left = r->vocab - i;
        const vi is_top =
            x_keys(x_load(r->x, kind, i, left), kind) == v_seti(r->top);

        v_store_upto(out, FLI_ABI_F32, i, left,
                     v_select(is_top, v_set(share), v_set(0)));
    }
}

/* q of n elements from i on into out; their mass. */
INLINE vw softmax_chunk(const row *r, int32_t kind, int64_t i, int64_t n,
                        float *out)
{
    vw sum = w_zero();
    float q[CHUNK];

    q_of_chunk(r, kind, i, n, q);
    for (int64_t j = 0; j < n; j += VL) {
        const vf x = x_load(r->x, kind, i + j, n - j);
        const vf none = v_set(0), v = v_load(q, FLI_ABI_F32, j);
        const vf share = v_select(x == v_set(-INFINITY), none, v);

        sum = w_add(sum, w_of_q(share));
        v_store_upto(out, FLI_ABI_F32, i + j, n - j, share);
    }
    return sum;
}

INLINE void normal_row(const row *r, int32_t kind, float *out)
{
    vw sum = w_zero();
    int64_t i = 0;

    for (; i + CHUNK <= r->vocab; i += CHUNK)
        sum = w_add(sum, softmax_chunk(r, kind, i, CHUNK, out));
    sum = w_add(sum, softmax_chunk(r, kind, i, r->vocab - i, out));
    const vf scale = v_set(0x1p41f / (float)w_sum(sum));

    /* q is 0 or >= 2^-64, scale >= 2^-21: no product is subnormal */
    for (i = 0; i < r->vocab; i += VL) {
        const int64_t left = r->vocab - i;

        v_store_upto(out, FLI_ABI_F32, i, left,
                     v_load_upto(out, FLI_ABI_F32, i, left) * scale);
    }
}

INLINE int softmax_row(row *r, int32_t kind, float *out)
{
    switch (row_open(r, kind)) {
    case ROW_NONE:
        zero_row(out, r->vocab);
        return 0;
    case ROW_ONE:
        top_row(r, kind, 0, out);
        return 1;
    case ROW_INF:
        top_row(r, kind, 1, out);
        return 1;
    case ROW_NORMAL:
        break;
    }
    normal_row(r, kind, out);
    return 1;
}

INLINE void softmax_rows(const fli_softmax_params *p, int32_t kind, int32_t ith,
                         int32_t nth)
{
    const int64_t n = p->n_rows;

    for (int64_t i = n * ith / nth; i < n * (ith + 1) / nth; i++) {
        row r = {
            .x = row_at(p->logits, kind, i, p->logits_stride),
            .vocab = p->vocab,
            .temperature =
                p->temperatures ? p->temperatures[i] : p->temperature,
        };
        float *out = row_at(p->probs, FLI_ABI_F32, i, p->probs_stride);
        const int valid = softmax_row(&r, kind, out);

        if (p->valid)
            p->valid[i] = (uint8_t)valid;
    }
}

void KERNEL(softmax)(void *params, int32_t ith, int32_t nth)
{
    const fli_softmax_params *p = params;

#define SOFTMAX_ROWS(KIND) softmax_rows(p, KIND, ith, nth)
    FOR_DTYPE(p->dtype, SOFTMAX_ROWS);
#undef SOFTMAX_ROWS
}

void KERNEL(weights)(void *params, int32_t ith, int32_t nth)
{
    const fli_weights_params *p = params;
    const row r = { .max = p->max, .scale = 0x1.715476p+23f / p->temperature };

    for (int64_t i = (int64_t)ith * VL; i < p->n; i += (int64_t)nth * VL) {
        const int64_t n = p->n - i < VL ? p->n - i : VL;
        uint64_t lane[VL];

        w_store(lane, x_weights(&r, FLI_ABI_F32,
                                x_load(p->logits, FLI_ABI_F32, i, n)));
        memcpy(p->weights + i, lane, (size_t)n * sizeof(*lane));
    }
}
