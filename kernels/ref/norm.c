/* SPDX-License-Identifier: Apache-2.0 */
/* Reference of rmsnorm and fused_add_rmsnorm. */
#include "abi/norm.h"

#include "ref/real.h"

static void norm_row(const fli_norm_params *p, int64_t outer, int64_t inner)
{
    const int64_t x = outer * p->x_stride[0] + inner * p->x_stride[1];
    const int64_t out = outer * p->out_stride[0] + inner * p->out_stride[1];
    const int64_t residual =
        outer * p->residual_stride[0] + inner * p->residual_stride[1];
    real sum = 0;

#define SUM(i)                                                                 \
    (load(p->x, p->dtype, x + (i))                                             \
     + (p->residual ? load(p->residual, p->dtype, residual + (i)) : 0))

    for (int64_t i = 0; i < p->hidden; i++)
        sum += SUM(i) * SUM(i);
    const real scale = 1 / sqrt(sum / (real)p->hidden + p->eps);

    for (int64_t i = 0; i < p->hidden; i++) {
        const real value = SUM(i);

        if (p->residual)
            store(p->residual, p->dtype, residual + i, value);
        store(p->out, p->dtype, out + i,
              value * scale * load(p->weight, p->dtype, i));
    }
#undef SUM
}

void REF(norm)(void *params, int32_t ith, int32_t nth)
{
    const fli_norm_params *p = params;

    for (int64_t row = ith; row < p->n_outer * p->n_inner; row += nth)
        norm_row(p, row / p->n_inner, row % p->n_inner);
}
