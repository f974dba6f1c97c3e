/* SPDX-License-Identifier: Apache-2.0 */
/* Reference of merge_states. */
#include "abi/merge.h"

#include "ref/real.h"

static void merge_head(const fli_merge_params *p, int64_t row, int64_t head)
{
    const float *lse = p->lse + row * p->lse_stride[0] + head;
    const int64_t v = row * p->v_stride[0] + head * p->v_stride[2];
    const int64_t out = row * p->v_out_stride[0] + head * p->v_out_stride[1];
    real m = -INFINITY, d = 0;

    for (int64_t s = 0; s < p->n_states; s++)
        m = fmax(m, (real)lse[s * p->lse_stride[1]]);
    for (int64_t s = 0; s < p->n_states; s++)
        if (lse[s * p->lse_stride[1]] != -INFINITY)
            d += exp2(lse[s * p->lse_stride[1]] - m);
    const real lse_out = m + log2(d); /* -inf + -inf for no state */

    for (int64_t i = 0; i < p->head_dim; i++) {
        real sum = 0;

        for (int64_t s = 0; s < p->n_states; s++)
            if (lse[s * p->lse_stride[1]] != -INFINITY)
                sum += exp2(lse[s * p->lse_stride[1]] - lse_out)
                       * load(p->v, p->dtype, v + s * p->v_stride[1] + i);
        store(p->v_out, p->dtype, out + i, sum);
    }
    if (p->lse_out)
        p->lse_out[row * p->lse_out_stride + head] = (float)lse_out;
}

void REF(merge)(void *params, int32_t ith, int32_t nth)
{
    const fli_merge_params *p = params;

    for (int64_t i = ith; i < p->n_rows * p->n_heads; i += nth)
        merge_head(p, i / p->n_heads, i % p->n_heads);
}
