/* SPDX-License-Identifier: Apache-2.0 */
/* silu_and_mul, gelu_and_mul, gelu_tanh_and_mul: one pass, in f32.  blockDim.x
 * threads share a row, of which blockIdx.y takes a part; a block has blockDim.y
 * rows.
 *
 *   FLI_DTYPE, VEC
 *   ACT   FLI_ACT_* of abi/activation.h */
#include "abi/activation.h"
#include "cuda/lib/vector.cuh"

#define ITEMS       2 /* vectors of each half that a thread has under way */
#define MAX_THREADS 256

#define SQRT_HALF          0.70710678f
#define TWO_SQRT_2_OVER_PI 1.5957691f

/* The tanh form needs exp only: 1 + tanh u = 2 / (1 + exp(-2 u)).  Division
 * within 2 ulp. */
DEVICE float act(float x)
{
    if (ACT == FLI_ACT_SILU)
        return __fdividef(x, 1 + expf(-x));
    if (ACT == FLI_ACT_GELU)
        return x * 0.5f * (1 + erff(x * SQRT_HALF));
    const float u = fmaf(x * x * x, 0.044715f, x);

    return __fdividef(x, 1 + expf(u * -TWO_SQRT_2_OVER_PI));
}

DEVICE vec_bits act_and_mul(vec_bits x_bits, vec_bits y_bits)
{
    float x[VEC], y[VEC];

    unpack_vec(x_bits, FLI_DTYPE, x);
    unpack_vec(y_bits, FLI_DTYPE, y);
#pragma unroll
    for (int32_t i = 0; i < VEC; i++)
        x[i] = act(x[i]) * y[i];
    return pack_vec(x, FLI_DTYPE);
}

KERNEL __launch_bounds__(MAX_THREADS)
    fli_activation(const __grid_constant__ fli_activation_params p)
{
    const int64_t row = (int64_t)blockIdx.x * blockDim.y + threadIdx.y;
    const char *const x =
        (const char *)p.x + row * p.x_stride * dtype_bytes(FLI_DTYPE);
    const char *const y = x + p.h * dtype_bytes(FLI_DTYPE);
    char *const out =
        (char *)p.out + row * p.out_stride * dtype_bytes(FLI_DTYPE);
    const int64_t step = blockDim.x * VEC;
    int64_t i = blockIdx.y * ITEMS * step + threadIdx.x * VEC;

    pdl_wait();
    pdl_launch();
    if (row >= p.n_rows)
        return;
    for (; i < p.h; i += gridDim.y * ITEMS * step) {
        vec_bits a[ITEMS], b[ITEMS];

#pragma unroll
        for (int32_t k = 0; k < ITEMS; k++) {
            a[k] = load_vec_below(x, FLI_DTYPE, i + k * step, p.h);
            b[k] = load_vec_below(y, FLI_DTYPE, i + k * step, p.h);
        }
#pragma unroll
        for (int32_t k = 0; k < ITEMS; k++)
            if (i + k * step < p.h)
                store_vec(out, FLI_DTYPE, i + k * step,
                          act_and_mul(a[k], b[k]));
    }
}
