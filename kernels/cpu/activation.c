/* SPDX-License-Identifier: Apache-2.0 */
/* silu_and_mul, gelu_and_mul and gelu_tanh_and_mul: one pass, in f32.  Long
 * rows are cut, so that few rows serve all threads as well. */
#include "abi/activation.h"
#include "abi/kernels.h"
#include "cpu/lib/math.h"
#include "cpu/lib/vec.h"

#define CHUNK 1024 /* elements of a row that one part takes at a time */

#define SQRT_HALF          0x1.6a09e6p-1f
#define TWO_SQRT_2_OVER_PI 0x1.988454p+0f

/* The tanh form needs exp only: 1 + tanh u = 2 / (1 + exp(-2 u)). */
INLINE vf apply(int32_t act, vf x)
{
    if (act == FLI_ACT_SILU)
        return x / (1.0f + v_exp(-x));
    if (act == FLI_ACT_GELU)
        return x * 0.5f * v_erfc(x * -SQRT_HALF);
    const vf u = v_fma(x * x * x, v_set(0.044715f), x);

    return x / (1.0f + v_exp(u * -TWO_SQRT_2_OVER_PI));
}

INLINE void act_and_mul(const void *x, const void *y, void *out, int32_t dtype,
                        int32_t act, int64_t n)
{
    int64_t i = 0;

    for (; i + VL <= n; i += VL)
        v_store(out, dtype, i,
                apply(act, v_load(x, dtype, i)) * v_load(y, dtype, i));
    if (i < n)
        v_store_part(out, dtype, i, n - i,
                     apply(act, v_load_part(x, dtype, i, n - i))
                         * v_load_part(y, dtype, i, n - i));
}

INLINE void act_chunks(const fli_activation_params *p, int32_t dtype,
                       int32_t act, int32_t ith, int32_t nth)
{
    const int64_t bytes = (int64_t)v_dtype_bytes(dtype);
    const int64_t n_chunks = (p->h + CHUNK - 1) / CHUNK;
    const int64_t n = p->n_rows * n_chunks;

    for (int64_t j = n * ith / nth; j < n * (ith + 1) / nth; j++) {
        const int64_t row = j / n_chunks, i = j % n_chunks * CHUNK;
        const char *x = (const char *)p->x + (row * p->x_stride + i) * bytes;

        act_and_mul(x, x + p->h * bytes,
                    (char *)p->out + (row * p->out_stride + i) * bytes, dtype,
                    act, p->h - i < CHUNK ? p->h - i : CHUNK);
    }
}

void KERNEL(activation)(void *params, int32_t ith, int32_t nth)
{
    const fli_activation_params *p = params;

#define SILU(DTYPE)      act_chunks(p, DTYPE, FLI_ACT_SILU, ith, nth)
#define GELU(DTYPE)      act_chunks(p, DTYPE, FLI_ACT_GELU, ith, nth)
#define GELU_TANH(DTYPE) act_chunks(p, DTYPE, FLI_ACT_GELU_TANH, ith, nth)
    if (p->act == FLI_ACT_SILU)
        FOR_DTYPE(p->dtype, SILU);
    else if (p->act == FLI_ACT_GELU)
        FOR_DTYPE(p->dtype, GELU);
    else
        FOR_DTYPE(p->dtype, GELU_TANH);
#undef SILU
#undef GELU
#undef GELU_TANH
}
