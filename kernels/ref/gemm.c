/* SPDX-License-Identifier: Apache-2.0 */
/* Reference of gemm.  Its packed weights are a compact copy of b. */
#include "abi/gemm.h"

#include "abi/kernels.h"
#include "ref/real.h"

void REF(gemm)(void *params, int32_t ith, int32_t nth)
{
    const fli_gemm_params *p = params;
    const void *b = p->packed ? p->packed : p->b;
    const int64_t b_stride = p->packed ? p->k : p->b_stride;

    for (int64_t col = ith; col < p->n; col += nth)
        for (int64_t row = 0; row < p->m; row++) {
            const int64_t out = row * p->out_stride + col;
            real sum = 0;

            for (int64_t i = 0; i < p->k; i++)
                sum += load(p->a, p->dtype_a, row * p->a_stride + i)
                       * load(b, p->dtype_b, col * b_stride + i);
            if (p->bias)
                sum += load(p->bias, p->dtype_bias, col);
            if (p->add)
                sum += load(p->out, p->dtype_out, out);
            store(p->out, p->dtype_out, out, sum);
        }
}
