/* SPDX-License-Identifier: Apache-2.0 */
/* Reference of silu_and_mul, gelu_and_mul and gelu_tanh_and_mul. */
#include "abi/activation.h"

#include "ref/real.h"

#define SQRT_2         ((real)1.4142135623730951)
#define SQRT_2_OVER_PI ((real)0.7978845608028654)

static real act(int32_t kind, real x)
{
    if (kind == FLI_ACT_SILU)
        return x / (1 + exp(-x));
    if (kind == FLI_ACT_GELU)
        return x / 2 * (1 + erf(x / SQRT_2));
    return x / 2
           * (1 + tanh(SQRT_2_OVER_PI * (x + (real)0.044715 * x * x * x)));
}

void REF(activation)(void *params, int32_t ith, int32_t nth)
{
    const fli_activation_params *p = params;

    for (int64_t row = ith; row < p->n_rows; row += nth)
        for (int64_t i = 0; i < p->h; i++) {
            const int64_t x = row * p->x_stride + i;

            store(p->out, p->dtype, row * p->out_stride + i,
                  act(p->act, load(p->x, p->dtype, x))
                      * load(p->x, p->dtype, x + p->h));
        }
}
