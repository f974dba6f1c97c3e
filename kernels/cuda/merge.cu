/* SPDX-License-Identifier: Apache-2.0 */
/* merge_states: threads are (vector, head of a row); each goes over the states
 * twice, first for the greatest lse and the sum of weights, then for v.
 *
 *   FLI_DTYPE, VEC */
#include "abi/merge.h"
#include "cuda/lib/vector.cuh"

#define ITEMS       4 /* states that a thread has under way */
#define MAX_THREADS 256

/* A head of a row. */
typedef struct {
    const float *lse;
    int64_t v, out; /* elements from p->v, p->v_out */
    float m, d;     /* the greatest lse, the sum of exp2(lse - m) */
} merge_head;

/* -inf, which is an empty state's, behind the last. */
DEVICE float lse_of(const fli_merge_params *p, const merge_head *h, int64_t s)
{
    return s < p->n_states ? h->lse[s * p->lse_stride[1]] : -INFINITY_F;
}

DEVICE float weight_of(const merge_head *h, float lse)
{
    return lse == -INFINITY_F ? 0 : exp2_approx(lse - h->m);
}

DEVICE void sum_weights(const fli_merge_params *p, merge_head *h)
{
    float lse[ITEMS];

    h->m = -INFINITY_F;
    h->d = 0;
    for (int64_t s = 0; s < p->n_states; s += ITEMS) {
        const float m = h->m;

#pragma unroll
        for (int32_t k = 0; k < ITEMS; k++)
            lse[k] = lse_of(p, h, s + k);
#pragma unroll
        for (int32_t k = 0; k < ITEMS; k++)
            h->m = fmaxf(h->m, lse[k]);
        h->d *= weight_of(h, m);
#pragma unroll
        for (int32_t k = 0; k < ITEMS; k++)
            h->d += weight_of(h, lse[k]);
    }
}

DEVICE void sum_states(const fli_merge_params *p, const merge_head *h,
                       int64_t i, float sum[VEC])
{
    for (int64_t s = 0; s < p->n_states; s += ITEMS) {
        vec_bits v[ITEMS];
        float lse[ITEMS];

#pragma unroll
        for (int32_t k = 0; k < ITEMS; k++) {
            lse[k] = lse_of(p, h, s + k);
            v[k] = make_uint4(0, 0, 0, 0);
            if (lse[k] != -INFINITY_F)
                v[k] = load_vec(p->v, FLI_DTYPE,
                                h->v + (s + k) * p->v_stride[1] + i);
        }
#pragma unroll
        for (int32_t k = 0; k < ITEMS; k++) {
            const float weight = weight_of(h, lse[k]);
            float x[VEC];

            unpack_vec(v[k], FLI_DTYPE, x);
#pragma unroll
            for (int32_t j = 0; j < VEC; j++)
                sum[j] = fmaf(x[j], weight, sum[j]);
        }
    }
}

KERNEL __launch_bounds__(MAX_THREADS)
    fli_merge(const __grid_constant__ fli_merge_params p)
{
    const int64_t item = (int64_t)blockIdx.x * blockDim.y + threadIdx.y;
    const int64_t row = item / p.n_heads, head = item - row * p.n_heads;
    const bool is_there = row < p.n_rows;
    merge_head h;

    h.lse = p.lse + row * p.lse_stride[0] + head;
    h.v = row * p.v_stride[0] + head * p.v_stride[2];
    h.out = row * p.v_out_stride[0] + head * p.v_out_stride[1];
    pdl_wait();
    pdl_launch();
    if (is_there)
        sum_weights(&p, &h);
    for (int64_t i = threadIdx.x * VEC; is_there && i < p.head_dim;
         i += blockDim.x * VEC) {
        float sum[VEC] = { 0 };

        sum_states(&p, &h, i, sum);
#pragma unroll
        for (int32_t j = 0; j < VEC; j++)
            sum[j] = h.d == 0 ? 0 : sum[j] / h.d;
        store_vec(p.v_out, FLI_DTYPE, h.out + i, pack_vec(sum, FLI_DTYPE));
    }
    if (!p.lse_out)
        return;
    __syncthreads(); /* lse_out may be lse[:, 0], which the others read */
    if (is_there && threadIdx.x == 0)
        p.lse_out[row * p.lse_out_stride + head] =
            h.d == 0 ? -INFINITY_F : h.m + log2f(h.d);
}
